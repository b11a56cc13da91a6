//! The start of a daemon: records on disk are held against what is really there.
//!
//! ```text
//!  record            monitor answers            no answer                    before a reboot
//!  CREATING          undone, forgotten          undone, forgotten            undone, forgotten
//!  READY             ready; containers as       not ready; containers by     stopped; running containers
//!                    the monitor says           their exit records, or lost  are lost (255)
//!  NOT READY         as it is                   as it is                     as it is
//! ```
//!
//! All pods at once; none of them, however damaged, keeps the daemon from starting. What nobody has a record
//! of (a pod or container whose making was cut off before its record) is removed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pausa_monitor_protocol::{ContainerReport, ProcessState};

use super::Pods;
use super::actor::Actor;
use super::care::{directories, monitors};
use super::handle::PodHandle;
use super::link::Link;
use super::record::{PodRecord, PodState};
use super::slot::{Busy, Slot};
use super::work;
use crate::container::{ContainerRecord, ExitInfo, RunState};
use crate::error::chain;
use crate::id::Id;
use crate::monitor::Events;
use crate::state::{Loaded, LoadedPod};

/// How long a monitor may take to answer a new daemon.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// What a start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Pods whose records were read.
    pub pods: usize,
    /// Containers of theirs.
    pub containers: usize,
    /// Records that could not be read; their files are left as they are.
    pub broken: usize,
    /// Directories without a record, removed.
    pub removed: usize,
}

/// Takes over all pods.
pub(super) async fn recover(pods: &Pods) -> Recovered {
    let Loaded { pods: loaded, broken } = pods.services.store.load::<PodRecord, ContainerRecord>();
    let mut recovered = Recovered {
        pods: loaded.len(),
        ..Recovered::default()
    };
    for broken in broken {
        if is_unfinished(&broken.path) {
            recovered.removed += 1;
            continue;
        }
        recovered.broken += 1;
        tracing::error!(path = %broken.path.display(), error = chain(&broken.error), "a record cannot be read: going on without it");
    }
    let mut tasks = tokio::task::JoinSet::new();
    for pod in loaded {
        recovered.containers += pod.containers.len();
        recovered.removed += sweep(pods, &pod);
        let pods = pods.clone();
        tasks.spawn(async move { take_over(&pods, pod).await });
    }
    while tasks.join_next().await.is_some() {}
    recovered
}

/// A directory without any record is one whose making was cut off: it goes.
fn is_unfinished(dir: &Path) -> bool {
    let no_record = !dir.join("pod.json").exists() && !dir.join("container.json").exists();
    if !no_record {
        return false;
    }
    // Never through a mount into what is mounted there.
    directories::unmount_below(dir);
    std::fs::remove_dir_all(dir).is_ok()
}

/// Removes what is kept of containers that no record speaks of.
fn sweep(pods: &Pods, pod: &LoadedPod<PodRecord, ContainerRecord>) -> usize {
    let known: BTreeSet<&str> = pod
        .containers
        .iter()
        .map(|container| container.id.as_str())
        .collect();
    let kept = pods
        .services
        .store
        .layout()
        .kept_pod(&pod.pod.id)
        .join("containers");
    let Ok(entries) = std::fs::read_dir(kept) else {
        return 0;
    };
    let unknown = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Id::try_from(entry.file_name().into_string().ok()?).ok())
        .filter(|id| !known.contains(id.as_str()));
    unknown
        .filter(|id| {
            let store = &pods.services.store;
            let layer = work::remove_layer(&store.layout().kept_container(&pod.pod.id, id));
            layer.is_ok() && store.forget_container(&pod.pod.id, id).is_ok()
        })
        .count()
}

async fn take_over(pods: &Pods, pod: LoadedPod<PodRecord, ContainerRecord>) {
    let LoadedPod {
        pod: mut record,
        containers,
        this_boot,
    } = pod;
    let this_boot = this_boot && record.boot_id == crate::state::boot_id();
    let (handle, queue) = PodHandle::new(record.id.clone(), record.name());
    if let Err(holder) = pods.registry.enter(&handle) {
        tracing::error!(
            pod = record.id.short(),
            other = holder.id.short(),
            "two records have the same name: the later one is left out"
        );
        return;
    }
    let unmade = record.state == PodState::Creating;
    let connected = if this_boot {
        connect(pods, &record).await
    } else {
        None
    };
    if this_boot && connected.is_none() && (unmade || record.monitor_cgroup) {
        // Caught while it was making the pod, it would listen where nobody looks any more.
        monitors::kill_leftover(&record.id).await;
    }
    if !this_boot {
        // Its cgroup and monitor went with the machine; its network may still have addresses on disk.
        record.monitor_cgroup = false;
    }
    if unmade || connected.is_none() {
        record.state = PodState::NotReady;
    }
    let mut actor = Actor::new(
        pods.services.clone(),
        pods.registry.clone(),
        handle.clone(),
        record,
        queue,
    );
    let reports = connected.map(|(link, events)| {
        let reports = link.monitor().containers().to_vec();
        handle.set_monitor(Some(link));
        actor.listen(events);
        reports
    });
    for container in containers {
        adopt(
            pods,
            &mut actor,
            &handle,
            container,
            reports.as_deref(),
            this_boot,
        );
    }
    actor.taken_over(unmade, this_boot);
    tokio::spawn(actor.run());
}

/// Finds the pod's monitor and what it knows.
async fn connect(pods: &Pods, record: &PodRecord) -> Option<(Link, Events)> {
    let dir = pods.services.store.layout().pod(&record.id);
    match tokio::time::timeout(HELLO_PATIENCE, Link::connect(&dir)).await {
        Ok(Ok(connected)) => Some(connected),
        Ok(Err(error)) => {
            if record.state != PodState::NotReady {
                tracing::warn!(
                    pod = record.id.short(),
                    error = chain(&error),
                    "the pod's monitor is gone"
                );
            }
            None
        }
        Err(_) => {
            tracing::error!(pod = record.id.short(), "the pod's monitor does not answer");
            None
        }
    }
}

/// Gives a container to its pod's actor, with the news of the time in between.
fn adopt(
    pods: &Pods,
    actor: &mut Actor,
    handle: &Arc<PodHandle>,
    mut record: ContainerRecord,
    reports: Option<&[ContainerReport]>,
    this_boot: bool,
) {
    let report = reports.and_then(|all| all.iter().find(|report| report.container == record.id.as_str()));
    match (&record.run, report) {
        // The daemon died between the start and its record, or between the exit and its record.
        (RunState::Created | RunState::Running { .. }, Some(report)) => {
            record.run = match &report.state {
                ProcessState::Running => RunState::Running {
                    pid: report.pid,
                    started_at: report.started_at,
                },
                ProcessState::Exited(exit) => RunState::Exited(ExitInfo::of(report.started_at, exit)),
                ProcessState::Starting => RunState::Created,
            };
        }
        (RunState::Running { started_at, .. }, None) if !this_boot => {
            let lost = ExitInfo::lost(*started_at, crate::state::now(), "the machine was restarted");
            record.run = RunState::Exited(lost);
        }
        _ => {}
    }
    let unwatched = matches!(record.run, RunState::Running { .. }) && report.is_none();
    let starting = report.is_some_and(|report| report.state == ProcessState::Starting);
    let id = record.id.clone();
    let mut leases = Vec::new();
    for image in std::iter::once(&record.image.id).chain(record.volumes.values()) {
        match pods.services.images.lease(image) {
            Ok(lease) => leases.push(lease),
            Err(error) => {
                tracing::warn!(
                    container = id.short(),
                    image,
                    error = chain(&error),
                    "an image of a container is gone"
                );
            }
        }
    }
    pods.registry.enter_container(id.clone(), handle.clone());
    let mut slot = Slot::new(record, None, leases);
    if starting {
        slot.busy = Some(Busy::Starting);
        slot.inherited_start = true;
    }
    actor.adopt(slot);
    if unwatched {
        actor.lose_container(&id, "the pod's monitor died while no daemon was running");
    }
}
