//! The one task that may change a pod and its containers.
//!
//! Requests, monitor events and the outcomes of its own work come in as closures on the pod. Each decides and changes
//! the pod's [`Lifecycle`]; then [`Pod::advance`] begins whatever is still wanted. It never waits for work itself:
//! what can take time runs as a task and comes back as a closure. So nothing depends on who asked first or whether
//! they still wait.
//!
//! ```text
//!   requests (ask) ─┐                        ┌─▶ save record ─▶ publish view ─▶ answer
//!   monitor events ─┼─▶ decide ─▶ advance ───┤
//!   outcomes       ─┘      ▲                 └─▶ begin work ──┐
//!                          └───────────────────────────────────┘
//! ```
//!
//! The operations are in [`super::ops`], one file each.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Span;

use super::error::PodError;
use super::events::ContainerEvents;
use super::handle::PodHandle;
use super::lifecycle::{Change, Lifecycle, PodPhase};
use super::nri::{self, Happened, Later};
use super::record::PodRecord;
use super::registry::Registry;
use super::services::Services;
use super::{Pods, ops};
use crate::cgroups::cpus::Seat;
use crate::container::{ContainerRecord, Reason, RunState};
use crate::failpoint::failpoint_before;
use crate::id::Id;
use crate::lsm::selinux::HeldPair;
use crate::monitor::Events;
use crate::telemetry::metrics;
use pausa_monitor_protocol::Event;

/// What the actor does next with its pod.
pub(super) type Turn = Box<dyn FnOnce(&mut Pod) + Send>;

#[derive(Debug)]
pub(super) struct Pod {
    pub(super) services: Arc<Services>,
    pub(super) registry: Arc<Registry>,
    pub(super) container_events: Arc<ContainerEvents>,
    pub(super) handle: Arc<PodHandle>,
    pub(super) lifecycle: Lifecycle,
    turns: mpsc::UnboundedReceiver<Turn>,
    pub(super) events: Option<Events>,
    work: JoinSet<Turn>,
    /// The request that had the last turn.
    cause: Span,
    /// Given back when the pod is forgotten.
    _categories: Option<HeldPair>,
    _monitor_seat: Option<Seat>,
}

impl Pod {
    /// The actor of a pod whose record is given.
    pub(super) fn new(
        pods: &Pods,
        handle: &Arc<PodHandle>,
        record: PodRecord,
        turns: mpsc::UnboundedReceiver<Turn>,
    ) -> Self {
        Self {
            services: pods.services.clone(),
            registry: pods.registry.clone(),
            container_events: pods.container_events.clone(),
            handle: handle.clone(),
            _categories: pods.services.selinux.hold(record.selinux.as_ref()),
            _monitor_seat: ops::seat_monitor(&pods.services, &record),
            lifecycle: Lifecycle::new(record),
            turns,
            events: None,
            work: JoinSet::new(),
            cause: Span::none(),
        }
    }

    /// Notes the request whose turn it is, for traces.
    pub(super) fn caused_by(&mut self, span: Span) {
        self.cause = span;
    }

    /// Runs until the pod is forgotten or the daemon ends.
    pub(super) async fn run(mut self) {
        loop {
            // What begins now, the last request wants.
            std::mem::replace(&mut self.cause, Span::none()).in_scope(|| self.advance());
            let updates = self
                .lifecycle
                .containers
                .values()
                .map(|container| container.updates.len());
            self.handle.set_updates_waiting(updates.sum());
            if self.lifecycle.phase() == PodPhase::Forgotten {
                return;
            }
            let wake_at = self.lifecycle.wake_at();
            tokio::select! {
                Some(done) = self.work.join_next(), if !self.work.is_empty() => match done {
                    Ok(turn) => turn(&mut self),
                    // Work catches its own panics: this is the daemon going down.
                    Err(error) => tracing::error!(pod = self.id().short(), %error, "work on the pod was cancelled"),
                },
                event = next_event(&mut self.events) => match event {
                    Some(event) => self.monitor_event(event),
                    None => self.monitor_disconnected(),
                },
                turn = self.turns.recv() => match turn {
                    Some(turn) => {
                        self.handle.turn_taken();
                        turn(&mut self);
                    }
                    None => return,
                },
                () = sleep_until(wake_at), if wake_at.is_some() => {}
            }
        }
    }

    pub(super) fn id(&self) -> &Id {
        &self.lifecycle.record.id
    }

    /// Begins whatever is wanted and not yet under way. Doing it twice does nothing more.
    fn advance(&mut self) {
        let now = Instant::now();
        let ids: Vec<Id> = self.lifecycle.containers.keys().cloned().collect();
        for id in ids {
            self.advance_stop(&id, now);
            self.advance_removal(&id);
            self.advance_update(&id);
            self.advance_start(&id);
        }
        self.advance_pod();
    }

    /// What work on a container goes by, as it is now. None if there is no such container any more.
    pub(super) fn context(&self, id: &Id) -> Option<(Arc<Services>, Arc<PodRecord>, Arc<ContainerRecord>)> {
        let record = self.lifecycle.containers.get(id)?.record.clone();
        Some((self.services.clone(), self.lifecycle.record.clone(), record))
    }

    /// Begins work that can take time. `settle` gets its outcome in a turn of its own, also that of a panic.
    pub(super) fn begin<T: Send + 'static>(
        &mut self,
        doing: &'static str,
        work: impl Future<Output = T> + Send + 'static,
        settle: impl FnOnce(&mut Self, Result<T, PodError>) + Send + 'static,
    ) {
        self.work.spawn(async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            let outcome = outcome.map_err(|panic| PodError::panicked(doing, panic.as_ref()));
            let turn: Turn = Box::new(move |pod| settle(pod, outcome));
            turn
        });
    }

    /// As [`Self::begin`], for an operation that NRI plugins are told of: until its outcome is known to all, no new plugin is
    /// told what there is.
    pub(super) fn begin_told<T: Send + 'static>(
        &mut self,
        doing: &'static str,
        work: impl Future<Output = T> + Send + 'static,
        settle: impl FnOnce(&mut Self, Result<T, PodError>) + Send + 'static,
    ) {
        let services = self.services.clone();
        let work = async move {
            let operation = services.nri.operation().await;
            (work.await, operation)
        };
        self.begin(doing, work, move |pod, outcome| {
            let (outcome, operation) = match outcome {
                Ok((outcome, operation)) => (Ok(outcome), operation),
                Err(panic) => (Err(panic), None),
            };
            settle(pod, outcome);
            drop(operation);
        });
    }

    /// Tells NRI plugins of something that has happened to a container and is known to all.
    pub(super) fn tell_later(&self, id: &Id, happened: Happened, later: Option<Later>) {
        if let Some(later) = later
            && let Some((services, pod, record)) = self.context(id)
        {
            nri::tell_later(services, pod, record, happened, later);
        }
    }

    /// Begins work whose outcome changes nothing.
    pub(super) fn begin_unattended(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.begin("clean up", work, |pod, outcome| {
            if let Err(error) = outcome {
                tracing::error!(
                    pod = pod.id().short(),
                    error = error.text(),
                    "cleaning up after a container failed"
                );
            }
        });
    }

    /// Makes a change known: saves it, publishes it, then answers. A record that cannot be saved is logged: what has
    /// happened in the kernel cannot be refused.
    pub(super) fn commit(&mut self, operation: &'static str, change: Change) {
        let Change {
            pod,
            containers,
            answers,
        } = change;
        if pod || !containers.is_empty() {
            failpoint_before(operation, "save");
            for id in &containers {
                let Some(container) = self.lifecycle.containers.get(id) else {
                    continue;
                };
                if let Err(error) = self.save_container(&container.record) {
                    tracing::error!(
                        container = id.short(),
                        error = error.text(),
                        "cannot save a container's state; it is lost if the daemon restarts before the next change"
                    );
                }
            }
            if pod && let Err(error) = self.save_pod() {
                tracing::error!(
                    pod = self.id().short(),
                    error = error.text(),
                    "cannot save a pod's state; it is lost if the daemon restarts before the next change"
                );
            }
            failpoint_before(operation, "publish");
            self.publish();
        }
        if !answers.is_empty() {
            failpoint_before(operation, "answer");
        }
        for (waiters, outcome) in answers {
            waiters.answer(&outcome);
        }
    }

    pub(super) fn save_pod(&self) -> Result<(), PodError> {
        let id = self.id();
        let saved = self.services.store.save_pod(id, &*self.lifecycle.record);
        saved.map_err(|error| PodError::failed(format!("save the record of pod {}", id.short()), error))
    }

    pub(super) fn save_container(&self, record: &ContainerRecord) -> Result<(), PodError> {
        let id = &record.id;
        let saved = self.services.store.save_container(&record.pod, id, record);
        saved.map_err(|error| PodError::failed(format!("save the record of container {}", id.short()), error))
    }

    /// Shows readers the pod as it is now.
    pub(super) fn publish(&self) {
        if let Some(view) = self.lifecycle.view().map(Arc::new) {
            let before = self.handle.publish(Arc::clone(&view));
            for (id, record) in before.iter().flat_map(|before| &before.containers) {
                if let Some(now) = view.containers.get(id) {
                    count_run(&record.run, &now.run);
                }
            }
            self.container_events.published(before.as_deref(), &view);
        }
    }
}

/// Counts what a container has gone through since.
pub(super) fn count_run(before: &RunState, now: &RunState) {
    let (was_created, was_exited) = (
        matches!(before, RunState::Created),
        matches!(before, RunState::Exited(_)),
    );
    let has_run = match now {
        RunState::Created => false,
        RunState::Running { .. } => true,
        RunState::Exited(exit) => exit.reason != Reason::StartError,
    };
    if was_created && has_run {
        metrics::container_started();
    }
    if let RunState::Exited(exit) = now
        && !was_exited
    {
        metrics::container_exited(exit.reason.as_str());
    }
}

/// The monitor's next event; none when the connection has ended, once.
async fn next_event(events: &mut Option<Events>) -> Option<Event> {
    match events {
        Some(receiver) => {
            let event = receiver.recv().await;
            if event.is_none() {
                *events = None;
            }
            event
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
