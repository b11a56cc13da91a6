//! The one task that may change a pod and its containers.
//!
//! Commands, monitor events and the outcomes of its own work come in; it decides, saves, publishes and
//! starts more work. It never waits for work itself: every step that can take time runs as a task of its own
//! and comes back as a [`Done`]. What a client asked for is kept as a *wish* (stop this, remove that); after
//! everything that comes in, [`Actor::advance`] does whatever the wishes still lack. So nothing depends on
//! who asked first or whether they still wait.
//!
//! ```text
//!   commands ─┐                        ┌─▶ save record ─▶ publish view ─▶ answer
//!   events  ──┼─▶ decide ─▶ advance ───┤
//!   outcomes ─┘      ▲                 └─▶ begin work ──┐
//!                    └───────────────────────────────────┘
//! ```

mod containers;
mod events;
mod pod;
mod stopping;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::error::PodError;
use super::handle::{Answer, Command, PodHandle};
use super::link::News;
use super::record::{PodRecord, PodState, PodView};
use super::registry::Registry;
use super::services::Services;
use super::slot::{Making, Slot};
use super::work::{ContainerMade, PodMade, Started};
use crate::container::ContainerRecord;
use crate::id::Id;
use crate::monitor::Events;
use crate::proto::v1;

/// The outcome of work that the actor began.
#[derive(Debug)]
pub(super) enum Done {
    PodMade(Result<Box<PodMade>, PodError>),
    TornDown(TornDown),
    PodForgotten(Result<(), PodError>),
    ContainerMade((String, u32), Result<Box<ContainerMade>, PodError>),
    Started(Id, Result<Started, PodError>),
    Updated(
        Id,
        Box<v1::LinuxContainerResources>,
        Answer<()>,
        Result<(), PodError>,
    ),
    Removed(Id, Result<(), PodError>),
    /// Something that was only to be told to the monitor.
    Told,
}

/// What became of a teardown.
#[derive(Debug)]
pub(super) struct TornDown {
    /// The network is still owed a detach.
    pub(super) network_debt: bool,
    /// The first thing that failed; the later steps were done all the same.
    pub(super) result: Result<(), PodError>,
}

/// What is wished of the pod, in the order of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Goal {
    Run,
    Stop,
    Remove,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Actor {
    services: Arc<Services>,
    registry: Arc<Registry>,
    handle: Arc<PodHandle>,
    /// Shared with what is published of it, and with work under way; [`Actor::change`] makes a new one.
    record: Arc<PodRecord>,
    goal: Goal,
    making: HashMap<(String, u32), Making>,
    containers: BTreeMap<Id, Box<Slot>>,
    commands: mpsc::UnboundedReceiver<Command>,
    events: Option<Events>,
    work: JoinSet<Done>,
    tearing_down: bool,
    forgetting: bool,
    forgotten: bool,
    ready_waiters: Vec<Answer<()>>,
    stop_waiters: Vec<Answer<()>>,
    remove_waiters: Vec<Answer<()>>,
}

impl Actor {
    /// An actor for a pod whose record is given.
    pub(super) fn new(
        services: Arc<Services>,
        registry: Arc<Registry>,
        handle: Arc<PodHandle>,
        record: PodRecord,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            services,
            registry,
            handle,
            record: Arc::new(record),
            goal: Goal::Run,
            making: HashMap::new(),
            containers: BTreeMap::new(),
            commands,
            events: None,
            work: JoinSet::new(),
            tearing_down: false,
            forgetting: false,
            forgotten: false,
            ready_waiters: Vec::new(),
            stop_waiters: Vec::new(),
            remove_waiters: Vec::new(),
        }
    }

    /// Runs until the pod is forgotten or the daemon ends.
    pub(super) async fn run(mut self) {
        loop {
            self.advance();
            if self.forgotten {
                return;
            }
            let wake_at = self.containers.values().filter_map(|slot| slot.wake_at()).min();
            tokio::select! {
                Some(done) = self.work.join_next(), if !self.work.is_empty() => match done {
                    Ok(done) => self.finish(done),
                    // A bug in a step: the wishes are still there, and so is whoever waits for them.
                    Err(error) => tracing::error!(pod = self.record.id.short(), %error, "a step of a pod's work panicked"),
                },
                event = next_event(&mut self.events) => self.hear(event),
                command = self.commands.recv() => match command {
                    Some(command) => self.accept(command),
                    None => return,
                },
                () = sleep_until(wake_at), if wake_at.is_some() => {}
            }
        }
    }

    /// The pod's record, to be changed: whoever reads the published one keeps it as it was.
    fn change(&mut self) -> &mut PodRecord {
        Arc::make_mut(&mut self.record)
    }

    fn accept(&mut self, command: Command) {
        match command {
            Command::AwaitReady(answer) => self.await_ready(answer),
            Command::Stop(answer) => self.wish(Goal::Stop, answer),
            Command::Remove(answer) => self.wish(Goal::Remove, answer),
            Command::CreateContainer(config, answer) => self.create_container(config, answer),
            Command::StartContainer(id, answer) => self.start_container(&id, answer),
            Command::StopContainer(id, grace, answer) => self.stop_container(&id, grace, answer),
            Command::RemoveContainer(id, answer) => self.remove_container(&id, answer),
            Command::UpdateResources(id, resources, answer) => self.update_resources(&id, resources, answer),
            Command::ReopenLog(id, answer) => self.reopen_log(&id, answer),
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::PodMade(result) => self.pod_made(result),
            Done::TornDown(torn) => self.torn_down(torn),
            Done::PodForgotten(result) => self.pod_forgotten(result),
            Done::ContainerMade(name, result) => self.container_made(&name, result),
            Done::Started(id, result) => self.started(&id, result),
            Done::Updated(id, resources, answer, result) => self.updated(&id, *resources, answer, result),
            Done::Removed(id, result) => self.removed(&id, result),
            Done::Told => {}
        }
    }

    /// Begins whatever the wishes still lack. Doing it twice does nothing more.
    fn advance(&mut self) {
        let now = Instant::now();
        self.advance_containers(now);
        self.advance_pod();
    }

    /// Saves the pod's record. A failing save is the operation's failure where one waits for it.
    fn save_pod(&self) -> Result<(), PodError> {
        let id = &self.record.id;
        self.services
            .store
            .save_pod(id, &*self.record)
            .map_err(|error| PodError::failed(format!("save the record of pod {}", id.short()), error))
    }

    fn save_container(&self, record: &ContainerRecord) -> Result<(), PodError> {
        let id = &record.id;
        self.services
            .store
            .save_container(&record.pod, id, record)
            .map_err(|error| PodError::failed(format!("save the record of container {}", id.short()), error))
    }

    /// Saves a container whose news cannot be taken back by refusing them: the kernel has decided.
    fn save_news(&self, id: &Id) {
        if let Some(Err(error)) = self
            .containers
            .get(id)
            .map(|slot| self.save_container(&slot.record))
        {
            tracing::error!(
                container = id.short(),
                error = error.text(),
                "news of a container are not on file"
            );
        }
    }

    /// Shows readers what is now.
    fn publish(&self) {
        if self.record.state == PodState::Creating {
            return;
        }
        let containers = self
            .containers
            .iter()
            .map(|(id, slot)| (id.clone(), Arc::clone(&slot.record)))
            .collect();
        self.handle.publish(PodView {
            pod: Arc::clone(&self.record),
            containers,
        });
    }
}

/// What is heard next; the end of the connection comes once.
async fn next_event(events: &mut Option<Events>) -> News {
    match events {
        Some(receiver) => match receiver.recv().await {
            Some(event) => News::Event(event),
            None => {
                *events = None;
                News::Gone
            }
        },
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Gives everybody who waited the same outcome. Whoever has gone is passed over.
fn answer_all<T: Clone>(waiters: &mut Vec<Answer<T>>, result: &Result<T, PodError>) {
    for waiter in waiters.drain(..) {
        drop(waiter.send(result.clone()));
    }
}

fn answer<T>(waiter: Answer<T>, result: Result<T, PodError>) {
    drop(waiter.send(result));
}
