//! What pods and containers use: ContainerStats, PodSandboxStats, their List and their Stream calls.

use std::collections::BTreeSet;

use pausa::proto::v1;
use tonic::Code;

use crate::harness::container::Container;
use crate::harness::pod::Pod;
use crate::harness::{Node, eventually, map, ok, on_node, on_pausa, refused, strings};

mod pods;

const MIB: u64 = 1 << 20;

async fn container_stats(container: &Container<'_>) -> v1::ContainerStats {
    let request = v1::ContainerStatsRequest {
        container_id: container.id.clone(),
    };
    let answer = container.node.runtime().container_stats(request).await;
    ok("ContainerStats", answer).stats.expect("a container's stats")
}

async fn list(node: &Node, filter: Option<v1::ContainerStatsFilter>) -> Vec<v1::ContainerStats> {
    let request = v1::ListContainerStatsRequest { filter };
    ok(
        "ListContainerStats",
        node.runtime().list_container_stats(request).await,
    )
    .stats
}

async fn pod_stats(pod: &Pod<'_>) -> v1::PodSandboxStats {
    let request = v1::PodSandboxStatsRequest {
        pod_sandbox_id: pod.id.clone(),
    };
    let answer = pod.node.runtime().pod_sandbox_stats(request).await;
    ok("PodSandboxStats", answer).stats.expect("a pod's stats")
}

async fn list_pods(node: &Node, filter: Option<v1::PodSandboxStatsFilter>) -> Vec<v1::PodSandboxStats> {
    let request = v1::ListPodSandboxStatsRequest { filter };
    ok(
        "ListPodSandboxStats",
        node.runtime().list_pod_sandbox_stats(request).await,
    )
    .stats
}

fn ids(stats: &[v1::ContainerStats]) -> BTreeSet<String> {
    let attributes = stats.iter().filter_map(|one| one.attributes.as_ref());
    attributes.map(|one| one.id.clone()).collect()
}

fn pod_ids(stats: &[v1::PodSandboxStats]) -> BTreeSet<String> {
    let attributes = stats.iter().filter_map(|one| one.attributes.as_ref());
    attributes.map(|one| one.id.clone()).collect()
}

#[track_caller]
fn number(value: &Option<v1::UInt64Value>) -> u64 {
    value.as_ref().expect("a number").value
}

/// CRI `ContainerAttributes`, `CpuUsage`, `MemoryUsage`: kubelet keeps the hash and the restart count in annotations.
#[test]
#[ignore = "needs root"]
fn a_running_container_has_numbers_and_its_attributes_unchanged() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                config.annotations = map(&[("io.kubernetes.container.hash", "a b\n"), ("empty", "")]);
            })
            .await;
        let stats = container_stats(&container).await;
        let attributes = stats.attributes.expect("attributes");
        assert_eq!(attributes.id, container.id);
        assert_eq!(attributes.metadata, container.config.metadata);
        assert_eq!(attributes.labels, container.config.labels);
        assert_eq!(attributes.annotations, container.config.annotations);
        let cpu = stats.cpu.expect("cpu");
        assert!(
            cpu.timestamp > 0 && number(&cpu.usage_core_nano_seconds) > 0,
            "{cpu:?}"
        );
        let memory = stats.memory.expect("memory");
        assert!(memory.timestamp > 0, "{memory:?}");
        assert!(number(&memory.working_set_bytes) > 0, "{memory:?}");
        assert!(
            number(&memory.working_set_bytes) <= number(&memory.usage_bytes),
            "{memory:?}"
        );
        assert!(number(&memory.page_faults) > 0, "{memory:?}");
    });
}

/// CRI `CpuUsage.usage_nano_cores`: the current rate. One process never uses more than a core, give or take the
/// moments of reading.
#[test]
#[ignore = "needs root"]
fn a_busy_container_has_a_rate_from_the_second_look_on() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", "while :; do :; done"]))
            .await;
        let rate = eventually("a rate", async || {
            let cpu = container_stats(&container).await.cpu.expect("cpu");
            cpu.usage_nano_cores
                .map(|rate| rate.value)
                .filter(|rate| *rate > 0)
        })
        .await;
        assert!(rate < 2_000_000_000, "{rate}");
    });
}

/// CRI `MemoryUsage.available_bytes`: the limit less the working set, and nothing without a limit; `SwapUsage`.
#[test]
#[ignore = "needs root"]
fn available_memory_is_what_the_limit_leaves() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let limited = pod
            .start(|config| {
                let linux = config.linux.get_or_insert_default();
                linux.resources.get_or_insert_default().memory_limit_in_bytes = 64 << 20;
            })
            .await;
        let stats = container_stats(&limited).await;
        let memory = stats.memory.expect("memory");
        assert_eq!(
            number(&memory.available_bytes) + number(&memory.working_set_bytes),
            64 * MIB
        );
        let swap = stats.swap.expect("swap");
        assert!(swap.timestamp > 0);
        assert_eq!(number(&swap.swap_usage_bytes), 0);
        let free = container_stats(&pod.start(|_| {}).await).await;
        assert_eq!(free.memory.expect("memory").available_bytes, None);
    });
}

/// CRI `ContainerStats.writable_layer`: kubelet's ephemeral-storage limits; it finds the file system by what
/// ImageFsInfo calls it.
#[test]
#[ignore = "needs root"]
fn the_writable_layer_is_counted() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                let script = "dd if=/dev/urandom of=/big bs=1M count=3; mkdir /d; touch /d/e; echo written; sleep 3600";
                config.command = strings(&["sh", "-c", script]);
            })
            .await;
        container.says("written").await;
        let layer = eventually("the layer is measured", async || {
            let layer = container_stats(&container).await.writable_layer?;
            (number(&layer.used_bytes) >= 3 * MIB).then_some(layer)
        })
        .await;
        assert!(layer.timestamp > 0);
        assert!(number(&layer.used_bytes) < 8 * MIB, "{layer:?}");
        assert!(number(&layer.inodes_used) >= 4, "{layer:?}");
        let info = node.images().image_fs_info(v1::ImageFsInfoRequest {}).await;
        let filesystems = ok("ImageFsInfo", info).container_filesystems;
        assert!(
            filesystems.iter().any(|one| one.fs_id == layer.fs_id),
            "{layer:?}"
        );
    });
}

/// kubelet and crictl tell those that do not run by their missing CPU and memory; asking for one is no failure.
#[test]
#[ignore = "needs root"]
fn a_container_that_does_not_run_has_attributes_and_no_numbers() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let created = pod.create(pod.container_config()).await;
        let exited = pod
            .start(|config| config.command = strings(&["sh", "-c", "exit 3"]))
            .await;
        exited.end().await;
        let listed = list(node, None).await;
        for container in [&created, &exited] {
            let stats = container_stats(container).await;
            assert_eq!(stats.attributes.as_ref().expect("attributes").id, container.id);
            assert_eq!((&stats.cpu, &stats.memory, &stats.swap), (&None, &None, &None));
            assert!(ids(&listed).contains(&container.id));
        }
    });
}

/// CRI `ContainerStatsFilter`: all conditions must hold; what nothing matches is an empty list.
#[test]
#[ignore = "needs root"]
fn container_lists_are_filtered() {
    on_node(async |node| {
        let (one, other) = (node.pod().await, node.pod().await);
        let a = one
            .start(|config| drop(config.labels.insert("k".into(), "a".into())))
            .await;
        let b = one
            .start(|config| drop(config.labels.insert("k".into(), "b".into())))
            .await;
        let c = other
            .start(|config| drop(config.labels.insert("k".into(), "a".into())))
            .await;
        let listed = async |filter| ids(&list(node, Some(filter)).await);
        let expect =
            |containers: &[&Container<'_>]| containers.iter().map(|c| c.id.clone()).collect::<BTreeSet<_>>();
        let by_id = v1::ContainerStatsFilter {
            id: b.id.clone(),
            ..Default::default()
        };
        assert_eq!(listed(by_id.clone()).await, expect(&[&b]));
        let by_pod = v1::ContainerStatsFilter {
            pod_sandbox_id: one.id.clone(),
            ..Default::default()
        };
        assert_eq!(listed(by_pod.clone()).await, expect(&[&a, &b]));
        let by_both = v1::ContainerStatsFilter {
            label_selector: map(&[("k", "a")]),
            ..by_pod
        };
        assert_eq!(listed(by_both).await, expect(&[&a]));
        let by_neither = v1::ContainerStatsFilter {
            pod_sandbox_id: other.id.clone(),
            ..by_id
        };
        assert_eq!(listed(by_neither).await, expect(&[]));
        let unknown = v1::ContainerStatsFilter {
            id: "0".repeat(64),
            ..Default::default()
        };
        assert_eq!(listed(unknown).await, expect(&[]));
        assert!(ids(&list(node, None).await).is_superset(&expect(&[&a, &b, &c])));
    });
}

/// kubelet takes NotFound, and nothing else, as "already gone".
#[test]
#[ignore = "needs root"]
fn what_is_not_there_is_not_found() {
    on_node(async |node| {
        let id = "0".repeat(64);
        let request = v1::ContainerStatsRequest {
            container_id: id.clone(),
        };
        refused(Code::NotFound, node.runtime().container_stats(request).await);
        let request = v1::PodSandboxStatsRequest {
            pod_sandbox_id: id.clone(),
        };
        refused(Code::NotFound, node.runtime().pod_sandbox_stats(request).await);
        let filter = v1::PodSandboxStatsFilter {
            id,
            ..Default::default()
        };
        assert!(list_pods(node, Some(filter)).await.is_empty());
    });
}

/// CRI StreamContainerStats and StreamPodSandboxStats: the same as the lists.
#[test]
#[ignore = "needs root"]
fn streams_have_what_the_lists_have() {
    on_pausa(async |node| {
        let pods = [node.pod().await, node.pod().await];
        for pod in &pods {
            pod.start(|_| {}).await;
        }
        let request = v1::StreamContainerStatsRequest::default();
        let mut stream = ok("stream", node.runtime().stream_container_stats(request).await);
        let mut streamed = Vec::new();
        while let Some(message) = stream.message().await.expect("a message") {
            assert!(!message.container_stats.is_empty());
            streamed.extend(message.container_stats);
        }
        assert_eq!(streamed.len(), 2);
        assert_eq!(ids(&streamed), ids(&list(node, None).await));
        let request = v1::StreamPodSandboxStatsRequest::default();
        let mut stream = ok("stream", node.runtime().stream_pod_sandbox_stats(request).await);
        let mut streamed = Vec::new();
        while let Some(message) = stream.message().await.expect("a message") {
            streamed.extend(message.pod_sandbox_stats);
        }
        assert_eq!(streamed.len(), 2);
        assert_eq!(pod_ids(&streamed), pod_ids(&list_pods(node, None).await));
    });
}
