//! Many pods at the same time: how fast they start, how much memory they use, how fast they are removed.

use std::time::Instant;

use futures_util::StreamExt as _;
use pausa::proto::v1;

use crate::harness::{Node, ok};
use crate::table::Table;
use crate::{Options, latency, memory};

/// Measures one runtime after the other; otherwise memory could not be attributed to one of them.
pub(crate) async fn measure(nodes: &[(String, Node)], options: &Options, table: &mut Table) {
    for (name, node) in nodes {
        let before = memory::processes();
        let daemon = memory::daemon(node.socket());
        let start = Instant::now();
        let started: Vec<_> = futures_util::stream::iter(0..options.idle_pods)
            .map(|_| async {
                let pod = node.run_pod(node.pod_config()).await;
                let mut pids = Vec::new();
                for number in 0..options.containers {
                    let container = pod.start(|config| {
                        config.metadata.get_or_insert_default().name = format!("speaker-{number}");
                        latency::speak(config);
                    });
                    pids.push(container.await.pid().await);
                }
                (pod.id, pids)
            })
            .buffer_unordered(options.at_once)
            .collect()
            .await;
        let pods = f64::from(u32::try_from(started.len()).expect("not that many pods"));
        let what = format!("{} pods, {} at a time", started.len(), options.at_once);
        table.add(&what, "pods/s", name, pods / start.elapsed().as_secs_f64());
        let containers: Vec<i32> = started.iter().flat_map(|(_, pids)| pids.clone()).collect();
        let helpers = memory::processes()
            .into_iter()
            .filter(|pid| !before.contains(pid) && !containers.contains(pid));
        let helpers: Vec<i32> = helpers.filter(|pid| Some(*pid) != daemon).collect();
        let kib = memory::pss(&helpers);
        table.add("helpers' PSS for an idle pod", "KiB", name, kib / pods);
        let count = f64::from(u32::try_from(helpers.len()).expect("not that many processes"));
        table.add("helper processes for an idle pod", "", name, count / pods);
        table.add(
            "daemon's PSS with these pods",
            "MiB",
            name,
            memory::pss(daemon.as_slice()) / 1024.0,
        );
        latency::lists(name, node, options.calls, table).await;
        let (used, start) = (memory::cpu_seconds(daemon), Instant::now());
        latency::stats(name, node, options, table).await;
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
        let start = Instant::now();
        futures_util::stream::iter(&started)
            .for_each_concurrent(options.at_once, |(id, _)| async move {
                let mut runtime = node.runtime();
                let request = v1::StopPodSandboxRequest {
                    pod_sandbox_id: id.clone(),
                };
                ok("StopPodSandbox", runtime.stop_pod_sandbox(request).await);
                let request = v1::RemovePodSandboxRequest {
                    pod_sandbox_id: id.clone(),
                };
                ok("RemovePodSandbox", runtime.remove_pod_sandbox(request).await);
            })
            .await;
        table.add(
            &format!("{what}, stopped and removed"),
            "pods/s",
            name,
            pods / start.elapsed().as_secs_f64(),
        );
    }
}
