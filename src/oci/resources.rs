//! CRI's resource fields for the runtime spec. `crate::cgroups` turns them into values for the kernel.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources,
    LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder, PosixRlimit, PosixRlimitBuilder,
};

use super::error::OciError;
use crate::cgroups::Limits;
use crate::cgroups::blockio::{Parameter, Rule};
use crate::config::Ulimit;
use crate::proto::v1;

/// The `linux.resources` of a container. In CRI, 0 or empty means "not given".
pub(crate) fn resources(
    limits: &Limits,
    devices: Vec<LinuxDeviceCgroup>,
) -> Result<LinuxResources, OciError> {
    let cri = &limits.resources;
    let mut resources = LinuxResources::default();
    resources
        .set_devices(Some(devices))
        .set_cpu(Some(cpu(limits)?))
        .set_memory(Some(memory(cri)));
    if let Some(pids) = limits.pids {
        let mut limit = LinuxPids::default();
        limit.set_limit(pids.into());
        resources.set_pids(Some(limit));
    }
    if !limits.block_io.is_empty() {
        resources.set_block_io(Some(block_io(&limits.block_io)));
    }
    let mut limits = Vec::new();
    for limit in &cri.hugepage_limits {
        let bytes = i64::try_from(limit.limit).map_err(|_| {
            let reason = "it must be below 2^63 bytes";
            OciError::invalid("linux.resources.hugepage_limits.limit", limit.limit, reason)
        })?;
        let mut oci = LinuxHugepageLimit::default();
        oci.set_page_size(limit.page_size.clone()).set_limit(bytes);
        limits.push(oci);
    }
    if !limits.is_empty() {
        resources.set_hugepage_limits(Some(limits));
    }
    if !cri.unified.is_empty() {
        let unified = cri
            .unified
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()));
        resources.set_unified(Some(unified.collect()));
    }
    Ok(resources)
}

/// The limits of a process; none if none is configured. Of one that is there twice, the last counts.
pub(crate) fn rlimits(configured: &[Ulimit]) -> Option<Vec<PosixRlimit>> {
    let mut limits: Vec<PosixRlimit> = Vec::new();
    for ulimit in configured {
        let limit = PosixRlimitBuilder::default()
            .typ(ulimit.resource)
            .soft(ulimit.soft)
            .hard(ulimit.hard)
            .build();
        limits.retain(|known| known.typ() != ulimit.resource);
        // Building fails only if a field is missing.
        limits.extend(limit);
    }
    Some(limits).filter(|limits| !limits.is_empty())
}

/// oom_score_adj, see proc(5).
pub(crate) fn oom_score_adj(cri: &v1::LinuxContainerResources) -> Result<i32, OciError> {
    i32::try_from(cri.oom_score_adj)
        .ok()
        .filter(|value| (-1000..=1000).contains(value))
        .ok_or_else(|| {
            let reason = "it must be from -1000 to 1000";
            OciError::invalid("linux.resources.oom_score_adj", cri.oom_score_adj, reason)
        })
}

fn cpu(limits: &Limits) -> Result<LinuxCpu, OciError> {
    let cri = &limits.resources;
    let positive = |name: &str, value: i64| {
        u64::try_from(value).map_err(|_| {
            let field = format!("linux.resources.{name}");
            OciError::invalid(field, value, "it must not be negative")
        })
    };
    let shares = positive("cpu_shares", cri.cpu_shares)?;
    let period = positive("cpu_period", cri.cpu_period)?;
    let mut cpu = LinuxCpu::default();
    cpu.set_shares((shares > 0).then_some(shares))
        .set_period((period > 0).then_some(period))
        .set_quota((cri.cpu_quota != 0).then_some(cri.cpu_quota))
        .set_burst(limits.cpu_burst().filter(|burst| *burst > 0))
        .set_cpus(given(&cri.cpuset_cpus))
        .set_mems(given(&cri.cpuset_mems));
    Ok(cpu)
}

fn block_io(rules: &[Rule]) -> LinuxBlockIo {
    let of = |parameter| {
        rules.iter().filter_map(move |rule| {
            let device = rule.device.filter(|_| rule.parameter == parameter)?;
            Some((i64::from(device.major), i64::from(device.minor), rule.value))
        })
    };
    // Building fails only if a field is missing, and a weight is at most 1000.
    let throttles = |parameter| {
        let devices = of(parameter).filter_map(|(major, minor, rate)| {
            let device = LinuxThrottleDeviceBuilder::default();
            device.major(major).minor(minor).rate(rate).build().ok()
        });
        Some(devices.collect::<Vec<_>>()).filter(|devices| !devices.is_empty())
    };
    let weight = |value: u64| u16::try_from(value).ok();
    let weights = of(Parameter::Weight).filter_map(|(major, minor, value)| {
        let device = LinuxWeightDeviceBuilder::default();
        device
            .major(major)
            .minor(minor)
            .weight(weight(value)?)
            .build()
            .ok()
    });
    let weights = Some(weights.collect::<Vec<_>>()).filter(|devices| !devices.is_empty());
    let all = rules.iter().find(|rule| rule.device.is_none());
    let mut block_io = LinuxBlockIo::default();
    block_io
        .set_weight(all.and_then(|rule| weight(rule.value)))
        .set_weight_device(weights)
        .set_throttle_read_bps_device(throttles(Parameter::ReadBps))
        .set_throttle_write_bps_device(throttles(Parameter::WriteBps))
        .set_throttle_read_iops_device(throttles(Parameter::ReadIops))
        .set_throttle_write_iops_device(throttles(Parameter::WriteIops));
    block_io
}

/// The swap limit counts memory and swap together. If CRI gives only a memory limit, the two are equal: no swap.
fn memory(cri: &v1::LinuxContainerResources) -> LinuxMemory {
    let limit = (cri.memory_limit_in_bytes != 0).then_some(cri.memory_limit_in_bytes);
    let swap = match cri.memory_swap_limit_in_bytes {
        0 => limit,
        given => Some(given),
    };
    let mut memory = LinuxMemory::default();
    memory.set_limit(limit).set_swap(swap);
    memory
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
