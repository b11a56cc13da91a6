//! A cgroup's usage, from a few small reads of its files; nothing is cached.

mod parse;
pub(super) mod pressure;
pub(super) mod v1;
pub(super) mod v2;

pub use pressure::{Pressure, Pressures, Stalls};

/// The usage of a cgroup. A part is missing without its controller, or if the cgroup was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub cpu: Option<CpuStats>,
    pub memory: Option<MemoryStats>,
    pub pids: Option<PidStats>,
}

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
    /// None without a limit.
    pub limit: Option<u64>,
    /// Swap in use.
    pub swap: u64,
    /// Limit of swap alone; none without a limit.
    pub swap_limit: Option<u64>,
    pub page_faults: u64,
    /// Page faults that waited for a device.
    pub major_page_faults: u64,
    /// Processes killed because memory ran out.
    pub oom_kills: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidStats {
    pub current: u64,
    pub limit: Option<u64>,
}

#[cfg(test)]
mod tests;
