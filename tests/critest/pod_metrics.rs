//! Metrics of pods and containers: ListMetricDescriptors, ListPodSandboxMetrics and StreamPodSandboxMetrics (KEP-2371).

use std::collections::{BTreeMap, BTreeSet};

use pausa::proto::v1;

use crate::harness::container::Container;
use crate::harness::pod::{Pod, pod_security};
use crate::harness::{Node, eventually, ok, on_pausa, strings};

const MIB: u64 = 1 << 20;

/// The labels that kubelet expects from the runtime (kubernetes#140778).
const SUBJECT: [&str; 5] = ["id", "image", "namespace", "pod", "container"];

async fn descriptors(node: &Node) -> BTreeMap<String, v1::MetricDescriptor> {
    let request = v1::ListMetricDescriptorsRequest {};
    let answer = node.runtime().list_metric_descriptors(request).await;
    let descriptors = ok("ListMetricDescriptors", answer).descriptors;
    descriptors
        .into_iter()
        .map(|one| (one.name.clone(), one))
        .collect()
}

async fn list(node: &Node) -> Vec<v1::PodSandboxMetrics> {
    let request = v1::ListPodSandboxMetricsRequest {};
    let answer = node.runtime().list_pod_sandbox_metrics(request).await;
    ok("ListPodSandboxMetrics", answer).pod_metrics
}

async fn of_pod(pod: &Pod<'_>) -> v1::PodSandboxMetrics {
    let mut all = list(pod.node).await;
    all.retain(|one| one.pod_sandbox_id == pod.id);
    all.pop().expect("the pod's metrics")
}

async fn of_container(pod: &Pod<'_>, container: &Container<'_>) -> Vec<v1::Metric> {
    let mut all = of_pod(pod).await.container_metrics;
    all.retain(|one| one.container_id == container.id);
    all.pop().expect("the container's metrics").metrics
}

/// The values of a metric, by the labels beside those that say who it is about.
fn values(metrics: &[v1::Metric], name: &str) -> BTreeMap<Vec<String>, u64> {
    let rows = metrics.iter().filter(|row| row.name == name);
    let value = |row: &v1::Metric| row.value.as_ref().expect("a value").value;
    rows.map(|row| (row.label_values[SUBJECT.len()..].to_vec(), value(row)))
        .collect()
}

/// The sum of a metric's values; none without it.
fn sum(metrics: &[v1::Metric], name: &str) -> Option<u64> {
    let values = values(metrics, name);
    (!values.is_empty()).then(|| values.values().sum())
}

/// Waits until a metric of a container is at least `least`.
async fn at_least(pod: &Pod<'_>, container: &Container<'_>, name: &str, least: u64) -> u64 {
    eventually(&format!("{name} reaches {least}"), async || {
        let now = sum(&of_container(pod, container).await, name)?;
        (now >= least).then_some(now)
    })
    .await
}

async fn shell<'a>(pod: &'a Pod<'a>, script: &str) -> Container<'a> {
    pod.start(|config| config.command = strings(&["sh", "-c", script]))
        .await
}

/// CRI `MetricDescriptor`: kubelet takes a metric only with as many label values as it has keys.
#[test]
#[ignore = "needs root"]
fn metrics_are_described_and_labelled() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                let resources = v1::LinuxContainerResources {
                    cpu_period: 100_000,
                    cpu_quota: 20_000,
                    cpu_shares: 1024,
                    memory_limit_in_bytes: 64 << 20,
                    ..Default::default()
                };
                config.linux.get_or_insert_default().resources = Some(resources);
            })
            .await;
        let described = descriptors(node).await;
        for one in described.values() {
            assert!(!one.help.is_empty(), "{one:?}");
            assert_eq!(&one.label_keys[..SUBJECT.len()], SUBJECT, "{one:?}");
        }
        let metrics = of_pod(&pod).await;
        let name = &container.config.metadata.as_ref().expect("metadata").name;
        let own = of_container(&pod, &container).await;
        let image = own[0].label_values[1].clone();
        assert!(image.contains("base"), "{image}");
        let of_pod = |id: &str, image: &str, container: &str| {
            let pod = &pod.config.metadata.as_ref().expect("metadata").name;
            strings(&[id, image, "critest", pod, container])
        };
        let subjects = [
            of_pod(&pod.id, "", "POD"),
            of_pod(&pod.id, "", ""),
            of_pod(&container.id, &image, name),
        ];
        let mut seen = BTreeSet::new();
        for row in metrics.metrics.iter().chain(&own) {
            let keys = &described[&row.name].label_keys;
            assert_eq!(row.label_values.len(), keys.len(), "{row:?}");
            assert!(
                subjects.contains(&row.label_values[..SUBJECT.len()].to_vec()),
                "{row:?}"
            );
            assert!(row.timestamp > 0, "{row:?}");
            assert!(
                seen.insert((row.name.clone(), row.label_values.clone())),
                "twice: {row:?}"
            );
        }
        // What every kernel tells of every container, and of the pod.
        for name in [
            "container_cpu_usage_seconds_total",
            "container_cpu_user_seconds_total",
            "container_cpu_system_seconds_total",
            "container_cpu_cfs_periods_total",
            "container_cpu_cfs_throttled_periods_total",
            "container_cpu_cfs_throttled_seconds_total",
            "container_memory_usage_bytes",
            "container_memory_working_set_bytes",
            "container_memory_rss",
            "container_memory_cache",
            "container_memory_mapped_file",
            "container_memory_swap",
            "container_memory_kernel_usage",
            "container_memory_failcnt",
            "container_memory_failures_total",
            "container_memory_total_active_file_bytes",
            "container_memory_total_inactive_file_bytes",
            "container_oom_events_total",
            "container_threads",
            "container_threads_max",
        ] {
            assert!(sum(&own, name).is_some(), "{name}");
            assert!(sum(&metrics.metrics, name).is_some(), "{name} of the pod");
        }
        for (name, value) in [
            ("container_spec_cpu_period", 100_000),
            ("container_spec_cpu_quota", 20_000),
            ("container_spec_cpu_shares", 1024),
            ("container_spec_memory_limit_bytes", 64 * MIB),
            ("container_spec_memory_reservation_limit_bytes", 0),
        ] {
            assert_eq!(sum(&own, name), Some(value), "{name}");
            assert_eq!(sum(&metrics.metrics, name), None, "{name} of the pod");
        }
        let started = container.status().await.started_at;
        let started = u64::try_from(started / 1_000_000_000).expect("after 1970");
        assert_eq!(sum(&own, "container_start_time_seconds"), Some(started));
        let seen = sum(&own, "container_last_seen").expect("when it was seen");
        assert!((started..started + 3600).contains(&seen), "{seen} {started}");
    });
}

/// A list of descriptors is the same before and after there is something to describe: kubelet asks once.
#[test]
#[ignore = "needs root"]
fn only_ready_pods_and_running_containers_have_metrics() {
    on_pausa(async |node| {
        let before = descriptors(node).await;
        assert_eq!(list(node).await, []);
        let (pod, stopped) = (node.pod().await, node.pod().await);
        let running = pod.start(|_| {}).await;
        pod.create(pod.container_config()).await;
        pod.run(|config| config.command = strings(&["true"])).await;
        stopped.start(|_| {}).await;
        assert_eq!(list(node).await.len(), 2);
        stopped.stop().await;
        let listed = list(node).await;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].pod_sandbox_id, pod.id);
        let ids = listed[0].container_metrics.iter().map(|one| &one.container_id);
        assert_eq!(ids.collect::<Vec<_>>(), [&running.id]);
        assert_eq!(descriptors(node).await, before);
    });
}

/// CPU time, page faults and memory are what the container used.
#[test]
#[ignore = "needs root"]
fn work_shows_in_the_right_metric() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let busy = shell(&pod, "while :; do :; done").await;
        // A shell keeps what it has read.
        let large = shell(
            &pod,
            "x=$(dd if=/dev/zero bs=1M count=48 | tr '\\0' x); echo ready; sleep 3600; echo $x",
        )
        .await;
        large.says("ready").await;
        let rss = at_least(&pod, &large, "container_memory_rss", 48 * MIB).await;
        let own = of_container(&pod, &large).await;
        assert!(sum(&own, "container_memory_usage_bytes") >= Some(rss));
        let faults = values(&own, "container_memory_failures_total");
        // Pages may be huge.
        assert!(
            faults[&strings(&["pgfault", "hierarchy"])] >= 48 / 2,
            "{faults:?}"
        );
        if let Some(peak) = sum(&own, "container_memory_max_usage_bytes") {
            assert!(peak >= 48 * MIB, "{peak}");
        }
        at_least(&pod, &busy, "container_cpu_user_seconds_total", 1).await;
        let own = of_container(&pod, &busy).await;
        let used = values(&own, "container_cpu_usage_seconds_total");
        assert!(used[&strings(&["total"])] >= 1, "{used:?}");
        assert!(sum(&own, "container_memory_rss") < Some(16 * MIB));
        let total = of_pod(&pod).await.metrics;
        assert!(sum(&total, "container_cpu_usage_seconds_total") >= Some(1));
        assert!(sum(&total, "container_memory_rss") >= Some(48 * MIB));
    });
}

/// CFS: a container that wants more than its quota is throttled.
#[test]
#[ignore = "needs root"]
fn throttling_is_counted() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                let resources = v1::LinuxContainerResources {
                    cpu_period: 10_000,
                    cpu_quota: 1000,
                    ..Default::default()
                };
                config.linux.get_or_insert_default().resources = Some(resources);
                config.command = strings(&["sh", "-c", "while :; do :; done"]);
            })
            .await;
        at_least(&pod, &container, "container_cpu_cfs_throttled_periods_total", 10).await;
        at_least(&pod, &container, "container_cpu_cfs_throttled_seconds_total", 1).await;
        let own = of_container(&pod, &container).await;
        let [all, throttled] = ["periods_total", "throttled_periods_total"]
            .map(|name| sum(&own, &format!("container_cpu_cfs_{name}")).expect("a number"));
        assert!(all >= throttled, "{all} {throttled}");
    });
}

/// Processes, threads, descriptors and sockets are the container's, those of its children included.
#[test]
#[ignore = "needs root"]
fn descriptors_and_sockets_are_counted() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let idle = pod.start(|_| {}).await;
        let before = of_container(&pod, &idle).await;
        assert_eq!(sum(&before, "container_sockets"), Some(0));
        let descriptors = sum(&before, "container_file_descriptors").expect("a number");
        // A shell with ten more descriptors, and two listeners with a socket each.
        let script = "for n in 3 4 5 6 7 8 9; do eval \"exec $n</dev/null\"; done; nc -l -p 8001 & nc -l -p 8002 & wait";
        let open = shell(&pod, script).await;
        at_least(&pod, &open, "container_sockets", 2).await;
        let own = of_container(&pod, &open).await;
        assert_eq!(sum(&own, "container_sockets"), Some(2));
        assert!(
            sum(&own, "container_file_descriptors") >= Some(descriptors + 7),
            "{descriptors} {own:?}"
        );
        assert_eq!(sum(&own, "container_processes"), Some(3));
        assert_eq!(sum(&own, "container_threads"), Some(3));
        let limit = values(&own, "container_ulimits_soft");
        let shown = open.sh("ulimit -n").await;
        assert_eq!(limit[&strings(&["max_open_files"])].to_string(), shown.trim());
    });
}

/// What is written past the page cache is the container's on both versions of cgroups.
#[test]
#[ignore = "needs root"]
fn writes_to_a_device_are_counted() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let script =
            "dd if=/dev/zero of=/file bs=1M count=8 oflag=direct conv=fsync && echo written; sleep 3600";
        let container = shell(&pod, script).await;
        container.says("written").await;
        eventually("the layer is measured", async || {
            let own = of_container(&pod, &container).await;
            (sum(&own, "container_fs_usage_bytes")? >= 8 * MIB).then_some(())
        })
        .await;
        let own = of_container(&pod, &container).await;
        let limit = sum(&own, "container_fs_limit_bytes");
        assert!(limit > sum(&own, "container_fs_usage_bytes"), "{limit:?}");
        assert!(sum(&own, "container_fs_inodes_total") >= sum(&own, "container_fs_inodes_free"));
        let written = values(&own, "container_fs_writes_bytes_total");
        if written.is_empty() {
            return eprintln!("skipped: the writable layers are on no block device that cgroups count");
        }
        assert!(written.values().any(|bytes| *bytes >= 8 * MIB), "{written:?}");
        assert!(sum(&own, "container_fs_writes_total") > Some(0));
        let usage = values(&own, "container_blkio_device_usage_total");
        let write = usage.iter().filter(|(labels, _)| labels[3] == "Write");
        assert!(write.map(|(_, bytes)| bytes).sum::<u64>() >= 8 * MIB, "{usage:?}");
    });
}

/// The kernel ends a child that wants more memory than the container may have; on cgroup v2 the whole container.
#[test]
#[ignore = "needs root"]
fn running_out_of_memory_is_counted() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        pod.start(|config| {
            let script = "sh -c 'x=$(tr \"\\0\" x </dev/zero)'; sleep 3600";
            config.command = strings(&["sh", "-c", script]);
            let linux = config.linux.get_or_insert_default();
            linux.resources.get_or_insert_default().memory_limit_in_bytes = 32 << 20;
        })
        .await;
        eventually("it is counted", async || {
            let metrics = of_pod(&pod).await;
            let containers = metrics.container_metrics.iter().flat_map(|one| &one.metrics);
            let all: Vec<_> = metrics.metrics.iter().chain(containers).cloned().collect();
            let mut killed = all.iter().filter(|row| row.name == "container_oom_events_total");
            killed
                .any(|row| row.value.as_ref().is_some_and(|value| value.value > 0))
                .then_some(())
        })
        .await;
    });
}

/// A pod's traffic by interface; that of the host's network is nobody's.
#[test]
#[ignore = "needs root"]
fn traffic_is_the_pods() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let sent = async || {
            let metrics = of_pod(&pod).await.metrics;
            let sent = values(&metrics, "container_network_transmit_bytes_total");
            assert_eq!(sent.keys().collect::<Vec<_>>(), [&strings(&["eth0"])]);
            sent[&strings(&["eth0"])]
        };
        let before = sent().await;
        // Nobody listens; asking who has the address is traffic enough.
        container
            .sh("gateway=$(ip route | awk '/^default/ {print $3}'); nc -w 1 $gateway 9 </dev/null; true")
            .await;
        eventually("more was sent", async || (sent().await > before).then_some(())).await;
        let metrics = of_pod(&pod).await.metrics;
        for direction in ["receive", "transmit"] {
            for what in ["bytes", "packets", "packets_dropped", "errors"] {
                let name = format!("container_network_{direction}_{what}_total");
                assert!(sum(&metrics, &name).is_some(), "{name}");
            }
        }
        assert!(sum(&metrics, "container_network_transmit_packets_total") > Some(0));
        let own = of_container(&pod, &container).await;
        assert!(
            !own.iter().any(|row| row.name.starts_with("container_network_")),
            "{own:?}"
        );
        let host = node
            .pod_with(|config| {
                config.hostname.clear();
                let options = pod_security(config).namespace_options.get_or_insert_default();
                options.network = v1::NamespaceMode::Node.into();
            })
            .await;
        let metrics = of_pod(&host).await.metrics;
        assert!(
            !metrics
                .iter()
                .any(|row| row.name.starts_with("container_network_")),
            "{metrics:?}"
        );
    });
}

/// A pod whose parent cgroup is everybody's has no totals: those would be others' too.
#[test]
#[ignore = "needs root"]
fn a_pod_without_a_cgroup_has_no_totals() {
    on_pausa(async |node| {
        let pod = node
            .pod_with(|config| config.linux.get_or_insert_default().cgroup_parent.clear())
            .await;
        let container = pod.start(|_| {}).await;
        let metrics = of_pod(&pod).await.metrics;
        assert_eq!(sum(&metrics, "container_memory_usage_bytes"), None);
        assert!(sum(&metrics, "container_network_receive_bytes_total").is_some());
        assert!(
            sum(
                &of_container(&pod, &container).await,
                "container_memory_usage_bytes"
            ) > Some(0)
        );
    });
}

/// CRI StreamPodSandboxMetrics gives what ListPodSandboxMetrics gives.
#[test]
#[ignore = "needs root"]
fn the_stream_has_what_the_list_has() {
    on_pausa(async |node| {
        for _ in 0..3 {
            node.pod().await.start(|_| {}).await;
        }
        // Names and labels: numbers move.
        let shape = |pods: &[v1::PodSandboxMetrics]| {
            let rows = |rows: &[v1::Metric]| -> Vec<_> {
                let rows = rows
                    .iter()
                    .filter(|row| !row.name.contains("_blkio_") && !row.name.contains("_fs_"));
                rows.map(|row| (row.name.clone(), row.label_values.clone()))
                    .collect()
            };
            let containers = |pod: &v1::PodSandboxMetrics| -> Vec<_> {
                let containers = pod.container_metrics.iter();
                containers
                    .map(|one| (one.container_id.clone(), rows(&one.metrics)))
                    .collect()
            };
            pods.iter()
                .map(|pod| (pod.pod_sandbox_id.clone(), rows(&pod.metrics), containers(pod)))
                .collect::<Vec<_>>()
        };
        let request = v1::StreamPodSandboxMetricsRequest {};
        let mut stream = ok("stream", node.runtime().stream_pod_sandbox_metrics(request).await);
        let mut streamed = Vec::new();
        while let Some(message) = stream.message().await.expect("a message") {
            assert!(!message.pod_sandbox_metrics.is_empty());
            streamed.extend(message.pod_sandbox_metrics);
        }
        assert_eq!(streamed.len(), 3);
        assert_eq!(shape(&streamed), shape(&list(node).await));
    });
}
