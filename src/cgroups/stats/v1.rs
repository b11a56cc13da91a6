//! cgroup v1.

use super::parse::{Keyed, limit, number};
use super::{CpuStats, CpuTimes, MemoryStats, PidStats, Stats, Throttling, hugetlb, io};
use crate::cgroups::dir::Dir;
use crate::cgroups::error::CgroupError;
use crate::cgroups::group::Cgroup;

pub(in crate::cgroups) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    Ok(Stats {
        cpu: cpu(cgroup)?,
        memory: cgroup.v1("memory").map(memory).transpose()?.flatten(),
        pids: cgroup.v1("pids").map(pids).transpose()?.flatten(),
        ..Stats::default()
    })
}

/// Adds what takes further files.
pub(in crate::cgroups) fn detail(cgroup: &Cgroup, stats: &mut Stats) -> Result<(), CgroupError> {
    if let (Some(cpu), Some(dir)) = (&mut stats.cpu, cgroup.v1("cpuacct")) {
        cpu.times = dir
            .record("cpuacct.stat")?
            .and_then(|stat| times(&Keyed::new(&stat)));
    }
    if let (Some(memory), Some(dir)) = (&mut stats.memory, cgroup.v1("memory")) {
        let value = |file: &str| Ok(dir.record(file)?.as_deref().and_then(number));
        memory.kernel = value("memory.kmem.usage_in_bytes")?;
        memory.peak = value("memory.max_usage_in_bytes")?;
        memory.limit_hits = value("memory.failcnt")?;
    }
    if let Some(dir) = cgroup.v1("blkio") {
        let bytes = dir.record("blkio.throttle.io_service_bytes_recursive")?;
        let requests = dir.record("blkio.throttle.io_serviced_recursive")?;
        stats.io = io::v1(&bytes.unwrap_or_default(), &requests.unwrap_or_default());
    }
    if let Some(dir) = cgroup.v1("hugetlb") {
        stats.huge_pages = hugetlb::read(dir, "usage_in_bytes", Some("max_usage_in_bytes"))?;
    }
    Ok(())
}

/// The kernel counts ticks here.
fn times(stat: &Keyed<'_>) -> Option<CpuTimes> {
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let time = |key| Some(stat.found(key)?.saturating_mul(tick));
    Some(CpuTimes {
        user_ns: time("user")?,
        system_ns: time("system")?,
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
    Ok(Some(CpuStats {
        usage_ns: number(&usage).unwrap_or(0),
        times: None,
        throttling: stat.and_then(|stat| throttling(&Keyed::new(&stat))),
    }))
}

fn throttling(stat: &Keyed<'_>) -> Option<Throttling> {
    Some(Throttling {
        periods: stat.found("nr_periods")?,
        throttled_periods: stat.found("nr_throttled")?,
        throttled_ns: stat.found("throttled_time")?,
    })
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
    let (stat, control) = (Keyed::new(&stat), Keyed::new(&control));
    Ok(Some(MemoryStats {
        usage,
        working_set: usage.saturating_sub(stat.count("total_inactive_file")),
        rss: stat.count("total_rss"),
        cache: stat.count("total_cache"),
        limit: memory_limit,
        swap: stat.count("total_swap"),
        swap_limit: both.map(|both| both.saturating_sub(memory_limit.unwrap_or(both))),
        page_faults: stat.count("total_pgfault"),
        major_page_faults: stat.count("total_pgmajfault"),
        own_page_faults: stat.count("pgfault"),
        own_major_page_faults: stat.count("pgmajfault"),
        oom_kills: control.count("oom_kill"),
        mapped_file: stat.found("total_mapped_file"),
        active_file: stat.found("total_active_file"),
        inactive_file: stat.found("total_inactive_file"),
        kernel: None,
        peak: None,
        limit_hits: None,
    }))
}

fn pids(dir: &Dir) -> Result<Option<PidStats>, CgroupError> {
    let Some(current) = dir.record("pids.current")?.as_deref().and_then(number) else {
        return Ok(None);
    };
    let limit = dir.record("pids.max")?.as_deref().and_then(limit);
    Ok(Some(PidStats { current, limit }))
}
