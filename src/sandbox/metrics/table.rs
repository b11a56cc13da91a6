//! The table of all metrics. A new metric is one more entry here, and a line in `docs/operations.md`.
//!
//! Names, labels and units are cAdvisor's, which dashboards and alerts ask for.

use std::borrow::Cow;

use Values::{Each, One};

use super::source::{Layer, Source};
use crate::cgroups::{DeviceIo, HugePages, MemoryStats, Operation, Pressure, Pressures, Stalls};
use crate::proto::v1::MetricType;
use crate::sandbox::sampler::Interface;

/// A metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    values: Values,
}

/// How a metric's numbers are taken out of their source.
#[derive(Debug)]
enum Values {
    /// The one there is, or none.
    One(fn(&Source<'_>) -> Option<u64>),
    /// As many as there are, with the values of labels of their own.
    Each(&'static [&'static str], for<'a> fn(&Source<'a>) -> Vec<Row<'a>>),
}

/// A number, and the values of the labels that its metric has beside those that say what it is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) labels: Vec<Cow<'a, str>>,
    pub(super) value: u64,
}

impl Metric {
    /// The labels of its own.
    pub(super) fn labels(&self) -> &'static [&'static str] {
        match self.values {
            One(_) => &[],
            Each(labels, _) => labels,
        }
    }

    /// Its numbers, none where they are not known.
    pub(super) fn rows<'a>(&self, source: &Source<'a>) -> Vec<Row<'a>> {
        match self.values {
            One(read) => read(source).map(|value| row([], value)).into_iter().collect(),
            Each(_, read) => read(source),
        }
    }
}

const DEVICE: &[&str] = &["device"];
const INTERFACE: &[&str] = &["interface"];
const PAGE_SIZE: &[&str] = &["pagesize"];

/// All of them.
pub(super) static METRICS: &[Metric] = &[
    gauge(
        "container_last_seen",
        "When the container was last seen, in seconds since 1970.",
        One(|s| s.started_at.and_then(|_| seconds_since_epoch(s.at))),
    ),
    gauge(
        "container_start_time_seconds",
        "When the container was started, in seconds since 1970.",
        One(|s| seconds_since_epoch(s.started_at?)),
    ),
    counter(
        "container_cpu_usage_seconds_total",
        "CPU time used, in seconds.",
        Each(&["cpu"], |s| {
            let usage = s.cpu().map(|cpu| row(["total"], seconds(cpu.usage_ns)));
            usage.into_iter().collect()
        }),
    ),
    counter(
        "container_cpu_user_seconds_total",
        "CPU time used in user mode, in seconds.",
        One(|s| Some(seconds(s.cpu()?.times?.user_ns))),
    ),
    counter(
        "container_cpu_system_seconds_total",
        "CPU time used by the kernel, in seconds.",
        One(|s| Some(seconds(s.cpu()?.times?.system_ns))),
    ),
    counter(
        "container_cpu_cfs_periods_total",
        "Periods of the CPU quota that have passed.",
        One(|s| Some(s.cpu()?.throttling?.periods)),
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the CPU quota ran out.",
        One(|s| Some(s.cpu()?.throttling?.throttled_periods)),
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Time spent waiting for CPU quota, in seconds.",
        One(|s| Some(seconds(s.cpu()?.throttling?.throttled_ns))),
    ),
    gauge(
        "container_memory_usage_bytes",
        "Memory in use, page cache included.",
        One(|s| Some(s.memory()?.usage)),
    ),
    gauge(
        "container_memory_working_set_bytes",
        "Memory in use without inactive page cache; Kubernetes evicts by it.",
        One(|s| Some(s.memory()?.working_set)),
    ),
    gauge(
        "container_memory_max_usage_bytes",
        "The most memory that was ever in use.",
        One(|s| s.memory()?.peak),
    ),
    gauge(
        "container_memory_rss",
        "Anonymous memory, in bytes.",
        One(|s| Some(s.memory()?.rss)),
    ),
    gauge(
        "container_memory_cache",
        "Page cache, in bytes.",
        One(|s| Some(s.memory()?.cache)),
    ),
    gauge(
        "container_memory_mapped_file",
        "Page cache that is mapped, in bytes.",
        One(|s| s.memory()?.mapped_file),
    ),
    gauge(
        "container_memory_total_active_file_bytes",
        "Page cache that was used lately.",
        One(|s| s.memory()?.active_file),
    ),
    gauge(
        "container_memory_total_inactive_file_bytes",
        "Page cache that was not used lately.",
        One(|s| s.memory()?.inactive_file),
    ),
    gauge(
        "container_memory_kernel_usage",
        "Memory that the kernel uses for the container, in bytes.",
        One(|s| s.memory()?.kernel),
    ),
    gauge(
        "container_memory_swap",
        "Swap in use, in bytes.",
        One(|s| Some(s.memory()?.swap)),
    ),
    counter(
        "container_memory_failcnt",
        "How often memory in use was stopped by its limit.",
        One(|s| s.memory()?.limit_hits),
    ),
    counter(
        "container_memory_failures_total",
        "Page faults (pgfault) and those that waited for a device (pgmajfault), without (container) and with (hierarchy) sub-cgroups.",
        Each(&["failure_type", "scope"], |s| {
            s.memory().map_or_else(Vec::new, faults)
        }),
    ),
    counter(
        "container_oom_events_total",
        "Processes killed because memory ran out.",
        One(|s| Some(s.memory()?.oom_kills)),
    ),
    gauge(
        "container_hugetlb_usage_bytes",
        "Huge pages in use.",
        Each(PAGE_SIZE, |s| huge_pages(s, |pages| Some(pages.usage))),
    ),
    gauge(
        "container_hugetlb_max_usage_bytes",
        "The most huge pages that were ever in use.",
        Each(PAGE_SIZE, |s| huge_pages(s, |pages| pages.peak)),
    ),
    counter(
        "container_network_receive_bytes_total",
        "Bytes received.",
        Each(INTERFACE, |s| interfaces(s, |one| one.received.bytes)),
    ),
    counter(
        "container_network_receive_packets_total",
        "Packets received.",
        Each(INTERFACE, |s| interfaces(s, |one| one.received.packets)),
    ),
    counter(
        "container_network_receive_packets_dropped_total",
        "Packets dropped when received.",
        Each(INTERFACE, |s| interfaces(s, |one| one.received.dropped)),
    ),
    counter(
        "container_network_receive_errors_total",
        "Errors when receiving.",
        Each(INTERFACE, |s| interfaces(s, |one| one.received.errors)),
    ),
    counter(
        "container_network_transmit_bytes_total",
        "Bytes sent.",
        Each(INTERFACE, |s| interfaces(s, |one| one.sent.bytes)),
    ),
    counter(
        "container_network_transmit_packets_total",
        "Packets sent.",
        Each(INTERFACE, |s| interfaces(s, |one| one.sent.packets)),
    ),
    counter(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped when sent.",
        Each(INTERFACE, |s| interfaces(s, |one| one.sent.dropped)),
    ),
    counter(
        "container_network_transmit_errors_total",
        "Errors when sending.",
        Each(INTERFACE, |s| interfaces(s, |one| one.sent.errors)),
    ),
    gauge(
        "container_fs_usage_bytes",
        "Space that the writable layer takes.",
        Each(DEVICE, |s| layer(s, |layer| layer.usage)),
    ),
    gauge(
        "container_fs_limit_bytes",
        "Space that the writable layer may take: its limit, or the size of its file system.",
        Each(DEVICE, |s| layer(s, |layer| Some(layer.limit))),
    ),
    gauge(
        "container_fs_inodes_total",
        "Inodes of the writable layer's file system.",
        Each(DEVICE, |s| layer(s, |layer| Some(layer.filesystem.inodes))),
    ),
    gauge(
        "container_fs_inodes_free",
        "Free inodes of the writable layer's file system.",
        Each(DEVICE, |s| layer(s, |layer| Some(layer.filesystem.inodes_free))),
    ),
    counter(
        "container_fs_reads_bytes_total",
        "Bytes read from a block device.",
        Each(DEVICE, |s| devices(s, |io| &io.bytes, Operation::Read)),
    ),
    counter(
        "container_fs_reads_total",
        "Reads from a block device.",
        Each(DEVICE, |s| devices(s, |io| &io.requests, Operation::Read)),
    ),
    counter(
        "container_fs_writes_bytes_total",
        "Bytes written to a block device.",
        Each(DEVICE, |s| devices(s, |io| &io.bytes, Operation::Write)),
    ),
    counter(
        "container_fs_writes_total",
        "Writes to a block device.",
        Each(DEVICE, |s| devices(s, |io| &io.requests, Operation::Write)),
    ),
    counter(
        "container_blkio_device_usage_total",
        "Bytes moved to and from a block device, by kind of operation.",
        Each(&["device", "major", "minor", "operation"], device_usage),
    ),
    gauge(
        "container_processes",
        "Processes.",
        One(|s| Some(s.processes?.count)),
    ),
    gauge(
        "container_threads",
        "Threads, those of processes with a single one included.",
        One(|s| Some(s.counters?.stats.pids.as_ref()?.current)),
    ),
    gauge(
        "container_threads_max",
        "How many threads there may be; 0 without a limit.",
        One(|s| Some(s.counters?.stats.pids.as_ref()?.limit.unwrap_or(0))),
    ),
    gauge(
        "container_file_descriptors",
        "Open file descriptors.",
        One(|s| s.processes?.descriptors),
    ),
    gauge(
        "container_sockets",
        "Open sockets.",
        One(|s| s.processes?.sockets),
    ),
    gauge(
        "container_ulimits_soft",
        "Soft resource limits of the container's first process.",
        Each(&["ulimit"], |s| {
            let limit = s.processes.and_then(|processes| processes.max_descriptors);
            limit
                .map(|limit| row(["max_open_files"], limit))
                .into_iter()
                .collect()
        }),
    ),
    gauge(
        "container_spec_cpu_period",
        "Period of the CPU quota, in microseconds.",
        One(|s| s.spec?.cpu_period),
    ),
    gauge(
        "container_spec_cpu_quota",
        "CPU quota in a period, in microseconds.",
        One(|s| s.spec?.cpu_quota),
    ),
    gauge(
        "container_spec_cpu_shares",
        "CPU shares.",
        One(|s| s.spec?.cpu_shares),
    ),
    gauge(
        "container_spec_memory_limit_bytes",
        "Memory limit; 0 without one.",
        One(|s| Some(s.spec?.memory_limit)),
    ),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Limit of memory and swap together; 0 without one.",
        One(|s| Some(s.spec?.swap_limit)),
    ),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory that is kept for the container; 0 if none is.",
        One(|s| Some(s.spec?.memory_reservation)),
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Time in which some task waited for a CPU, in seconds.",
        One(|s| stalls(s, |pressures| &pressures.cpu, |pressure| pressure.some)),
    ),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Time in which all tasks waited for a CPU, in seconds.",
        One(|s| stalls(s, |pressures| &pressures.cpu, |pressure| pressure.full)),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Time in which some task waited for memory, in seconds.",
        One(|s| stalls(s, |pressures| &pressures.memory, |pressure| pressure.some)),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Time in which all tasks waited for memory, in seconds.",
        One(|s| stalls(s, |pressures| &pressures.memory, |pressure| pressure.full)),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Time in which some task waited for block devices, in seconds.",
        One(|s| stalls(s, |pressures| &pressures.io, |pressure| pressure.some)),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Time in which all tasks waited for block devices, in seconds.",
        One(|s| stalls(s, |pressures| &pressures.io, |pressure| pressure.full)),
    ),
];

const fn counter(name: &'static str, help: &'static str, values: Values) -> Metric {
    Metric {
        name,
        help,
        kind: MetricType::Counter,
        values,
    }
}

const fn gauge(name: &'static str, help: &'static str, values: Values) -> Metric {
    Metric {
        name,
        help,
        kind: MetricType::Gauge,
        values,
    }
}

fn row<const N: usize>(labels: [&str; N], value: u64) -> Row<'_> {
    let labels = labels.map(Cow::Borrowed).into();
    Row { labels, value }
}

fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds / 1_000_000_000
}

fn seconds_since_epoch(nanoseconds: i64) -> Option<u64> {
    u64::try_from(nanoseconds).ok().map(seconds)
}

fn faults(memory: &MemoryStats) -> Vec<Row<'_>> {
    vec![
        row(["pgfault", "container"], memory.own_page_faults),
        row(["pgfault", "hierarchy"], memory.page_faults),
        row(["pgmajfault", "container"], memory.own_major_page_faults),
        row(["pgmajfault", "hierarchy"], memory.major_page_faults),
    ]
}

fn huge_pages<'a>(source: &Source<'a>, value: fn(&HugePages) -> Option<u64>) -> Vec<Row<'a>> {
    let pages = source
        .counters
        .into_iter()
        .flat_map(|counters| &counters.stats.huge_pages);
    let rows = pages.filter_map(|pages| Some(row([&pages.size], value(pages)?)));
    rows.collect()
}

fn interfaces<'a>(source: &Source<'a>, value: fn(&Interface) -> u64) -> Vec<Row<'a>> {
    let interfaces = source.traffic.iter();
    let rows = interfaces.map(|one| row([&one.name], value(one)));
    rows.collect()
}

fn layer<'a>(source: &Source<'a>, value: fn(&Layer<'_>) -> Option<u64>) -> Vec<Row<'a>> {
    let rows = source
        .layer
        .into_iter()
        .filter_map(|layer| Some(row([&layer.filesystem.device], value(&layer)?)));
    rows.collect()
}

fn devices<'a>(
    source: &Source<'a>,
    counted: fn(&DeviceIo) -> &Vec<(Operation, u64)>,
    wanted: Operation,
) -> Vec<Row<'a>> {
    let devices = source.counters.into_iter().flat_map(|counters| &counters.devices);
    let rows = devices.filter_map(|(name, io)| {
        let found = counted(io).iter().find(|(operation, _)| *operation == wanted);
        found.map(|(_, value)| row([name], *value))
    });
    rows.collect()
}

fn device_usage<'a>(source: &Source<'a>) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (name, io) in source.counters.into_iter().flat_map(|counters| &counters.devices) {
        let usage = io.bytes.iter();
        rows.extend(usage.map(|(operation, bytes)| Row {
            labels: vec![
                Cow::Borrowed(&**name),
                io.major.to_string().into(),
                io.minor.to_string().into(),
                operation.as_str().into(),
            ],
            value: *bytes,
        }));
    }
    rows
}

fn stalls(
    source: &Source<'_>,
    resource: fn(&Pressures) -> &Option<Pressure>,
    which: fn(&Pressure) -> Option<Stalls>,
) -> Option<u64> {
    let pressure = resource(&source.counters?.pressures).as_ref()?;
    which(pressure).map(|stalls| seconds(stalls.total_ns))
}

#[cfg(test)]
pub(super) mod tests;
