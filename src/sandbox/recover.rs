//! The start of a daemon: records on disk are held against what is really there.
//!
//! ```text
//!   read the records ─▶ enter and publish all pods, as recorded ─▶ serve
//!                                     │
//!                                     └─▶ greet the monitors, some at a time ─▶ what has happened ─▶ take turns
//! ```
//!
//! ```text
//!  record            monitor answers            no monitor                   before a reboot
//!  CREATING          undone, forgotten          undone, forgotten            undone, forgotten
//!  READY             ready; containers as       not ready; containers by     stopped; running containers
//!                    the monitor says           their exit records, or lost  are lost (255)
//!  NOT READY         as it is                   as it is                     as it is
//! ```
//!
//! Before anybody is served, everything is known that only records say: names, ids, leases, CPUs. Until its monitor has
//! answered, a pod is shown as it was recorded, and whatever is asked of it waits: its actor takes no turn. A pod that
//! somebody waits for is greeted at once.
//!
//! A monitor that lives and does not answer, for example because it hangs on a stalled disk, keeps its pod as the records
//! have it. The daemon goes on waiting for it, and after [`HELLO_PATIENCE`] the pod's actor goes on without it.
//!
//! A pod of this boot whose record exists only in the persistent tree has lost its state directory, and with that its
//! monitor's socket. What runs of it is ended, since nobody can control it any more.
//!
//! No pod, however damaged, keeps the daemon from starting. What nobody has a record of (a pod or container whose making was
//! cut off before its record) is removed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pausa_monitor_protocol::{ContainerReport, ProcessState};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinHandle, JoinSet};

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
use crate::blocking::blocking;
use crate::container::{ContainerRecord, ExitInfo, RunState};
use crate::error::chain;
use crate::id::Id;
use crate::image::Lease;
use crate::monitor::{Events, Monitor, MonitorError};
use crate::state::{CONTAINER_RECORD, Loaded, LoadedPod};
use crate::telemetry::metrics;

/// How long a monitor may take to answer a new daemon.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// How many monitors are greeted at a time, beside those that somebody waits for.
const GREETINGS: usize = 32;

/// A monitor that takes longer makes room for the next: waiting for it is no work.
const GREETING_TURN: Duration = Duration::from_millis(200);

/// What a start found.
#[derive(Debug)]
pub struct Recovered {
    /// Pods whose records were read.
    pub pods: usize,
    /// Containers of these pods whose records were read.
    pub containers: usize,
    /// Records that could not be read; their files are left as they are.
    pub broken: usize,
    /// Directories without a record, removed.
    pub removed: usize,
    /// Ends when all monitors were greeted or given up, and those without a record are gone.
    pub greetings: JoinHandle<()>,
}

/// Takes over what the records say. What the kernel says follows in the background.
pub(super) fn recover(pods: &Pods) -> Recovered {
    let Loaded { pods: loaded, broken } = pods.services.store.load::<PodRecord, ContainerRecord>();
    let (mut removed, mut unread) = (0, 0);
    let mut without_record = JoinSet::new();
    for broken in broken {
        let containers = ids_in(&broken.path.join("containers"));
        if is_unfinished(&broken.path) {
            removed += 1;
            // With the state directory a record may have got lost that had not been copied to the persistent tree yet.
            if let Some(pod) = id_of(&broken.path) {
                let pods = pods.clone();
                without_record
                    .spawn(async move { monitors::end_without_record(&pods, &pod, &containers).await });
            }
            continue;
        }
        unread += 1;
        tracing::error!(path = %broken.path.display(), error = chain(&broken.error), "cannot read a record: its pod is not managed until the record is repaired and the daemon restarted");
    }
    metrics::records_broken(unread);
    let boot = crate::state::boot_id();
    let containers = loaded.iter().map(|pod| pod.containers.len()).sum();
    let count = loaded.len();
    let entered = loaded
        .into_iter()
        .filter_map(|pod| Recorded::enter(pods, pod, &boot));
    let recorded = entered.collect();
    let greetings = greet_all(pods.clone(), recorded);
    Recovered {
        pods: count,
        containers,
        broken: unread,
        removed,
        greetings: tokio::spawn(async move {
            let ended = async { while without_record.join_next().await.is_some() {} };
            tokio::join!(greetings, ended);
        }),
    }
}

/// Greets the monitors of all pods.
async fn greet_all(pods: Pods, recorded: Vec<Recorded>) {
    let since = Instant::now();
    pods.services.cpus.restore().await;
    let turns = Arc::new(Semaphore::new(GREETINGS));
    let mut greetings = JoinSet::new();
    for pod in recorded {
        let turns = Arc::clone(&turns);
        greetings.spawn(async move {
            let actor = pod.greet(&turns).await;
            let contact = actor.lifecycle.monitor;
            tokio::spawn(actor.run());
            contact
        });
    }
    let (mut connected, mut silent, mut without) = (0, 0, 0);
    while let Some(greeted) = greetings.join_next().await {
        match greeted {
            Ok(MonitorContact::Connected) => connected += 1,
            Ok(MonitorContact::Silent) => silent += 1,
            Ok(MonitorContact::None) => without += 1,
            Err(error) => {
                tracing::error!(%error, "taking over a pod panicked: it is shown as it was recorded, and nothing can be done with it until the daemon is restarted");
            }
        }
    }
    let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        connected,
        silent,
        without,
        took_ms,
        "greeted the monitors of all pods"
    );
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

/// The ids that name subdirectories of a directory, if there is one.
fn ids_in(directory: &Path) -> Vec<Id> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| id_of(&entry.ok()?.path())).collect()
}

fn id_of(path: &Path) -> Option<Id> {
    Id::try_from(path.file_name()?.to_str()?.to_owned()).ok()
}

/// What can still be there of a pod, as its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Its monitor, which can be connected to.
    Monitor,
    /// Processes that nobody can control any more: its state directory is lost.
    Processes,
    /// Nothing: the machine was restarted.
    Nothing,
}

/// A pod whose record was read and whose monitor was not greeted yet: it can be seen, and its actor takes no turn.
#[derive(Debug)]
struct Recorded {
    actor: Pod,
    left: Left,
    /// It was being created.
    unfinished: bool,
}

impl Recorded {
    /// Enters a pod with its containers and shows it. None if its name is taken.
    fn enter(pods: &Pods, pod: LoadedPod<PodRecord, ContainerRecord>, boot: &str) -> Option<Self> {
        let LoadedPod {
            pod: mut record,
            containers,
            this_boot: has_state,
        } = pod;
        let this_boot = record.boot_id == boot;
        let left = match (this_boot, has_state) {
            (true, true) => Left::Monitor,
            (true, false) => Left::Processes,
            (false, _) => Left::Nothing,
        };
        let (handle, turns) = PodHandle::recorded(record.id.clone(), record.name());
        if let Err(holder) = pods.registry.enter(&handle) {
            tracing::error!(
                pod = record.id.short(),
                other = holder.id.short(),
                name = %handle.name,
                "two pod records have the same name: the later one is not managed"
            );
            return None;
        }
        let unfinished = record.state == PodState::Creating;
        if !this_boot {
            // Its cgroup and monitor went with the machine; its network may still have addresses on disk.
            record.monitor_cgroup = false;
        }
        if unfinished || !this_boot {
            record.state = PodState::NotReady;
        }
        let mut actor = Pod::new(pods, &handle, record, turns);
        for record in containers {
            let before = record.run.clone();
            let (record, phase) = recovered(record, None, this_boot, crate::state::now());
            count_run(&before, &record.run);
            let id = record.id.clone();
            let exited = matches!(phase, ContainerPhase::Exited);
            let seat = (!exited).then(|| ops::seat_again(&pods.services, &actor.lifecycle.record, &record));
            let leases = leases(&pods.services, &record);
            let mut container = Container::new(record, phase, leases);
            container.seat = seat.flatten();
            pods.registry.enter_container(id.clone(), handle.clone());
            actor.lifecycle.containers.insert(id, container);
        }
        match left {
            // Nobody sees it; it is undone.
            _ if unfinished => {}
            Left::Nothing => {
                let change = actor.lifecycle.recovered(this_boot);
                actor.commit("recover", change);
            }
            Left::Monitor | Left::Processes => actor.publish(),
        }
        Some(Self {
            actor,
            left,
            unfinished,
        })
    }

    /// Greets the monitor and takes note of what has happened meanwhile. The actor may take turns then.
    async fn greet(self, turns: &Semaphore) -> Pod {
        let Self {
            mut actor,
            left,
            unfinished,
        } = self;
        let turn = tokio::select! {
            biased;
            () = actor.handle.wanted() => None,
            turn = turns.acquire() => turn.ok(),
        };
        sweep(&actor).await;
        let contact = match left {
            Left::Monitor => connect(&actor, turn).await,
            Left::Processes | Left::Nothing => Contact::Gone,
        };
        let contact = match contact {
            Contact::Silent(connecting) if unfinished => {
                connecting.abort();
                Contact::Gone
            }
            contact => contact,
        };
        match contact {
            Contact::Connected(monitor, events) => {
                let unknown = "the pod's monitor died while no daemon was running";
                actor.connected(monitor, events, unknown);
            }
            Contact::Silent(connecting) => {
                actor.lifecycle.monitor = MonitorContact::Silent;
                actor.await_monitor(connecting);
                actor.handle.set_monitor(None);
            }
            Contact::Gone => {
                if left != Left::Nothing && (unfinished || actor.lifecycle.record.monitor_cgroup) {
                    // It listens where nobody connects any more: the daemon died while this monitor was making the pod, or
                    // the state directory is lost.
                    monitors::kill_leftover(actor.id()).await;
                }
                if !unfinished {
                    actor.without_monitor(left);
                }
                actor.handle.set_monitor(None);
            }
        }
        if unfinished {
            actor.lifecycle.desired = Desired::Removed;
        }
        actor
    }
}

impl Pod {
    /// The monitor has gone while no daemon was running.
    fn without_monitor(&mut self, left: Left) {
        if left == Left::Nothing {
            return;
        }
        let mut change = self.lifecycle.lose_readiness();
        if left == Left::Processes {
            // Nothing is saved below `<state>`.
            change = self.lifecycle.recovered(true);
        }
        self.commit("recover", change);
        let ids: Vec<Id> = self.lifecycle.containers.keys().cloned().collect();
        for id in ids {
            let container = self.lifecycle.containers.get(&id);
            if container.is_some_and(|container| matches!(container.phase, ContainerPhase::Exited)) {
                // The daemon may have died between the record of a lost container and the end of its processes.
                self.kill_unwatched(&id);
            } else {
                self.lose_container(&id, "the pod's monitor died while no daemon was running");
            }
        }
    }
}

/// Removes what is kept of the containers of a pod that no record speaks of.
async fn sweep(actor: &Pod) {
    let (services, pod) = (actor.services.clone(), actor.id().clone());
    let known = &actor.lifecycle.containers;
    let kept = ids_in(&services.store.layout().persistent_pod(&pod).join("containers"));
    // A record that cannot be read is one.
    let has_record = |id: &Id| {
        let layout = services.store.layout();
        let directories = [layout.container(&pod, id), layout.persistent_container(&pod, id)];
        let mut records = directories.iter().map(|dir| dir.join(CONTAINER_RECORD));
        records.any(|record| record.try_exists().unwrap_or(true))
    };
    let unknown = kept
        .into_iter()
        .filter(|id| !known.contains_key(id) && !has_record(id));
    let unknown: Vec<Id> = unknown.collect();
    if unknown.is_empty() {
        return;
    }
    blocking(move || {
        for id in unknown {
            let (store, projects) = (&services.store, &services.projects);
            let removed = ops::remove_layer(projects, &store.layout().persistent_container(&pod, &id))
                .map_err(|error| error.text())
                .and_then(|()| store.forget_container(&pod, &id).map_err(|error| chain(&error)));
            match removed {
                Ok(()) => tracing::info!(container = id.short(), "removed the directories of a container without a record"),
                Err(error) => tracing::error!(container = id.short(), error, "cannot remove the directories of a container without a record; the next start tries again"),
            }
        }
    })
    .await;
}

impl Lifecycle {
    /// The pod and its containers are taken over from records that are not below `<state>`, and saved there. What a reboot
    /// ended is torn down, so that its addresses are free again.
    pub(super) fn recovered(&mut self, this_boot: bool) -> Change {
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

/// Connects to the pod's monitor. The turn is for the next one when the monitor has answered, or takes long.
async fn connect(pod: &Pod, turn: Option<SemaphorePermit<'_>>) -> Contact {
    let record = &pod.lifecycle.record;
    let dir = pod.services.store.layout().pod(&record.id);
    let started = tokio::time::Instant::now();
    let mut connecting = tokio::spawn(crate::monitor::connect(dir));
    let mut connected = tokio::time::timeout(GREETING_TURN, &mut connecting).await;
    drop(turn);
    if connected.is_err() {
        connected = tokio::time::timeout_at(started + HELLO_PATIENCE, &mut connecting).await;
    }
    match connected {
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
