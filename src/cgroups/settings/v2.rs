//! cgroup v2.

use std::collections::BTreeMap;

use super::shared::{limit, page_size, period, shares, weight};
use super::{
    CPUS, HUGEPAGES, IO_THROTTLE, IO_WEIGHT, MEMORY, MEMS, PERIOD, QUOTA, SHARES, SWAP, Setting, UNIFIED,
};
use crate::cgroups::blockio::{Device, Parameter, Rule};
use crate::cgroups::error::CgroupError;
use crate::proto::v1;

/// The controllers whose files `unified` may name.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuset", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

/// The files for these resources, in an order that is right for a new cgroup.
pub(crate) fn settings(cri: &v1::LinuxContainerResources) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    if let Some(shares) = shares(cri)? {
        settings.push(Setting::new("cpu", "cpu.weight", weight(shares), SHARES));
    }
    let quota = limit(QUOTA, cri.cpu_quota, "max")?;
    let period = period(cri)?;
    match (quota, period) {
        (Some(quota), Some(period)) => {
            settings.push(Setting::new("cpu", "cpu.max", format!("{quota} {period}"), QUOTA));
        }
        (Some(quota), None) => settings.push(Setting::new("cpu", "cpu.max", quota, QUOTA)),
        // A new cgroup has no quota, and without one the period limits nothing.
        (None, Some(period)) => {
            settings.push(Setting::new("cpu", "cpu.max", format!("max {period}"), PERIOD).optional());
        }
        (None, None) => {}
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
        for file in [format!("hugetlb.{size}.max"), format!("hugetlb.{size}.rsvd.max")] {
            settings.push(Setting::new("hugetlb", &file, pages.limit, HUGEPAGES).optional());
        }
    }
    for (key, value) in &cri.unified {
        let wins = unified(key, value)?;
        settings.retain(|one| one.file != wins.file);
        settings.push(wins);
    }
    Ok(settings)
}

/// v2 counts swap alone: what CRI gives for both, less the memory.
fn memory(cri: &v1::LinuxContainerResources) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    let memory = cri.memory_limit_in_bytes;
    if let Some(limit) = limit(MEMORY, memory, "max")? {
        settings.push(Setting::new("memory", "memory.max", limit, MEMORY));
    }
    let swap = match cri.memory_swap_limit_in_bytes {
        // No limit on memory: none on swap either.
        0 if memory == -1 => Some("max".to_owned()),
        0 if memory > 0 => Some("0".to_owned()),
        0 => None,
        -1 => Some("max".to_owned()),
        both if both >= memory && memory > 0 => Some((both - memory).to_string()),
        both => {
            let reason = "it is for memory and swap together and needs a memory limit that is not larger";
            return Err(CgroupError::invalid(SWAP, both, reason));
        }
    };
    if let Some(swap) = swap {
        settings.push(Setting::new("memory", "memory.swap.max", swap, SWAP).optional());
    }
    Ok(settings)
}

/// A file of a controller, by name: not `cgroup.procs`, and not a path.
fn unified(key: &str, value: &str) -> Result<Setting, CgroupError> {
    let controller = CONTROLLERS
        .iter()
        .find(|name| key.strip_prefix(**name).is_some_and(|rest| rest.starts_with('.')));
    match controller {
        Some(controller) if !key.contains(['/', '\0']) => Ok(Setting::new(controller, key, value, UNIFIED)),
        _ => Err(CgroupError::invalid(
            format!("{UNIFIED}[{key:?}]"),
            value,
            "it is not a file of a cgroup v2 controller",
        )),
    }
}

/// The lines are as the kernel writes them, so that one can see whether they are still there. Weights are BFQ's, which are
/// OCI's; the kernel's own, without BFQ, are on another scale.
pub(crate) fn block_io(rules: &[Rule]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut throttles: BTreeMap<Device, [Option<u64>; 4]> = BTreeMap::new();
    for rule in rules {
        let place = match rule.parameter {
            Parameter::Weight => {
                let whose = rule
                    .device
                    .map_or_else(|| "default".to_owned(), |device| device.to_string());
                let new = |file, weight| Setting::new("io", file, format!("{whose} {weight}"), IO_WEIGHT);
                let own_scale = 1 + rule.value.saturating_sub(10) * 9999 / 990;
                settings.push(new("io.bfq.weight", rule.value).or(new("io.weight", own_scale)));
                continue;
            }
            Parameter::ReadBps => 0,
            Parameter::WriteBps => 1,
            Parameter::ReadIops => 2,
            Parameter::WriteIops => 3,
        };
        if let Some(device) = rule.device {
            throttles.entry(device).or_default()[place] = Some(rule.value);
        }
    }
    settings.extend(throttles.iter().map(|(device, limits)| {
        let limits = ["rbps", "wbps", "riops", "wiops"].iter().zip(limits);
        let line = limits.fold(device.to_string(), |line, (key, limit)| match limit {
            Some(limit) => format!("{line} {key}={limit}"),
            None => format!("{line} {key}=max"),
        });
        Setting::new("io", "io.max", line, IO_THROTTLE)
    }));
    settings
}
