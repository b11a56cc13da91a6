//! `pausa image pulls`: what is being fetched at this moment, and for whom.

use std::time::Duration;

use serde::Serialize;

use super::progress::{self, Total};
use crate::cli::client::Daemon;
use crate::cli::output::{Format, Table, print, print_json};
use crate::cli::units;
use crate::proto::admin::{LayerProgress, PullProgress, PullsRequest};

#[derive(Debug, Serialize)]
struct Document {
    pulls: Vec<Pull>,
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
    let pulls = answer.map_err(daemon.failed("`image pulls`"))?.into_inner().pulls;
    match format {
        Format::Json => print_json(&Document {
            pulls: pulls.iter().map(pull).collect(),
        }),
        Format::Table => print(&table(&pulls, crate::state::now())),
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
