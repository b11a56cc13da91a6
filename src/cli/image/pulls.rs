//! `pausa image pulls`: the pulls and imports in progress, and the data of failed pulls that is kept for a retry.

use std::time::Duration;

use super::progress::Total;
use crate::cli::client::Daemon;
use crate::cli::output::{Format, Table, print, print_json};
use crate::cli::units;
use crate::proto::admin::{KeptLayer, PullProgress, PullsRequest};

pub(super) async fn run(daemon: &Daemon, format: Format) -> anyhow::Result<()> {
    let answer = daemon.admin().pulls(PullsRequest {}).await;
    let listed = answer.map_err(daemon.failed("`image pulls`"))?.into_inner();
    match format {
        Format::Json => print_json(&listed),
        Format::Table => {
            let mut text = table(&listed.pulls, crate::state::now());
            if !listed.kept.is_empty() {
                text.push('\n');
                text.push_str(&kept_table(&listed.kept));
            }
            print(&text)
        }
    }
}

fn kept_table(kept: &[KeptLayer]) -> String {
    let mut table = Table::new(["KEPT LAYER", "BYTES>", "OF>", "FOR>"]);
    for layer in kept {
        let seconds = u64::try_from(layer.remaining_seconds).unwrap_or(0);
        let total = match layer.complete {
            true => "complete".to_owned(),
            false => units::size(layer.bytes_total),
        };
        table.row([
            layer.diff_id.clone(),
            units::size(layer.bytes),
            total,
            units::duration(Duration::from_secs(seconds)),
        ]);
    }
    table.render()
}

fn table(pulls: &[PullProgress], now: i64) -> String {
    let mut table = Table::new(["IMAGE", "STEP", "LAYERS>", "FETCHED>", "OF>", "FOR>", "WAITING>"]);
    for pull in pulls {
        let total = Total::of(pull);
        let age = u64::try_from(now.saturating_sub(pull.started)).unwrap_or(0);
        table.row([
            pull.reference.clone(),
            pull.step().word().to_owned(),
            format!("{}/{}", total.ready, total.layers),
            units::size(total.done),
            units::size(total.total),
            units::duration(Duration::from_nanos(age)),
            pull.waiting.to_string(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests;
