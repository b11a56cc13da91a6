use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::cgroups::{CpuStats, CpuTimes, PidStats, Stats, Throttling};
use crate::sandbox::metrics::source::{FileSystem, Spec};
use crate::sandbox::sampler::{Counters, Processes, Traffic};

/// A source and what it is made of.
#[derive(Debug, Clone)]
pub(in crate::sandbox::metrics) struct Sample {
    pub(in crate::sandbox::metrics) at: i64,
    counters: Counters,
    traffic: Vec<Interface>,
    layer: Option<u64>,
    processes: Option<Processes>,
    spec: Option<Spec>,
    started_at: Option<i64>,
}

impl Sample {
    pub(in crate::sandbox::metrics) fn source(&self) -> Source<'_> {
        static FILESYSTEM: LazyLock<FileSystem> = LazyLock::new(FileSystem::default);
        Source {
            at: self.at,
            counters: Some(&self.counters),
            traffic: &self.traffic,
            layer: self.layer.map(|usage| Layer {
                filesystem: &FILESYSTEM,
                usage: Some(usage),
                limit: 2,
            }),
            processes: self.processes,
            spec: self.spec,
            started_at: self.started_at,
        }
    }
}

/// A sample that lacks nothing.
fn full() -> Sample {
    let pressure = |seconds: u64| {
        let stalls = |seconds: u64| Stalls {
            total_ns: seconds * 1_000_000_000 + 999_999_999,
            ..Stalls::default()
        };
        Some(Pressure {
            some: Some(stalls(seconds)),
            full: Some(stalls(seconds + 1)),
        })
    };
    let memory = MemoryStats {
        usage: 10,
        own_page_faults: 1,
        page_faults: 2,
        own_major_page_faults: 3,
        major_page_faults: 4,
        mapped_file: Some(11),
        active_file: Some(12),
        inactive_file: Some(13),
        kernel: Some(14),
        peak: Some(15),
        limit_hits: Some(16),
        ..MemoryStats::default()
    };
    let cpu = CpuStats {
        usage_ns: 2_999_999_999,
        times: Some(CpuTimes::default()),
        throttling: Some(Throttling::default()),
    };
    let io = DeviceIo {
        major: 8,
        minor: 1,
        bytes: vec![(Operation::Read, 4096), (Operation::Write, 512)],
        requests: vec![(Operation::Read, 1), (Operation::Write, 2)],
    };
    let huge = |size: &str, peak| HugePages {
        size: size.to_owned(),
        usage: 1,
        peak,
    };
    let interface = Interface {
        name: "eth0".to_owned(),
        received: Traffic {
            bytes: 1,
            packets: 2,
            errors: 3,
            dropped: 4,
        },
        sent: Traffic {
            bytes: 5,
            packets: 6,
            errors: 7,
            dropped: 8,
        },
    };
    Sample {
        at: 1_999_999_999,
        counters: Counters {
            stats: Stats {
                cpu: Some(cpu),
                memory: Some(memory),
                pids: Some(PidStats::default()),
                io: Vec::new(),
                huge_pages: vec![huge("2MB", Some(3)), huge("1GB", None)],
            },
            pressures: Pressures {
                cpu: pressure(1),
                memory: pressure(3),
                io: pressure(5),
            },
            devices: vec![("/dev/sda1".into(), io)],
            ..Counters::now()
        },
        traffic: vec![interface],
        layer: Some(1),
        processes: Some(Processes {
            count: 1,
            descriptors: Some(2),
            sockets: Some(3),
            max_descriptors: Some(4),
        }),
        spec: Some(Spec {
            cpu_period: Some(1),
            cpu_quota: Some(2),
            cpu_shares: Some(3),
            ..Spec::default()
        }),
        started_at: Some(1),
    }
}

/// Samples of which any part may be missing.
pub(in crate::sandbox::metrics) fn arbitrary() -> impl Strategy<Value = Sample> {
    let names = prop::collection::btree_set("[a-z0-9/:]{1,5}", 0..4);
    let parts = prop::array::uniform8(any::<bool>());
    (names, parts, any::<i64>()).prop_map(|(names, parts, at)| {
        let mut sample = full();
        let [cpu, memory, pids, layer, processes, spec, started, pressures] = parts;
        let stats = &mut sample.counters.stats;
        stats.cpu.take_if(|_| cpu);
        stats.memory.take_if(|_| memory);
        stats.pids.take_if(|_| pids);
        sample.layer.take_if(|_| layer);
        sample.processes.take_if(|_| processes);
        sample.spec.take_if(|_| spec);
        sample.started_at.take_if(|_| started);
        if pressures {
            sample.counters.pressures = Pressures::default();
        }
        let named = |list: &mut Vec<Interface>| {
            let one = list.remove(0);
            list.extend(names.iter().map(|name| Interface {
                name: name.clone(),
                ..one.clone()
            }));
        };
        named(&mut sample.traffic);
        let (_, io) = sample.counters.devices.remove(0);
        let devices = names.iter().map(|name| (name.as_str().into(), io.clone()));
        sample.counters.devices.extend(devices);
        sample.at = at;
        sample
    })
}

fn rows(sample: &Sample, name: &str) -> Vec<(Vec<String>, u64)> {
    let metric = METRICS.iter().find(|metric| metric.name == name).unwrap();
    let rows = metric.rows(&sample.source()).into_iter();
    rows.map(|row| (row.labels.into_iter().map(Cow::into_owned).collect(), row.value))
        .collect()
}

fn labelled(labels: &[&str], value: u64) -> (Vec<String>, u64) {
    (labels.iter().map(|label| (*label).to_owned()).collect(), value)
}

#[test]
fn a_full_sample_has_every_metric_and_an_empty_one_none() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name is there twice");
    let full = full();
    for metric in METRICS {
        assert_ne!(metric.rows(&full.source()), [], "{}", metric.name);
        assert_eq!(metric.rows(&Source::default()), [], "{}", metric.name);
        let counts = metric.name.ends_with("_total") && metric.name != "container_fs_inodes_total"
            || metric.name == "container_memory_failcnt";
        assert_eq!(metric.kind == MetricType::Counter, counts, "{}", metric.name);
    }
}

#[test]
fn numbers_go_to_the_right_metric() {
    let sample = full();
    for (name, expected) in [
        // Whole seconds that have passed.
        ("container_cpu_usage_seconds_total", vec![labelled(&["total"], 2)]),
        ("container_last_seen", vec![labelled(&[], 1)]),
        ("container_start_time_seconds", vec![labelled(&[], 0)]),
        (
            "container_pressure_cpu_waiting_seconds_total",
            vec![labelled(&[], 1)],
        ),
        (
            "container_pressure_memory_stalled_seconds_total",
            vec![labelled(&[], 4)],
        ),
        (
            "container_pressure_io_waiting_seconds_total",
            vec![labelled(&[], 5)],
        ),
        ("container_memory_mapped_file", vec![labelled(&[], 11)]),
        (
            "container_memory_total_active_file_bytes",
            vec![labelled(&[], 12)],
        ),
        (
            "container_memory_total_inactive_file_bytes",
            vec![labelled(&[], 13)],
        ),
        ("container_memory_kernel_usage", vec![labelled(&[], 14)]),
        ("container_memory_max_usage_bytes", vec![labelled(&[], 15)]),
        ("container_memory_failcnt", vec![labelled(&[], 16)]),
        (
            "container_memory_failures_total",
            vec![
                labelled(&["pgfault", "container"], 1),
                labelled(&["pgfault", "hierarchy"], 2),
                labelled(&["pgmajfault", "container"], 3),
                labelled(&["pgmajfault", "hierarchy"], 4),
            ],
        ),
        (
            "container_hugetlb_usage_bytes",
            vec![labelled(&["2MB"], 1), labelled(&["1GB"], 1)],
        ),
        ("container_hugetlb_max_usage_bytes", vec![labelled(&["2MB"], 3)]),
        (
            "container_network_receive_packets_total",
            vec![labelled(&["eth0"], 2)],
        ),
        (
            "container_network_receive_packets_dropped_total",
            vec![labelled(&["eth0"], 4)],
        ),
        (
            "container_network_transmit_bytes_total",
            vec![labelled(&["eth0"], 5)],
        ),
        (
            "container_network_transmit_errors_total",
            vec![labelled(&["eth0"], 7)],
        ),
        (
            "container_fs_reads_bytes_total",
            vec![labelled(&["/dev/sda1"], 4096)],
        ),
        ("container_fs_reads_total", vec![labelled(&["/dev/sda1"], 1)]),
        (
            "container_fs_writes_bytes_total",
            vec![labelled(&["/dev/sda1"], 512)],
        ),
        ("container_fs_writes_total", vec![labelled(&["/dev/sda1"], 2)]),
        (
            "container_blkio_device_usage_total",
            vec![
                labelled(&["/dev/sda1", "8", "1", "Read"], 4096),
                labelled(&["/dev/sda1", "8", "1", "Write"], 512),
            ],
        ),
        ("container_threads_max", vec![labelled(&[], 0)]),
        ("container_file_descriptors", vec![labelled(&[], 2)]),
        ("container_sockets", vec![labelled(&[], 3)]),
        ("container_ulimits_soft", vec![labelled(&["max_open_files"], 4)]),
        ("container_spec_cpu_period", vec![labelled(&[], 1)]),
        ("container_spec_cpu_quota", vec![labelled(&[], 2)]),
        ("container_spec_cpu_shares", vec![labelled(&[], 3)]),
    ] {
        assert_eq!(rows(&sample, name), expected, "{name}");
    }
}

#[test]
fn the_documentation_has_all_of_them() {
    let docs = include_str!("../../../../docs/operations.md");
    let documented: BTreeSet<_> = docs
        .lines()
        .filter(|line| line.starts_with("| `container_"))
        .filter_map(|line| line.split('`').nth(1))
        .map(str::to_owned)
        .collect();
    let expected = METRICS.iter().map(|metric| match metric.labels() {
        [] => metric.name.to_owned(),
        labels => format!("{}{{{}}}", metric.name, labels.join(", ")),
    });
    assert_eq!(documented, expected.collect());
}
