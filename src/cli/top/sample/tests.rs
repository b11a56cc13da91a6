//! Answers of a daemon that is not there.

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000_000;

fn number(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn row(name: &str, device: &str, at: i64, value: u64) -> v1::Metric {
    v1::Metric {
        name: name.to_owned(),
        timestamp: at,
        label_values: vec![device.to_owned()],
        value: number(value),
        ..Default::default()
    }
}

/// One pod with a container, `seconds` after its creation: it uses half a CPU, reads 100 bytes a second from each of two
/// devices, and receives 3000 bytes a second on two interfaces together.
fn answers(seconds: i64) -> Answers {
    let (at, passed) = (seconds * SECOND, u64::try_from(seconds).unwrap());
    let cpu = |nanoseconds| v1::CpuUsage {
        timestamp: at,
        usage_core_nano_seconds: number(nanoseconds),
        psi: Some(v1::PsiStats {
            some: Some(v1::PsiData {
                avg10: 12.5,
                ..Default::default()
            }),
            full: None,
        }),
        ..Default::default()
    };
    let memory = v1::MemoryUsage {
        timestamp: at,
        working_set_bytes: number(60),
        available_bytes: number(4),
        ..Default::default()
    };
    let interface = |bytes| v1::NetworkInterfaceUsage {
        rx_bytes: number(bytes * passed),
        tx_bytes: number(7),
        ..Default::default()
    };
    let reads = "container_fs_reads_bytes_total";
    let metrics = vec![
        row(reads, "/dev/sda", at, 100 * passed),
        row(reads, "/dev/sdb", at, 100 * passed),
        row("container_threads", "", at, 3),
    ];
    Answers {
        now: at,
        pods: vec![v1::PodSandbox {
            id: "p".to_owned(),
            metadata: Some(v1::PodSandboxMetadata {
                name: "web-0".to_owned(),
                uid: "u".to_owned(),
                namespace: "default".to_owned(),
                attempt: 1,
            }),
            created_at: 0,
            ..Default::default()
        }],
        containers: vec![container("c", "main", v1::ContainerState::ContainerRunning)],
        stats: vec![v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: "p".to_owned(),
                ..Default::default()
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: Some(cpu(passed * 600_000_000)),
                memory: Some(memory),
                network: Some(v1::NetworkUsage {
                    timestamp: at,
                    default_interface: Some(interface(1000)),
                    interfaces: vec![interface(2000)],
                }),
                containers: vec![v1::ContainerStats {
                    attributes: Some(v1::ContainerAttributes {
                        id: "c".to_owned(),
                        ..Default::default()
                    }),
                    cpu: Some(cpu(passed * 500_000_000)),
                    memory: Some(memory),
                    ..Default::default()
                }],
                process: Some(v1::ProcessUsage {
                    timestamp: at,
                    process_count: number(5),
                }),
                ..Default::default()
            }),
            windows: None,
        }],
        metrics: vec![v1::PodSandboxMetrics {
            pod_sandbox_id: "p".to_owned(),
            metrics: Vec::new(),
            container_metrics: vec![v1::ContainerMetrics {
                container_id: "c".to_owned(),
                metrics,
            }],
        }],
        ..Default::default()
    }
}

fn container(id: &str, name: &str, state: v1::ContainerState) -> v1::Container {
    v1::Container {
        id: id.to_owned(),
        pod_sandbox_id: "p".to_owned(),
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt: 4,
        }),
        state: state.into(),
        ..Default::default()
    }
}

#[test]
fn rates_need_two_samples() {
    let (mut rates, choice) = (Rates::default(), Choice::default());
    let first = rates.document(answers(10), &choice);
    let usage = &first.pods[0].containers[0].row.usage;
    assert_eq!((usage.cpu_nano_cores, usage.read_bytes_per_second), (None, None));
    assert_eq!(usage.working_set_bytes, Some(60), "which is no rate");

    let second = rates.document(answers(12), &choice);
    insta::assert_json_snapshot!(second);
    // The daemon has not measured since: the rates are those of before.
    let same = rates.document(answers(12), &choice);
    assert_eq!(same.pods[0].row.usage, second.pods[0].row.usage);

    rates.document(Answers::default(), &choice);
    assert!(rates.0.is_empty(), "what is gone is not remembered");
}

#[test]
fn a_counter_that_starts_again_has_no_rate() {
    let before = Counter::after(None, SECOND, 10);
    assert_eq!(Counter::after(Some(before), 3 * SECOND, 50).rate, Some(20));
    assert_eq!(Counter::after(Some(before), 3 * SECOND, 9).rate, None);
    // The clock was set back.
    assert_eq!(Counter::after(Some(before), 0, 50).rate, None);
}

proptest! {
    #[test]
    fn rates_never_panic(
        (before, at) in (any::<i64>(), any::<i64>()),
        (value, now) in (any::<u64>(), any::<u64>()),
    ) {
        let counter = Counter::after(Some(Counter::after(None, before, value)), at, now);
        prop_assert!(counter.rate.is_none() || (at > before && now >= value));
    }
}

#[test]
fn what_does_not_run_is_shown_if_asked_for() {
    let answers = || {
        let mut answers = answers(10);
        let mut stopped = answers.pods[0].clone();
        stopped.id = "q".to_owned();
        stopped.set_state(v1::PodSandboxState::SandboxNotready);
        answers.pods.push(stopped);
        let ended = container("d", "init", v1::ContainerState::ContainerExited);
        answers.containers.push(ended);
        answers
    };
    let shown = |all| {
        let choice = Choice {
            all,
            ..Choice::default()
        };
        let document = Rates::default().document(answers(), &choice);
        let pods = document.pods.into_iter().map(|pod| {
            let containers = pod.containers.into_iter();
            let containers = containers.map(|one| (one.name, one.row.state));
            (pod.id, pod.row.state, containers.collect::<Vec<_>>())
        });
        pods.collect::<Vec<_>>()
    };
    let main = || ("main".to_owned(), "running");
    assert_eq!(shown(false), [("p".to_owned(), "ready", vec![main()])]);
    assert_eq!(
        shown(true),
        [
            (
                "p".to_owned(),
                "ready",
                vec![("init".to_owned(), "exited"), main()]
            ),
            ("q".to_owned(), "notready", vec![]),
        ]
    );
}

#[test]
fn the_most_comes_first_and_the_unknown_last() {
    let one = |name: &str, cpu: Option<u64>, sent: Option<u64>, age: i64| {
        let usage = Usage {
            cpu_nano_cores: cpu,
            receive_bytes_per_second: sent.map(|_| 1),
            send_bytes_per_second: sent,
            ..Usage::default()
        };
        let row = Row {
            attempt: 0,
            state: "running",
            created_at: 100 - age,
            usage,
        };
        (name.to_owned(), row)
    };
    let mut all = [
        one("b", None, Some(9), 3),
        one("c", Some(5), None, 1),
        one("d", Some(7), Some(1), 9),
        one("a", Some(5), None, 4),
    ];
    for (sort, expected) in [
        (Sort::Cpu, "dacb"),
        (Sort::Network, "bdac"),
        (Sort::Age, "cbad"),
        // All equal.
        (Sort::Memory, "abcd"),
        (Sort::Name, "abcd"),
    ] {
        sort.apply(&mut all, |(name, row)| (row, name, ""));
        let names: String = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected, "{sort:?}");
    }
}
