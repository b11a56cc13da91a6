//! Measures what a crowded node costs: single calls beside more and more idle pods, for container runtimes side by side.
//!
//! ```text
//! cargo bench --bench crowd                                        # pausa alone
//! cargo bench --bench crowd -- --socket other=/run/other.sock      # and another runtime
//! cargo bench --bench crowd -- --pods 0,100,250,500 --mounts 5000 --rounds 30 --at-once 8 --svg crowd.svg
//! ```
//!
//! The runtimes are measured one after the other, while the others have no pods. Each is measured beside every number of idle
//! pods (`--pods`), the smallest first; with `--mounts`, finally beside the largest and that many more mounts on the node. The
//! tables have a column for each of these points, with the ratio to the runtime's first one in brackets. All times are measured by
//! the client. The 99th percentile of up to 100 samples is the slowest of them.
//!
//! pausa runs as a separate daemon in temporary directories with its built-in bridge; only this daemon is restarted. The other
//! runtimes run as they are configured, with `registry.test` leading to `PAUSA_CRITEST_REGISTRY`: see `docs/conformance.md`.
//!
//! What limits the number of pods:
//!
//! * a bridge of Linux has 1,023 ports;
//! * the pods' network must have an address for each: pausa's has 4,094 here, kubelet's usual /24 has 254;
//! * the daemon's open files: pausa has three for a pod with one container, and at its start one more for each pod that
//!   other daemons of it have on the node. The benchmark raises its own soft limit, which pausa inherits, to the hard one;
//! * `fs.inotify.max_user_instances`, with runtimes that watch every pod or container with one of its own;
//! * `kernel.pid_max` and `kernel.threads-max`, with runtimes that have a process with many threads for each pod.

#[path = "../../tests/critest"]
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with the conformance suite, which uses more of it"
)]
mod critest {
    pub(crate) mod harness;
}

#[path = "../cri/idle.rs"]
mod idle;
#[path = "../cri/latency.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark of single calls, whose runtimes take turns"
)]
mod latency;
#[path = "../cri/memory.rs"]
mod memory;
#[path = "../cri/runtimes.rs"]
mod runtimes;
#[path = "../cri/table.rs"]
#[expect(dead_code, reason = "shared with benchmarks that compare single columns")]
mod table;

mod daemon;
mod mounts;
mod plot;
mod point;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use futures_util::FutureExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use critest::harness;
use harness::Node;
use idle::Idle;
use mounts::Mounts;
use point::{Point, Tables};
use runtimes::Runtimes;

/// How long requests in flight at the end of an aborted measurement may take.
const GRACE: Duration = Duration::from_secs(5);

/// Measures what a crowded node costs, for container runtimes side by side over CRI.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    runtimes: Runtimes,
    /// Numbers of idle pods beside which everything is measured; each has one container.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 100, 250, 500])]
    pods: Vec<usize>,
    /// Number of mounts beside which everything is measured once more, with the largest number of pods; 0 skips this.
    #[arg(long, default_value_t = 0)]
    mounts: usize,
    /// Number of measured pods and of calls of ExecSync at each of these points.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Number of pods that are started in parallel.
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Seconds without requests in which the daemon's CPU time is measured.
    #[arg(long, default_value_t = 10)]
    idle_seconds: u64,
    /// Draw pod start, ExecSync, and stop and remove over the number of pods into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Options {
    /// The points of the crowd in the order in which they are measured.
    fn points(&self) -> Vec<Point> {
        let mut pods = self.pods.clone();
        pods.sort_unstable();
        pods.dedup();
        let mut points: Vec<_> = pods.into_iter().map(|pods| Point { pods, mounts: 0 }).collect();
        if let Some(&Point { pods, .. }) = points.last()
            && self.mounts > 0
        {
            let mounts = self.mounts;
            points.push(Point { pods, mounts });
        }
        points
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    // A daemon has descriptors for every pod.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be as high as the hard one");
    runtimes::run(measure(&options))
}

/// Returns whether the measurement succeeded and nothing is left behind.
async fn measure(options: &Options) -> bool {
    let nodes = options.runtimes.nodes().await;
    let points = options.points();
    let mut tables = Tables::new(&nodes, &points, options.at_once);
    // Other runtimes would keep the crowd of an aborted measurement.
    let measured = AssertUnwindSafe(all(&nodes, &points, options, &mut tables)).catch_unwind();
    let complete = tokio::select! {
        outcome = measured => outcome.is_ok(),
        _ = tokio::signal::ctrl_c() => false,
    };
    if !complete {
        // What runtimes still do for requests that nobody waits for any more must be seen when everything is removed.
        tokio::time::sleep(GRACE).await;
    }
    println!("{tables}");
    let names: Vec<&str> = nodes.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(file) = &options.svg
        && let Err(why) = plot::draw(file, &names, &points, &tables.single)
    {
        eprintln!("no plot in {}: {why}", file.display());
    }
    runtimes::finish(nodes).await && complete
}

async fn all(nodes: &[(String, Node)], points: &[Point], options: &Options, tables: &mut Tables) {
    for (name, node) in nodes {
        if node.is_own() {
            let configuration = format!("[network.bridge]\nsubnet = \"{}\"\n", network(node));
            node.restart_with(Some(&configuration)).await;
        }
        node.pull("base").await;
        // The first pods of a daemon are slower and not measured.
        for _ in 0..2 {
            latency::end(&latency::start(node).await.pod).await;
        }
        let mut idle = Idle::on(node);
        for point in points {
            let column = point.column(name);
            eprintln!("{column}");
            let mounts = Mounts::below(node.dir(), point.mounts);
            point::measure(&column, node, point, &mut idle, options, tables).await;
            drop(mounts);
        }
        eprintln!("{name}, removing the crowd");
        idle.remove(options.at_once).await;
    }
}

/// The pods' network of our own daemon: the slot's usual one has too few addresses, and the next ones are other slots'.
fn network(node: &Node) -> String {
    let [_, _, slot, _] = node.slot().subnet().octets();
    format!("10.{}.{}.0/20", 208 + slot / 16, slot % 16 * 16)
}
