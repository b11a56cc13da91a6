//! The duration of single calls: of one pod, of a probe, of lists.

use std::time::{Duration, Instant};

use pausa::proto::v1;

use crate::Options;
use crate::harness::{Node, Pod, ok, strings};
use crate::table::Table;

/// Makes a container write one line and keep running.
pub(crate) fn speak(config: &mut v1::ContainerConfig) {
    config.command = strings(&["sh", "-c", "echo up; exec sleep 3600"]);
}

/// Starts a pod, waits for its first log line, then stops and removes it.
pub(crate) async fn one_pod(node: &Node, table: &mut Table, name: &str) {
    let config = node.pod_config();
    let start = Instant::now();
    let pod = node.run_pod(config).await;
    let sandbox = start.elapsed();
    let mut config = pod.container_config();
    speak(&mut config);
    let container = pod.create(config).await;
    let created = start.elapsed();
    container.start().await;
    let started = start.elapsed();
    while std::fs::metadata(&container.log).map_or(0, |log| log.len()) == 0 {
        // tokio's timer counts whole milliseconds.
        std::thread::sleep(Duration::from_micros(50));
    }
    let line = start.elapsed();
    table.time("pod start to first log line", name, line);
    table.time("– RunPodSandbox", name, sandbox);
    table.time("– CreateContainer", name, created.saturating_sub(sandbox));
    table.time("– StartContainer", name, started.saturating_sub(created));
    table.time("– until the line", name, line.saturating_sub(started));
    end(&pod, table, name).await;
}

async fn end(pod: &Pod<'_>, table: &mut Table, name: &str) {
    let start = Instant::now();
    pod.stop().await;
    let stopped = start.elapsed();
    pod.remove().await;
    table.time("stop and remove a pod", name, start.elapsed());
    table.time("– StopPodSandbox", name, stopped);
}

/// One pod after the other; the runtimes take turns.
pub(crate) async fn pods(nodes: &[(String, Node)], count: usize, table: &mut Table) {
    for _ in 0..count {
        for (name, node) in nodes {
            one_pod(node, table, name).await;
        }
    }
}

/// ExecSync of `true`, the cheapest probe.
pub(crate) async fn execs(nodes: &[(String, Node)], count: usize, table: &mut Table) {
    let mut pods = Vec::new();
    for (name, node) in nodes {
        pods.push((name, node.run_pod(node.pod_config()).await));
    }
    let mut containers = Vec::new();
    for (name, pod) in &pods {
        containers.push((*name, pod.start(speak).await));
    }
    for _ in 0..count {
        for (name, container) in &containers {
            let start = Instant::now();
            container.exec(&["true"]).await;
            table.time("ExecSync true", name, start.elapsed());
        }
    }
    for (_, pod) in &pods {
        pod.remove().await;
    }
}

/// The lists with the pods that run now.
pub(crate) async fn lists(name: &str, node: &Node, count: usize, table: &mut Table) {
    let mut runtime = node.runtime();
    for _ in 0..count {
        let start = Instant::now();
        let request = v1::ListPodSandboxRequest::default();
        ok("ListPodSandbox", runtime.list_pod_sandbox(request).await);
        table.time("ListPodSandbox, all these pods", name, start.elapsed());
        let start = Instant::now();
        let request = v1::ListContainersRequest::default();
        ok("ListContainers", runtime.list_containers(request).await);
        table.time("ListContainers, all these pods", name, start.elapsed());
    }
}

/// The stats and metrics of the pods that run now, asked for as rarely as kubelet asks. A runtime may answer from what it has
/// read before, but in the first round.
pub(crate) async fn stats(name: &str, node: &Node, options: &Options, table: &mut Table) {
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
