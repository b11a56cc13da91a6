//! The cgroups of containers and monitors.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::LinuxDeviceCgroup;

use super::oom_score;
use crate::blocking::blocking;
use crate::cgroups::cpus::{Claim, Owner, Pinning, Seat};
use crate::cgroups::{Cgroup, CgroupError, CgroupPath, Limits, QosClass};
use crate::container::{ContainerRecord, RunState};
use crate::error::{ErrorKind, Kinded, chain};
use crate::id::Id;
use crate::proto::v1;
use crate::sandbox::error::PodError;
use crate::sandbox::record::{PodName, PodRecord};
use crate::sandbox::services::Services;

/// How often, and after what time each, a killed container is looked at.
const DEATH_CHECKS: u32 = 40;
const DEATH_INTERVAL: Duration = Duration::from_millis(50);

fn failed(doing: &'static str) -> impl FnOnce(CgroupError) -> PodError {
    move |error| PodError::failed(doing, error)
}

/// Where a container's cgroup is.
pub(in crate::sandbox) fn path(
    services: &Services,
    pod: &PodRecord,
    container: &Id,
) -> Result<CgroupPath, CgroupError> {
    let path = services
        .cgroups
        .container_path(pod.cgroup_parent(), container.as_str())?;
    Ok(path.with_scope_prefix(&pod.scope_prefix))
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
    // The pool comes after the cgroup, whose CPUs it may be already.
    let limits = Limits {
        pool: None,
        ..limits(services, record)
    };
    let (services, id) = (Arc::clone(services), record.id.clone());
    blocking(move || {
        let cgroup = services.cgroups.create(&path, &limits, &devices)?;
        match services.cpus.catch_up(&id, &cgroup, None) {
            Ok(()) => {
                services.cpus.isolate(&id, &cgroup);
                Ok(cgroup)
            }
            Err(error) => {
                cgroup.discard();
                Err(error)
            }
        }
    })
    .await
    .map_err(failed(DOING))
}

/// Gives a container its place among the node's CPUs.
pub(super) async fn seat(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
    class: QosClass,
) -> Result<Seat, PodError> {
    const DOING: &str = "find CPUs for the container";
    let path = path(services, pod, &record.id).map_err(failed(DOING))?;
    let claim = Claim {
        class,
        resources: &record.resources,
    };
    let seat = services
        .cpus
        .seat(&record.id, owner(pod, Some(record)), path, claim);
    seat.await.map_err(|error| PodError::failed(DOING, error))
}

/// Gives a container the place that it had under an earlier daemon.
pub(in crate::sandbox) fn seat_again(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
) -> Option<Seat> {
    let path = path(services, pod, &record.id).ok()?;
    let (pinning, resources) = (record.pinning.as_ref(), &record.resources);
    let owner = owner(pod, Some(record));
    Some(
        services
            .cpus
            .seat_again(&record.id, owner, path, pinning, resources),
    )
}

/// Gives a pod's monitor its place.
pub(in crate::sandbox) fn seat_monitor(services: &Services, pod: &PodRecord) -> Option<Seat> {
    let parent = pod.cgroup_parent();
    let path = services.cgroups.monitor_path(parent, pod.id.as_str()).ok()?;
    Some(services.cpus.seat_monitor(&pod.id, owner(pod, None), path))
}

fn owner(pod: &PodRecord, container: Option<&ContainerRecord>) -> Owner {
    let PodName { namespace, name, .. } = pod.name();
    Owner {
        namespace,
        pod: name,
        container: container.map(|record| record.name().0).unwrap_or_default(),
    }
}

/// Tells the cgroup driver that a container's first process is there.
pub(super) async fn register(
    services: &Arc<Services>,
    cgroup: Cgroup,
    record: &ContainerRecord,
    pid: i32,
) -> Result<(), PodError> {
    const DOING: &str = "make the container's scope";
    let (services, limits, id) = (Arc::clone(services), limits(services, record), record.id.clone());
    blocking(move || {
        let registered = cgroup.register(pid, &limits);
        registered.and_then(|()| services.cpus.catch_up(&id, &cgroup, limits.pool.as_ref()))
    })
    .await
    .map_err(failed(DOING))
}

/// The limits in force.
pub(super) fn limits(services: &Services, record: &ContainerRecord) -> Limits {
    limits_of(services, record, &record.resources)
}

fn limits_of(
    services: &Services,
    record: &ContainerRecord,
    resources: &v1::LinuxContainerResources,
) -> Limits {
    Limits {
        pids: record.pids_limit,
        cpu_burst: record.cpu_burst,
        block_io: record
            .block_io
            .as_ref()
            .map_or_else(Vec::new, |class| class.rules.clone()),
        ..services.cpus.in_force(&record.id, resources)
    }
}

/// Makes the cgroups of a pod's monitor. Its cost is the pod's.
pub(super) async fn create_for_monitor(
    services: &Arc<Services>,
    pod: &PodRecord,
) -> Result<Vec<Cgroup>, PodError> {
    const DOING: &str = "make the cgroup of the pod's monitor";
    let (parent, id) = (pod.cgroup_parent().to_owned(), pod.id.clone());
    let services = Arc::clone(services);
    blocking(move || {
        let created = services.cgroups.create_for_monitor(&parent, id.as_str())?;
        // Whether its cpuset is right does not decide about the pod.
        for cgroup in &created {
            if let Err(error) = services.cpus.catch_up(&id, cgroup, None) {
                let error = chain(&error);
                tracing::warn!(
                    pod = id.short(),
                    error,
                    "a pod's monitor may run on CPUs of pinned containers"
                );
            }
        }
        Ok(created)
    })
    .await
    .map_err(failed(DOING))
}

/// What a monitor joins its cgroups with by itself: the `tasks` files of v1. On v2 there is nothing of the kind, and
/// [`admit_monitor`] moves it.
pub(super) fn for_monitor_to_join(cgroups: &[Cgroup]) -> Result<Vec<OwnedFd>, PodError> {
    let mut tasks = Vec::new();
    for cgroup in cgroups.iter().filter(|cgroup| !cgroup.is_v2()) {
        let fds = cgroup.join_fds();
        let fds = fds.map_err(failed("open the cgroup of the pod's monitor"))?;
        tasks.extend(fds.into_iter().map(|(_, fd)| fd));
    }
    Ok(tasks)
}

/// Moves a monitor into its cgroup where it did not join by itself, and tells the cgroup driver.
pub(super) async fn admit_monitor(
    services: &Arc<Services>,
    pod: &Id,
    cgroups: Vec<Cgroup>,
    pid: i32,
) -> Result<(), PodError> {
    const DOING: &str = "put the pod's monitor into its cgroup";
    if !cgroups.iter().any(Cgroup::is_v2) {
        return Ok(());
    }
    let limits = services
        .cpus
        .in_force(pod, &v1::LinuxContainerResources::default());
    let (services, id) = (Arc::clone(services), pod.clone());
    blocking(move || {
        for cgroup in cgroups.iter().filter(|cgroup| cgroup.is_v2()) {
            cgroup.place(pid)?;
            cgroup.register(pid, &limits)?;
            services.cpus.catch_up(&id, cgroup, limits.pool.as_ref())?;
        }
        Ok(())
    })
    .await
    .map_err(failed(DOING))
}

/// Removes the cgroups of a pod's monitor.
pub(super) async fn remove_monitor(services: &Arc<Services>, pod: &PodRecord) {
    let (parent, id) = (pod.cgroup_parent().to_owned(), pod.id.clone());
    let all = Arc::clone(services);
    remove_all(&pod.id, move || {
        all.cgroups.remove_of_monitor(&parent, id.as_str())
    })
    .await;
}

pub(in crate::sandbox) async fn remove_cgroup(services: &Arc<Services>, pod: &PodRecord, container: &Id) {
    let path = path(services, pod, container);
    let services = Arc::clone(services);
    remove_all(container, move || services.cgroups.remove(&path?)).await;
}

async fn remove_all(whose: &Id, remove: impl FnOnce() -> Result<(), CgroupError> + Send + 'static) {
    const DOING: &str = "remove a cgroup";
    if let Err(error) = blocking(move || remove().map_err(failed(DOING))).await {
        tracing::warn!(
            id = whose.short(),
            error = error.text(),
            "cannot remove the cgroup of a pod's monitor or of a container; it stays, empty, until the node is restarted"
        );
    }
}

/// The cgroup that an exec is made in when its container has no pids left. It ends with this value, together with what is
/// in it: by then the command has left it.
pub(super) struct Birth(Arc<Cgroup>);

impl Birth {
    /// `devices` are the rules of the container.
    pub(super) async fn make(
        services: &Arc<Services>,
        pod: &Id,
        exec: String,
        devices: Vec<LinuxDeviceCgroup>,
    ) -> Result<Self, PodError> {
        const DOING: &str =
            "make a cgroup for the command's first moments, because the container has no pids left";
        let (services, pod) = (Arc::clone(services), pod.clone());
        blocking(move || {
            let made = services.cgroups.create_birth(pod.as_str(), &exec, &devices);
            made.map(|cgroup| Self(Arc::new(cgroup))).map_err(failed(DOING))
        })
        .await
    }

    /// What the monitor makes the process with.
    pub(super) fn fds(&self) -> Result<Vec<OwnedFd>, PodError> {
        let fds = self.0.join_fds();
        let fds = fds.map_err(failed("open the cgroup for the command's first moments"))?;
        Ok(fds.into_iter().map(|(_, fd)| fd).collect())
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        let cgroup = Arc::clone(&self.0);
        // Without a runtime the daemon is stopping. What stays is removed with the pod.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || {
                if let Err(error) = cgroup.end_birth() {
                    let error = chain(&error);
                    tracing::warn!(
                        error,
                        "cannot remove a cgroup that a command was made in; it is removed with its pod"
                    );
                }
            });
        }
    }
}

/// Kills everything in a container's cgroup and waits a moment for its end. Returns whether nothing is left.
pub(super) async fn kill_and_wait(
    services: &Arc<Services>,
    pod: &PodRecord,
    container: &Id,
) -> Result<bool, PodError> {
    const DOING: &str = "kill the container";
    let path = path(services, pod, container).map_err(failed(DOING))?;
    let services = Arc::clone(services);
    blocking(move || {
        let mut last = None;
        for _ in 0..DEATH_CHECKS {
            let cgroup = match services.cgroups.open(&path) {
                Ok(cgroup) => cgroup,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
                Err(error) => return Err(failed(DOING)(error)),
            };
            let killed = cgroup.pids().and_then(|pids| {
                let empty = pids.is_empty();
                if !empty {
                    cgroup.kill_all()?;
                }
                Ok(empty)
            });
            match killed {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // It may be being removed right now.
                Err(error) => last = Some(error),
            }
            std::thread::sleep(DEATH_INTERVAL);
        }
        last.map_or(Ok(false), |error| Err(failed(DOING)(error)))
    })
    .await
}

/// Removes the cgroup of a container that has ended, after killing what may be left in it.
///
/// # Errors
/// Something in it does not end.
pub(super) async fn clear(services: &Arc<Services>, pod: &PodRecord, container: &Id) -> Result<(), PodError> {
    if !kill_and_wait(services, pod, container).await? {
        return Err(PodError::TimedOut {
            what: format!("what is left of container {}", container.short()),
            seconds: (DEATH_INTERVAL * DEATH_CHECKS).as_secs(),
            detail: "its cgroup still has processes, which were sent KILL and hang in the kernel".to_owned(),
        });
    }
    remove_cgroup(services, pod, container).await;
    Ok(())
}

/// Clears the cgroup of a container nobody watches any more.
pub(in crate::sandbox) async fn kill_cgroup(services: &Arc<Services>, pod: &PodRecord, container: &Id) {
    if let Err(error) = clear(services, pod, container).await {
        tracing::warn!(
            container = container.short(),
            error = error.text(),
            "cannot kill what is left of a container; its processes may still run, and its cgroup stays"
        );
    }
}

/// Changes the limits of a container, its CPUs and the OOM score of its processes. Returns the CPUs that it has of its own
/// now. Of a change that fails nothing stays. A created container has its CPUs, and everything else when it starts.
pub(super) async fn update(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
    class: QosClass,
    new: &v1::LinuxContainerResources,
) -> Result<Option<Pinning>, PodError> {
    const DOING: &str = "change the container's resources";
    let path = path(services, pod, &record.id).map_err(failed(DOING))?;
    let old = limits(services, record);
    let claim = Claim {
        class,
        resources: new,
    };
    let change = services.cpus.change(&record.id, claim).await;
    let change = change.map_err(|error| PodError::failed(DOING, error))?;
    if record.run == RunState::Created {
        change.finish().await;
        return Ok(services.cpus.pinned(&record.id));
    }
    let limits = limits_of(services, record, new);
    let (all, id) = (Arc::clone(services), record.id.clone());
    let (score, new_score) = (record.resources.oom_score_adj, new.oom_score_adj);
    let updated = blocking(move || {
        let cgroup = all.cgroups.open(&path).map_err(failed(DOING))?;
        oom_score::change(&cgroup, score, new_score)?;
        if let Err(error) = all.cpus.update(&id, &cgroup, &limits) {
            let undone = cgroup.update(&old);
            drop(change);
            let undone = undone.and_then(|()| all.cpus.catch_up(&id, &cgroup, old.pool.as_ref()));
            let undone = undone.map_err(failed(DOING));
            if let Err(undo) = undone.and_then(|()| oom_score::change(&cgroup, new_score, score)) {
                tracing::warn!(
                    cgroup = path.relative(),
                    error = undo.text(),
                    "cannot write the limits of before again after a change failed; some of the new ones may be in force"
                );
            }
            all.cpus.isolate(&id, &cgroup);
            return Err(failed(DOING)(error));
        }
        Ok(change)
    })
    .await?;
    updated.finish().await;
    Ok(services.cpus.pinned(&record.id))
}

/// Writes a running container's limits again where somebody else has overwritten them.
pub(super) async fn restore(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
) -> Result<(), PodError> {
    const DOING: &str = "restore the container's resources";
    let path = path(services, pod, &record.id).map_err(failed(DOING))?;
    let (services, limits, id) = (Arc::clone(services), limits(services, record), record.id.clone());
    blocking(move || {
        let cgroup = services.cgroups.open(&path)?;
        cgroup.restore(&limits)?;
        services.cpus.catch_up(&id, &cgroup, limits.pool.as_ref())
    })
    .await
    .map_err(failed(DOING))
}
