//! The start of a daemon: records on disk are held against what is really there.
//!
//! ```text
//!  record            monitor answers            no monitor                   before a reboot
//!  CREATING          undone, forgotten          undone, forgotten            undone, forgotten
//!  READY             ready; containers as       not ready; containers by     stopped; running containers
//!                    the monitor says           their exit records, or lost  are lost (255)
//!  NOT READY         as it is                   as it is                     as it is
//! ```
//!
//! A monitor that lives and does not answer, for example because it hangs on a stalled disk, keeps its pod as the records
//! have it. The daemon goes on waiting for it.
//!
//! A pod of this boot whose record exists only in the persistent tree has lost its state directory, and with that its
//! monitor's socket. What runs of it is ended, since nobody can control it any more.
//!
//! All pods at once; none of them, however damaged, keeps the daemon from starting. What nobody has a record
//! of (a pod or container whose making was cut off before its record) is removed.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use pausa_monitor_protocol::{ContainerReport, ProcessState};
use tokio::task::JoinHandle;

use super::handle::PodHandle;
use super::lifecycle::{
    Change, Container, ContainerPhase, Desired, Lifecycle, MonitorContact, Running, StartedBy, Starting,
    Waiters,
};
use super::ops::needs_teardown;
use super::pod::{Pod, count_run};
use super::reconcile::{directories, monitors};
use super::record::{PodRecord, PodState};
use super::services::Services;
use super::{Pods, ops};
use crate::container::{ContainerRecord, ExitInfo, RunState};
use crate::error::chain;
use crate::id::Id;
use crate::image::Lease;
use crate::monitor::{Events, Monitor, MonitorError};
use crate::state::{Loaded, LoadedPod};
use crate::telemetry::metrics;

/// How long a monitor may take to answer a new daemon.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// What a start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Pods whose records were read.
    pub pods: usize,
    /// Containers of these pods whose records were read.
    pub containers: usize,
    /// Records that could not be read; their files are left as they are.
    pub broken: usize,
    /// Directories without a record, removed.
    pub removed: usize,
}

pub(super) async fn recover(pods: &Pods) -> Recovered {
    let Loaded { pods: loaded, broken } = pods.services.store.load::<PodRecord, ContainerRecord>();
    let mut recovered = Recovered {
        pods: loaded.len(),
        ..Recovered::default()
    };
    for broken in broken {
        let containers = ids_in(&broken.path.join("containers"));
        if is_unfinished(&broken.path) {
            recovered.removed += 1;
            // With the state directory a record may have got lost that had not been copied to the persistent tree yet.
            if let Some(pod) = id_of(&broken.path) {
                monitors::end_without_record(pods, &pod, &containers).await;
            }
            continue;
        }
        recovered.broken += 1;
        tracing::error!(path = %broken.path.display(), error = chain(&broken.error), "cannot read a record: its pod is not managed until the record is repaired and the daemon restarted");
    }
    metrics::records_broken(recovered.broken);
    let mut tasks = tokio::task::JoinSet::new();
    for pod in loaded {
        recovered.containers += pod.containers.len();
        recovered.removed += sweep(pods, &pod);
        let pods = pods.clone();
        tasks.spawn(async move { take_over(&pods, pod).await });
    }
    while tasks.join_next().await.is_some() {}
    pods.services.cpus.restore().await;
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
        .persistent_pod(&pod.pod.id)
        .join("containers");
    let unknown = ids_in(&kept)
        .into_iter()
        .filter(|id| !known.contains(id.as_str()));
    unknown
        .filter(|id| {
            let (store, projects) = (&pods.services.store, &pods.services.projects);
            let kept = store.layout().persistent_container(&pod.pod.id, id);
            let layer = ops::remove_layer(projects, &kept);
            layer.is_ok() && store.forget_container(&pod.pod.id, id).is_ok()
        })
        .count()
}

/// The ids that name subdirectories of a directory, if there is one.
fn ids_in(directory: &Path) -> Vec<Id> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| id_of(&entry.ok()?.path())).collect()
}

fn id_of(path: &Path) -> Option<Id> {
    Id::try_from(path.file_name()?.to_str()?.to_owned()).ok()
}

async fn take_over(pods: &Pods, pod: LoadedPod<PodRecord, ContainerRecord>) {
    let LoadedPod {
        pod: mut record,
        containers,
        this_boot,
    } = pod;
    let has_state = this_boot;
    let this_boot = record.boot_id == crate::state::boot_id();
    let (handle, turns) = PodHandle::new(record.id.clone(), record.name());
    if let Err(holder) = pods.registry.enter(&handle) {
        tracing::error!(
            pod = record.id.short(),
            other = holder.id.short(),
            name = %handle.name,
            "two pod records have the same name: the later one is not managed"
        );
        return;
    }
    let unfinished = record.state == PodState::Creating;
    let contact = if this_boot && has_state {
        connect(pods, &record).await
    } else {
        Contact::Gone
    };
    let contact = match contact {
        Contact::Silent(connecting) if unfinished => {
            connecting.abort();
            Contact::Gone
        }
        contact => contact,
    };
    if this_boot && matches!(contact, Contact::Gone) && (unfinished || record.monitor_cgroup) {
        // It listens where nobody connects any more: the daemon died while this monitor was making the pod, or the state
        // directory is lost.
        monitors::kill_leftover(&record.id).await;
    }
    if !this_boot {
        // Its cgroup and monitor went with the machine; its network may still have addresses on disk.
        record.monitor_cgroup = false;
    }
    if unfinished || matches!(contact, Contact::Gone) {
        record.state = PodState::NotReady;
    }
    let mut actor = Pod::new(pods, &handle, record, turns);
    let silent = matches!(contact, Contact::Silent(_));
    let reports = match contact {
        Contact::Connected(monitor, events) => {
            let reports = monitor.containers().to_vec();
            handle.set_monitor(Some(monitor));
            actor.lifecycle.monitor = MonitorContact::Connected;
            actor.events = Some(events);
            Some(reports)
        }
        Contact::Silent(connecting) => {
            actor.lifecycle.monitor = MonitorContact::Silent;
            actor.await_monitor(connecting);
            None
        }
        Contact::Gone => None,
    };
    for record in containers {
        let report = reports
            .iter()
            .flatten()
            .find(|report| report.container == record.id.as_str());
        let before = record.run.clone();
        let (record, phase) = recovered(record, report, this_boot, crate::state::now());
        let id = record.id.clone();
        let (running, exited) = (
            matches!(phase, ContainerPhase::Running(_)),
            matches!(phase, ContainerPhase::Exited),
        );
        let watched = report.is_some();
        let leases = leases(&pods.services, &record);
        pods.registry.enter_container(id.clone(), handle.clone());
        let seat = (!exited).then(|| ops::seat_again(&pods.services, &actor.lifecycle.record, &record));
        let mut container = Container::new(record, phase, leases);
        container.seat = seat.flatten();
        actor.lifecycle.containers.insert(id.clone(), container);
        if running && !watched && !silent {
            actor.lose_container(&id, "the pod's monitor died while no daemon was running");
        } else if exited && this_boot && reports.is_none() && !silent {
            // The daemon may have died between the record of a lost container and the end of its processes.
            actor.kill_unwatched(&id);
        }
        if let Some(container) = actor.lifecycle.containers.get(&id) {
            count_run(&before, &container.record.run);
        }
    }
    let change = actor.lifecycle.recovered(unfinished, this_boot);
    actor.commit("recover", change);
    tokio::spawn(actor.run());
}

impl Lifecycle {
    /// The pod and its containers are taken over. What was being created is removed; what a reboot ended is torn down, so
    /// that its addresses are free again.
    pub(super) fn recovered(&mut self, unfinished: bool, this_boot: bool) -> Change {
        if unfinished {
            self.desired = Desired::Removed;
            return Change::default();
        }
        if !this_boot && needs_teardown(self) {
            self.desired = Desired::Stopped;
        }
        Change {
            containers: self.containers.keys().cloned().collect(),
            ..Change::pod()
        }
    }
}

/// A container after a restart of the daemon: its record says what was known, its monitor's report what has happened since.
pub(super) fn recovered(
    mut record: ContainerRecord,
    report: Option<&ContainerReport>,
    this_boot: bool,
    now: i64,
) -> (ContainerRecord, ContainerPhase) {
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
            let lost = ExitInfo::lost(*started_at, now, "the machine was restarted");
            record.run = RunState::Exited(lost);
        }
        _ => {}
    }
    let starting = report.is_some_and(|report| report.state == ProcessState::Starting);
    let phase = match record.run {
        RunState::Created if starting => ContainerPhase::Starting(Starting {
            by: StartedBy::EarlierDaemon,
            waiters: Waiters::default(),
            early_exit: None,
            stop: None,
        }),
        RunState::Created => ContainerPhase::created(None),
        RunState::Running { .. } => ContainerPhase::Running(Running::default()),
        RunState::Exited(_) => ContainerPhase::Exited,
    };
    (record, phase)
}

/// Leases on the images of a container and of its volumes.
fn leases(services: &Services, record: &ContainerRecord) -> Vec<Lease> {
    let images = std::iter::once(&record.image.id).chain(record.volumes.values());
    let lease = |image: &String| match services.images.lease(image) {
        Ok(lease) => Some(lease),
        Err(error) => {
            tracing::warn!(
                container = record.id.short(),
                image,
                error = chain(&error),
                "an image of a container is gone: the container cannot be started any more"
            );
            None
        }
    };
    images.filter_map(lease).collect()
}

/// What became of a pod's monitor.
enum Contact {
    Connected(Monitor, Events),
    /// It lives and does not answer; the connection is still being made.
    Silent(JoinHandle<Result<(Monitor, Events), MonitorError>>),
    Gone,
}

/// Finds the pod's monitor and what it knows.
async fn connect(pods: &Pods, record: &PodRecord) -> Contact {
    let dir = pods.services.store.layout().pod(&record.id);
    let mut connecting = tokio::spawn(crate::monitor::connect(dir));
    match tokio::time::timeout(HELLO_PATIENCE, &mut connecting).await {
        Ok(Ok(Ok((monitor, events)))) => Contact::Connected(monitor, events),
        Ok(Ok(Err(error))) => {
            if record.state != PodState::NotReady {
                metrics::monitor_lost("died");
                tracing::warn!(
                    pod = record.id.short(),
                    error = chain(&error),
                    "cannot connect to the pod's monitor: the pod is not ready any more"
                );
            }
            Contact::Gone
        }
        Ok(Err(error)) => {
            tracing::error!(pod = record.id.short(), %error, "connecting to the pod's monitor panicked: the pod is not ready any more");
            Contact::Gone
        }
        Err(_) => {
            metrics::monitor_lost("silent");
            tracing::error!(
                pod = record.id.short(),
                pid = record.monitor_pid,
                "the pod's monitor lives and does not answer; the pod goes on, and the daemon waits for it; see /proc/PID/wchan of the monitor"
            );
            Contact::Silent(connecting)
        }
    }
}
