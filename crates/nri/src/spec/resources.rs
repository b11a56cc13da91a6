//! Limits of the cgroup, and RDT.

use oci_spec::runtime::{
    LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxIntelRdt, LinuxMemory, LinuxPids, LinuxResources,
};

use super::Rules;
use super::check::{SpecError, file_name, invalid, number_list, parse, text, texts};
use crate::proto::{self, LinuxRdt};

pub(super) fn apply(
    wanted: &proto::LinuxResources,
    resources: &mut LinuxResources,
    rules: Rules,
) -> Result<(), SpecError> {
    if let Some(wanted) = &wanted.memory {
        memory(wanted, resources.memory_mut().get_or_insert_default());
    }
    if let Some(wanted) = &wanted.cpu {
        cpu(wanted, resources.cpu_mut().get_or_insert_default())?;
    }
    for limit in wanted.hugepage_limits.iter().filter(|_| rules.hugetlb) {
        const SIZE: &str = "linux.resources.hugepage_limits.page_size";
        let size = &limit.page_size;
        if size.is_empty() || !size.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(invalid(SIZE, size, "a size of pages, such as 2MB"));
        }
        let bytes = i64::try_from(limit.limit).map_err(|_| {
            let field = "linux.resources.hugepage_limits.limit";
            invalid(field, limit.limit, "below 2^63 bytes")
        })?;
        let mut oci = LinuxHugepageLimit::default();
        oci.set_page_size(size.clone()).set_limit(bytes);
        let limits = resources.hugepage_limits_mut().get_or_insert_default();
        limits.retain(|known| known.page_size() != size);
        limits.push(oci);
    }
    for (file, value) in &wanted.unified {
        let file = file_name("linux.resources.unified", file)?;
        let value = text("linux.resources.unified", value)?;
        resources
            .unified_mut()
            .get_or_insert_default()
            .insert(file, value);
    }
    if let Some(wanted) = wanted.pids {
        let mut pids = LinuxPids::default();
        // All below 0 is no limit, for which runtimes know -1.
        pids.set_limit(wanted.limit.max(-1));
        resources.set_pids(Some(pids));
    }
    for wanted in &wanted.devices {
        let rule = device_rule(wanted)?;
        resources.devices_mut().get_or_insert_default().push(rule);
    }
    Ok(())
}

/// Without a limit for both together, there is no swap above the limit of memory. A limit of 0 is none that is given.
fn memory(wanted: &proto::LinuxMemory, memory: &mut LinuxMemory) {
    let limit = wanted.limit.map(|limit| limit.value).filter(|limit| *limit != 0);
    if let Some(limit) = limit {
        memory.set_limit(Some(limit)).set_swap(Some(limit));
    }
    if let Some(reservation) = wanted.reservation {
        memory.set_reservation(Some(reservation.value));
    }
    if let Some(swap) = wanted.swap {
        memory.set_swap(Some(swap.value));
    }
    if let Some(kernel) = wanted.kernel {
        memory.set_kernel(Some(kernel.value));
    }
    if let Some(kernel_tcp) = wanted.kernel_tcp {
        memory.set_kernel_tcp(Some(kernel_tcp.value));
    }
    if let Some(swappiness) = wanted.swappiness {
        memory.set_swappiness(Some(swappiness.value));
    }
    if let Some(disable) = wanted.disable_oom_killer {
        memory.set_disable_oom_killer(Some(disable.value));
    }
    if let Some(hierarchy) = wanted.use_hierarchy {
        memory.set_use_hierarchy(Some(hierarchy.value));
    }
}

fn cpu(wanted: &proto::LinuxCpu, cpu: &mut LinuxCpu) -> Result<(), SpecError> {
    if let Some(shares) = wanted.shares {
        cpu.set_shares(Some(shares.value));
    }
    if let Some(quota) = wanted.quota {
        cpu.set_quota(Some(quota.value));
    }
    if let Some(period) = wanted.period {
        cpu.set_period(Some(period.value));
    }
    if let Some(runtime) = wanted.realtime_runtime {
        cpu.set_realtime_runtime(Some(runtime.value));
    }
    if let Some(period) = wanted.realtime_period {
        cpu.set_realtime_period(Some(period.value));
    }
    if !wanted.cpus.is_empty() {
        cpu.set_cpus(Some(number_list("linux.resources.cpu.cpus", &wanted.cpus)?));
    }
    if !wanted.mems.is_empty() {
        cpu.set_mems(Some(number_list("linux.resources.cpu.mems", &wanted.mems)?));
    }
    Ok(())
}

fn device_rule(wanted: &proto::LinuxDeviceCgroup) -> Result<LinuxDeviceCgroup, SpecError> {
    const TYPE: &str = "linux.resources.devices.type";
    let typ = match wanted.r#type.as_str() {
        // As in JSON, where it is left out.
        "" => None,
        "a" | "b" | "c" => Some(parse(TYPE, &wanted.r#type, "a, b or c")?),
        other => return Err(invalid(TYPE, other, "a, b or c")),
    };
    if !wanted.access.chars().all(|c| "rwm".contains(c)) {
        let field = "linux.resources.devices.access";
        return Err(invalid(field, &wanted.access, "some of r, w and m"));
    }
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(wanted.allow)
        .set_typ(typ)
        .set_major(wanted.major.map(|major| major.value))
        .set_minor(wanted.minor.map(|minor| minor.value))
        .set_access(Some(wanted.access.clone()));
    Ok(rule)
}

/// What a class means for the spec: the group of its name. The class that is empty is none.
pub(super) fn rdt_class(class: &str) -> Result<Option<LinuxIntelRdt>, SpecError> {
    if class.is_empty() {
        return Ok(None);
    }
    let mut rdt = LinuxIntelRdt::default();
    rdt.set_clos_id(Some(file_name("linux.resources.rdt_class", class)?));
    Ok(Some(rdt))
}

pub(super) fn apply_rdt(wanted: &LinuxRdt, rdt: &mut Option<LinuxIntelRdt>) -> Result<(), SpecError> {
    if wanted.remove {
        *rdt = None;
    }
    if let Some(clos_id) = &wanted.clos_id {
        let clos_id = file_name("linux.rdt.clos_id", &clos_id.value)?;
        rdt.get_or_insert_default().set_clos_id(Some(clos_id));
    }
    if let Some(schemata) = &wanted.schemata {
        let schemata = texts("linux.rdt.schemata", &schemata.value)?;
        rdt.get_or_insert_default().set_schemata(Some(schemata));
    }
    if let Some(enable) = wanted.enable_monitoring {
        rdt.get_or_insert_default()
            .set_enable_monitoring(Some(enable.value));
    }
    Ok(())
}
