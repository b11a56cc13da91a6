//! Measures exec and port-forward of container runtimes, side by side over CRI and their streaming servers.
//!
//! ```text
//! cargo bench --bench stream                                        # pausa alone
//! cargo bench --bench stream -- --socket other=/run/other.sock      # and another runtime
//! ```
//!
//! The client is that of the conformance suite: it uses SPDY as kubectl and crictl do, or a WebSocket for exec. The results
//! include the client, which is the same for all runtimes and shares the machine with them. Each runtime has one pod with one
//! container for the whole run; the runtimes take turns with each call and each transfer. Numbers are medians, except for the
//! CPU time of short commands, which is too short to measure separately.
//!
//! pausa runs as a separate daemon in temporary directories; the other runtimes run as they are configured, with
//! `registry.test` leading to `PAUSA_CRITEST_REGISTRY`: see `docs/conformance.md`.

#[path = "../../tests/critest"]
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the conformance suite, which uses more of it"
)]
mod critest {
    pub(crate) mod harness;
}

#[path = "../cri/memory.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark of pods, which uses more of it"
)]
mod memory;
#[path = "../pull/process.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark of pulls, which uses more of it"
)]
mod process;
#[path = "../cri/runtimes.rs"]
mod runtimes;
#[path = "../cri/table.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark of crowds, which uses more of it"
)]
mod table;

mod latency;
mod target;
mod throughput;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::Parser;
use futures_util::FutureExt as _;

use critest::harness;
use harness::Node;
use harness::stream::Transport;
use runtimes::Runtimes;
use table::Table;
use target::Target;

/// Measures exec and port-forward of container runtimes, side by side over CRI and their streaming servers.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    runtimes: Runtimes,
    /// Number of short commands for each runtime.
    #[arg(long, default_value_t = 30)]
    calls: u32,
    /// Number of times that each runtime makes each transfer.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Mebibytes (2^20 bytes) of a transfer; 0 skips transfers.
    #[arg(long, default_value_t = 512)]
    mebibytes: u32,
    /// Use a WebSocket (v4.channel.k8s.io, which all runtimes support) for exec instead of SPDY.
    #[arg(long)]
    websocket: bool,
}

impl Options {
    fn transport(&self) -> Transport {
        match self.websocket {
            true => Transport::WebSocket("v4.channel.k8s.io"),
            false => Transport::SPDY,
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    runtimes::run(measure(&options))
}

/// Returns whether the measurement succeeded and nothing is left behind.
async fn measure(options: &Options) -> bool {
    let nodes = options.runtimes.nodes().await;
    let mut table = Table::new(nodes.iter().map(|(name, _)| name.clone()));
    // Other runtimes would keep the pods of an aborted measurement.
    let outcome = AssertUnwindSafe(all(&nodes, options, &mut table))
        .catch_unwind()
        .await;
    println!("{table}");
    let clean = runtimes::finish(nodes).await;
    outcome.is_ok() && clean
}

async fn all(nodes: &[(String, Node)], options: &Options, table: &mut Table) {
    let mut targets = Vec::new();
    for (name, node) in nodes {
        targets.push(Target::start(name, node, options.mebibytes).await);
    }
    latency::measure(&targets, options.transport(), options.calls, table).await;
    if options.mebibytes > 0 {
        for _ in 0..options.rounds {
            throughput::round(&targets, options.transport(), options.mebibytes, table).await;
        }
    }
}
