//! How others reach a pod's actor: its queue, and what it has published.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use pausa_monitor_protocol::{Detachment, ExitStatus, ProcessPlan};
use tokio::sync::{Notify, mpsc, oneshot};

use super::error::PodError;
use super::lifecycle::Answer;
use super::pod::{Pod, Turn};
use super::record::{PodName, PodView};
use super::registry::POD;
use crate::container::ContainerRecord;
use crate::deadline;
use crate::id::Id;
use crate::monitor::{Monitor, MonitorError};
use crate::telemetry::{Doing, Steps, StepsWatch};

/// How the pod's monitor can be reached.
#[derive(Debug)]
enum Reach {
    /// A new daemon has not greeted it yet: what is published is what was recorded, and the actor takes no turn.
    Greeting,
    Connected(Arc<Monitor>),
    /// There is none, or it does not answer.
    Not,
}

/// One pod, as everybody but its actor sees it.
#[derive(Debug)]
pub(super) struct PodHandle {
    pub(super) id: Id,
    pub(super) name: PodName,
    turns: mpsc::UnboundedSender<Turn>,
    turns_waiting: AtomicUsize,
    updates_waiting: AtomicUsize,
    /// None while the pod is being created: nobody may see it before it is ready.
    view: ArcSwapOption<PodView>,
    monitor: ArcSwap<Reach>,
    /// Somebody waits for the actor, which has not greeted the monitor yet.
    wanted: Notify,
    execs: Execs,
    /// Those in flight, and some that have ended since the last one began.
    operations: Mutex<Vec<(Option<Subject>, StepsWatch)>>,
    forgotten: AtomicBool,
}

impl PodHandle {
    /// Of a pod that is to be made.
    pub(super) fn new(id: Id, name: PodName) -> (Arc<Self>, mpsc::UnboundedReceiver<Turn>) {
        Self::reached(id, name, Reach::Not)
    }

    /// Of a pod that an earlier daemon has made.
    pub(super) fn recorded(id: Id, name: PodName) -> (Arc<Self>, mpsc::UnboundedReceiver<Turn>) {
        Self::reached(id, name, Reach::Greeting)
    }

    fn reached(id: Id, name: PodName, reach: Reach) -> (Arc<Self>, mpsc::UnboundedReceiver<Turn>) {
        let (turns, queue) = mpsc::unbounded_channel();
        let handle = Self {
            id,
            name,
            turns,
            turns_waiting: AtomicUsize::new(0),
            updates_waiting: AtomicUsize::new(0),
            view: ArcSwapOption::empty(),
            monitor: ArcSwap::from_pointee(reach),
            wanted: Notify::new(),
            execs: Execs::default(),
            operations: Mutex::default(),
            forgotten: AtomicBool::new(false),
        };
        (Arc::new(handle), queue)
    }

    /// Has the actor take a turn and waits for what it answers. The wait may be given up at any time; the work goes on.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        turn: impl FnOnce(&mut Pod, Answer<T>) + Send + 'static,
    ) -> Result<T, PodError> {
        let (answer, outcome) = oneshot::channel();
        let cause = tracing::Span::current();
        let turn: Turn = Box::new(move |pod| {
            pod.caused_by(cause);
            turn(pod, answer);
        });
        self.send(turn).map_err(|()| self.unanswered())?;
        match deadline::wait(outcome).await {
            Some(outcome) => outcome.unwrap_or_else(|_| Err(self.unanswered())),
            None => Err(PodError::Waiting { doing: self.doing() }),
        }
    }

    /// Has the actor take a turn, whenever it comes to that.
    pub(super) fn tell(&self, turn: impl FnOnce(&mut Pod) + Send + 'static) {
        // Fails if there is no actor any more: then there is nobody to tell.
        self.send(Box::new(turn)).ok();
    }

    fn send(&self, turn: Turn) -> Result<(), ()> {
        // Before it can be taken.
        self.turns_waiting.fetch_add(1, Ordering::Relaxed);
        self.turns.send(turn).map_err(|_| self.turn_taken())?;
        if self.is_greeting() {
            self.wanted.notify_one();
        }
        Ok(())
    }

    /// Whether a new daemon has still to greet the monitor.
    pub(super) fn is_greeting(&self) -> bool {
        matches!(**self.monitor.load(), Reach::Greeting)
    }

    /// Completes when somebody waits for the actor of a pod whose monitor is not greeted yet.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Waits until the monitor has been greeted, for who goes by more than what was recorded.
    pub(super) async fn greeted(&self) -> Result<(), PodError> {
        if self.is_greeting() {
            // The actor takes no turn before.
            self.ask(|_, answer| drop(answer.send(Ok(())))).await?;
        }
        Ok(())
    }

    /// One of the turns that wait is being taken.
    pub(super) fn turn_taken(&self) {
        self.turns_waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many turns wait for the actor.
    pub(super) fn turns_waiting(&self) -> usize {
        self.turns_waiting.load(Ordering::Relaxed)
    }

    /// How many changes of resources wait, as the actor knows it.
    pub(super) fn updates_waiting(&self) -> usize {
        self.updates_waiting.load(Ordering::Relaxed)
    }

    pub(super) fn set_updates_waiting(&self, updates: usize) {
        self.updates_waiting.store(updates, Ordering::Relaxed);
    }

    /// Why there is no actor any more.
    fn unanswered(&self) -> PodError {
        if self.forgotten.load(Ordering::Acquire) {
            PodError::Gone {
                what: POD,
                id: self.id.to_string(),
            }
        } else {
            PodError::Stopping
        }
    }

    /// The pod has been removed: requests that are still queued are answered with that.
    pub(super) fn forget(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    /// Begins to record the steps of an operation on a container or, without one, on the pod itself: for errors that say what
    /// takes so long, and for `pausa top`.
    pub(super) fn begin(&self, operation: &'static str, container: Option<Subject>) -> Steps {
        let object = match &container {
            None => self.id.short(),
            Some(Subject { id: Some(id), .. }) => id.short(),
            Some(Subject { name, id: None }) => name,
        };
        let steps = Steps::new(operation, object);
        let mut operations = self.operations.lock();
        operations.retain(|(_, watch)| !watch.has_ended());
        operations.push((container, steps.watch()));
        steps
    }

    /// What is being done with the pod and its containers right now.
    pub(super) fn operations(&self) -> Vec<(Option<Subject>, Doing)> {
        let operations = self.operations.lock();
        let doing = operations
            .iter()
            .filter_map(|(container, watch)| Some((container.clone(), watch.doing()?)));
        doing.collect()
    }

    fn doing(&self) -> String {
        if self.is_greeting() {
            return "the pod's monitor has not answered the new daemon yet".to_owned();
        }
        let operations = self.operations();
        let doing: Vec<_> = operations.iter().map(|(_, doing)| doing.to_string()).collect();
        if doing.is_empty() {
            "it waits for its containers to end".to_owned()
        } else {
            doing.join("; ")
        }
    }

    /// The monitor, for what only it can do.
    pub(super) fn reachable_monitor(&self, doing: &'static str) -> Result<Arc<Monitor>, PodError> {
        self.monitor().ok_or_else(|| {
            let pid = self.view().map_or(0, |view| view.pod.monitor_pid);
            PodError::failed(doing, MonitorError::Silent { pid })
        })
    }

    /// What is published; none while the pod is being created.
    pub(super) fn view(&self) -> Option<Arc<PodView>> {
        self.view.load_full()
    }

    /// Replaces what is published, and returns what was before.
    pub(super) fn publish(&self, view: Arc<PodView>) -> Option<Arc<PodView>> {
        self.view.swap(Some(view))
    }

    /// The pod's monitor; none before it was greeted and once it is gone.
    pub(super) fn monitor(&self) -> Option<Arc<Monitor>> {
        match &**self.monitor.load() {
            Reach::Connected(monitor) => Some(Arc::clone(monitor)),
            Reach::Greeting | Reach::Not => None,
        }
    }

    /// Whether the monitor could be asked and does not answer.
    pub(super) fn is_silent(&self) -> bool {
        matches!(**self.monitor.load(), Reach::Not)
    }

    pub(super) fn set_monitor(&self, monitor: Option<Monitor>) {
        let reach = monitor.map_or(Reach::Not, |monitor| Reach::Connected(Arc::new(monitor)));
        self.monitor.store(Arc::new(reach));
    }

    pub(super) fn execs(&self) -> &Execs {
        &self.execs
    }
}

/// The container that an operation is about.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) name: String,
    /// None while it is being created.
    pub(super) id: Option<Id>,
}

impl From<&ContainerRecord> for Subject {
    fn from(record: &ContainerRecord) -> Self {
        Self {
            name: record.name().0,
            id: Some(record.id.clone()),
        }
    }
}

/// Clients that wait for the monitor's event about something, by its id.
#[derive(Debug)]
pub(super) struct PendingEvents<T>(Mutex<HashMap<String, oneshot::Sender<T>>>);

impl<T> Default for PendingEvents<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> PendingEvents<T> {
    /// To be called before the request is sent: the event may come before the reply. The receiver fails when the
    /// monitor is lost.
    pub(super) fn expect(&self, id: String) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().insert(id, sender);
        receiver
    }

    /// Nobody waits for it any more.
    pub(super) fn cancel(&self, id: &str) {
        self.0.lock().remove(id);
    }

    pub(super) fn complete(&self, id: &str, event: T) {
        let waiter = self.0.lock().remove(id);
        if let Some(waiter) = waiter {
            // Fails where the client has gone.
            waiter.send(event).ok();
        }
    }
}

/// The exec'd processes and attachments that clients wait for, and what exec needs to know of each container.
#[derive(Debug, Default)]
pub(super) struct Execs {
    pub(super) exits: PendingEvents<ExitStatus>,
    pub(super) detachments: PendingEvents<Detachment>,
    processes: Mutex<HashMap<Id, Arc<ProcessPlan>>>,
}

impl Execs {
    /// The monitor is lost: every receiver fails.
    pub(super) fn abandon(&self) {
        self.exits.0.lock().clear();
        self.detachments.0.lock().clear();
    }

    /// The plan of a container's first process, if it was started or exec'd into since the daemon started.
    pub(super) fn process(&self, container: &Id) -> Option<Arc<ProcessPlan>> {
        self.processes.lock().get(container).cloned()
    }

    pub(super) fn remember(&self, container: Id, process: Arc<ProcessPlan>) {
        self.processes.lock().insert(container, process);
    }

    pub(super) fn forget(&self, container: &Id) {
        self.processes.lock().remove(container);
    }
}

#[cfg(test)]
mod tests;
