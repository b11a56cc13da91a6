//! The duration of single calls: of one pod, of a probe, of lists.

use std::time::{Duration, Instant};

use pausa::proto::v1;

use crate::harness::{Container, Node, Pod, ok, strings};
use crate::table::Table;

/// The rows for a pod from nothing to its first log line, a probe, and a pod's end.
pub(crate) const START: &str = "pod start to first log line";
pub(crate) const EXEC: &str = "ExecSync true";
pub(crate) const END: &str = "stop and remove a pod";

/// Makes a container write one line and keep running.
pub(crate) fn speak(config: &mut v1::ContainerConfig) {
    config.command = strings(&["sh", "-c", "echo up; exec sleep 3600"]);
}

/// A pod that has written its first log line, and what that took.
pub(crate) struct Started<'a> {
    pub(crate) pod: Pod<'a>,
    pub(crate) container: Container<'a>,
    pub(crate) times: [(&'static str, Duration); 5],
}

/// Starts a pod and waits for its first log line.
pub(crate) async fn start(node: &Node) -> Started<'_> {
    start_with(node, node.pod_config()).await
}

/// As [`start`], with this configuration of the pod.
pub(crate) async fn start_with(node: &Node, config: v1::PodSandboxConfig) -> Started<'_> {
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
        // Other pods may be starting, too.
        tokio::task::yield_now().await;
    }
    let line = start.elapsed();
    let times = [
        (START, line),
        ("– RunPodSandbox", sandbox),
        ("– CreateContainer", created.saturating_sub(sandbox)),
        ("– StartContainer", started.saturating_sub(created)),
        ("– until the line", line.saturating_sub(started)),
    ];
    Started {
        pod,
        container,
        times,
    }
}

/// Stops and removes a pod.
pub(crate) async fn end(pod: &Pod<'_>) -> [(&'static str, Duration); 2] {
    let start = Instant::now();
    pod.stop().await;
    let stopped = start.elapsed();
    pod.remove().await;
    [(END, start.elapsed()), ("– StopPodSandbox", stopped)]
}

/// Starts a pod, waits for its first log line, then stops and removes it.
pub(crate) async fn one_pod(node: &Node, table: &mut Table, name: &str) {
    let started = start(node).await;
    table.times(name, started.times);
    table.times(name, end(&started.pod).await);
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
pub(crate) async fn exec(container: &Container<'_>, table: &mut Table, name: &str) {
    let start = Instant::now();
    container.exec(&["true"]).await;
    table.time(EXEC, name, start.elapsed());
}

/// ExecSync in one container of each runtime; the runtimes take turns.
pub(crate) async fn execs(nodes: &[(String, Node)], count: usize, table: &mut Table) {
    let mut probed = Vec::new();
    for (name, node) in nodes {
        probed.push((name, start(node).await));
    }
    for _ in 0..count {
        for (name, started) in &probed {
            exec(&started.container, table, name).await;
        }
    }
    for (_, started) in &probed {
        started.pod.remove().await;
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
