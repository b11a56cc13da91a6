//! The states of a pod and its containers, and the rules that hold for all operations.
//!
//! ```text
//!  pod        CREATING ──created──▶ READY ──stop, or monitor or pause process lost──▶ NOT READY ──remove──▶ FORGETTING ─▶ FORGOTTEN
//!                 └── failed: NOT READY, then removed            └─▶ TEARING DOWN ─▶┘
//!
//!  container  CREATED ──▶ STARTING ──▶ RUNNING ──▶ EXITED ──▶ REMOVING ─▶ (gone)
//!                │            └── start fails ───────▲           ▲
//!                └───────────────────────────────────────────────┘
//! ```
//!
//! Everything here is a value: no I/O, no services, no clock of its own. Each operation (`ops`) adds its decisions and
//! transitions in its own file, the actor ([`super::pod`]) carries them out. So the rules are tested without a kernel:
//! `tests` drives them with random commands, monitor events, failures and restarts.
//!
//! Invariants: a container's phase and the state in its record never contradict each other; at most one piece of work
//! is under way for a container, and one for the pod; every waiter is answered exactly once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pausa_monitor_protocol::{ExitRecord, ExitStatus};
use tokio::sync::oneshot;

use super::error::PodError;
use super::ops::ContainerParts;
use super::record::{PodRecord, PodState, PodView};
use super::registry::{CONTAINER, POD};
use crate::cgroups::QosClass;
use crate::cgroups::cpus::Seat;
use crate::container::{ContainerRecord, ExitInfo, RunState};
use crate::id::{Id, LookupError};
use crate::image::Lease;
use crate::proto::v1;
use crate::telemetry::Steps;

/// How long after SIGKILL a process that does not end is reported instead of waited for.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// How long the monitor may take to kill a container before the daemon does it.
pub(super) const MONITOR_PATIENCE: Duration = Duration::from_secs(5);

/// How often a start that is to end is cancelled: the first request may have reached the monitor before the start.
pub(super) const CANCEL_INTERVAL: Duration = Duration::from_secs(1);

/// Where the outcome of an operation goes. The client may have gone: the operation does not mind.
pub(super) type Answer<T> = oneshot::Sender<Result<T, PodError>>;

/// Name and attempt, by which kubelet means a container.
pub(super) type ContainerName = (String, u32);

/// Clients that wait for the same outcome.
#[derive(Debug)]
pub(super) struct Waiters<T>(Vec<Answer<T>>);

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> From<Answer<T>> for Waiters<T> {
    fn from(answer: Answer<T>) -> Self {
        Self(vec![answer])
    }
}

impl<T: Clone> Waiters<T> {
    /// Adds a client. Those that have gone meanwhile make room, so that one that repeats a request with short deadlines
    /// leaves nothing behind.
    pub(super) fn push(&mut self, answer: Answer<T>) {
        self.0.retain(|waiting| !waiting.is_closed());
        self.0.push(answer);
    }

    pub(super) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(super) fn answer(self, outcome: &Result<T, PodError>) {
        for answer in self.0 {
            // Fails where the client has gone.
            answer.send(outcome.clone()).ok();
        }
    }
}

/// What a transition has changed. The actor saves it, publishes it, and only then answers.
#[derive(Debug, Default)]
#[must_use = "a change that is not committed is lost when the daemon dies"]
pub(super) struct Change {
    /// The pod's record has changed.
    pub(super) pod: bool,
    /// The containers whose records have changed, or that are gone.
    pub(super) containers: Vec<Id>,
    pub(super) answers: Vec<(Waiters<()>, Result<(), PodError>)>,
}

impl Change {
    pub(super) fn pod() -> Self {
        Self {
            pod: true,
            ..Self::default()
        }
    }

    pub(super) fn container(id: &Id) -> Self {
        Self {
            containers: vec![id.clone()],
            ..Self::default()
        }
    }

    pub(super) fn answer(mut self, waiters: Waiters<()>, outcome: Result<(), PodError>) -> Self {
        if !waiters.is_empty() {
            self.answers.push((waiters, outcome));
        }
        self
    }
}

/// What clients want of a pod. It only ever grows, except that a failed removal or teardown has to be asked for
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Desired {
    Running,
    Stopped,
    Removed,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodPhase {
    /// Its resources are being made; nobody sees it.
    Creating,
    Ready,
    /// Stopped, failed, or its monitor or pause process is gone. Its record says what it still owns.
    NotReady,
    /// Network, monitor, mounts and cgroup are being taken away.
    TearingDown,
    /// Its directories are being removed.
    Forgetting,
    Forgotten,
}

/// A container that is being created: it has no record yet, so nobody sees it.
#[derive(Debug)]
pub(super) struct PendingCreate {
    pub(super) config: Box<v1::ContainerConfig>,
    pub(super) waiters: Waiters<Id>,
}

/// A container that has a record.
#[derive(Debug)]
pub(super) struct Container {
    /// Shared with what is published of it and with work under way; [`Container::record_mut`] makes a new one.
    pub(super) record: Arc<ContainerRecord>,
    pub(super) phase: ContainerPhase,
    /// Not empty: it is to be removed, after it was stopped if need be.
    pub(super) removal: Waiters<()>,
    /// Not empty: it is to be started, after changes of its resources.
    pub(super) start: Waiters<()>,
    /// Changes of its resources that wait for their turn.
    pub(super) updates: VecDeque<PendingUpdate>,
    /// Its place among the node's CPUs, until nothing of it runs any more.
    pub(super) seat: Option<Seat>,
    /// Keep the layers of its images while the container exists.
    #[expect(dead_code, reason = "held, not read: dropping it releases the layers")]
    pub(super) leases: Vec<Lease>,
}

/// Where a container is in its life.
#[derive(Debug)]
pub(super) enum ContainerPhase {
    Created {
        /// What its start needs; none after a restart of the daemon: it is made again from the record then.
        parts: Option<Box<ContainerParts>>,
        /// A change of its resources is under way.
        updating: bool,
    },
    Starting(Starting),
    Running(Running),
    Exited,
    Removing,
}

#[derive(Debug)]
pub(super) struct Starting {
    pub(super) by: StartedBy,
    pub(super) waiters: Waiters<()>,
    /// The process ended before the start was answered.
    pub(super) early_exit: Option<ExitStatus>,
    pub(super) stop: Option<Stop>,
}

/// Whose start it is, which decides how its outcome arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartedBy {
    /// As the outcome of the actor's own work.
    ThisDaemon,
    /// As an event of the monitor.
    EarlierDaemon,
}

#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) stop: Option<Stop>,
    /// A change of its resources is under way.
    pub(super) updating: bool,
}

#[derive(Debug)]
pub(super) struct Stop {
    /// When SIGKILL is sent. A later request can only bring it nearer.
    pub(super) deadline: Instant,
    pub(super) stage: StopStage,
    /// Shows others what the stop waits for; none before the first signal.
    pub(super) steps: Option<Steps>,
    pub(super) waiters: Waiters<()>,
}

impl Stop {
    /// The container has ended. Returns who waits for that.
    fn done(self) -> Waiters<()> {
        if let Some(steps) = self.steps {
            steps.end(None);
        }
        self.waiters
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopStage {
    Requested,
    /// The start that was under way was cancelled, last at this time.
    Cancelled(Instant),
    /// The stop signal was sent.
    Signalled,
    /// The monitor was asked at this time to send SIGKILL to everything in the container.
    Killed(Instant),
    /// As before, and the daemon has sent it itself since.
    KilledDirectly(Instant),
}

#[derive(Debug)]
pub(super) struct PendingUpdate {
    pub(super) update: Update,
    pub(super) waiter: Answer<()>,
}

/// What is to be done with a container's resources.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Update {
    /// Change them; a zero or empty field stays as it is.
    Change(Box<v1::LinuxContainerResources>),
    /// Write those in force again, which somebody else may have overwritten.
    Restore,
    /// Find other CPUs for a pinned container that has lost some of its own.
    Repin,
}

/// Whether the pod has a monitor that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MonitorContact {
    /// None was started, or it has ended.
    None,
    /// Its process lives and does not answer, for example because it hangs in the kernel. The pod goes on; what only the
    /// monitor can do fails until it answers.
    Silent,
    Connected,
}

/// A pod and its containers as their actor knows them.
#[derive(Debug)]
pub(super) struct Lifecycle {
    /// Shared with what is published of it and with work under way; [`Lifecycle::record_mut`] makes a new one.
    pub(super) record: Arc<PodRecord>,
    phase: PodPhase,
    pub(super) desired: Desired,
    pub(super) monitor: MonitorContact,
    pub(super) creating: BTreeMap<ContainerName, PendingCreate>,
    pub(super) containers: BTreeMap<Id, Container>,
    /// Clients that wait for the pod to be ready, or for its name to be free.
    pub(super) ready_waiters: Waiters<()>,
    pub(super) stop_waiters: Waiters<()>,
    pub(super) remove_waiters: Waiters<()>,
}

impl Lifecycle {
    /// A pod as its record has it.
    pub(super) fn new(record: PodRecord) -> Self {
        Self {
            phase: match record.state {
                PodState::Creating => PodPhase::Creating,
                PodState::Ready => PodPhase::Ready,
                PodState::NotReady => PodPhase::NotReady,
            },
            record: Arc::new(record),
            desired: Desired::Running,
            monitor: MonitorContact::None,
            creating: BTreeMap::new(),
            containers: BTreeMap::new(),
            ready_waiters: Waiters::default(),
            stop_waiters: Waiters::default(),
            remove_waiters: Waiters::default(),
        }
    }

    /// The record, to be changed: readers of the published one keep it as it was.
    pub(super) fn record_mut(&mut self) -> &mut PodRecord {
        Arc::make_mut(&mut self.record)
    }

    pub(super) fn phase(&self) -> PodPhase {
        self.phase
    }

    /// Moves the pod to another phase; the record follows.
    pub(super) fn enter(&mut self, phase: PodPhase) {
        self.phase = phase;
        match phase {
            PodPhase::Ready => self.record_mut().state = PodState::Ready,
            PodPhase::NotReady => self.record_mut().state = PodState::NotReady,
            // What readers see changes when the work has ended.
            PodPhase::Creating | PodPhase::TearingDown | PodPhase::Forgetting | PodPhase::Forgotten => {}
        }
    }

    /// Whether containers may be created and started.
    pub(super) fn accepts_containers(&self) -> bool {
        self.phase == PodPhase::Ready && self.desired == Desired::Running
    }

    pub(super) fn not_ready(&self, hint: &'static str) -> PodError {
        PodError::State {
            what: POD,
            id: self.record.id.to_string(),
            state: "not ready",
            hint,
        }
    }

    /// The pod does not work any more without having been stopped.
    pub(super) fn lose_readiness(&mut self) -> Change {
        if self.phase != PodPhase::Ready {
            return Change::default();
        }
        self.enter(PodPhase::NotReady);
        Change::pod()
    }

    /// What readers see; nothing while the pod is being created.
    pub(super) fn view(&self) -> Option<PodView> {
        (self.record.state != PodState::Creating).then(|| {
            let records = self.containers.iter();
            let containers = records.map(|(id, container)| (id.clone(), Arc::clone(&container.record)));
            PodView::new(Arc::clone(&self.record), containers.collect())
        })
    }

    /// The container, or why there is none.
    pub(super) fn container(&mut self, id: &Id) -> Result<&mut Container, PodError> {
        let absent = || LookupError::NotFound {
            what: CONTAINER,
            id: id.to_string(),
        };
        Ok(self.containers.get_mut(id).ok_or_else(absent)?)
    }

    /// A running container has ended without word from its monitor: as its exit record says, or as `otherwise` makes of the
    /// time of its start.
    pub(super) fn ended_unreported(
        &mut self,
        id: &Id,
        exit: Option<&ExitRecord>,
        otherwise: impl FnOnce(i64) -> ExitInfo,
    ) -> Change {
        let run = self.containers.get(id).map(|container| &container.record.run);
        let Some(&RunState::Running { started_at, .. }) = run else {
            return Change::default();
        };
        let info = exit.map_or_else(
            || otherwise(started_at),
            |record| ExitInfo::of(started_at, &record.exit),
        );
        self.ended(id, info)
    }

    /// The container's process has ended. What waited for that is answered.
    pub(super) fn ended(&mut self, id: &Id, info: ExitInfo) -> Change {
        let Some(container) = self.containers.get_mut(id) else {
            return Change::default();
        };
        let (waiters, stop) = match std::mem::replace(&mut container.phase, ContainerPhase::Exited) {
            ContainerPhase::Starting(Starting { waiters, stop, .. }) => (waiters, stop),
            ContainerPhase::Running(Running { stop, .. }) => (Waiters::default(), stop),
            other => {
                container.phase = other;
                return Change::default();
            }
        };
        container.record_mut().run = RunState::Exited(info);
        let mut change = Change::container(id)
            .answer(waiters, Ok(()))
            .answer(stop.map(Stop::done).unwrap_or_default(), Ok(()));
        for PendingUpdate { waiter, .. } in container.updates.drain(..) {
            let outcome = Err(refused(id, "exited", UPDATE_HINT));
            change = change.answer(waiter.into(), outcome);
        }
        change
    }

    /// The pod's class with a container that is being created, or changed: its id then.
    pub(super) fn qos_class(&self, with: &v1::LinuxContainerResources, changed: Option<&Id>) -> QosClass {
        let others = self.containers.iter().filter(|(id, _)| Some(*id) != changed);
        let containers = others.map(|(_, container)| &container.record.resources);
        QosClass::of_pod(self.record.cgroup_parent(), containers.chain([with]))
    }

    /// The place of a container that has ended: it is free once nothing of it runs any more.
    pub(super) fn take_seat(&mut self, id: &Id) -> Option<Seat> {
        self.containers.get_mut(id)?.seat.take()
    }

    /// When something has to be done although nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.containers.values().filter_map(Container::wake_at).min()
    }
}

/// Which containers can have their resources changed.
pub(super) const UPDATE_HINT: &str = "only a created or running container has resources to change";

/// A container that is not in a state for what is asked.
pub(super) fn refused(id: &Id, state: &'static str, hint: &'static str) -> PodError {
    PodError::State {
        what: CONTAINER,
        id: id.to_string(),
        state,
        hint,
    }
}

impl ContainerPhase {
    pub(super) fn created(parts: Option<Box<ContainerParts>>) -> Self {
        let updating = false;
        Self::Created { parts, updating }
    }
}

impl Container {
    pub(super) fn new(record: ContainerRecord, phase: ContainerPhase, leases: Vec<Lease>) -> Self {
        Self {
            record: Arc::new(record),
            phase,
            removal: Waiters::default(),
            start: Waiters::default(),
            updates: VecDeque::new(),
            seat: None,
            leases,
        }
    }

    /// The record, to be changed: readers of the published one keep it as it was.
    pub(super) fn record_mut(&mut self) -> &mut ContainerRecord {
        Arc::make_mut(&mut self.record)
    }

    /// Whether it has a process, or is about to have one.
    pub(super) fn is_active(&self) -> bool {
        matches!(
            self.phase,
            ContainerPhase::Starting(_) | ContainerPhase::Running(_)
        )
    }

    /// The stop under way, in the phases that can have one.
    pub(super) fn stop_mut(&mut self) -> Option<&mut Option<Stop>> {
        match &mut self.phase {
            ContainerPhase::Starting(Starting { stop, .. })
            | ContainerPhase::Running(Running { stop, .. }) => Some(stop),
            ContainerPhase::Created { .. } | ContainerPhase::Exited | ContainerPhase::Removing => None,
        }
    }

    /// Whether a change of its resources is under way, in the phases that can have one.
    pub(super) fn updating_mut(&mut self) -> Option<&mut bool> {
        match &mut self.phase {
            ContainerPhase::Created { updating, .. } | ContainerPhase::Running(Running { updating, .. }) => {
                Some(updating)
            }
            ContainerPhase::Starting(_) | ContainerPhase::Exited | ContainerPhase::Removing => None,
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        match &self.phase {
            ContainerPhase::Starting(Starting { stop: Some(stop), .. }) => match stop.stage {
                StopStage::Cancelled(at) => Some(at + CANCEL_INTERVAL),
                _ => None,
            },
            ContainerPhase::Running(Running { stop: Some(stop), .. }) => Some(match stop.stage {
                StopStage::Killed(at) => at + MONITOR_PATIENCE,
                StopStage::KilledDirectly(at) => at + KILL_PATIENCE,
                StopStage::Requested | StopStage::Cancelled(_) | StopStage::Signalled => stop.deadline,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
