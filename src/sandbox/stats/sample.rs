//! What the kernel says of a cgroup, and when it was asked.

use std::time::Instant;

use crate::cgroups::{CgroupError, CgroupPath, Cgroups, CpuStats, MemoryStats, PidStats, Pressures, Stats};

/// One reading of a cgroup.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Nanoseconds since the epoch, for CRI.
    pub(super) at: i64,
    /// The same moment, for rates: this clock is not set.
    pub(super) instant: Instant,
    pub(super) stats: Stats,
    pub(super) pressures: Pressures,
}

impl Sample {
    /// Reads a cgroup; none if there is none.
    pub(super) fn read(cgroups: &Cgroups, path: &CgroupPath) -> Result<Option<Self>, CgroupError> {
        let cgroup = match cgroups.open_counters(path) {
            Ok(cgroup) => cgroup,
            Err(CgroupError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            at: crate::state::now(),
            instant: Instant::now(),
            stats: cgroup.stats()?,
            pressures: cgroup.pressures(),
        }))
    }

    /// What several cgroups used together; none of none. Pressure and limits have no sum.
    pub(super) fn sum<'a>(samples: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for sample in samples {
            let sum = sum.get_or_insert_with(|| Self {
                stats: Stats::default(),
                pressures: Pressures::default(),
                ..*sample
            });
            add(&mut sum.stats, &sample.stats);
        }
        sum
    }
}

fn add(sum: &mut Stats, more: &Stats) {
    if let Some(more) = &more.cpu {
        let cpu = sum.cpu.get_or_insert_with(CpuStats::default);
        cpu.usage_ns = cpu.usage_ns.saturating_add(more.usage_ns);
    }
    if let Some(more) = &more.memory {
        let memory = sum.memory.get_or_insert_with(MemoryStats::default);
        memory.usage = memory.usage.saturating_add(more.usage);
        memory.working_set = memory.working_set.saturating_add(more.working_set);
        memory.rss = memory.rss.saturating_add(more.rss);
        memory.cache = memory.cache.saturating_add(more.cache);
        memory.swap = memory.swap.saturating_add(more.swap);
        memory.page_faults = memory.page_faults.saturating_add(more.page_faults);
        memory.major_page_faults = memory.major_page_faults.saturating_add(more.major_page_faults);
    }
    if let Some(more) = &more.pids {
        let pids = sum.pids.get_or_insert_with(PidStats::default);
        pids.current = pids.current.saturating_add(more.current);
    }
}

#[cfg(test)]
mod tests;
