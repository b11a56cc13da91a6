//! Between a daemon's start and the answers of the monitors: everything is shown as it was recorded, and whatever is asked of a
//! pod waits for its own monitor only. A monitor that was stopped answers when the test wants it.

use std::collections::BTreeSet;
use std::time::Duration;

use pausa::proto::v1;
use pausa::proto::v1::ContainerEventType as Kind;
use pausa::proto::v1::{ContainerState, PodSandboxState};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

use crate::events::{next_of, subscribe};
use crate::harness::pod::monitor_of;
use crate::harness::{Node, Pod, eventually, ok, on_own_node, strings};
use crate::silent_monitor::Stopped;

/// Long enough for an answer that does not wait to overtake what it should have waited for, and less than the daemon waits for a
/// monitor.
const A_WHILE: Duration = Duration::from_millis(700);

/// Waits for an answer while the monitor goes on after a while.
async fn with_the_monitor<T>(stopped: Stopped, answer: impl Future<Output = T>) -> T {
    let go_on = async {
        tokio::time::sleep(A_WHILE).await;
        drop(stopped);
    };
    tokio::join!(answer, go_on).0
}

async fn lists(node: &Node) -> (Vec<v1::PodSandbox>, Vec<v1::Container>) {
    let mut runtime = node.runtime();
    let pods = v1::ListPodSandboxRequest::default();
    let pods = ok("ListPodSandbox", runtime.list_pod_sandbox(pods).await).items;
    let containers = v1::ListContainersRequest::default();
    let containers = ok("ListContainers", runtime.list_containers(containers).await).containers;
    (pods, containers)
}

/// kubelet sees every pod and container as before, and uses a pod whose monitor answers.
#[test]
#[ignore = "needs root"]
fn everything_is_listed_before_a_monitor_answers() {
    on_own_node(async |node| {
        let silent = node.pod().await;
        let running = silent.start(|_| {}).await;
        let created = silent.create(silent.container_config()).await;
        let other = node.pod().await;
        let usable = other.start(|_| {}).await;
        let gone = node.pod().await;
        gone.stop().await;
        let before = (lists(node).await, silent.status().await, running.status().await);
        let stopped = Stopped::monitor_of(node, &silent);
        node.kill_and_restart_daemon().await;
        let after = (lists(node).await, silent.status().await, running.status().await);
        assert_eq!(after, before);
        assert_eq!(
            usable.sh("echo works").await,
            "works\n",
            "it waits for its own monitor only"
        );
        let output = with_the_monitor(stopped, running.sh("echo works")).await;
        assert_eq!(output, "works\n");
        created.start().await;
        assert_eq!(created.sh("echo works").await, "works\n");
        assert_eq!(silent.status().await.state(), PodSandboxState::SandboxReady);
    });
}

/// Start, stop, remove, stats, URLs, and RunPodSandbox for the same name.
#[test]
#[ignore = "needs root"]
fn what_is_asked_of_a_pod_waits_for_its_monitor() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let created = pod.create(pod.container_config()).await;
        let (pod_id, container_id) = (pod.id.clone(), container.id.clone());

        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        let again = with_the_monitor(stopped, node.try_pod(&pod.config)).await;
        assert_eq!(ok("RunPodSandbox", again).pod_sandbox_id, pod_id);

        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        let (mut runtime, mut runtime2, mut runtime3) = (node.runtime(), node.runtime(), node.runtime());
        let exec = runtime.exec(v1::ExecRequest {
            container_id: container_id.clone(),
            cmd: strings(&["true"]),
            stdout: true,
            ..Default::default()
        });
        let forward = runtime2.port_forward(v1::PortForwardRequest {
            pod_sandbox_id: pod_id.clone(),
            port: vec![80],
        });
        let stats = runtime3.container_stats(v1::ContainerStatsRequest {
            container_id: container_id.clone(),
        });
        let all = async { tokio::join!(exec, forward, stats) };
        let (exec, forward, stats) = with_the_monitor(stopped, all).await;
        assert!(!ok("Exec", exec).url.is_empty());
        assert!(!ok("PortForward", forward).url.is_empty());
        assert!(ok("ContainerStats", stats).stats.is_some());

        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        let both = async { tokio::join!(created.try_start(), container.try_stop(10)) };
        let (start, stop) = with_the_monitor(stopped, both).await;
        ok("StartContainer", start);
        ok("StopContainer", stop);
        assert_eq!(container.status().await.exit_code, 0, "it was stopped in order");
        assert_eq!(created.status().await.state(), ContainerState::ContainerRunning);

        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        with_the_monitor(stopped, pod.remove()).await;
        assert_eq!(lists(node).await, (vec![], vec![]));
    });
}

/// A client's deadline holds while a pod waits for its monitor, and the answer says what it waits for.
#[test]
#[ignore = "needs root"]
fn a_deadline_ends_the_wait_for_a_monitor() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        // The client gives up at the same moment, so that its own end of the wait may come first.
        eventually("the daemon says what the call waits for", async || {
            let mut request = tonic::Request::new(v1::ExecSyncRequest {
                container_id: container.id.clone(),
                cmd: strings(&["true"]),
                timeout: 30,
            });
            request.set_timeout(Duration::from_millis(300));
            let status = node.runtime().exec_sync(request).await.expect_err("a deadline");
            let says = status.message().contains("has not answered the new daemon yet");
            (says && status.code() == Code::DeadlineExceeded).then_some(())
        })
        .await;
        drop(stopped);
        assert_eq!(container.sh("echo works").await, "works\n");
    });
}

/// What has ended while no daemon ran is shown as running until the monitor says so, and then as any other end is.
#[test]
#[ignore = "needs root"]
fn an_exit_that_nobody_saw_is_an_event() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let script = "trap 'exit 7' TERM; sleep 3600 & wait";
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        let pid = Pid::from_raw(container.pid().await).expect("a process id");
        let stopped = Stopped::monitor_of(node, &pod);
        node.kill_and_restart_daemon().await;
        let mut events = subscribe(node).await;
        kill_process(pid, Signal::TERM).expect("SIGTERM");
        assert_eq!(container.status().await.state(), ContainerState::ContainerRunning);
        drop(stopped);
        let event = next_of(&mut events, &pod.id).await;
        let told = (event.container_id.as_str(), event.container_event_type());
        assert_eq!(told, (container.id.as_str(), Kind::ContainerStoppedEvent));
        let status = event.pod_sandbox_status.expect("a status");
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
        assert_eq!(container.end().await.status.exit_code, 7);
    });
}

/// The same for a pod whose monitor is gone: it is never missing, and ends as an event.
#[test]
#[ignore = "needs root"]
fn a_monitor_that_nobody_saw_die_is_an_event() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        node.daemon(crate::harness::daemon::Daemon::kill);
        kill_process(monitor_of(node, &pod), Signal::KILL).expect("a monitor");
        node.daemon(crate::harness::daemon::Daemon::restart);
        node.until_it_answers().await;
        let (pods, containers) = lists(node).await;
        assert_eq!((pods.len(), containers.len()), (1, 1));
        eventually("the pod is known to have ended", async || {
            let state = (pod.status().await.state(), container.status().await.state());
            let ended = (PodSandboxState::SandboxNotready, ContainerState::ContainerExited);
            (state == ended).then_some(())
        })
        .await;
    });
}

/// More pods than are greeted at a time, and no monitor answers: a pod that somebody waits for is greeted all the same. A daemon
/// that is killed meanwhile loses nothing.
#[test]
#[ignore = "needs root"]
fn silent_monitors_hold_up_nobody_else() {
    on_own_node(async |node| {
        let mut pods: Vec<Pod<'_>> = Vec::new();
        for _ in 0..35 {
            pods.push(node.pod().await);
        }
        let container = pods[34].start(|_| {}).await;
        let ids: BTreeSet<String> = pods.iter().map(|pod| pod.id.clone()).collect();
        let mut stopped: Vec<_> = pods.iter().map(|pod| Stopped::monitor_of(node, pod)).collect();
        for _ in 0..2 {
            node.kill_and_restart_daemon().await;
            let (listed, _) = lists(node).await;
            let listed = listed.into_iter();
            let ready = listed.filter(|pod| pod.state() == PodSandboxState::SandboxReady);
            assert_eq!(ready.map(|pod| pod.id).collect::<BTreeSet<_>>(), ids);
        }
        drop(stopped.pop());
        assert_eq!(container.sh("echo works").await, "works\n");
        drop(stopped);
        for pod in &pods {
            assert_eq!(pod.sh("echo works").await, "works\n");
        }
    });
}
