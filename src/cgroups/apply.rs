//! Writes settings in an order in which the kernel refuses none of them.
//!
//! * CPU v1: the kernel checks quota against period and against the parent after each write: period first, and if that
//!   is refused, again after the quota.
//! * Memory v1: memory may never be above memory+swap: going up, the sum first; going down, memory first.
//! * Memory: a limit below what is in use is refused here, by name; on v2 the kernel would kill instead.

use super::error::CgroupError;
use super::group::Cgroup;
use super::settings::{self, MEMORY, Setting};
use super::{Layout, Limits, devices, systemd};
use crate::proto::v1;

const MEMSW: &str = "memory.memsw.limit_in_bytes";
const LIMIT: &str = "memory.limit_in_bytes";
const PERIOD: &str = "cpu.cfs_period_us";

/// All settings of a new cgroup, checked, before anything is made.
pub(super) fn plan(layout: &Layout, limits: &Limits<'_>) -> Result<Vec<Setting>, CgroupError> {
    settings_of(layout.is_v2(), limits)
}

fn settings_of(v2: bool, limits: &Limits<'_>) -> Result<Vec<Setting>, CgroupError> {
    let mut plan = of(v2, limits.cri)?;
    plan.extend(limits.pids.map(pids_max));
    Ok(plan)
}

fn pids_max(pids: u64) -> Setting {
    Setting {
        controller: "pids",
        file: "pids.max".to_owned(),
        value: pids.to_string(),
        field: "pids_limit",
        optional: true,
    }
}

/// Sets up a new cgroup.
pub(super) fn create(cgroup: &Cgroup, plan: &[Setting], limits: &Limits<'_>) -> Result<(), CgroupError> {
    write_all(cgroup, plan)?;
    devices::apply(cgroup, limits.devices)
}

/// Makes the cgroup of a process a scope of systemd, which writes what it knows into the files: all is written again
/// after it, exactly as it was given.
pub(super) fn register(cgroup: &Cgroup, limits: &Limits<'_>, pid: i32) -> Result<(), CgroupError> {
    let Some(scope) = cgroup.scope() else {
        return Ok(());
    };
    let plan = settings_of(cgroup.is_v2(), limits)?;
    systemd::start(scope, &plan, pid)?;
    write_all(cgroup, &plan)
}

/// Changes a cgroup that has processes in it.
pub(super) fn update(cgroup: &Cgroup, cri: &v1::LinuxContainerResources) -> Result<(), CgroupError> {
    let mut plan = of(cgroup.is_v2(), cri)?;
    check_memory(cgroup, cri)?;
    order_memory(cgroup, &mut plan)?;
    // The kernel first, because it may refuse.
    write_all(cgroup, &plan)?;
    let Some(scope) = cgroup.scope() else {
        return Ok(());
    };
    systemd::set(scope, &plan)?;
    // systemd rounds.
    write_all(cgroup, &plan)
}

/// Writes what somebody else has written over.
pub(super) fn restore(cgroup: &Cgroup, cri: &v1::LinuxContainerResources) -> Result<(), CgroupError> {
    let mut plan = of(cgroup.is_v2(), cri)?;
    plan.retain(|setting| has_changed(cgroup, setting));
    write_all(cgroup, &plan)
}

/// Whether a file says something else than was written to it. The kernel may say the same in other words, as with
/// sizes that are not in whole pages; writing that again does no harm. A file that is not there has not changed.
fn has_changed(cgroup: &Cgroup, setting: &Setting) -> bool {
    let dir = cgroup.controller(setting.controller);
    let says = dir.and_then(|dir| dir.read(&setting.file).ok().flatten());
    says.is_some_and(|says| says != setting.value)
}

fn of(v2: bool, cri: &v1::LinuxContainerResources) -> Result<Vec<Setting>, CgroupError> {
    if v2 { settings::v2(cri) } else { settings::v1(cri) }
}

fn write_all(cgroup: &Cgroup, plan: &[Setting]) -> Result<(), CgroupError> {
    let mut again = None;
    for setting in plan {
        match write(cgroup, setting) {
            Ok(()) => {}
            Err(CgroupError::Refused { .. }) if setting.file == PERIOD => again = Some(setting),
            Err(error) => return Err(error),
        }
        // The quota is behind us: now the period must fit.
        if setting.file == "cpu.cfs_quota_us"
            && let Some(period) = again.take()
        {
            write(cgroup, period)?;
        }
    }
    match again {
        Some(period) => write(cgroup, period),
        None => Ok(()),
    }
}

fn write(cgroup: &Cgroup, setting: &Setting) -> Result<(), CgroupError> {
    let missing = || CgroupError::HostLacks {
        field: setting.field.to_owned(),
        reason: "this node's kernel or the parent cgroup does not offer the controller it needs",
    };
    let Some(dir) = cgroup.controller(setting.controller) else {
        return tolerate(setting).ok_or_else(missing);
    };
    match dir.write(&setting.file, &setting.value) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => tolerate(setting).ok_or_else(missing),
        Err(source) => {
            // v1 says EBUSY when it cannot make room.
            if setting.field == MEMORY
                && source.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error())
                && let (Ok(limit), Some(used)) = (setting.value.parse(), used(cgroup)?)
            {
                return Err(CgroupError::BelowUse { limit, used });
            }
            Err(CgroupError::Refused {
                field: setting.field,
                value: setting.value.clone(),
                file: dir.path().join(&setting.file),
                source,
            })
        }
    }
}

/// Whether the container can do without. kubelet sends limits for all page sizes of the machine, most of them 0,
/// whether or not there is a controller.
fn tolerate(setting: &Setting) -> Option<()> {
    if !setting.optional {
        return None;
    }
    if setting.controller == "hugetlb" && setting.value != "0" {
        let (file, value) = (&setting.file, &setting.value);
        tracing::warn!(%file, %value, "hugepage limit is not enforced: there is no hugetlb controller");
    }
    Some(())
}

/// Refuses a limit below what cannot be given back.
fn check_memory(cgroup: &Cgroup, cri: &v1::LinuxContainerResources) -> Result<(), CgroupError> {
    let Ok(limit @ 1..) = u64::try_from(cri.memory_limit_in_bytes) else {
        return Ok(());
    };
    match used(cgroup)? {
        Some(used) if used > limit => Err(CgroupError::BelowUse { limit, used }),
        _ => Ok(()),
    }
}

/// Memory in use, without page cache that is not in use itself.
fn used(cgroup: &Cgroup) -> Result<Option<u64>, CgroupError> {
    Ok(cgroup.stats()?.memory.map(|memory| memory.working_set))
}

/// On v1: memory+swap before memory when it goes up.
fn order_memory(cgroup: &Cgroup, plan: &mut [Setting]) -> Result<(), CgroupError> {
    let place = |plan: &[Setting], file: &str| plan.iter().position(|setting| setting.file == file);
    let (Some(memory), Some(both)) = (place(plan, LIMIT), place(plan, MEMSW)) else {
        return Ok(());
    };
    let Some(now) = cgroup
        .v1("memory")
        .map(|dir| dir.read(MEMSW))
        .transpose()?
        .flatten()
    else {
        return Ok(());
    };
    // No limit, -1, is the highest.
    let height = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    if height(&plan[both].value) > height(&now) {
        plan.swap(memory, both);
    }
    Ok(())
}
