//! `pausa top`: what pods and containers use, and what the daemon is doing.
//!
//! ```text
//!   CRI: lists, stats, metrics ─┐
//!   admin: operations, pulls   ─┴─▶ sample: joined by id, rates ─▶ view: lines
//! ```
//!
//! Counters come from the daemon, rates are made here from two samples: other clients have no influence on them.
//!
//! Must never: change anything.

mod sample;
mod view;

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::sample::{Answers, Document, Rates};
use self::view::Limits;
use super::client::{ClientFlags, Daemon, block_on};
use super::failure::CommandError;
use super::output::{Format, OutputFlags, print, print_json};
use super::screen::{self, Output, Size};
use super::selection::Selection;
use crate::proto::admin::{OperationsRequest, PullsRequest};
use crate::proto::v1::{
    StreamContainersRequest, StreamPodSandboxMetricsRequest, StreamPodSandboxStatsRequest,
    StreamPodSandboxesRequest,
};

/// Between the two samples of `--once`: long enough for a steady rate.
const ONCE: Duration = Duration::from_secs(1);
/// Before the first print of many: short, because a better one follows.
const FIRST: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    client: ClientFlags,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    choice: Choice,
    /// Print once, after a second of watching.
    #[arg(long)]
    once: bool,
    /// Seconds between two prints.
    #[arg(
        long,
        short,
        value_name = "SECONDS",
        default_value = "2",
        conflicts_with = "once"
    )]
    interval: NonZeroU32,
}

/// What is shown, in which order.
#[derive(Debug, Default, Args)]
struct Choice {
    #[command(flatten)]
    selection: Selection,
    /// What pods, and the containers of each, are sorted by: the most first, names from A to Z.
    #[arg(long, value_enum, default_value_t, value_name = "KEY")]
    sort: Sort,
    /// Pods that are not ready and containers that do not run, too.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Sort {
    #[default]
    Cpu,
    Memory,
    /// Bytes read and written.
    Io,
    /// Bytes received and sent.
    Network,
    Pids,
    Restarts,
    /// The youngest first.
    Age,
    Name,
}

pub(super) fn run(args: &TopArgs) -> anyhow::Result<()> {
    let socket = args.client.socket()?;
    block_on(async {
        let daemon = Daemon::connect(socket).await?;
        let mut rates = Rates::default();
        rates.document(ask(&daemon).await?, &args.choice);
        let mut after = async |pause| {
            tokio::time::sleep(pause).await;
            anyhow::Ok(rates.document(ask(&daemon).await?, &args.choice))
        };
        if args.once {
            return print_once(&after(ONCE).await?, args);
        }
        let mut pause = FIRST;
        let next = async || {
            let document = after(pause).await;
            pause = Duration::from_secs(args.interval.get().into());
            document
        };
        screen::watch(args.output.format, next, |document, size| {
            let limits = size.map_or(Limits::NONE, |size| Limits::of(size.rows, size.columns));
            view::lines(document, args.choice.all, limits)
        })
        .await
    })
}

fn print_once(document: &Document, args: &TopArgs) -> anyhow::Result<()> {
    match args.output.format {
        Format::Json => print_json(document),
        Format::Table => {
            // What scrolls has no limit of rows.
            let limits = Size::of_stdout().map_or(Limits::NONE, |size| Limits::of(usize::MAX, size.columns));
            let lines = view::lines(document, args.choice.all, limits);
            print(&screen::text(&lines, Output::new().coloured))
        }
    }
}

/// Asks for everything at once. The answers are of nearly the same moment; what is in one of them only has come or gone.
async fn ask(daemon: &Daemon) -> Result<Answers, CommandError> {
    let pods = async {
        let request = StreamPodSandboxesRequest::default();
        let answer = daemon.runtime().stream_pod_sandboxes(request).await;
        daemon.all("StreamPodSandboxes", answer).await
    };
    let containers = async {
        let request = StreamContainersRequest::default();
        let answer = daemon.runtime().stream_containers(request).await;
        daemon.all("StreamContainers", answer).await
    };
    let stats = async {
        let request = StreamPodSandboxStatsRequest::default();
        let answer = daemon.runtime().stream_pod_sandbox_stats(request).await;
        daemon.all("StreamPodSandboxStats", answer).await
    };
    let metrics = async {
        let request = StreamPodSandboxMetricsRequest::default();
        let answer = daemon.runtime().stream_pod_sandbox_metrics(request).await;
        daemon.all("StreamPodSandboxMetrics", answer).await
    };
    let operations = async {
        let answer = daemon.admin().operations(OperationsRequest {}).await;
        answer.map_err(daemon.failed("`pausa top`"))
    };
    let pulls = async {
        let answer = daemon.admin().pulls(PullsRequest {}).await;
        answer.map_err(daemon.failed("`pausa top`"))
    };
    let (pods, containers, stats, metrics, operations, pulls) =
        tokio::try_join!(pods, containers, stats, metrics, operations, pulls)?;
    Ok(Answers {
        now: crate::state::now(),
        pods: pods.into_iter().flat_map(|some| some.pod_sandboxes).collect(),
        containers: containers.into_iter().flat_map(|some| some.containers).collect(),
        stats: stats
            .into_iter()
            .flat_map(|some| some.pod_sandbox_stats)
            .collect(),
        metrics: metrics
            .into_iter()
            .flat_map(|some| some.pod_sandbox_metrics)
            .collect(),
        operations: operations.into_inner().operations,
        pulls: pulls.into_inner().pulls,
    })
}
