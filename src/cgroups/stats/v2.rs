//! cgroup v2.

use super::parse::{Keyed, limit, number};
use super::{CpuStats, CpuTimes, MemoryStats, PidStats, Stats, Throttling, hugetlb, io};
use crate::cgroups::dir::Dir;
use crate::cgroups::error::CgroupError;
use crate::cgroups::group::Cgroup;

const NS_PER_US: u64 = 1000;

pub(in crate::cgroups) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    let Some(dir) = cgroup.controller("cpu") else {
        return Ok(Stats::default());
    };
    let cpu = dir.record("cpu.stat")?.map(|stat| {
        let stat = Keyed::new(&stat);
        CpuStats {
            usage_ns: stat.count("usage_usec").saturating_mul(NS_PER_US),
            times: times(&stat),
            throttling: throttling(&stat),
        }
    });
    let pids = match dir.record("pids.current")?.as_deref().and_then(number) {
        Some(current) => Some(PidStats {
            current,
            limit: dir.record("pids.max")?.as_deref().and_then(limit),
        }),
        None => None,
    };
    Ok(Stats {
        cpu,
        memory: memory(dir)?,
        pids,
        ..Stats::default()
    })
}

/// Adds what takes further files.
pub(in crate::cgroups) fn detail(cgroup: &Cgroup, stats: &mut Stats) -> Result<(), CgroupError> {
    let Some(dir) = cgroup.directory_of_v2() else {
        return Ok(());
    };
    if let Some(memory) = &mut stats.memory {
        memory.peak = dir.record("memory.peak")?.as_deref().and_then(number);
    }
    stats.io = io::v2(&dir.record("io.stat")?.unwrap_or_default());
    stats.huge_pages = hugetlb::read(dir, "current", None)?;
    Ok(())
}

fn times(stat: &Keyed<'_>) -> Option<CpuTimes> {
    Some(CpuTimes {
        user_ns: stat.found("user_usec")?.saturating_mul(NS_PER_US),
        system_ns: stat.found("system_usec")?.saturating_mul(NS_PER_US),
    })
}

fn throttling(stat: &Keyed<'_>) -> Option<Throttling> {
    Some(Throttling {
        periods: stat.found("nr_periods")?,
        throttled_periods: stat.found("nr_throttled")?,
        throttled_ns: stat.found("throttled_usec")?.saturating_mul(NS_PER_US),
    })
}

/// `kernel` is the sum since Linux 5.18; before, it is made of its larger parts.
fn kernel(stat: &Keyed<'_>) -> Option<u64> {
    let parts = ["kernel_stack", "pagetables", "percpu", "slab"];
    let sum = || {
        stat.found("slab")
            .map(|_| parts.map(|part| stat.count(part)).iter().sum())
    };
    stat.found("kernel").or_else(sum)
}

fn memory(dir: &Dir) -> Result<Option<MemoryStats>, CgroupError> {
    let Some(usage) = dir.record("memory.current")?.as_deref().and_then(number) else {
        return Ok(None);
    };
    let stat = dir.record("memory.stat")?.unwrap_or_default();
    let events = dir.record("memory.events")?.unwrap_or_default();
    let (stat, events) = (Keyed::new(&stat), Keyed::new(&events));
    Ok(Some(MemoryStats {
        usage,
        working_set: usage.saturating_sub(stat.count("inactive_file")),
        rss: stat.count("anon"),
        cache: stat.count("file"),
        limit: dir.record("memory.max")?.as_deref().and_then(limit),
        swap: dir
            .read("memory.swap.current")?
            .as_deref()
            .and_then(number)
            .unwrap_or(0),
        swap_limit: dir.record("memory.swap.max")?.as_deref().and_then(limit),
        page_faults: stat.count("pgfault"),
        major_page_faults: stat.count("pgmajfault"),
        own_page_faults: stat.count("pgfault"),
        own_major_page_faults: stat.count("pgmajfault"),
        oom_kills: events.count("oom_kill"),
        mapped_file: stat.found("file_mapped"),
        active_file: stat.found("active_file"),
        inactive_file: stat.found("inactive_file"),
        kernel: kernel(&stat),
        peak: None,
        limit_hits: events.found("max"),
    }))
}
