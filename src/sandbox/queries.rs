//! What readers see: views as the actors publish them. Nothing here waits for an actor.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ipnet::IpNet;
use pausa_layer::Usage;

use super::error::PodError;
use super::record::{PodState, PodView};
use super::{Pods, events, ops, registry, status};
use crate::blocking::blocking;
use crate::container::{self, ContainerRecord, RunState};
use crate::error::Failure;
use crate::id::LookupError;
use crate::proto::v1;
use crate::require;
use crate::state;
use crate::telemetry::metrics::PodStates;

/// An operation that has not ended.
#[derive(Debug)]
pub struct Operation {
    /// The RPC that it is for.
    pub name: &'static str,
    pub namespace: String,
    pub pod: String,
    pub pod_id: String,
    /// Name of the container, where it is not about the pod itself.
    pub container: Option<String>,
    /// None while the container is being created.
    pub container_id: Option<String>,
    /// Nanoseconds since the epoch.
    pub started: i64,
    /// What it is doing, and since when.
    pub step: Option<(&'static str, i64)>,
}

/// A pod or container, for tools that know nothing of it but its id.
#[derive(Debug)]
pub struct Workload {
    pub is_pod: bool,
    pub labels: BTreeMap<String, String>,
    /// The image of a container as the user wrote it; a pod has none.
    pub image: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// The first process of a container that runs, or the monitor of a ready pod.
    pub pid: Option<i32>,
}

impl Pods {
    /// What is known of all pods. Those being created are not shown.
    pub(super) fn views(&self) -> Vec<Arc<PodView>> {
        let handles = self.registry.pods();
        handles.iter().filter_map(|handle| handle.view()).collect()
    }

    /// The operations in flight, oldest first.
    pub fn operations(&self) -> Vec<Operation> {
        let (now, instant) = (state::now(), Instant::now());
        let time = |at: Instant| {
            let ago = instant.saturating_duration_since(at).as_nanos();
            now - i64::try_from(ago).unwrap_or(i64::MAX)
        };
        let mut operations = Vec::new();
        for handle in self.registry.pods() {
            let name = &handle.name;
            let of_pod = handle
                .operations()
                .into_iter()
                .map(|(container, doing)| Operation {
                    name: doing.operation,
                    namespace: name.namespace.clone(),
                    pod: name.name.clone(),
                    pod_id: handle.id.to_string(),
                    container_id: container
                        .as_ref()
                        .and_then(|container| Some(container.id.as_ref()?.to_string())),
                    container: container.map(|container| container.name),
                    started: time(doing.started),
                    step: doing.step.map(|(step, since)| (step, time(since))),
                });
            operations.extend(of_pod);
        }
        operations.sort_by_key(|operation| operation.started);
        operations
    }

    /// What is known of one pod, by id or unique prefix.
    pub(super) fn view(&self, id: &str) -> Result<Arc<PodView>, PodError> {
        let handle = self.registry.pod(id)?;
        let absent = || LookupError::NotFound {
            what: registry::POD,
            id: id.to_owned(),
        };
        Ok(handle.view().ok_or_else(absent)?)
    }

    /// What is known of one container, by id or unique prefix, and of its pod.
    pub(super) fn container(&self, id: &str) -> Result<(Arc<PodView>, Arc<ContainerRecord>), PodError> {
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

    /// What there is of pods and containers, for metrics.
    pub(crate) fn states(&self) -> PodStates {
        let mut states = PodStates {
            subscribers: self.event_subscribers(),
            monitors_waiting: self.warm.waiting(),
            ..PodStates::default()
        };
        for handle in self.registry.pods() {
            let waiting = handle.turns_waiting();
            states.turns_waiting += waiting;
            states.turns_waiting_max = states.turns_waiting_max.max(waiting);
            states.updates_waiting += handle.updates_waiting();
            let is_connected = handle.monitor().is_some();
            states.monitors_connected += usize::from(is_connected);
            states.monitors_greeting += usize::from(handle.is_greeting());
            let Some(view) = handle.view() else {
                states.creating += 1;
                continue;
            };
            match view.pod.state {
                PodState::Creating => states.creating += 1,
                PodState::Ready => {
                    states.ready += 1;
                    states.monitors_silent += usize::from(handle.is_silent());
                }
                PodState::NotReady => {
                    states.not_ready += 1;
                    states.left_attached += usize::from(view.pod.pending_detach && view.pod.netns.is_some());
                }
            }
            for record in view.containers.values() {
                match record.run {
                    RunState::Created => states.created += 1,
                    RunState::Running { .. } => states.running += 1,
                    RunState::Exited(_) => states.exited += 1,
                }
            }
        }
        states
    }

    /// The encoded items of ListPodSandbox.
    pub fn list_pod_sandbox(&self, filter: &v1::PodSandboxFilter) -> Vec<Bytes> {
        let mut views = self.views();
        views.retain(|view| {
            let pod = &view.pod;
            filter.matches(pod.id.as_str(), status::state(pod), &pod.config.labels)
        });
        views.iter().map(|view| view.list_item()).collect()
    }

    /// The encoded items of ListContainers.
    pub fn list_containers(&self, filter: &v1::ContainerFilter) -> Vec<Bytes> {
        let mut items = Vec::new();
        for view in self.views() {
            let matching = view.container_list_items().filter(|(record, _)| {
                let (id, pod) = (record.id.as_str(), record.pod.as_str());
                filter.matches(id, pod, record.state(), &record.config.labels)
            });
            items.extend(matching.map(|(_, item)| item.clone()));
        }
        items
    }

    /// A pod or container, by its whole id.
    pub fn workload(&self, id: &str) -> Option<Workload> {
        if let Ok((_, record)) = self.container(id) {
            let pid = match record.run {
                RunState::Running { pid, .. } => Some(pid),
                RunState::Created | RunState::Exited(_) => None,
            };
            let image = record.config.image.as_ref();
            return (record.id.as_str() == id).then(|| Workload {
                is_pod: false,
                labels: record.config.labels.clone(),
                image: image.map_or_else(String::new, |image| image.user_specified_image.clone()),
                created_at: record.created_at,
                pid,
            });
        }
        let pod = &self.view(id).ok()?.pod;
        (pod.id.as_str() == id).then(|| Workload {
            is_pod: true,
            labels: pod.config.labels.clone(),
            image: String::new(),
            created_at: pod.created_at,
            pid: Some(pod.monitor_pid).filter(|_| pod.state == PodState::Ready),
        })
    }

    /// PodSandboxStatus; `info` only if asked for.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn pod_sandbox_status(
        &self,
        request: &v1::PodSandboxStatusRequest,
    ) -> Result<v1::PodSandboxStatusResponse, Failure> {
        require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
        // Before what it is the time of, see `events`.
        let timestamp = state::now();
        let view = self.view(&request.pod_sandbox_id)?;
        let info = match request.verbose {
            true => status::pod_info(&view),
            false => BTreeMap::new(),
        };
        Ok(v1::PodSandboxStatusResponse {
            status: Some(status::status(&view.pod)),
            info,
            containers_statuses: events::statuses(&view),
            timestamp,
        })
    }

    /// ContainerStatus; `info` only if asked for.
    ///
    /// # Errors
    /// There is no such container.
    pub fn container_status(
        &self,
        request: &v1::ContainerStatusRequest,
    ) -> Result<v1::ContainerStatusResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        let (_, record) = self.container(&request.container_id)?;
        let info = match request.verbose {
            true => status::container_info(&self.services, &record),
            false => BTreeMap::new(),
        };
        Ok(v1::ContainerStatusResponse {
            status: Some(container::status(&record)),
            info,
        })
    }

    /// UpdateRuntimeConfig: the node's pod CIDR, once kubelet knows it. An empty one says nothing.
    ///
    /// # Errors
    /// It is not a list of networks, or cannot be used.
    pub async fn update_runtime_config(
        &self,
        request: v1::UpdateRuntimeConfigRequest,
    ) -> Result<v1::UpdateRuntimeConfigResponse, Failure> {
        let config = request.runtime_config.unwrap_or_default();
        let cidr = config.network_config.unwrap_or_default().pod_cidr;
        if !cidr.is_empty() {
            // Two with a comma on a dual-stack node.
            if cidr.split(',').any(|net| net.trim().parse::<IpNet>().is_err()) {
                return Err(require::invalid(format!(
                    "the field runtime_config.network_config.pod_cidr is {cidr:?}, which is not a list of networks"
                )));
            }
            self.services.network.set_pod_cidr(&cidr).await?;
        }
        Ok(v1::UpdateRuntimeConfigResponse {})
    }

    /// What the writable layers of all containers take on disk. Asks the kernel, or counts, at every call; layers that vanish
    /// meanwhile do not matter.
    pub async fn writable_usage(&self) -> Usage {
        let services = Arc::clone(&self.services);
        let views = self.views();
        blocking(move || {
            let mut sum = Usage::default();
            let mut projects = BTreeSet::new();
            for record in views.iter().flat_map(|view| view.containers.values()) {
                let layout = services.store.layout();
                let kept = layout.persistent_container(&record.pod, &record.id);
                let usage = if let Some((project, quota)) = ops::layer_usage(&services.projects, &kept) {
                    if !projects.insert(project.id) {
                        // With another container of its pod.
                        continue;
                    }
                    let (bytes, inodes) = (quota.bytes, quota.inodes);
                    Usage { bytes, inodes }
                } else {
                    ops::open_directory(&kept.join("upper"))
                        .ok()
                        .and_then(|directory| pausa_layer::usage(directory.as_fd()).ok())
                        .unwrap_or_default()
                };
                sum.bytes += usage.bytes;
                sum.inodes += usage.inodes;
            }
            sum
        })
        .await
    }
}
