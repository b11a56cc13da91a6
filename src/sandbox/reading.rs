//! What readers see: views as the actors publish them. Nothing here waits for an actor.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::PodError;
use super::record::PodView;
use super::{Pods, registry, status, work};
use crate::container;
use crate::id::LookupError;
use crate::proto::v1;

impl Pods {
    /// What is known of all pods. Those being made are not shown.
    pub fn views(&self) -> Vec<Arc<PodView>> {
        self.registry
            .pods()
            .iter()
            .filter_map(|handle| handle.view())
            .collect()
    }

    /// What is known of one pod.
    ///
    /// # Errors
    /// The id leads nowhere.
    pub fn view(&self, id: &str) -> Result<Arc<PodView>, PodError> {
        let handle = self.registry.pod(id)?;
        let absent = || LookupError::NotFound {
            what: registry::POD,
            id: id.to_owned(),
        };
        Ok(handle.view().ok_or_else(absent)?)
    }

    /// What is known of one container, and of its pod.
    ///
    /// # Errors
    /// The id leads nowhere.
    pub fn container(&self, id: &str) -> Result<(Arc<PodView>, Arc<container::ContainerRecord>), PodError> {
        let (full, handle) = self.registry.container(id)?;
        let found = handle.view().and_then(|view| {
            let record = view.containers.get(&full)?.clone();
            Some((view, record))
        });
        let absent = || LookupError::NotFound {
            what: registry::CONTAINER,
            id: id.to_owned(),
        };
        Ok(found.ok_or_else(absent)?)
    }

    /// PodSandboxStatus; `info` only if `verbose`.
    ///
    /// # Errors
    /// The id leads nowhere.
    pub fn pod_status(&self, id: &str, verbose: bool) -> Result<v1::PodSandboxStatusResponse, PodError> {
        let view = self.view(id)?;
        let info = if verbose {
            status::pod_info(&view.pod)
        } else {
            BTreeMap::new()
        };
        Ok(v1::PodSandboxStatusResponse {
            status: Some(status::status(&view.pod)),
            info,
            ..Default::default()
        })
    }

    /// ContainerStatus; `info` only if `verbose`.
    ///
    /// # Errors
    /// The id leads nowhere.
    pub fn container_status(&self, id: &str, verbose: bool) -> Result<v1::ContainerStatusResponse, PodError> {
        let (_, record) = self.container(id)?;
        let info = if verbose {
            status::container_info(&self.services, &record)
        } else {
            BTreeMap::new()
        };
        Ok(v1::ContainerStatusResponse {
            status: Some(container::status(&record)),
            info,
        })
    }

    /// What the writable layers of all containers take on disk. Counts anew at every call.
    ///
    /// # Errors
    /// The counting itself broke down; layers that vanish meanwhile do not matter.
    pub async fn writable_usage(&self) -> Result<pausa_layer::Usage, PodError> {
        let layout = self.services.store.layout().clone();
        let containers = self
            .views()
            .into_iter()
            .flat_map(|view| view.containers.values().cloned().collect::<Vec<_>>());
        let uppers = containers
            .map(|record| layout.kept_container(&record.pod, &record.id).join("upper"))
            .collect();
        work::usage(uppers).await
    }

    /// One row of ListPodSandbox for every pod.
    pub fn pod_items(&self) -> Vec<v1::PodSandbox> {
        self.views()
            .iter()
            .map(|view| status::list_item(&view.pod))
            .collect()
    }

    /// One row of ListContainers for every container.
    pub fn container_items(&self) -> Vec<v1::Container> {
        let views = self.views();
        views
            .iter()
            .flat_map(|view| view.containers.values())
            .map(|record| container::list_item(record))
            .collect()
    }
}
