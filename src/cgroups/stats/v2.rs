//! cgroup v2.

use super::parse::{keyed, limit, number};
use super::{CpuStats, MemoryStats, PidStats, Stats};
use crate::cgroups::dir::Dir;
use crate::cgroups::error::CgroupError;
use crate::cgroups::group::Cgroup;

const NS_PER_US: u64 = 1000;

pub(in crate::cgroups) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    let Some(dir) = cgroup.controller("cpu") else {
        return Ok(Stats::default());
    };
    let cpu = dir.record("cpu.stat")?.map(|stat| CpuStats {
        usage_ns: keyed(&stat, "usage_usec").saturating_mul(NS_PER_US),
        periods: keyed(&stat, "nr_periods"),
        throttled_periods: keyed(&stat, "nr_throttled"),
        throttled_ns: keyed(&stat, "throttled_usec").saturating_mul(NS_PER_US),
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
    })
}

fn memory(dir: &Dir) -> Result<Option<MemoryStats>, CgroupError> {
    let Some(usage) = dir.record("memory.current")?.as_deref().and_then(number) else {
        return Ok(None);
    };
    let stat = dir.record("memory.stat")?.unwrap_or_default();
    let events = dir.record("memory.events")?.unwrap_or_default();
    Ok(Some(MemoryStats {
        usage,
        working_set: usage.saturating_sub(keyed(&stat, "inactive_file")),
        rss: keyed(&stat, "anon"),
        cache: keyed(&stat, "file"),
        limit: dir.record("memory.max")?.as_deref().and_then(limit),
        swap: dir
            .read("memory.swap.current")?
            .as_deref()
            .and_then(number)
            .unwrap_or(0),
        swap_limit: dir.record("memory.swap.max")?.as_deref().and_then(limit),
        page_faults: keyed(&stat, "pgfault"),
        major_page_faults: keyed(&stat, "pgmajfault"),
        oom_kills: keyed(&events, "oom_kill"),
    }))
}
