//! A cgroup's usage, from a few small reads of its files; nothing is cached.
//!
//! What is marked as *detail* takes further files and is only read by [`Cgroup::detailed_stats`](super::Cgroup::detailed_stats).

mod hugetlb;
mod io;
mod parse;
pub(super) mod pressure;
pub(super) mod v1;
pub(super) mod v2;

pub use hugetlb::HugePages;
pub use io::{DeviceIo, Operation};
pub use pressure::{Pressure, Pressures, Stalls};

/// The usage of a cgroup. A part is missing without its controller, or if the cgroup was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub cpu: Option<CpuStats>,
    pub memory: Option<MemoryStats>,
    pub pids: Option<PidStats>,
    /// Detail: block devices that it has used.
    pub io: Vec<DeviceIo>,
    /// Detail: huge pages, by their size.
    pub huge_pages: Vec<HugePages>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Time used, in nanoseconds.
    pub usage_ns: u64,
    /// Detail on v1.
    pub times: Option<CpuTimes>,
    /// Missing without the `cpu` controller.
    pub throttling: Option<Throttling>,
}

/// What time was used for, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    pub user_ns: u64,
    pub system_ns: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
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
    /// Page faults without those of sub-cgroups. v2 does not tell them apart: all of them.
    pub own_page_faults: u64,
    pub own_major_page_faults: u64,
    /// Processes killed because memory ran out.
    pub oom_kills: u64,
    /// Page cache that is mapped.
    pub mapped_file: Option<u64>,
    /// Page cache that was used lately, and the rest of it.
    pub active_file: Option<u64>,
    pub inactive_file: Option<u64>,
    /// The kernel's own: stacks, page tables, slabs. Detail on v1.
    pub kernel: Option<u64>,
    /// Detail: the most that was ever in use. Linux 5.19 on v2.
    pub peak: Option<u64>,
    /// How often usage was stopped by the limit. Detail on v1.
    pub limit_hits: Option<u64>,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidStats {
    pub current: u64,
    pub limit: Option<u64>,
}

#[cfg(test)]
mod tests;
