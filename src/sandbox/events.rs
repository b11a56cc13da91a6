//! Events of pods and containers, for clients that listen instead of listing (GetContainerEvents, KEP-3386).
//!
//! An event is a difference between what was published of a pod before and after, so that no transition can be forgotten.
//! It comes after the state that it tells of has been saved and published, and carries that state.
//!
//! kubelet keeps the newest state of a pod by time. An event's time is therefore taken after its state was published, and the
//! time of a PodSandboxStatus before the state was read: of two states, the later one never has the earlier time.
//!
//! Subscribers read at their own speed. One that is more than [`BACKLOG`] events behind is cut off, because what it has
//! missed cannot be made up for: it has to subscribe again and to list. Nobody else waits for it.
//!
//! Reference: `pkg/kubelet/pleg/evented.go` of Kubernetes.

use std::sync::Arc;

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

use super::record::{PodRecord, PodState, PodView};
use super::{Pods, status};
use crate::container::{self, ContainerRecord, Reason, RunState};
use crate::error::{ErrorKind, Failure};
use crate::id::Id;
use crate::proto::v1;
use crate::proto::v1::ContainerEventType as Kind;
use crate::state;
use crate::telemetry::metrics;

/// How many events a subscriber may be behind.
const BACKLOG: usize = 1024;

/// One event: what happened to a container or, with its id, to a pod.
#[derive(Debug, Clone)]
struct Event {
    id: Id,
    kind: Kind,
    /// Nanoseconds since the epoch; of two events the later one has more.
    at: i64,
    view: Arc<PodView>,
}

/// Everybody who listens.
#[derive(Debug)]
pub(super) struct ContainerEvents(Mutex<Feed>);

#[derive(Debug)]
struct Feed {
    /// None once the daemon stops.
    sender: Option<Sender<Event>>,
    last: i64,
}

impl Default for ContainerEvents {
    fn default() -> Self {
        Self(Mutex::new(Feed {
            sender: Some(channel(BACKLOG).0),
            last: 0,
        }))
    }
}

impl ContainerEvents {
    /// Tells what has changed between two states of a pod that were published one after the other.
    pub(super) fn published(&self, before: Option<&PodView>, after: &Arc<PodView>) {
        self.tell(after, || changes(before, after));
    }

    /// Tells that a pod is gone.
    pub(super) fn removed(&self, last: &Arc<PodView>) {
        self.tell(last, || vec![(last.pod.id.clone(), Kind::ContainerDeletedEvent)]);
    }

    fn tell(&self, view: &Arc<PodView>, changes: impl FnOnce() -> Vec<(Id, Kind)>) {
        let mut feed = self.0.lock();
        let Feed { sender, last } = &mut *feed;
        let Some(sender) = sender.as_ref().filter(|sender| sender.receiver_count() > 0) else {
            return;
        };
        for (id, kind) in changes() {
            // The clock may have been set back.
            *last = state::now().max(*last + 1);
            let view = Arc::clone(view);
            // Fails where the last subscriber has just gone.
            sender
                .send(Event {
                    id,
                    kind,
                    at: *last,
                    view,
                })
                .ok();
        }
    }

    fn subscribe(&self) -> Option<Receiver<Event>> {
        self.0.lock().sender.as_ref().map(Sender::subscribe)
    }
}

impl Pods {
    /// GetContainerEvents: what happens from now on. Nothing of what has happened before is sent; who subscribes lists after
    /// that. Ends when the daemon stops, and with an error for a subscriber that does not keep up.
    pub fn container_events(
        &self,
    ) -> impl Stream<Item = Result<v1::ContainerEventResponse, Failure>> + Send + use<> {
        responses(self.container_events.subscribe())
    }

    /// How many clients listen.
    pub(super) fn event_subscribers(&self) -> usize {
        let feed = self.container_events.0.lock();
        feed.sender.as_ref().map_or(0, Sender::receiver_count)
    }

    /// Lets all subscribers go.
    pub fn end_container_events(&self) {
        self.container_events.0.lock().sender = None;
    }
}

fn responses(
    receiver: Option<Receiver<Event>>,
) -> impl Stream<Item = Result<v1::ContainerEventResponse, Failure>> + Send {
    stream::unfold(receiver, |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Ok(event) => Some((Ok(response(&event)), Some(receiver))),
            Err(RecvError::Lagged(missed)) => {
                metrics::subscriber_cut_off();
                tracing::warn!(
                    missed,
                    "a client of GetContainerEvents does not keep up and is cut off; it has to subscribe again and list"
                );
                let message = format!(
                    "the client is more than {BACKLOG} events behind and has missed {missed}: subscribe again, then list"
                );
                Some((Err(Failure::new(ErrorKind::ResourceExhausted, message)), None))
            }
            Err(RecvError::Closed) => None,
        }
    })
}

fn response(event: &Event) -> v1::ContainerEventResponse {
    v1::ContainerEventResponse {
        container_id: event.id.to_string(),
        container_event_type: event.kind.into(),
        created_at: event.at,
        pod_sandbox_status: Some(status::status(&event.view.pod)),
        containers_statuses: statuses(&event.view),
    }
}

/// The status of every container of a pod.
pub(super) fn statuses(view: &PodView) -> Vec<v1::ContainerStatus> {
    let records = view.containers.values();
    records.map(|record| container::status(record)).collect()
}

/// What has happened between two states of a pod, in order.
fn changes(before: Option<&PodView>, after: &PodView) -> Vec<(Id, Kind)> {
    let mut changes = Vec::new();
    let mut add = |id: &Id, had: &[Kind], has: &[Kind]| {
        let new = has.iter().filter(|kind| !had.contains(kind));
        changes.extend(new.map(|kind| (id.clone(), *kind)));
    };
    let had = before.map_or(&[][..], |view| of_pod(&view.pod));
    add(&after.pod.id, had, of_pod(&after.pod));
    let old = before.map(|view| &view.containers);
    for (id, record) in &after.containers {
        let had = old.and_then(|old| old.get(id));
        add(id, had.map_or(&[], |had| of_container(had)), of_container(record));
    }
    let gone = old.into_iter().flatten().map(|(id, _)| id);
    for id in gone.filter(|id| !after.containers.contains_key(id)) {
        add(id, &[], &[Kind::ContainerDeletedEvent]);
    }
    changes
}

/// What happens to a pod or a container in its life.
const LIFE: [Kind; 3] = [
    Kind::ContainerCreatedEvent,
    Kind::ContainerStartedEvent,
    Kind::ContainerStoppedEvent,
];

/// What has happened to a pod so far.
fn of_pod(record: &PodRecord) -> &'static [Kind] {
    match record.state {
        PodState::Creating => &[],
        PodState::Ready => &LIFE[..2],
        PodState::NotReady => &LIFE,
    }
}

/// What has happened to a container so far.
fn of_container(record: &ContainerRecord) -> &'static [Kind] {
    match &record.run {
        RunState::Created => &LIFE[..1],
        RunState::Running { .. } => &LIFE[..2],
        RunState::Exited(exit) if exit.reason == Reason::StartError => {
            &[Kind::ContainerCreatedEvent, Kind::ContainerStoppedEvent]
        }
        RunState::Exited(_) => &LIFE,
    }
}

#[cfg(test)]
mod tests;
