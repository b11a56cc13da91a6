//! `pausa image pulls`: what is being fetched at this moment and for whom, and what failed pulls have left for the next try.

use std::time::Duration;

use serde::Serialize;

use super::progress::{self, Total};
use crate::cli::client::Daemon;
use crate::cli::output::{Format, Table, print, print_json};
use crate::cli::units;
use crate::proto::admin::{KeptLayer, LayerProgress, PullProgress, PullsRequest};

#[derive(Debug, Serialize)]
struct Document {
    pulls: Vec<Pull>,
    kept: Vec<Kept>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    diff_id: String,
    complete: bool,
    bytes: u64,
    bytes_total: u64,
    remaining_seconds: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pull {
    reference: String,
    step: &'static str,
    started: String,
    step_since: String,
    waiting: u64,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    digest: String,
    diff_id: String,
    state: &'static str,
    since: String,
    bytes_done: u64,
    bytes_total: u64,
}

/// Lists pulls and imports in flight.
pub(super) async fn run(daemon: &Daemon, format: Format) -> anyhow::Result<()> {
    let answer = daemon.admin().pulls(PullsRequest {}).await;
    let listed = answer.map_err(daemon.failed("`image pulls`"))?.into_inner();
    match format {
        Format::Json => print_json(&Document {
            pulls: listed.pulls.iter().map(pull).collect(),
            kept: listed.kept.iter().map(kept).collect(),
        }),
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

/// What failed pulls have left; most of the time nothing.
fn kept_table(kept: &[KeptLayer]) -> String {
    let mut table = Table::new(["KEPT LAYER", "BYTES>", "OF>", "FOR>"]);
    for part in kept {
        let seconds = u64::try_from(part.remaining_seconds).unwrap_or(0);
        let of = match part.complete {
            true => "complete".to_owned(),
            false => units::size(part.bytes_total),
        };
        table.row([
            part.diff_id.clone(),
            units::size(part.bytes),
            of,
            units::duration(Duration::from_secs(seconds)),
        ]);
    }
    table.render()
}

fn kept(part: &KeptLayer) -> Kept {
    Kept {
        diff_id: part.diff_id.clone(),
        complete: part.complete,
        bytes: part.bytes,
        bytes_total: part.bytes_total,
        remaining_seconds: part.remaining_seconds,
    }
}

fn table(pulls: &[PullProgress], now: i64) -> String {
    let mut table = Table::new(["IMAGE", "STEP", "LAYERS>", "FETCHED>", "OF>", "FOR>", "WAITING>"]);
    for pull in pulls {
        let total = Total::of(pull);
        let age = u64::try_from(now.saturating_sub(pull.started)).unwrap_or(0);
        table.row([
            pull.reference.clone(),
            progress::step(pull.step()).to_owned(),
            format!("{}/{}", total.ready, total.layers),
            units::size(total.done),
            units::size(total.total),
            units::duration(Duration::from_nanos(age)),
            pull.waiting.to_string(),
        ]);
    }
    table.render()
}

fn pull(pull: &PullProgress) -> Pull {
    Pull {
        reference: pull.reference.clone(),
        step: progress::step(pull.step()),
        started: units::time(pull.started),
        step_since: units::time(pull.step_since),
        waiting: pull.waiting,
        layers: pull.layers.iter().map(layer).collect(),
    }
}

fn layer(layer: &LayerProgress) -> Layer {
    Layer {
        digest: layer.digest.clone(),
        diff_id: layer.diff_id.clone(),
        state: progress::state(layer.state()),
        since: units::time(layer.since),
        bytes_done: layer.bytes_done,
        bytes_total: layer.bytes_total,
    }
}

#[cfg(test)]
mod tests;
