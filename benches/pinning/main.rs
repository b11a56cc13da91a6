//! Measures CPU pinning: the choice of CPUs, what it costs the start of a pod, how the pool moves, and what a container gains.
//!
//! ```text
//! cargo bench --bench pinning                    # as root; without, it fails after the choice
//! cargo bench --bench pinning -- --containers 200 --rounds 30
//! ```
//!
//! All times are measured by the client. pausa runs as separate daemons in temporary directories, one with pinning and one
//! without, which take turns.

#[path = "../../tests/critest"]
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the conformance suite, which uses more of it"
)]
mod critest {
    pub(crate) mod harness;
}

mod choice;
mod node;
#[path = "../cri/runtimes.rs"]
#[expect(dead_code, reason = "shared with benchmarks that measure other runtimes, too")]
mod runtimes;
#[path = "../cri/table.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark of crowds, which uses more of it"
)]
mod table;
mod wakeups;

use std::process::ExitCode;

use clap::Parser;

use critest::harness;

/// Measures CPU pinning.
#[derive(Debug, Parser)]
struct Options {
    /// Number of containers in the shared pool while it moves.
    #[arg(long, default_value_t = 200)]
    containers: usize,
    /// Number of pods that are started with and without pinning, and of moves of the pool.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Number of periods of a millisecond whose wake-ups are measured.
    #[arg(long, default_value_t = 5000)]
    periods: usize,
    /// Only wake up this often, and print the delays; for the benchmark itself.
    #[arg(long, hide = true)]
    wake_up: Option<usize>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(periods) = options.wake_up {
        wakeups::sleeper(periods);
        return ExitCode::SUCCESS;
    }
    choice::measure();
    runtimes::run(node::measure(&options))
}
