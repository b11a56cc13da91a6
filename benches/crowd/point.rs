//! A point of the crowd, and what is measured there.

use std::fmt;

use futures_util::future::join_all;
use pausa::proto::v1;

use crate::harness::{Node, ok};
use crate::idle::Idle;
use crate::table::{Statistic, Table};
use crate::{Options, daemon, latency};

/// Calls of each list.
const LISTS: usize = 10;

/// What is on the node beside the measured pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    /// Idle pods of the runtime.
    pub(crate) pods: usize,
    /// Mounts of the node, besides those that it has anyway.
    pub(crate) mounts: usize,
}

impl Point {
    /// The table's column for this point of a runtime.
    pub(crate) fn column(&self, runtime: &str) -> String {
        match self.mounts {
            0 => format!("{runtime}, {} pods", self.pods),
            mounts => format!("{runtime}, {} pods, {mounts} mounts", self.pods),
        }
    }
}

/// A table for each group of measures.
pub(crate) struct Tables {
    at_once: usize,
    /// One pod at a time.
    pub(crate) single: Table,
    /// Several pods at a time.
    parallel: Table,
    daemon: Table,
}

impl Tables {
    pub(crate) fn new(runtimes: &[(String, Node)], points: &[Point], at_once: usize) -> Self {
        let table = || {
            let columns = |(name, _): &(String, Node)| -> Vec<String> {
                points.iter().map(|point| point.column(name)).collect()
            };
            Table::grouped(runtimes.iter().map(columns), &[Statistic::Median, Statistic::P99])
        };
        Self {
            at_once,
            single: table(),
            parallel: table(),
            daemon: table(),
        }
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "One pod at a time:\n\n{}", self.single)?;
        writeln!(f, "{} pods at a time:\n\n{}", self.at_once, self.parallel)?;
        write!(f, "The daemon:\n\n{}", self.daemon)
    }
}

/// Makes the crowd as large as the point has it, and measures everything beside it.
pub(crate) async fn measure(
    column: &str,
    node: &Node,
    point: &Point,
    idle: &mut Idle<'_>,
    options: &Options,
    tables: &mut Tables,
) {
    let (rounds, at_once) = (options.rounds, options.at_once);
    let missing = point.pods - idle.len();
    if missing > 0 {
        let rate = idle.start(missing, 1, at_once).await;
        tables
            .parallel
            .add("start of the idle pods", "pods/s", column, rate);
    }

    for _ in 0..rounds {
        latency::one_pod(node, &mut tables.single, column).await;
    }
    let probed = latency::start(node).await;
    for _ in 0..rounds {
        latency::exec(&probed.container, &mut tables.single, column).await;
    }
    latency::end(&probed.pod).await;

    for _ in 0..rounds.div_ceil(at_once) {
        let pods = join_all((0..at_once).map(|_| latency::start(node))).await;
        let ends = join_all(pods.iter().map(|started| latency::end(&started.pod))).await;
        for (started, end) in pods.iter().zip(ends) {
            tables.parallel.times(column, started.times);
            tables.parallel.times(column, end);
        }
    }

    latency::lists(column, node, LISTS, &mut tables.daemon).await;
    daemon::memory(node, idle, &mut tables.daemon, column);
    daemon::cpu(node, options.idle_seconds, &mut tables.daemon, column).await;
    if node.is_own() {
        daemon::restart(node, point.pods, &mut tables.daemon, column).await;
    }
    still_running(node, point.pods).await;
}

/// Fails unless this many containers of the runtime run, so that no figure is of a smaller crowd.
async fn still_running(node: &Node, containers: usize) {
    let filter = v1::ContainerFilter {
        state: Some(v1::ContainerStateValue {
            state: v1::ContainerState::ContainerRunning.into(),
        }),
        ..Default::default()
    };
    let request = v1::ListContainersRequest { filter: Some(filter) };
    let running = ok("ListContainers", node.runtime().list_containers(request).await);
    let running = running.containers.len();
    assert!(
        running >= containers,
        "{running} of the {containers} idle containers run"
    );
}
