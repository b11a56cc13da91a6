//! The cgroups of containers and monitors.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use oci_spec::runtime::LinuxDeviceCgroup;

use super::blocking;
use super::pod::cgroup_parent;
use crate::cgroups::{Cgroup, CgroupError, CgroupPath, Limits};
use crate::container::ContainerRecord;
use crate::error::Kinded;
use crate::id::Id;
use crate::proto::v1;
use crate::sandbox::error::PodError;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;

fn failed(doing: &'static str) -> impl FnOnce(CgroupError) -> PodError {
    move |error| PodError::failed(doing, error)
}

/// Where a container's cgroup is.
fn path(services: &Services, pod: &PodRecord, container: &Id) -> Result<CgroupPath, CgroupError> {
    services
        .cgroups
        .container_path(cgroup_parent(&pod.config), container.as_str())
}

/// Makes a container's cgroup with its limits.
pub(super) async fn create(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
    devices: Vec<LinuxDeviceCgroup>,
) -> Result<Cgroup, PodError> {
    const DOING: &str = "make the container's cgroup";
    let path = path(services, pod, &record.id).map_err(failed(DOING))?;
    let (services, resources) = (Arc::clone(services), record.resources.clone());
    blocking(move || {
        let limits = Limits {
            cri: &resources,
            devices: &devices,
            pids: None,
        };
        services.cgroups.create(&path, &limits).map_err(failed(DOING))
    })
    .await
}

/// Tells the cgroup driver that a container's first process is there.
pub(super) async fn register(
    cgroup: Cgroup,
    resources: v1::LinuxContainerResources,
    pid: i32,
) -> Result<(), PodError> {
    const DOING: &str = "make the container's scope";
    blocking(move || {
        let limits = Limits {
            cri: &resources,
            devices: &[],
            pids: None,
        };
        cgroup.register(pid, &limits).map_err(failed(DOING))
    })
    .await
}

/// Makes the cgroup of a pod's monitor below the pod's, so that its cost is the pod's.
pub(super) async fn create_for_monitor(
    services: &Arc<Services>,
    pod: &PodRecord,
) -> Result<Cgroup, PodError> {
    const DOING: &str = "make the cgroup of the pod's monitor";
    let parent = cgroup_parent(&pod.config);
    let path = services
        .cgroups
        .monitor_path(parent, pod.id.as_str())
        .map_err(failed(DOING))?;
    let services = Arc::clone(services);
    blocking(move || services.cgroups.create_unlimited(&path).map_err(failed(DOING))).await
}

/// What a monitor joins its cgroup with by itself: the `tasks` files of v1. On v2 there is nothing of the kind, and
/// [`admit_monitor`] moves it.
pub(super) fn for_monitor_to_join(cgroup: &Cgroup) -> Result<Vec<OwnedFd>, PodError> {
    if cgroup.is_v2() {
        return Ok(Vec::new());
    }
    let fds = cgroup
        .join_fds()
        .map_err(failed("open the cgroup of the pod's monitor"))?;
    Ok(fds.into_iter().map(|(_, fd)| fd).collect())
}

/// Moves a monitor into its cgroup where it did not join by itself, and tells the cgroup driver.
pub(super) async fn admit_monitor(cgroup: Cgroup, pid: i32) -> Result<(), PodError> {
    const DOING: &str = "put the pod's monitor into its cgroup";
    blocking(move || {
        let placed = if cgroup.is_v2() { cgroup.place(pid) } else { Ok(()) };
        let none = v1::LinuxContainerResources::default();
        let limits = Limits {
            cri: &none,
            devices: &[],
            pids: None,
        };
        placed
            .and_then(|()| cgroup.register(pid, &limits))
            .map_err(failed(DOING))
    })
    .await
}

/// Removes the cgroup of a pod's monitor.
pub(super) async fn remove_monitor(services: &Arc<Services>, pod: &PodRecord) {
    let parent = cgroup_parent(&pod.config);
    let path = services.cgroups.monitor_path(parent, pod.id.as_str());
    remove_path(services, path, &pod.id).await;
}

/// Removes a container's cgroup; what remains is warned of and found by the next reconciliation.
pub(in crate::sandbox) async fn remove_cgroup(services: &Arc<Services>, pod: &PodRecord, container: &Id) {
    remove_path(services, path(services, pod, container), container).await;
}

async fn remove_path(services: &Arc<Services>, path: Result<CgroupPath, CgroupError>, whose: &Id) {
    const DOING: &str = "remove a cgroup";
    let services = Arc::clone(services);
    let removed = blocking(move || {
        path.and_then(|path| services.cgroups.remove(&path))
            .map_err(failed(DOING))
    });
    if let Err(error) = removed.await {
        tracing::warn!(whose = whose.short(), error = error.text(), "a cgroup stays");
    }
}

/// Kills everything in a container's cgroup, then removes it: for containers nobody watches any more.
pub(in crate::sandbox) async fn kill_cgroup(services: &Arc<Services>, pod: &PodRecord, container: &Id) {
    const DOING: &str = "kill what is left of a container";
    let killed = match path(services, pod, container) {
        Ok(path) => {
            let services = Arc::clone(services);
            blocking(move || match services.cgroups.open(&path) {
                Ok(cgroup) => cgroup.kill_all().map_err(failed(DOING)),
                Err(error) if error.kind() == crate::error::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(failed(DOING)(error)),
            })
            .await
        }
        Err(error) => Err(failed(DOING)(error)),
    };
    if let Err(error) = killed {
        tracing::warn!(
            container = container.short(),
            error = error.text(),
            "something of a container may still run"
        );
    }
    remove_cgroup(services, pod, container).await;
}

/// Changes the resources of a container, if it has a cgroup yet; they are in its record either way.
pub(in crate::sandbox) async fn update_resources(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
    resources: &v1::LinuxContainerResources,
) -> Result<(), PodError> {
    const DOING: &str = "change the container's resources";
    if record.run == crate::container::RunState::Created {
        return Ok(());
    }
    let path = path(services, pod, &record.id).map_err(failed(DOING))?;
    let (services, resources) = (Arc::clone(services), resources.clone());
    blocking(move || {
        services
            .cgroups
            .open(&path)
            .and_then(|cgroup| cgroup.update(&resources))
            .map_err(failed(DOING))
    })
    .await
}

/// Writes a running container's limits again where somebody else has written over them.
pub(in crate::sandbox) async fn restore_resources(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
) -> Result<(), PodError> {
    const DOING: &str = "restore the container's resources";
    if record.run == crate::container::RunState::Created {
        return Ok(());
    }
    let path = path(services, pod, &record.id).map_err(failed(DOING))?;
    let (services, resources) = (Arc::clone(services), record.resources.clone());
    blocking(move || {
        services
            .cgroups
            .open(&path)
            .and_then(|cgroup| cgroup.restore(&resources))
            .map_err(failed(DOING))
    })
    .await
}

/// The resources in force after a change: a field that the change leaves empty stays as it was.
pub(in crate::sandbox) fn merge_resources(
    now: &v1::LinuxContainerResources,
    change: &v1::LinuxContainerResources,
) -> v1::LinuxContainerResources {
    let number = |new: i64, old: i64| if new == 0 { old } else { new };
    let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let mut unified = now.unified.clone();
    unified.extend(change.unified.clone());
    v1::LinuxContainerResources {
        cpu_period: number(change.cpu_period, now.cpu_period),
        cpu_quota: number(change.cpu_quota, now.cpu_quota),
        cpu_shares: number(change.cpu_shares, now.cpu_shares),
        memory_limit_in_bytes: number(change.memory_limit_in_bytes, now.memory_limit_in_bytes),
        oom_score_adj: number(change.oom_score_adj, now.oom_score_adj),
        cpuset_cpus: text(&change.cpuset_cpus, &now.cpuset_cpus),
        cpuset_mems: text(&change.cpuset_mems, &now.cpuset_mems),
        hugepage_limits: if change.hugepage_limits.is_empty() {
            now.hugepage_limits.clone()
        } else {
            change.hugepage_limits.clone()
        },
        unified,
        memory_swap_limit_in_bytes: number(change.memory_swap_limit_in_bytes, swap_with(now, change)),
    }
}

/// The limit of memory and swap together after a change of memory alone: what of it is swap stays.
fn swap_with(now: &v1::LinuxContainerResources, change: &v1::LinuxContainerResources) -> i64 {
    let (memory, both) = (now.memory_limit_in_bytes, now.memory_swap_limit_in_bytes);
    match change.memory_limit_in_bytes {
        0 => both,
        // None, or no limit.
        _ if both <= 0 => both,
        new if new > 0 => new.saturating_add(both.saturating_sub(memory)),
        // Memory without a limit has swap without one.
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
