//! `kill -9` of the daemon at any moment of any operation: afterwards every list answers, the same request again
//! succeeds, and once everything is removed nothing is left on the node, not even of what nobody was ever told of.

use std::collections::BTreeSet;
use std::time::Duration;

use pausa::proto::v1;
use pausa::proto::v1::{ContainerState, PodSandboxState};

use crate::harness::daemon::Daemon;
use crate::harness::pod::pod_security;
use crate::harness::{Node, Pod, eventually, leaks, ok, on_own_node};

/// Milliseconds from the request to the kill: every step of every operation is hit by some of them.
const DELAYS: [u64; 12] = [0, 1, 2, 4, 6, 9, 13, 18, 25, 35, 50, 70];

/// Kills the daemon `millis` after the beginning of `call`, and starts it again on the same directories at once.
async fn cut_off<T>(node: &Node, millis: u64, call: impl Future<Output = T>) {
    let killing = async {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        node.daemon(Daemon::kill);
        remember_all(node);
        node.daemon(Daemon::restart);
    };
    let (answer, ()) = tokio::join!(call, killing);
    // Whether it was answered before the kill does not matter.
    drop(answer);
    node.until_it_answers().await;
    every_list_answers(node).await;
}

/// Also what nobody was told of must not be left in the end: its id is known by its directory only.
fn remember_all(node: &Node) {
    for tree in ["s/pods", "r/pods"] {
        for pod in std::fs::read_dir(node.dir().join(tree))
            .into_iter()
            .flatten()
            .flatten()
        {
            node.remember(&pod.file_name().to_string_lossy());
            let containers = std::fs::read_dir(pod.path().join("containers"));
            for container in containers.into_iter().flatten().flatten() {
                node.remember(&container.file_name().to_string_lossy());
            }
        }
    }
}

async fn every_list_answers(node: &Node) {
    let mut runtime = node.runtime();
    let pods = v1::ListPodSandboxRequest::default();
    ok("ListPodSandbox", runtime.list_pod_sandbox(pods).await);
    let containers = v1::ListContainersRequest::default();
    ok("ListContainers", runtime.list_containers(containers).await);
    let stats = v1::ListContainerStatsRequest::default();
    ok("ListContainerStats", runtime.list_container_stats(stats).await);
    let stats = v1::ListPodSandboxStatsRequest::default();
    ok("ListPodSandboxStats", runtime.list_pod_sandbox_stats(stats).await);
    let images = v1::ListImagesRequest::default();
    ok("ListImages", node.images().list_images(images).await);
}

/// A pod whose containers share their PID namespace, so that there is a pause process too.
async fn sharing_pod(node: &Node) -> Pod<'_> {
    node.pod_with(|config| {
        if let Some(options) = pod_security(config).namespace_options.as_mut() {
            options.pid = v1::NamespaceMode::Pod.into();
        }
    })
    .await
}

/// Takes a pod's record away behind the back of the daemon, which must not be running.
fn lose_record(node: &Node, pod: &Pod<'_>) {
    std::fs::remove_file(node.dir().join("s/pods").join(&pod.id).join("pod.json")).expect("a record");
    // The copy may not have been written yet.
    std::fs::remove_dir_all(node.dir().join("r/pods").join(&pod.id)).ok();
}

/// RunPodSandbox: the pod is there, or what was made of it is gone and the same request makes it.
#[test]
#[ignore = "needs root"]
fn killed_while_making_a_pod() {
    on_own_node(async |node| {
        node.pull("base").await;
        for millis in DELAYS {
            let config = node.pod_config();
            cut_off(node, millis, node.try_pod(&config)).await;
            let pod = node.run_pod(config).await;
            assert_eq!(pod.status().await.state(), PodSandboxState::SandboxReady);
            pod.remove().await;
        }
    });
}

/// CreateContainer: as with pods.
#[test]
#[ignore = "needs root"]
fn killed_while_making_a_container() {
    on_own_node(async |node| {
        let pod = sharing_pod(node).await;
        for millis in DELAYS {
            let config = pod.container_config();
            cut_off(node, millis, pod.try_create(&config)).await;
            let container = pod.create(config).await;
            container.start().await;
            assert_eq!(container.sh("echo works").await, "works\n");
            container.remove().await;
        }
        pod.remove().await;
    });
}

/// StartContainer: it runs, or it was never started and can be.
#[test]
#[ignore = "needs root"]
fn killed_while_starting_a_container() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        for millis in DELAYS {
            let container = pod.create(pod.container_config()).await;
            cut_off(node, millis, container.try_start()).await;
            if container.status().await.state() == ContainerState::ContainerCreated {
                container.start().await;
            }
            assert_eq!(container.sh("echo works").await, "works\n");
            container.remove().await;
        }
        pod.remove().await;
    });
}

/// StopPodSandbox: asked again it ends, and the pod is not ready.
#[test]
#[ignore = "needs root"]
fn killed_while_stopping_a_pod() {
    on_own_node(async |node| {
        for millis in DELAYS {
            let pod = sharing_pod(node).await;
            pod.start(|_| {}).await;
            let request = v1::StopPodSandboxRequest {
                pod_sandbox_id: pod.id.clone(),
            };
            let mut runtime = node.runtime();
            cut_off(node, millis, runtime.stop_pod_sandbox(request)).await;
            pod.stop().await;
            assert_eq!(pod.status().await.state(), PodSandboxState::SandboxNotready);
            pod.remove().await;
        }
    });
}

/// RemovePodSandbox of a running pod: asked again it ends.
#[test]
#[ignore = "needs root"]
fn killed_while_removing_a_pod() {
    on_own_node(async |node| {
        for millis in DELAYS {
            let pod = node.pod().await;
            pod.start(|_| {}).await;
            let request = v1::RemovePodSandboxRequest {
                pod_sandbox_id: pod.id.clone(),
            };
            let mut runtime = node.runtime();
            cut_off(node, millis, runtime.remove_pod_sandbox(request)).await;
            pod.remove().await;
        }
    });
}

/// A pod whose record is lost holds nothing for long: its monitor, namespaces, address and mounts go.
#[test]
#[ignore = "needs root"]
fn what_has_no_record_is_removed() {
    on_own_node(async |node| {
        let kept = node.pod().await;
        let lost = sharing_pod(node).await;
        let ip = lost.ip().await;
        node.daemon(Daemon::kill);
        lose_record(node, &lost);
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        eventually("nothing of the lost pod is left", async || {
            let lost = BTreeSet::from([lost.id.clone()]);
            let left = leaks::named(&lost, node.dir());
            left.is_empty().then_some(())
        })
        .await;
        assert_eq!(kept.status().await.state(), PodSandboxState::SandboxReady);
        assert_eq!(kept.sh("echo works").await, "works\n");
        assert_ne!(kept.ip().await, ip);
    });
}

/// A record that cannot be read is a record: its pod runs on, keeps its address, and is there again once it is mended.
#[test]
#[ignore = "needs root"]
fn a_damaged_record_costs_the_pod_nothing() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let lost = node.pod().await;
        let (ip, pid) = (pod.ip().await, container.pid().await);
        let record = node.dir().join("s/pods").join(&pod.id).join("pod.json");
        let whole = std::fs::read(&record).expect("a record");
        node.daemon(Daemon::kill);
        std::fs::write(&record, "{").expect("a damaged record");
        lose_record(node, &lost);
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        // The first round of care is over when it has freed what this one had.
        eventually("the first round of care is over", async || {
            leaks::named(&BTreeSet::from([lost.id.clone()]), node.dir())
                .is_empty()
                .then_some(())
        })
        .await;
        assert_ne!(node.pod().await.ip().await, ip, "its address is taken");
        node.daemon(Daemon::kill);
        std::fs::write(&record, whole).expect("a record");
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        assert_eq!((pod.ip().await, container.pid().await), (ip, pid));
        assert_eq!(container.sh("echo alive").await, "alive\n");
    });
}
