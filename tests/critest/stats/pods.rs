//! What pods use.

use std::collections::BTreeSet;

use pausa::proto::v1;

use super::{container_stats, ids, list_pods, number, pod_ids, pod_stats};
use crate::harness::pod::pod_security;
use crate::harness::{eventually, map, on_node, on_pausa, strings};

/// CRI `LinuxPodSandboxStats`: the pod's cgroup has all of its containers in it.
#[test]
#[ignore = "needs root"]
fn a_pod_has_numbers_and_its_containers() {
    on_node(async |node| {
        let pod = node
            .pod_with(|config| config.annotations = map(&[("of/pod", "a b")]))
            .await;
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", "while :; do :; done"]))
            .await;
        let before = container_stats(&container).await.cpu.expect("cpu");
        let stats = pod_stats(&pod).await;
        let attributes = stats.attributes.expect("attributes");
        assert_eq!(
            (&attributes.id, &attributes.metadata),
            (&pod.id, &pod.config.metadata)
        );
        assert_eq!(attributes.labels, pod.config.labels);
        assert_eq!(attributes.annotations, pod.config.annotations);
        let linux = stats.linux.expect("Linux");
        let cpu = linux.cpu.expect("cpu");
        assert!(cpu.timestamp > 0);
        assert!(number(&cpu.usage_core_nano_seconds) >= number(&before.usage_core_nano_seconds));
        assert!(number(&linux.memory.expect("memory").working_set_bytes) > 0);
        assert!(number(&linux.process.expect("processes").process_count) >= 1);
        assert_eq!(ids(&linux.containers), BTreeSet::from([container.id.clone()]));
        assert!(linux.containers[0].cpu.is_some());
    });
}

/// Without a cgroup of its own (crictl gives none), a pod's numbers are those of its parts.
#[test]
#[ignore = "needs root"]
fn a_pod_without_a_cgroup_is_the_sum_of_its_parts() {
    on_pausa(async |node| {
        let pod = node
            .pod_with(|config| config.linux.get_or_insert_default().cgroup_parent.clear())
            .await;
        let busy = ["sh", "-c", "while :; do :; done"];
        let one = pod.start(|config| config.command = strings(&busy)).await;
        let other = pod.start(|config| config.command = strings(&busy)).await;
        let used = async |container| {
            number(
                &container_stats(container)
                    .await
                    .cpu
                    .expect("cpu")
                    .usage_core_nano_seconds,
            )
        };
        let before = used(&one).await + used(&other).await;
        let linux = pod_stats(&pod).await.linux.expect("Linux");
        assert!(number(&linux.cpu.expect("cpu").usage_core_nano_seconds) >= before);
        // Both, and the monitor.
        assert!(number(&linux.process.expect("processes").process_count) >= 3);
        assert!(number(&linux.memory.expect("memory").usage_bytes) > 0);
    });
}

/// CRI `NetworkUsage`: counters of the pod's own interfaces.
#[test]
#[ignore = "needs root"]
fn a_pods_traffic_is_counted() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let sent = async || {
            let linux = pod_stats(&pod).await.linux.expect("Linux");
            let network = linux.network.expect("network");
            assert!(network.timestamp > 0);
            let interface = network.default_interface.expect("a default interface");
            assert_eq!(interface.name, "eth0");
            number(&interface.tx_bytes)
        };
        let before = sent().await;
        // Nobody listens; asking who has the address is traffic enough.
        container
            .sh("gateway=$(ip route | awk '/^default/ {print $3}'); nc -w 1 $gateway 9 </dev/null; true")
            .await;
        eventually("more was sent", async || (sent().await > before).then_some(())).await;
    });
}

/// CRI `LinuxPodSandboxStats.network`: the host's traffic is not the pod's.
#[test]
#[ignore = "needs root"]
fn a_pod_on_the_hosts_network_has_no_traffic_of_its_own() {
    on_node(async |node| {
        let pod = node
            .pod_with(|config| {
                config.hostname.clear();
                let options = pod_security(config).namespace_options.get_or_insert_default();
                options.network = v1::NamespaceMode::Node.into();
            })
            .await;
        pod.start(|_| {}).await;
        let linux = pod_stats(&pod).await.linux.expect("Linux");
        assert_eq!(linux.network, None);
        assert!(linux.cpu.is_some());
    });
}

/// Lists of pods are of ready ones, filtered by id and labels; a stopped pod can still be asked for.
#[test]
#[ignore = "needs root"]
fn pod_lists_are_filtered_and_of_ready_pods() {
    on_pausa(async |node| {
        let labelled = |value: &'static str| {
            move |config: &mut v1::PodSandboxConfig| drop(config.labels.insert("k".into(), value.into()))
        };
        let (one, other) = (
            node.pod_with(labelled("a")).await,
            node.pod_with(labelled("b")).await,
        );
        let filter = v1::PodSandboxStatsFilter {
            label_selector: map(&[("k", "b")]),
            ..Default::default()
        };
        let listed = list_pods(node, Some(filter)).await;
        assert_eq!(pod_ids(&listed), BTreeSet::from([other.id.clone()]));
        other.stop().await;
        assert_eq!(
            pod_ids(&list_pods(node, None).await),
            BTreeSet::from([one.id.clone()])
        );
        let stopped = pod_stats(&other).await;
        assert_eq!(stopped.attributes.expect("attributes").id, other.id);
        assert_eq!(stopped.linux, None);
    });
}
