//! What the crowd costs the daemon: memory, CPU time while nothing is asked for, a restart.

use std::time::{Duration, Instant};

use pausa::proto::v1;

use crate::harness::daemon::Daemon;
use crate::harness::{Node, PATIENCE};
use crate::idle::{Idle, count};
use crate::memory;
use crate::table::Table;

/// How often the daemon is restarted at each point.
const RESTARTS: usize = 5;

/// The memory of the daemon and of its helpers.
pub(crate) fn memory(node: &Node, idle: &Idle<'_>, table: &mut Table, column: &str) {
    let daemon = memory::daemon(node.socket());
    let pss = memory::pss(daemon.as_slice()) / 1024.0;
    table.add("daemon's PSS", "MiB", column, pss);
    if idle.len() > 0 {
        let pss = memory::pss(&idle.helpers()) / count(idle.len());
        table.add("helpers' PSS for an idle pod", "KiB", column, pss);
    }
}

/// The daemon's CPU time in so many seconds without requests.
pub(crate) async fn cpu(node: &Node, seconds: u64, table: &mut Table, column: &str) {
    let daemon = memory::daemon(node.socket());
    let (used, start) = (memory::cpu_seconds(daemon), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let share = 100.0 * (memory::cpu_seconds(daemon) - used) / start.elapsed().as_secs_f64();
    table.add("daemon's CPU without requests", "% of a core", column, share);
}

/// Restarts the daemon, which must be our own and have these pods.
pub(crate) async fn restart(node: &Node, pods: usize, table: &mut Table, column: &str) {
    for _ in 0..RESTARTS {
        let start = Instant::now();
        let status = node.daemon(Daemon::terminate);
        table.time("stop of the daemon", column, start.elapsed());
        assert!(status.success(), "the daemon ended with {status} on SIGTERM");
        let start = Instant::now();
        node.daemon(Daemon::restart);
        loop {
            let request = v1::ListPodSandboxRequest::default();
            let answer = node.runtime().list_pod_sandbox(request).await;
            if answer.is_ok_and(|list| list.get_ref().items.len() == pods) {
                break;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "no list of {pods} pods after a restart"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        table.time(
            "restart of the daemon to a list of all pods",
            column,
            start.elapsed(),
        );
    }
}
