//! How the others reach a pod's actor: its queue, and what it has published.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pausa_monitor_protocol::{Detachment, ExitStatus, ProcessPlan};
use tokio::sync::{mpsc, oneshot};

use super::error::PodError;
use super::link::Link;
use super::record::{PodName, PodView};
use super::registry::POD;
use crate::deadline;
use crate::id::Id;
use crate::proto::v1;
use crate::telemetry::{Steps, StepsWatch};

/// Where an operation's outcome goes. Whoever waited may have gone: the operation does not mind.
pub(super) type Answer<T> = oneshot::Sender<Result<T, PodError>>;

/// What an actor is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Answer once the pod is made, or could not be.
    AwaitReady(Answer<()>),
    Stop(Answer<()>),
    Remove(Answer<()>),
    CreateContainer(Box<v1::ContainerConfig>, Answer<Id>),
    StartContainer(Id, Answer<()>),
    StopContainer(Id, Duration, Answer<()>),
    RemoveContainer(Id, Answer<()>),
    UpdateResources(Id, Box<v1::LinuxContainerResources>, Answer<()>),
    ReopenLog(Id, Answer<()>),
}

/// One pod, as everybody but its actor sees it.
#[derive(Debug)]
pub(super) struct PodHandle {
    pub(super) id: Id,
    pub(super) name: PodName,
    commands: mpsc::UnboundedSender<Command>,
    /// None while the pod is being made: nobody may see it before it is ready.
    view: ArcSwapOption<PodView>,
    monitor: ArcSwapOption<Link>,
    execs: Execs,
    under_way: Mutex<Vec<StepsWatch>>,
}

impl PodHandle {
    pub(super) fn new(id: Id, name: PodName) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (commands, queue) = mpsc::unbounded_channel();
        let handle = Self {
            id,
            name,
            commands,
            view: ArcSwapOption::empty(),
            monitor: ArcSwapOption::empty(),
            execs: Execs::default(),
            under_way: Mutex::default(),
        };
        (Arc::new(handle), queue)
    }

    /// Puts a command into the actor's queue and waits for its outcome. The waiting may be given up at any time;
    /// the work goes on.
    pub(super) async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, PodError> {
        let (answer, outcome) = oneshot::channel();
        let gone = || PodError::Gone {
            what: POD,
            id: self.id.to_string(),
        };
        self.commands.send(command(answer)).map_err(|_| gone())?;
        match deadline::wait(outcome).await {
            Some(outcome) => outcome.unwrap_or_else(|_| Err(gone())),
            None => Err(PodError::Waiting { doing: self.doing() }),
        }
    }

    /// Begins to record the steps of an operation, for whoever asks what takes so long.
    pub(super) fn begin(&self, operation: &'static str, object: &str) -> Steps {
        let steps = Steps::new(operation, object);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|watch| watch.current().is_some());
        under_way.push(steps.watch());
        steps
    }

    /// What is being done with the pod and its containers right now.
    fn doing(&self) -> String {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let doing: Vec<_> = under_way
            .iter()
            .filter(|watch| watch.current().is_some())
            .map(ToString::to_string)
            .collect();
        if doing.is_empty() {
            "it waits for its containers to end".to_owned()
        } else {
            doing.join("; ")
        }
    }

    /// What is published; none while the pod is being made.
    pub(super) fn view(&self) -> Option<Arc<PodView>> {
        self.view.load_full()
    }

    pub(super) fn publish(&self, view: PodView) {
        self.view.store(Some(Arc::new(view)));
    }

    /// The pod's monitor; none once it is gone.
    pub(super) fn monitor(&self) -> Option<Arc<Link>> {
        self.monitor.load_full()
    }

    pub(super) fn set_monitor(&self, monitor: Option<Link>) {
        self.monitor.store(monitor.map(Arc::new));
    }

    pub(super) fn execs(&self) -> &Execs {
        &self.execs
    }
}

/// What somebody waits for to be told by the monitor, by id.
#[derive(Debug)]
pub(super) struct Waiting<T>(Mutex<HashMap<String, oneshot::Sender<T>>>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Waiting<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before it is begun: its end may come before the answer.
    pub(super) fn expect(&self, id: String) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(id, sender);
        receiver
    }

    /// Nobody waits any more.
    pub(super) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(super) fn ended(&self, id: &str, how: T) {
        let waiter = self.lock().remove(id);
        if let Some(waiter) = waiter {
            // Whoever waited may have gone.
            waiter.send(how).ok();
        }
    }

    /// All that still wait learn that the pod is gone: their receivers fail.
    fn abandon(&self) {
        self.lock().clear();
    }
}

/// The exec'd processes and attaches somebody waits for, and what exec needs to know of each container.
#[derive(Debug, Default)]
pub(super) struct Execs {
    /// Exec'd processes.
    pub(super) ends: Waiting<ExitStatus>,
    /// Attaches.
    pub(super) detachments: Waiting<Detachment>,
    processes: Mutex<HashMap<Id, Arc<ProcessPlan>>>,
}

impl Execs {
    /// All that still wait learn that the pod is gone.
    pub(super) fn abandon(&self) {
        self.ends.abandon();
        self.detachments.abandon();
    }

    pub(super) fn process(&self, container: &Id) -> Option<Arc<ProcessPlan>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(container)
            .cloned()
    }

    pub(super) fn set_process(&self, container: Id, process: Option<Arc<ProcessPlan>>) {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        match process {
            Some(process) => processes.insert(container, process),
            None => processes.remove(&container),
        };
    }
}
