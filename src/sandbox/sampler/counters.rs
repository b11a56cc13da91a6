//! What the kernel says of a cgroup, and when it was asked.

use std::sync::Arc;
use std::time::Instant;

use crate::cgroups::{CpuStats, DeviceIo, MemoryStats, PidStats, Pressures, Stats};

/// One reading of a cgroup.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Counters {
    /// Nanoseconds since the epoch, for CRI.
    pub(in crate::sandbox) at: i64,
    /// The same moment, for rates: this clock is not set.
    pub(in crate::sandbox) instant: Instant,
    pub(in crate::sandbox) stats: Stats,
    pub(in crate::sandbox) pressures: Pressures,
    /// Detail: the block devices that it has used, with their names.
    pub(in crate::sandbox) devices: Vec<(Arc<str>, DeviceIo)>,
}

impl Counters {
    /// A reading that is about to be made.
    pub(in crate::sandbox) fn now() -> Self {
        Self {
            at: crate::state::now(),
            instant: Instant::now(),
            stats: Stats::default(),
            pressures: Pressures::default(),
            devices: Vec::new(),
        }
    }

    /// What several cgroups used together; none of none. Pressure and limits have no sum.
    pub(super) fn sum<'a>(readings: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for reading in readings {
            let sum = sum.get_or_insert_with(|| Self {
                stats: Stats::default(),
                pressures: Pressures::default(),
                devices: Vec::new(),
                ..*reading
            });
            add(&mut sum.stats, &reading.stats);
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
