//! The daemon dies before every step that makes something of a pod durable or known: each save, publish and answer, and each
//! phase of the work. Afterwards every list answers, the same request again succeeds, and in the end nothing is left.
//!
//! The failpoints are named after operation and step. Each case says which one was hit; one that is never hit is a failure,
//! and so is one in the code that no case names.

use std::collections::BTreeSet;
use std::path::Path;

use pausa::proto::v1;
use pausa::proto::v1::{ContainerState, PodSandboxState};
use pausa_monitor_protocol::EXITS_DIR;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::daemon::Daemon;
use crate::harness::leaks::names;
use crate::harness::pod::{monitor_of, share_pids};
use crate::harness::{Node, Pod, die_at, eventually, ok, on_crashing_node, strings};
use crate::warm;

const RUN_POD: [&str; 7] = [
    "run_pod.record",
    "run_pod.place",
    "run_pod.attach",
    "run_pod.hosts",
    "run_pod.save",
    "run_pod.publish",
    "run_pod.answer",
];
const CREATE: [&str; 5] = [
    "create_container.spec",
    "create_container.plan",
    "create_container.save",
    "create_container.publish",
    "create_container.answer",
];
const START: [&str; 5] = [
    "start_container.cgroup",
    "start_container.process",
    "start_container.save",
    "start_container.publish",
    "start_container.answer",
];
const STOP: [&str; 5] = [
    "stop_container.signal",
    "stop_container.kill",
    "container_exit.save",
    "container_exit.publish",
    "container_exit.answer",
];
const UPDATE: [&str; 3] = [
    "update_resources.save",
    "update_resources.publish",
    "update_resources.answer",
];
const UPDATE_POD: [&str; 3] = ["update_pod.save", "update_pod.publish", "update_pod.answer"];
const REMOVE: [&str; 6] = [
    "remove_container.forget",
    "remove_container.files",
    "remove_container.record",
    "remove_container.save",
    "remove_container.publish",
    "remove_container.answer",
];
const STOP_POD: [&str; 6] = [
    "stop_pod.network",
    "stop_pod.unmount",
    "stop_pod.cgroup",
    "stop_pod.save",
    "stop_pod.publish",
    "stop_pod.answer",
];
const REMOVE_POD: [&str; 3] = ["remove_pod.forget", "remove_pod.publish", "remove_pod.answer"];
const LOSE: [&str; 4] = [
    "lose_container.save",
    "lose_container.publish",
    "lose_pod.save",
    "lose_pod.publish",
];
const RECOVER: [&str; 2] = ["recover.save", "recover.publish"];

/// Has the daemon die at `point`; afterwards it must answer every list.
async fn dies<T>(node: &Node, point: &str, act: impl AsyncFnOnce() -> T) {
    die_at(node, point, act).await;
    println!("died at {point}");
    remember_all(node);
    let mut runtime = node.runtime();
    let request = v1::ListPodSandboxRequest::default();
    ok("ListPodSandbox", runtime.list_pod_sandbox(request).await);
    let request = v1::ListContainersRequest::default();
    ok("ListContainers", runtime.list_containers(request).await);
    let request = v1::ListContainerStatsRequest::default();
    ok("ListContainerStats", runtime.list_container_stats(request).await);
    let request = v1::ListPodSandboxStatsRequest::default();
    ok(
        "ListPodSandboxStats",
        runtime.list_pod_sandbox_stats(request).await,
    );
    let request = v1::ListImagesRequest::default();
    ok("ListImages", node.images().list_images(request).await);
}

/// What nobody was told of must not be left in the end either: its id is known by its directory only.
fn remember_all(node: &Node) {
    for tree in ["s/pods", "r/pods"] {
        for pod in names(&node.dir().join(tree)) {
            node.remember(&pod);
            for container in names(&node.dir().join(tree).join(&pod).join("containers")) {
                node.remember(&container);
            }
        }
    }
}

async fn works(pod: &Pod<'_>) {
    assert_eq!(pod.status().await.state(), PodSandboxState::SandboxReady);
    assert_eq!(pod.sh("echo works").await, "works\n");
}

/// The pod, with a pause process, is there, or what was made of it is gone; the same request makes it or finds it.
#[test]
#[ignore = "needs root"]
fn a_pod_that_is_being_created() {
    on_crashing_node(async |node| {
        node.pull("base").await;
        for point in RUN_POD {
            let mut config = node.pod_config();
            share_pids(&mut config);
            dies(node, point, async || node.try_pod(&config).await).await;
            let pod = node.run_pod(config).await;
            works(&pod).await;
            pod.remove().await;
        }
    });
}

/// So it is with one that gets a monitor that has waited.
#[test]
#[ignore = "needs root"]
fn a_pod_that_is_being_created_with_a_warm_monitor() {
    on_crashing_node(async |node| {
        node.pull("base").await;
        node.configure(Some(warm::TWO));
        for point in RUN_POD {
            let config = node.pod_config();
            dies(node, point, async || {
                warm::waiting(node, &[], 2).await;
                node.try_pod(&config).await
            })
            .await;
            let pod = node.run_pod(config).await;
            works(&pod).await;
            pod.remove().await;
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_container_that_is_being_created() {
    on_crashing_node(async |node| {
        let pod = node.pod_with(share_pids).await;
        for point in CREATE {
            let config = pod.container_config();
            dies(node, point, async || pod.try_create(&config).await).await;
            let container = pod.create(config).await;
            container.start().await;
            assert_eq!(container.sh("echo works").await, "works\n");
            container.remove().await;
        }
        pod.remove().await;
    });
}

/// It runs, or it was never started and can be.
#[test]
#[ignore = "needs root"]
fn a_container_that_is_being_started() {
    on_crashing_node(async |node| {
        let pod = node.pod().await;
        for point in START {
            let container = pod.create(pod.container_config()).await;
            dies(node, point, async || container.try_start().await).await;
            if container.status().await.state() == ContainerState::ContainerCreated {
                container.start().await;
            }
            assert_eq!(container.sh("echo works").await, "works\n");
            container.remove().await;
        }
        pod.remove().await;
    });
}

/// Stopped again, it is exited with the code that the monitor saw.
#[test]
#[ignore = "needs root"]
fn a_container_that_is_being_stopped() {
    on_crashing_node(async |node| {
        let pod = node.pod().await;
        for point in STOP {
            let script = match point {
                // It ignores its stop signal, so that it has to be killed.
                "stop_container.kill" => "trap '' TERM; sleep 1000 & wait",
                _ => "trap 'exit 6' TERM; sleep 1000 & wait",
            };
            let command = strings(&["sh", "-c", script]);
            let container = pod.start(|config| config.command = command).await;
            dies(node, point, async || container.try_stop(1).await).await;
            container.stop(1).await;
            let status = container.status().await;
            assert_eq!(status.state(), ContainerState::ContainerExited, "{point}");
            assert!([6, 137].contains(&status.exit_code), "{point}: {status:?}");
            container.remove().await;
        }
        pod.remove().await;
    });
}

/// The limits are the old ones or the new ones, and can be changed again.
#[test]
#[ignore = "needs root"]
fn a_container_whose_resources_are_being_changed() {
    on_crashing_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let change = |cpu_shares| v1::LinuxContainerResources {
            cpu_shares,
            ..Default::default()
        };
        for (shares, point) in (200..).step_by(100).zip(UPDATE) {
            dies(node, point, async || container.try_update(change(shares)).await).await;
            let update = container.try_update(change(shares)).await;
            ok("UpdateContainerResources", update);
            assert_eq!(container.resources().await.cpu_shares, shares);
        }
        works(&pod).await;
        pod.remove().await;
    });
}

#[test]
#[ignore = "needs root"]
fn a_pod_whose_resources_are_being_changed() {
    on_crashing_node(async |node| {
        let pod = node.pod().await;
        for (shares, point) in (200..).step_by(100).zip(UPDATE_POD) {
            let resources = v1::LinuxContainerResources {
                cpu_shares: shares,
                ..Default::default()
            };
            dies(node, point, async || pod.try_update(resources.clone()).await).await;
            ok("UpdatePodSandboxResources", pod.try_update(resources).await);
            assert_eq!(pod.details().await["resources"]["cpu_shares"], shares);
        }
        works(&pod).await;
        pod.remove().await;
    });
}

#[test]
#[ignore = "needs root"]
fn a_container_that_is_being_removed() {
    on_crashing_node(async |node| {
        let pod = node.pod().await;
        for point in REMOVE {
            let container = pod.start(|_| {}).await;
            let container_id = container.id.clone();
            dies(node, point, async || {
                let request = v1::RemoveContainerRequest { container_id };
                node.runtime().remove_container(request).await
            })
            .await;
            container.remove().await;
        }
        works(&pod).await;
        pod.remove().await;
    });
}

/// Stopped again, the pod is not ready; its address is free.
#[test]
#[ignore = "needs root"]
fn a_pod_that_is_being_stopped() {
    on_crashing_node(async |node| {
        for point in STOP_POD {
            let pod = node.pod_with(share_pids).await;
            pod.start(|_| {}).await;
            let pod_sandbox_id = pod.id.clone();
            dies(node, point, async || {
                let request = v1::StopPodSandboxRequest { pod_sandbox_id };
                node.runtime().stop_pod_sandbox(request).await
            })
            .await;
            pod.stop().await;
            assert_eq!(pod.status().await.state(), PodSandboxState::SandboxNotready);
            pod.remove().await;
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_pod_that_is_being_removed() {
    on_crashing_node(async |node| {
        for point in REMOVE_POD {
            let pod = node.pod().await;
            pod.start(|_| {}).await;
            let pod_sandbox_id = pod.id.clone();
            dies(node, point, async || {
                let request = v1::RemovePodSandboxRequest { pod_sandbox_id };
                node.runtime().remove_pod_sandbox(request).await
            })
            .await;
            pod.remove().await;
        }
    });
}

/// The monitor dies, and then the daemon, while it is taking note of that.
#[test]
#[ignore = "needs root"]
fn a_pod_whose_monitor_has_died() {
    on_crashing_node(async |node| {
        for point in LOSE {
            let pod = node.pod().await;
            let container = pod.start(|_| {}).await;
            let monitor = monitor_of(node, &pod);
            dies(node, point, async || kill_process(monitor, Signal::KILL)).await;
            // Until the monitor was looked for, both are as they were recorded.
            eventually("pod and container are known to have ended", async || {
                let state = (pod.status().await.state(), container.status().await.state());
                let ended = (PodSandboxState::SandboxNotready, ContainerState::ContainerExited);
                (state == ended).then_some(())
            })
            .await;
            pod.remove().await;
        }
    });
}

/// The daemon dies once more while it recovers.
#[test]
#[ignore = "needs root"]
fn a_daemon_that_recovers() {
    on_crashing_node(async |node| {
        // An update of a pod with a pause process finds it again.
        for pod in [node.pod().await, node.pod_with(share_pids).await] {
            let container = pod.start(|_| {}).await;
            let pid = container.pid().await;
            for point in RECOVER {
                // It ends while no daemon runs, so that there is something to take note of.
                let ends = pod.start(|_| {}).await;
                let process = Pid::from_raw(ends.pid().await).expect("a process id");
                node.daemon(Daemon::kill);
                kill_process(process, Signal::KILL).expect("a process");
                let exits = node.dir().join("s/pods").join(&pod.id).join(EXITS_DIR);
                eventually("the monitor has recorded the exit", async || {
                    exits.join(format!("{}.json", ends.id)).exists().then_some(())
                })
                .await;
                dies(node, point, async || ()).await;
                assert_eq!(container.pid().await, pid);
                assert_eq!(ends.end().await.status.exit_code, 137);
                works(&pod).await;
            }
        }
    });
}

/// Every failpoint in the code is in one of the tables.
#[test]
#[ignore = "needs root"]
fn every_failpoint_has_its_case() {
    let tables: BTreeSet<&str> = [
        &RUN_POD[..],
        &CREATE,
        &START,
        &STOP,
        &UPDATE,
        &UPDATE_POD,
        &REMOVE,
        &STOP_POD,
        &REMOVE_POD,
        &LOSE,
        &RECOVER,
    ]
    .concat()
    .into_iter()
    .collect();
    let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sandbox")];
    let mut found = BTreeSet::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(
                std::fs::read_dir(&path)
                    .expect("a directory")
                    .flatten()
                    .map(|entry| entry.path()),
            );
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        let quoted = |text: &str| text.split('"').nth(1).map(str::to_owned);
        let own = text.lines().find(|line| line.starts_with("const OPERATION"));
        let own = own.and_then(quoted).unwrap_or_default();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("failpoint_before(OPERATION") {
                found.insert(format!("{own}.{}", quoted(rest).expect("a step")));
            }
            if let Some(rest) = line.strip_prefix("self.commit(\"") {
                let operation = rest.split('"').next().unwrap_or_default();
                found.insert(format!("{operation}.save"));
            }
        }
    }
    assert!(found.len() > 25, "the failpoints are not found: {found:?}");
    let missing: Vec<_> = found
        .iter()
        .filter(|name| !tables.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "without a case: {missing:?}");
}
