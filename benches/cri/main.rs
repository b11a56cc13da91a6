//! Measures container runtimes side by side over CRI.
//!
//! ```text
//! cargo bench --bench cri                                        # pausa alone
//! cargo bench --bench cri -- --socket other=/run/other.sock      # and whatever else speaks CRI
//! ```
//!
//! Everything is measured from the client's side of the socket, interleaved: each round asks every runtime once, so
//! that a noisy moment of the machine hits all alike. Numbers are medians. pausa runs as a daemon of its own in
//! temporary directories with its built-in bridge; the others as they are configured. They pull the suite's images
//! from `registry.test`, which has to lead to `PAUSA_CRITEST_REGISTRY`: see `docs/conformance.md`.

#[path = "../../tests/critest"]
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the conformance suite, which needs more of it"
)]
mod critest {
    pub(crate) mod harness;
}

mod density;
mod latency;
mod logs;
mod memory;
mod runtimes;
mod table;

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
    /// Pods started one after the other, each with one container.
    #[arg(long, default_value_t = 30)]
    pods: usize,
    /// Calls of ExecSync and of each list.
    #[arg(long, default_value_t = 50)]
    calls: usize,
    /// Pods that run at the same time for density and memory.
    #[arg(long, default_value_t = 50)]
    idle_pods: usize,
    /// Of these, how many are started at once.
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Megabytes of 100-byte lines that a container writes to its log; 0 leaves this out.
    #[arg(long, default_value_t = 200)]
    log_megabytes: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    runtimes::run(measure(&options))
}

/// Whether nothing is left behind.
async fn measure(options: &Options) -> bool {
    let nodes = options.runtimes.nodes().await;
    for (name, node) in &nodes {
        node.pull("base").await;
        // Whatever the first pod of a daemon's life costs is not what is measured.
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
    runtimes::finish(nodes).await
}
