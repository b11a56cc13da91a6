//! Measures container runtimes side by side over CRI.
//!
//! ```text
//! cargo bench --bench cri                                        # pausa alone
//! cargo bench --bench cri -- --socket other=/run/other.sock      # and another runtime
//! ```
//!
//! All times are measured by the client. The runtimes take turns: each round calls every runtime once, so that noise on the
//! machine affects all of them. Numbers are medians. pausa runs as a separate daemon in temporary directories with its built-in
//! bridge; the other runtimes run as they are configured. They pull the suite's images from `registry.test`, which must lead
//! to `PAUSA_CRITEST_REGISTRY`: see `docs/conformance.md`.

#[path = "../../tests/critest"]
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the conformance suite, which uses more of it"
)]
mod critest {
    pub(crate) mod harness;
}

mod density;
mod idle;
mod latency;
mod logs;
mod memory;
mod plugin;
mod runtimes;
#[expect(
    dead_code,
    reason = "shared with the benchmark of crowds, which uses more of it"
)]
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use critest::harness;
use runtimes::Runtimes;
use table::Table;

/// Measures container runtimes side by side over CRI.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    runtimes: Runtimes,
    /// Number of pods that are started one after the other, each with one container.
    #[arg(long, default_value_t = 30)]
    pods: usize,
    /// Number of calls of ExecSync and of the lists of pods and containers.
    #[arg(long, default_value_t = 50)]
    calls: usize,
    /// Number of pods that run at the same time, to measure density and memory.
    #[arg(long, default_value_t = 50)]
    idle_pods: usize,
    /// Number of containers in each of these pods.
    #[arg(long, default_value_t = 1)]
    containers: usize,
    /// Number of calls of each list of stats and metrics.
    #[arg(long, default_value_t = 10)]
    stats_rounds: usize,
    /// Seconds between them.
    #[arg(long, default_value_t = 10)]
    stats_interval: u64,
    /// Number of these pods that are started in parallel.
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Megabytes of 100-byte lines that a container writes to its log; 0 skips this.
    #[arg(long, default_value_t = 200)]
    log_megabytes: usize,
    /// The NRI socket of a runtime, as NAME=PATH, to measure what a plugin that answers at once adds to pods of the node's
    /// network; may be given more than once.
    #[arg(long = "nri", value_name = "NAME=SOCKET", value_parser = runtimes::named_socket)]
    nri_sockets: Vec<(String, PathBuf)>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    runtimes::run(measure(&options))
}

/// Returns whether nothing is left behind.
async fn measure(options: &Options) -> bool {
    let nodes = options.runtimes.nodes().await;
    for (name, node) in &nodes {
        node.pull("base").await;
        // The first pod of a daemon is slower and not measured.
        for _ in 0..2 {
            latency::one_pod(node, &mut Table::default(), name).await;
        }
    }
    let mut table = Table::new(nodes.iter().map(|(name, _)| name.clone()));
    latency::pods(&nodes, options.pods, &mut table).await;
    latency::execs(&nodes, options.calls, &mut table).await;
    density::measure(&nodes, options, &mut table).await;
    if options.log_megabytes > 0 {
        logs::measure(&nodes, options.log_megabytes, &mut table).await;
    }
    println!("{table}");
    if !options.nri_sockets.is_empty() {
        println!(
            "{}",
            plugin::measure(&nodes, &options.nri_sockets, options.pods).await
        );
    }
    runtimes::finish(nodes).await
}
