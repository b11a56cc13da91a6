//! What plugins ask of the daemon: all pods and containers, and changes outside of any event.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use pausa_nri::Runtime;
use pausa_nri::proto::{Container, ContainerEviction, ContainerUpdate, PodSandbox};

use super::{Known, Told, message};
use crate::container::RunState;
use crate::sandbox::error::PodError;
use crate::sandbox::ops::plugin_update;
use crate::sandbox::record::PodState;
use crate::sandbox::registry::Registry;
use crate::sandbox::services::Services;

#[derive(Debug)]
pub(super) struct Node {
    /// Which NRI is a part of.
    services: Weak<Services>,
    registry: Arc<Registry>,
    pub(super) known: Known,
}

impl Node {
    pub(super) fn new(services: &Arc<Services>, registry: &Arc<Registry>) -> Self {
        Self {
            services: Arc::downgrade(services),
            registry: Arc::clone(registry),
            known: Known::default(),
        }
    }

    /// Makes changes of containers, and evicts some. Returns the changes that have failed and may not; all that fails is
    /// logged.
    pub(super) async fn change(
        &self,
        updates: Vec<ContainerUpdate>,
        evictions: Vec<ContainerEviction>,
    ) -> Vec<ContainerUpdate> {
        for ContainerEviction { container_id, reason } in evictions {
            match self.evict(&container_id).await {
                Ok(()) => tracing::info!(
                    container = container_id,
                    reason,
                    "a container was stopped because an NRI plugin evicted it"
                ),
                Err(error) => tracing::warn!(
                    container = container_id,
                    reason,
                    error = error.text(),
                    "cannot stop a container that an NRI plugin evicts; it goes on"
                ),
            }
        }
        let mut failed = Vec::new();
        for update in updates {
            if let Err(error) = self.update(&update).await {
                tracing::warn!(
                    container = update.container_id,
                    error = error.text(),
                    "cannot change a container's resources as an NRI plugin wants; they stay as they are"
                );
                if !update.ignore_failure {
                    failed.push(update);
                }
            }
        }
        failed
    }

    async fn update(&self, update: &ContainerUpdate) -> Result<(), PodError> {
        let wanted = update.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        let Some(wanted) = wanted else { return Ok(()) };
        let change = message::update_of(wanted).map_err(|error| {
            PodError::failed("change the container's resources as an NRI plugin wants", error)
        })?;
        plugin_update(&self.registry, &update.container_id, change).await
    }

    async fn evict(&self, container: &str) -> Result<(), PodError> {
        let (id, pod) = self.registry.container(container)?;
        pod.ask(move |pod, answer| {
            pod.lifecycle
                .stop_container(&id, Instant::now(), Duration::ZERO, answer);
        })
        .await
    }
}

impl Runtime for Node {
    fn snapshot(&self) -> (Vec<PodSandbox>, Vec<Container>) {
        let (mut pods, mut containers) = (Vec::new(), Vec::new());
        let Some(services) = self.services.upgrade() else {
            return (pods, containers);
        };
        let views = self
            .registry
            .pods()
            .into_iter()
            .filter_map(|handle| handle.view());
        for view in views {
            let told = match view.pod.state {
                PodState::Ready => Told::Live,
                PodState::Creating | PodState::NotReady => Told::Stopped,
            };
            self.known.enter(&view.pod.id, told);
            pods.push(message::pod(&services, &view.pod));
            for record in view.containers.values() {
                // Those that have ended are of no interest to new plugins.
                if !matches!(record.run, RunState::Exited(_)) {
                    self.known.enter(&record.id, Told::Live);
                    containers.push(message::recorded(&services, record));
                }
            }
        }
        (pods, containers)
    }

    fn update(
        &self,
        plugin: String,
        updates: Vec<ContainerUpdate>,
        evictions: Vec<ContainerEviction>,
    ) -> Pin<Box<dyn Future<Output = Vec<ContainerUpdate>> + Send + '_>> {
        tracing::debug!(
            plugin,
            updates = updates.len(),
            evictions = evictions.len(),
            "an NRI plugin wants changes of containers"
        );
        Box::pin(self.change(updates, evictions))
    }
}
