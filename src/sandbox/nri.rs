//! NRI: what plugins are told of pods and containers, and what they want of them.
//!
//! ```text
//!   ops ──events──▶ Nri ──messages──▶ pausa_nri::Plugins ──▶ plugins
//!                    ▲ ◀──answers────        │ Synchronize, UpdateContainers
//!                    └──── Node ◀────────────┘
//! ```
//!
//! Plugins are told of the end of what they know and of nothing else: what was told of is in [`Told`]. The events of a pod
//! or container come in order, because whoever tells holds its entry meanwhile: its [`Turn`]. What has happened to a
//! container is told after the client was answered.
//!
//! Without plugins nothing is built or remembered. Must never: hold up a pod for longer than the time limit of a plugin, or
//! fail the end of anything because of one.

mod message;
mod node;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use oci_spec::runtime::Spec;
use parking_lot::Mutex;
use pausa_nri::creation::Merged;
use pausa_nri::proto::{
    Container, ContainerEviction, ContainerUpdate, CreateContainerRequest, Event, PodSandbox,
    PostCreateContainerRequest, PostStartContainerRequest, PostUpdateContainerRequest,
    PostUpdatePodSandboxRequest, RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopContainerRequest, StopPodSandboxRequest, UpdateContainerRequest,
    UpdatePodSandboxRequest,
};
use pausa_nri::validator::Rejection;
use pausa_nri::{NriError, Operation, Origin, Plugins, Settings};
use serde_json::json;
use tokio::sync::OwnedMutexGuard;

pub(super) use message::change_of;
use node::Node;

use super::Pods;
use super::error::PodError;
use super::record::PodRecord;
use super::services::Services;
use crate::container::ContainerRecord;
use crate::deadline;
use crate::error::{ErrorKind, chain};
use crate::id::Id;
use crate::proto::v1;

/// How long an operation waits for what a plugin wants of other containers. A change that takes longer is still made.
const OTHERS_PATIENCE: Duration = Duration::from_secs(2);

/// The plugins of this node; none unless they are started.
#[derive(Debug, Default)]
pub struct Nri {
    active: OnceLock<Active>,
}

#[derive(Debug)]
struct Active {
    plugins: Arc<Plugins>,
    node: Arc<Node>,
}

/// What plugins know of a pod or container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is there.
    Live,
    /// It has stopped.
    Stopped,
    /// It is gone.
    Removed,
}

/// The right to tell of a pod or container. Everybody else waits for it.
pub(super) type Turn = OwnedMutexGuard<Told>;

/// Something that has happened to a container, and that plugins are told of without anybody who waits for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Happened {
    Created,
    Started,
}

/// How plugins are told of something that is about to be known to all.
#[derive(Debug)]
pub(super) struct Later {
    turn: Turn,
    /// What they are shown of the container's spec, where that is at hand.
    shown: Option<Arc<Container>>,
}

/// What plugins know. An entry is held while they are told of it.
#[derive(Debug, Default)]
struct Known {
    entries: Mutex<HashMap<Id, Arc<tokio::sync::Mutex<Told>>>>,
}

impl Known {
    fn enter(&self, id: &Id, told: Told) {
        if let Entry::Vacant(vacant) = self.entries.lock().entry(id.clone()) {
            vacant.insert(Arc::new(tokio::sync::Mutex::new(told)));
        }
    }

    fn get(&self, id: &Id) -> Option<Arc<tokio::sync::Mutex<Told>>> {
        self.entries.lock().get(id).cloned()
    }

    fn forget(&self, id: &Id) {
        self.entries.lock().remove(id);
    }
}

impl Pods {
    /// Starts NRI: listens for plugins, and starts those that are installed. Before requests are served, so that no pod goes
    /// by without them.
    ///
    /// # Errors
    /// The socket cannot be made, or the directory of plugins cannot be read.
    pub async fn start_nri(&self, settings: Settings) -> Result<(), NriError> {
        let node = Arc::new(Node::new(&self.services, &self.registry));
        let plugins = Plugins::start(settings, Arc::clone(&node) as _).await?;
        // Started once.
        self.services.nri.active.set(Active { plugins, node }).ok();
        Ok(())
    }

    /// Tells the plugins of the daemon's end.
    pub async fn stop_nri(&self) {
        if let Some(Active { plugins, .. }) = self.services.nri.active.get() {
            plugins.stop().await;
        }
    }
}

/// Does a change that plugins are told of before and after. It goes on when its client leaves.
pub(super) async fn told<T: Send + 'static>(
    doing: &'static str,
    services: &Arc<Services>,
    change: impl Future<Output = Result<T, PodError>> + Send + 'static,
) -> Result<T, PodError> {
    let services = Arc::clone(services);
    let task = tokio::spawn(async move {
        let _operation = services.nri.operation().await;
        change.await
    });
    match deadline::wait(task).await {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => match error.try_into_panic() {
            Ok(panic) => Err(PodError::panicked(doing, panic.as_ref())),
            Err(_) => Err(PodError::Stopping),
        },
        None => Err(PodError::Waiting {
            doing: doing.to_owned(),
        }),
    }
}

fn failed(doing: &'static str) -> impl FnOnce(NriError) -> PodError {
    move |error| {
        let kind = match &error {
            // It may be there soon.
            NriError::Rejected(Rejection::MissingPlugins { .. }) | NriError::ValidatorLost { .. } => {
                ErrorKind::Unavailable
            }
            NriError::TooLarge { .. } => ErrorKind::Internal,
            _ => ErrorKind::FailedPrecondition,
        };
        PodError::failed_as(doing, kind, error)
    }
}

/// Logs the failure of an event that nothing depends on.
fn ignore(event: &'static str, id: &Id, outcome: Result<(), NriError>) {
    if let Err(error) = outcome {
        tracing::warn!(
            id = id.short(),
            event,
            error = chain(&error),
            "an NRI plugin has failed an event; it goes on without"
        );
    }
}

impl Nri {
    /// The plugins that are connected, in the order of their calls, for verbose information.
    pub fn describe(&self) -> serde_json::Value {
        let Some(active) = self.active.get() else {
            return json!({"enabled": false});
        };
        let plugins = active.plugins.list().into_iter().map(|plugin| {
            json!({
                "name": format!("{}-{}", plugin.index, plugin.name),
                "pid": plugin.pid,
                "startedByPausa": plugin.origin == Origin::Launched,
            })
        });
        json!({"enabled": true, "plugins": plugins.collect::<Vec<_>>()})
    }

    /// Begins an operation that plugins are told of: until it ends, no new plugin is told of all pods and containers.
    pub(super) async fn operation(&self) -> Option<Operation> {
        Some(self.active.get()?.plugins.operation().await)
    }

    fn wanting(&self, event: Event) -> Option<&Active> {
        self.active.get().filter(|active| active.plugins.wants(event))
    }

    /// A pod has been made and is about to be ready.
    ///
    /// # Errors
    /// A plugin refuses it. It is the caller's to [`Self::remove_pod`] what plugins have been told of.
    pub(super) async fn run_pod(
        &self,
        services: &Services,
        pod: impl FnOnce() -> PodRecord,
    ) -> Result<(), PodError> {
        let Some(active) = self.active.get() else {
            return Ok(());
        };
        let pod = pod();
        active.node.known.enter(&pod.id, Told::Live);
        if !active.plugins.wants(Event::RunPodSandbox) {
            return Ok(());
        }
        let request = RunPodSandboxRequest {
            pod: Some(message::pod(services, &pod)),
        };
        let outcome = active.plugins.run_pod_sandbox(request).await;
        outcome.map_err(failed("tell NRI plugins of the pod"))
    }

    /// What kubelet says of a pod's resources is about to be noted.
    ///
    /// # Errors
    /// A plugin refuses it.
    pub(super) async fn update_pod(
        &self,
        services: &Services,
        pod: &PodRecord,
        request: &v1::UpdatePodSandboxResourcesRequest,
    ) -> Result<(), PodError> {
        let Some(active) = self.wanting(Event::UpdatePodSandbox) else {
            return Ok(());
        };
        let request = UpdatePodSandboxRequest {
            pod: Some(message::pod(services, pod)),
            overhead_linux_resources: request.overhead.as_ref().map(message::resources),
            linux_resources: request.resources.as_ref().map(message::resources),
        };
        let outcome = active.plugins.update_pod_sandbox(request).await;
        outcome.map_err(failed("tell NRI plugins of the pod's resources"))
    }

    /// A pod's resources were noted.
    pub(super) async fn post_update_pod(&self, services: &Services, pod: &PodRecord) {
        if let Some(active) = self.wanting(Event::PostUpdatePodSandbox) {
            let request = PostUpdatePodSandboxRequest {
                pod: Some(message::pod(services, pod)),
            };
            let outcome = active.plugins.post_update_pod_sandbox(request).await;
            ignore("PostUpdatePodSandbox", &pod.id, outcome);
        }
    }

    /// All of a pod's containers have ended, and it still has its network.
    pub(super) async fn stop_pod(&self, services: &Services, pod: &PodRecord) {
        let Some((active, mut told)) = self.turn(&pod.id).await else {
            return;
        };
        if *told == Told::Live {
            *told = Told::Stopped;
            stop_pod(active, services, pod).await;
        }
    }

    /// A pod is gone, or has never been there.
    pub(super) async fn remove_pod(&self, services: &Services, pod: &PodRecord) {
        let Some((active, mut told)) = self.turn(&pod.id).await else {
            return;
        };
        if *told == Told::Live {
            stop_pod(active, services, pod).await;
        }
        if *told != Told::Removed && active.plugins.wants(Event::RemovePodSandbox) {
            let request = RemovePodSandboxRequest {
                pod: Some(message::pod(services, pod)),
            };
            let outcome = active.plugins.remove_pod_sandbox(request).await;
            ignore("RemovePodSandbox", &pod.id, outcome);
        }
        *told = Told::Removed;
        active.node.known.forget(&pod.id);
    }

    /// A container is about to be created with this spec: what plugins want of it and of others, if there are any.
    ///
    /// # Errors
    /// A plugin or a validator refuses it. It is the caller's to [`Self::remove_container`] what plugins have been told of.
    pub(super) async fn create_container(
        &self,
        services: &Services,
        pod: &PodRecord,
        container: &ContainerRecord,
        spec: &Spec,
    ) -> Result<Option<Merged>, PodError> {
        let Some(active) = self.active.get() else {
            return Ok(None);
        };
        active.node.known.enter(&container.id, Told::Live);
        if !active.plugins.wants_creations() {
            return Ok(None);
        }
        let request = CreateContainerRequest {
            pod: Some(message::pod(services, pod)),
            container: Some(message::container(container, message::of_spec(spec))),
        };
        let merged = active.plugins.create_container(request).await;
        merged
            .map(Some)
            .map_err(failed("let NRI plugins adjust the container"))
    }

    /// What plugins are going to be shown of the spec of a container that is being created, for [`Self::later`] and
    /// [`Self::start_container`]; nothing if there are none.
    pub(super) fn shown(&self, spec: &Spec) -> Option<Arc<Container>> {
        let events = [
            Event::PostCreateContainer,
            Event::StartContainer,
            Event::PostStartContainer,
        ];
        let wanted = events.into_iter().any(|event| self.wanting(event).is_some());
        wanted.then(|| Arc::new(message::of_spec(spec)))
    }

    /// Takes the turn of a container to which something has happened; nothing if there are no plugins.
    pub(super) async fn later(&self, id: &Id, shown: Option<Arc<Container>>) -> Option<Later> {
        let (_, turn) = self.turn(id).await?;
        Some(Later { turn, shown })
    }

    /// A container is about to start.
    ///
    /// # Errors
    /// A plugin refuses it.
    pub(super) async fn start_container(
        &self,
        services: &Services,
        pod: &PodRecord,
        container: &ContainerRecord,
        shown: Option<&Container>,
    ) -> Result<(), PodError> {
        let Some(active) = self.wanting(Event::StartContainer) else {
            return Ok(());
        };
        let _turn = self.turn(&container.id).await;
        let (pod, container) = both(services, pod, container, shown);
        let request = StartContainerRequest { pod, container };
        let outcome = active.plugins.start_container(request).await;
        outcome.map_err(failed("tell NRI plugins of the start"))
    }

    /// A container's resources are about to change: what plugins make of the change.
    ///
    /// # Errors
    /// A plugin refuses it, or wants what cannot be.
    pub(super) async fn update_container(
        &self,
        services: &Services,
        pod: &PodRecord,
        container: &ContainerRecord,
        change: &v1::LinuxContainerResources,
    ) -> Result<v1::LinuxContainerResources, PodError> {
        let Some(active) = self.wanting(Event::UpdateContainer) else {
            return Ok(change.clone());
        };
        let turn = self.turn(&container.id).await;
        let (pod, message) = both(services, pod, container, None);
        let request = UpdateContainerRequest {
            pod,
            container: message,
            linux_resources: Some(message::resources(change)),
        };
        let updated = active.plugins.update_container(request).await;
        // What it leads to may be the end of this container.
        drop(turn);
        let updated = updated.map_err(failed("let NRI plugins adjust the container's resources"))?;
        self.change_others(updated.updates, updated.evictions).await;
        let mut new = message::update_of(&updated.resources).map_err(|error| {
            PodError::failed("change the container's resources as NRI plugins want", error)
        })?;
        // Plugins have no say in it.
        new.oom_score_adj = change.oom_score_adj;
        Ok(new)
    }

    /// A container's resources have changed.
    pub(super) async fn post_update(
        &self,
        services: &Services,
        pod: &PodRecord,
        container: &ContainerRecord,
    ) {
        if let Some(active) = self.wanting(Event::PostUpdateContainer) {
            let (pod, message) = both(services, pod, container, None);
            let request = PostUpdateContainerRequest {
                pod,
                container: message,
            };
            let outcome = active.plugins.post_update_container(request).await;
            ignore("PostUpdateContainer", &container.id, outcome);
        }
    }

    /// A container has ended, or could not be started.
    pub(super) async fn stop_container(
        &self,
        services: &Services,
        pod: &PodRecord,
        container: &ContainerRecord,
    ) {
        let Some((active, mut told)) = self.turn(&container.id).await else {
            return;
        };
        if *told == Told::Live {
            *told = Told::Stopped;
            self.tell_stopped(active, services, pod, container).await;
        }
    }

    /// A container is gone, or has never been there.
    pub(super) async fn remove_container(
        &self,
        services: &Services,
        pod: &PodRecord,
        container: &ContainerRecord,
    ) {
        let Some((active, mut told)) = self.turn(&container.id).await else {
            return;
        };
        if *told == Told::Live {
            self.tell_stopped(active, services, pod, container).await;
        }
        if *told != Told::Removed && active.plugins.wants(Event::RemoveContainer) {
            let (pod, message) = both(services, pod, container, None);
            let request = RemoveContainerRequest {
                pod,
                container: message,
            };
            let outcome = active.plugins.remove_container(request).await;
            ignore("RemoveContainer", &container.id, outcome);
        }
        *told = Told::Removed;
        active.node.known.forget(&container.id);
    }

    async fn tell_stopped(
        &self,
        active: &Active,
        services: &Services,
        pod: &PodRecord,
        container: &ContainerRecord,
    ) {
        if !active.plugins.wants(Event::StopContainer) {
            return;
        }
        let (pod, message) = both(services, pod, container, None);
        let request = StopContainerRequest {
            pod,
            container: message,
        };
        match active.plugins.stop_container(request).await {
            Ok(updates) => self.change_others(updates, Vec::new()).await,
            Err(error) => ignore("StopContainer", &container.id, Err(error)),
        }
    }

    /// Does what plugins want of other containers, and waits for it, but not for ever: the other may wait for this one.
    pub(super) async fn change_others(
        &self,
        updates: Vec<ContainerUpdate>,
        evictions: Vec<ContainerEviction>,
    ) {
        let Some(active) = self
            .active
            .get()
            .filter(|_| !updates.is_empty() || !evictions.is_empty())
        else {
            return;
        };
        let node = Arc::clone(&active.node);
        let work = tokio::spawn(async move { node.change(updates, evictions).await });
        // What fails is logged. It is another container's, and this operation goes on without.
        tokio::time::timeout(OTHERS_PATIENCE, work).await.ok();
    }

    /// Waits until nobody else tells of a pod or container; nothing if plugins know nothing of it.
    async fn turn(&self, id: &Id) -> Option<(&Active, Turn)> {
        let active = self.active.get()?;
        let told = active.node.known.get(id)?;
        Some((active, told.lock_owned().await))
    }
}

async fn stop_pod(active: &Active, services: &Services, pod: &PodRecord) {
    if active.plugins.wants(Event::StopPodSandbox) {
        let request = StopPodSandboxRequest {
            pod: Some(message::pod(services, pod)),
        };
        let outcome = active.plugins.stop_pod_sandbox(request).await;
        ignore("StopPodSandbox", &pod.id, outcome);
    }
}

/// Asks plugins, and does work that does not depend on the answer.
pub(super) async fn meanwhile<A, W>(asked: impl Future<Output = A>, work: impl FnOnce() -> W) -> (A, W) {
    let work = async {
        // The task that sends the question would run on this thread, and so after the work.
        tokio::task::yield_now().await;
        work()
    };
    tokio::join!(asked, work)
}

/// Tells plugins of something that has happened to a container, when their turn comes.
pub(super) fn tell_later(
    services: Arc<Services>,
    pod: Arc<PodRecord>,
    container: Arc<ContainerRecord>,
    happened: Happened,
    Later { turn, shown }: Later,
) {
    let (event, name) = match happened {
        Happened::Created => (Event::PostCreateContainer, "PostCreateContainer"),
        Happened::Started => (Event::PostStartContainer, "PostStartContainer"),
    };
    if services.nri.wanting(event).is_none() {
        return;
    }
    tokio::spawn(async move {
        let Some(Active { plugins, .. }) = services.nri.active.get() else {
            return;
        };
        let id = container.id.clone();
        let (pod, container) = both(&services, &pod, &container, shown.as_deref());
        let outcome = match happened {
            Happened::Created => {
                let request = PostCreateContainerRequest { pod, container };
                plugins.post_create_container(request).await
            }
            Happened::Started => {
                let request = PostStartContainerRequest { pod, container };
                plugins.post_start_container(request).await
            }
        };
        ignore(name, &id, outcome);
        drop(turn);
    });
}

/// A pod and a container of it, as requests have them. `shown` is what the container's spec says, if that is at hand.
fn both(
    services: &Services,
    pod: &PodRecord,
    container: &ContainerRecord,
    shown: Option<&Container>,
) -> (Option<PodSandbox>, Option<Container>) {
    let container = match shown {
        Some(shown) => message::container(container, shown.clone()),
        None => message::recorded(services, container),
    };
    (Some(message::pod(services, pod)), Some(container))
}
