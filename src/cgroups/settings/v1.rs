//! cgroup v1.

use super::shared::{limit, page_size, period, shares};
use super::{
    CPUS, HUGEPAGES, IO_THROTTLE, IO_WEIGHT, MEMORY, MEMS, PERIOD, QUOTA, SHARES, SWAP, Setting, UNIFIED,
};
use crate::cgroups::blockio::{Parameter, Rule};
use crate::cgroups::error::CgroupError;
use crate::proto::v1;

/// The files for these resources, in an order that is right for a new cgroup.
pub(crate) fn settings(cri: &v1::LinuxContainerResources) -> Result<Vec<Setting>, CgroupError> {
    if let Some(key) = cri.unified.keys().next() {
        return Err(CgroupError::HostLacks {
            field: format!("{UNIFIED}[{key:?}]"),
            reason: "this node has cgroup v1, and unified is for v2",
        });
    }
    let mut settings = Vec::new();
    if let Some(shares) = shares(cri)? {
        settings.push(Setting::new("cpu", "cpu.shares", shares, SHARES));
    }
    if let Some(period) = period(cri)? {
        settings.push(Setting::new("cpu", "cpu.cfs_period_us", period, PERIOD));
    }
    if let Some(quota) = limit(QUOTA, cri.cpu_quota, "-1")? {
        settings.push(Setting::new("cpu", "cpu.cfs_quota_us", quota, QUOTA));
    }
    if !cri.cpuset_cpus.is_empty() {
        settings.push(Setting::new("cpuset", "cpuset.cpus", &cri.cpuset_cpus, CPUS));
    }
    if !cri.cpuset_mems.is_empty() {
        settings.push(Setting::new("cpuset", "cpuset.mems", &cri.cpuset_mems, MEMS));
    }
    settings.extend(memory(cri)?);
    for pages in &cri.hugepage_limits {
        let size = page_size(pages)?;
        let file = format!("hugetlb.{size}.limit_in_bytes");
        settings.push(Setting::new("hugetlb", &file, pages.limit, HUGEPAGES).optional());
        let file = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        settings.push(Setting::new("hugetlb", &file, pages.limit, HUGEPAGES).optional());
    }
    Ok(settings)
}

/// Memory, then memory and swap together, which may not be less. Without a swap limit they are equal: no swap.
fn memory(cri: &v1::LinuxContainerResources) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    let memory = limit(MEMORY, cri.memory_limit_in_bytes, "-1")?;
    let both = match limit(SWAP, cri.memory_swap_limit_in_bytes, "-1")? {
        None => memory.clone(),
        given => given,
    };
    if let Some(memory) = memory {
        settings.push(Setting::new("memory", "memory.limit_in_bytes", memory, MEMORY));
    }
    if let Some(both) = both {
        // Not there without swap accounting, and then there is no swap to limit.
        settings.push(Setting::new("memory", "memory.memsw.limit_in_bytes", both, SWAP).optional());
    }
    Ok(settings)
}

/// One line for one file each. Weights are BFQ's, or those of whatever other scheduler the kernel has.
pub(crate) fn block_io(rules: &[Rule]) -> Vec<Setting> {
    let setting = |rule: &Rule| {
        let new = |file, value: &str, field| Setting::new("blkio", file, value, field);
        let weight = |file, other, value: &str| new(file, value, IO_WEIGHT).or(new(other, value, IO_WEIGHT));
        let value = match rule.device {
            Some(device) => format!("{device} {}", rule.value),
            None => rule.value.to_string(),
        };
        let throttle = |file| new(file, &value, IO_THROTTLE);
        match (rule.parameter, rule.device) {
            (Parameter::Weight, None) => weight("blkio.bfq.weight", "blkio.weight", &value),
            (Parameter::Weight, Some(_)) => weight("blkio.bfq.weight_device", "blkio.weight_device", &value),
            (Parameter::ReadBps, _) => throttle("blkio.throttle.read_bps_device"),
            (Parameter::WriteBps, _) => throttle("blkio.throttle.write_bps_device"),
            (Parameter::ReadIops, _) => throttle("blkio.throttle.read_iops_device"),
            (Parameter::WriteIops, _) => throttle("blkio.throttle.write_iops_device"),
        }
    };
    rules.iter().map(setting).collect()
}
