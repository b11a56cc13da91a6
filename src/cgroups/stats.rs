//! What the kernel has counted for a cgroup. A handful of small reads; nothing is kept between two calls.

mod parse;
mod pressure;
mod v1;
mod v2;

pub use pressure::{Pressure, Pressures, Stalls};

pub(super) use pressure::read as read_pressures;

use super::error::CgroupError;
use super::group::Cgroup;

/// Numbers of one cgroup. A part is missing where there is no controller for it, or no cgroup any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidStats>,
}

/// CPU time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Time used, in nanoseconds.
    pub usage_ns: u64,
    /// CFS periods that have passed.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time spent waiting for quota, in nanoseconds.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// Usage less inactive page cache: what Kubernetes evicts by.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// Swap in use.
    pub swap: u64,
    /// Limit of swap alone, if there is one.
    pub swap_limit: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that had to wait for a device.
    pub major_page_faults: u64,
    /// Processes killed because memory ran out.
    pub oom_kills: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be, if limited.
    pub limit: Option<u64>,
}

pub(super) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    if cgroup.is_v2() {
        v2::read(cgroup)
    } else {
        v1::read(cgroup)
    }
}

#[cfg(test)]
mod tests;
