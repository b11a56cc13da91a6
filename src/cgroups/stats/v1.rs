//! cgroup v1.

use super::parse::{keyed, limit, number};
use super::{CpuStats, MemoryStats, PidStats, Stats};
use crate::cgroups::dir::Dir;
use crate::cgroups::error::CgroupError;
use crate::cgroups::group::Cgroup;

pub(in crate::cgroups) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    Ok(Stats {
        cpu: cpu(cgroup)?,
        memory: cgroup.v1("memory").map(memory).transpose()?.flatten(),
        pids: cgroup.v1("pids").map(pids).transpose()?.flatten(),
    })
}

fn cpu(cgroup: &Cgroup) -> Result<Option<CpuStats>, CgroupError> {
    let Some(usage) = cgroup
        .v1("cpuacct")
        .map(|dir| dir.record("cpuacct.usage"))
        .transpose()?
        .flatten()
    else {
        return Ok(None);
    };
    let stat = cgroup
        .v1("cpu")
        .map(|dir| dir.record("cpu.stat"))
        .transpose()?
        .flatten();
    let stat = stat.unwrap_or_default();
    Ok(Some(CpuStats {
        usage_ns: number(&usage).unwrap_or(0),
        periods: keyed(&stat, "nr_periods"),
        throttled_periods: keyed(&stat, "nr_throttled"),
        throttled_ns: keyed(&stat, "throttled_time"),
    }))
}

fn memory(dir: &Dir) -> Result<Option<MemoryStats>, CgroupError> {
    let Some(usage) = dir.record("memory.usage_in_bytes")?.as_deref().and_then(number) else {
        return Ok(None);
    };
    let stat = dir.record("memory.stat")?.unwrap_or_default();
    let memory_limit = dir.record("memory.limit_in_bytes")?.as_deref().and_then(limit);
    let both = dir
        .record("memory.memsw.limit_in_bytes")?
        .as_deref()
        .and_then(limit);
    let control = dir.record("memory.oom_control")?.unwrap_or_default();
    Ok(Some(MemoryStats {
        usage,
        working_set: usage.saturating_sub(keyed(&stat, "total_inactive_file")),
        rss: keyed(&stat, "total_rss"),
        cache: keyed(&stat, "total_cache"),
        limit: memory_limit,
        swap: keyed(&stat, "total_swap"),
        swap_limit: both.map(|both| both.saturating_sub(memory_limit.unwrap_or(both))),
        page_faults: keyed(&stat, "total_pgfault"),
        major_page_faults: keyed(&stat, "total_pgmajfault"),
        oom_kills: keyed(&control, "oom_kill"),
    }))
}

fn pids(dir: &Dir) -> Result<Option<PidStats>, CgroupError> {
    let Some(current) = dir.record("pids.current")?.as_deref().and_then(number) else {
        return Ok(None);
    };
    let limit = dir.record("pids.max")?.as_deref().and_then(limit);
    Ok(Some(PidStats { current, limit }))
}
