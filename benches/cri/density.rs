//! Many pods at the same time: how fast they start, how much memory they use, how fast they are removed.

use std::time::{Duration, Instant};

use pausa::proto::v1;

use crate::harness::{Node, ok};
use crate::idle::{Idle, count};
use crate::table::Table;
use crate::{Options, latency, memory};

/// Measures one runtime after the other; otherwise memory could not be attributed to one of them.
pub(crate) async fn measure(nodes: &[(String, Node)], options: &Options, table: &mut Table) {
    for (name, node) in nodes {
        let daemon = memory::daemon(node.socket());
        let mut idle = Idle::on(node);
        let what = format!("{} pods, {} at a time", options.idle_pods, options.at_once);
        let rate = idle.start(options.idle_pods, options.containers, options.at_once);
        table.add(&what, "pods/s", name, rate.await);
        let (helpers, pods) = (idle.helpers(), count(idle.len()));
        let kib = memory::pss(&helpers);
        table.add("helpers' PSS for an idle pod", "KiB", name, kib / pods);
        let processes = count(helpers.len());
        table.add("helper processes for an idle pod", "", name, processes / pods);
        table.add(
            "daemon's PSS with these pods",
            "MiB",
            name,
            memory::pss(daemon.as_slice()) / 1024.0,
        );
        latency::lists(name, node, options.calls, table).await;
        let (used, start) = (memory::cpu_seconds(daemon), Instant::now());
        stats(name, node, options, table).await;
        let used = memory::cpu_seconds(daemon) - used;
        let share = 100.0 * used / start.elapsed().as_secs_f64();
        table.add(
            "daemon's CPU while stats are asked for",
            "% of a core",
            name,
            share,
        );
        let pss = memory::pss(daemon.as_slice()) / 1024.0;
        table.add("daemon's PSS then", "MiB", name, pss);
        table.add(
            &format!("{what}, stopped and removed"),
            "pods/s",
            name,
            idle.remove(options.at_once).await,
        );
    }
}

/// The stats and metrics of the pods that run now, asked for as rarely as kubelet asks. A runtime may answer from what it has
/// read before, but in the first round.
async fn stats(name: &str, node: &Node, options: &Options, table: &mut Table) {
    let mut runtime = node.runtime();
    for round in 0..=options.stats_rounds {
        let mut time = |rpc: &str, since: Instant| {
            if round > 0 {
                table.time(&format!("{rpc}, all these pods"), name, since.elapsed());
            }
        };
        let start = Instant::now();
        let request = v1::ListContainerStatsRequest::default();
        ok("ListContainerStats", runtime.list_container_stats(request).await);
        time("ListContainerStats", start);
        let start = Instant::now();
        let request = v1::ListPodSandboxStatsRequest::default();
        ok(
            "ListPodSandboxStats",
            runtime.list_pod_sandbox_stats(request).await,
        );
        time("ListPodSandboxStats", start);
        let start = Instant::now();
        let request = v1::ListPodSandboxMetricsRequest::default();
        // containerd serves it since 2.2.
        if runtime.list_pod_sandbox_metrics(request).await.is_ok() {
            time("ListPodSandboxMetrics", start);
        }
        tokio::time::sleep(Duration::from_secs(options.stats_interval)).await;
    }
}
