//! The pods and containers that a runtime has, and which of them an argument means.
//!
//! An argument is an id or the beginning of one, or a name: `NAMESPACE/POD` and `POD` for a pod, `NAMESPACE/POD/CONTAINER`,
//! `POD/CONTAINER` and `CONTAINER` for a container. A name means the youngest object that has it: kubelet makes a new one with the
//! same name when one has ended.
//!
//! Must never: guess. What may mean several objects is refused with their names.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::Value;
use tonic::Code;

use super::client::Daemon;
use super::failure::CommandError;
use super::output::escape;
use super::units;
use crate::proto::v1::{
    Container, ContainerState, ContainerStatus, ContainerStatusRequest, ContainerStatusResponse,
    ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxMetadata, PodSandboxState,
    PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse,
};

/// What was listed. The youngest objects come first.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) pods: Vec<PodSandbox>,
    pub(super) containers: Vec<Container>,
}

/// What an argument means where both are possible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Object<'a> {
    Pod(&'a PodSandbox),
    Container(&'a Container),
}

impl<'a> From<&'a PodSandbox> for Object<'a> {
    fn from(pod: &'a PodSandbox) -> Self {
        Self::Pod(pod)
    }
}

impl<'a> From<&'a Container> for Object<'a> {
    fn from(container: &'a Container) -> Self {
        Self::Container(container)
    }
}

impl<'a> Object<'a> {
    pub(super) fn id(self) -> &'a str {
        match self {
            Self::Pod(pod) => &pod.id,
            Self::Container(container) => &container.id,
        }
    }
}

impl Objects {
    /// Asks with the calls that every runtime has.
    pub(super) async fn list(daemon: &Daemon) -> Result<Self, CommandError> {
        let pods = async {
            let request = ListPodSandboxRequest::default();
            let answer = daemon.runtime().list_pod_sandbox(request).await;
            answer.map_err(daemon.failed("ListPodSandbox"))
        };
        let containers = async {
            let request = ListContainersRequest::default();
            let answer = daemon.runtime().list_containers(request).await;
            answer.map_err(daemon.failed("ListContainers"))
        };
        let (pods, containers) = tokio::try_join!(pods, containers)?;
        Ok(Self::new(
            pods.into_inner().items,
            containers.into_inner().containers,
        ))
    }

    fn new(mut pods: Vec<PodSandbox>, mut containers: Vec<Container>) -> Self {
        pods.sort_by_key(|pod| Reverse(pod.created_at));
        containers.sort_by_key(|container| Reverse(container.created_at));
        Self { pods, containers }
    }

    /// The container that is meant. A pod stands for its only container, or its only running one.
    pub(super) fn container(&self, given: &str) -> Result<&Container, CommandError> {
        let mut found = self.containers_of(given);
        for pod in self.pods_of(given) {
            let mut inside = self.youngest(|container| container.pod_sandbox_id == pod.id);
            if inside.iter().any(|container| is_running(container)) {
                inside.retain(|container| is_running(container));
            }
            found.extend(inside);
        }
        self.only(given, "container", "pausa ps -a", found)
    }

    /// The pod that is meant. A container stands for its pod.
    pub(super) fn pod(&self, given: &str) -> Result<&PodSandbox, CommandError> {
        let mut found = self.pods_of(given);
        let containers = self.containers_of(given);
        found.extend(
            containers
                .into_iter()
                .filter_map(|container| self.pod_with(container)),
        );
        self.only(given, "pod", "pausa pods -a", found)
    }

    /// The pod or the container that is meant.
    pub(super) fn either(&self, given: &str) -> Result<Object<'_>, CommandError> {
        let pods = self.pods_of(given).into_iter().map(Object::Pod);
        let containers = self.containers_of(given).into_iter().map(Object::Container);
        let found = pods.chain(containers).collect();
        self.only(given, "pod or container", "pausa ps -a", found)
    }

    /// The pod of a container; none if it has gone between two lists.
    pub(super) fn pod_with(&self, container: &Container) -> Option<&PodSandbox> {
        self.pods.iter().find(|pod| pod.id == container.pod_sandbox_id)
    }

    /// `NAMESPACE/POD/CONTAINER`, or as much of it as is known.
    pub(super) fn name(&self, container: &Container) -> String {
        let own = container_name(container);
        match self.pod_with(container) {
            Some(pod) => format!("{}/{own}", pod_name(pod)),
            None => own.to_owned(),
        }
    }

    fn only<'a, T: Copy + Into<Object<'a>>>(
        &self,
        given: &str,
        what: &'static str,
        list: &'static str,
        mut found: Vec<T>,
    ) -> Result<T, CommandError> {
        // A whole id is not the beginning or the name of something else.
        if let Some(exact) = found.iter().find(|object| (**object).into().id() == given) {
            return Ok(*exact);
        }
        found.sort_by_key(|object| (*object).into().id());
        found.dedup_by_key(|object| (*object).into().id());
        match found.as_slice() {
            [] => Err(CommandError::NoObject {
                given: given.to_owned(),
                what,
                list,
            }),
            [only] => Ok(*only),
            several => Err(CommandError::Ambiguous {
                given: given.to_owned(),
                candidates: several
                    .iter()
                    .map(|object| self.shown((*object).into()))
                    .collect(),
            }),
        }
    }

    /// Its name and id, for messages.
    pub(super) fn shown(&self, object: Object<'_>) -> String {
        let name = match object {
            Object::Pod(pod) => pod_name(pod),
            Object::Container(container) => self.name(container),
        };
        format!("{} ({})", escape(&name), escape(&units::id(object.id(), false)))
    }

    fn containers_of(&self, given: &str) -> Vec<&Container> {
        let parts: Vec<&str> = given.split('/').collect();
        let in_pod = |container: &Container, namespace: Option<&str>, pod: &str| {
            let with = self.pod_with(container);
            let metadata = with.and_then(|with| with.metadata.as_ref());
            metadata.is_some_and(|m| m.name == pod && namespace.is_none_or(|given| m.namespace == given))
        };
        match parts.as_slice() {
            [name] => {
                let mut found = self.youngest(|container| container_name(container) == *name);
                found.extend(self.containers.iter().filter(|one| starts(&one.id, given)));
                found
            }
            [pod, name] => self.youngest(|one| container_name(one) == *name && in_pod(one, None, pod)),
            [namespace, pod, name] => {
                self.youngest(|one| container_name(one) == *name && in_pod(one, Some(namespace), pod))
            }
            _ => Vec::new(),
        }
    }

    /// Of the containers that satisfy a condition, the youngest of each name.
    fn youngest(&self, condition: impl Fn(&Container) -> bool) -> Vec<&Container> {
        let mut found: BTreeMap<String, &Container> = BTreeMap::new();
        for container in self.containers.iter().filter(|one| condition(one)) {
            found.entry(self.name(container)).or_insert(container);
        }
        found.into_values().collect()
    }

    fn pods_of(&self, given: &str) -> Vec<&PodSandbox> {
        let parts: Vec<&str> = given.split('/').collect();
        let mut found: BTreeMap<String, &PodSandbox> = BTreeMap::new();
        let named = |pod: &&PodSandbox| {
            pod.metadata
                .as_ref()
                .is_some_and(|metadata| match parts.as_slice() {
                    [name] => metadata.name == *name,
                    [namespace, name] => metadata.namespace == *namespace && metadata.name == *name,
                    _ => false,
                })
        };
        for pod in self.pods.iter().filter(named) {
            found.entry(pod_name(pod)).or_insert(pod);
        }
        let mut found: Vec<&PodSandbox> = found.into_values().collect();
        found.extend(self.pods.iter().filter(|pod| starts(&pod.id, given)));
        found
    }
}

/// Whether an argument is the beginning of an id.
fn starts(id: &str, given: &str) -> bool {
    !given.is_empty() && id.starts_with(given)
}

/// `NAMESPACE/POD`.
pub(super) fn pod_name(pod: &PodSandbox) -> String {
    let default = PodSandboxMetadata::default();
    let metadata = pod.metadata.as_ref().unwrap_or(&default);
    format!("{}/{}", metadata.namespace, metadata.name)
}

pub(super) fn container_name(container: &Container) -> &str {
    container.metadata.as_ref().map_or("", |metadata| &metadata.name)
}

pub(super) fn is_running(container: &Container) -> bool {
    container.state() == ContainerState::ContainerRunning
}

pub(super) fn is_ready(pod: &PodSandbox) -> bool {
    pod.state() == PodSandboxState::SandboxReady
}

/// The status of a container.
pub(super) async fn container_status(daemon: &Daemon, id: &str) -> Result<ContainerStatus, CommandError> {
    let answer = ask_container(daemon, id, false).await?;
    Ok(answer.status.unwrap_or_default())
}

/// The status of a container, and what the runtime adds for tools.
pub(super) async fn container_details(
    daemon: &Daemon,
    id: &str,
) -> Result<(ContainerStatus, Value), CommandError> {
    let answer = ask_container(daemon, id, true).await?;
    Ok((answer.status.unwrap_or_default(), info(&answer.info)))
}

async fn ask_container(
    daemon: &Daemon,
    id: &str,
    verbose: bool,
) -> Result<ContainerStatusResponse, CommandError> {
    let request = ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose,
    };
    let answer = daemon.runtime().container_status(request).await;
    Ok(answer.map_err(daemon.failed("ContainerStatus"))?.into_inner())
}

/// The status of a pod.
pub(super) async fn pod_status(daemon: &Daemon, id: &str) -> Result<PodSandboxStatus, CommandError> {
    let answer = ask_pod(daemon, id, false).await?;
    Ok(answer.status.unwrap_or_default())
}

/// The status of a pod, and what the runtime adds for tools.
pub(super) async fn pod_details(
    daemon: &Daemon,
    id: &str,
) -> Result<(PodSandboxStatus, Value), CommandError> {
    let answer = ask_pod(daemon, id, true).await?;
    Ok((answer.status.unwrap_or_default(), info(&answer.info)))
}

async fn ask_pod(daemon: &Daemon, id: &str, verbose: bool) -> Result<PodSandboxStatusResponse, CommandError> {
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose,
    };
    let answer = daemon.runtime().pod_sandbox_status(request).await;
    Ok(answer.map_err(daemon.failed("PodSandboxStatus"))?.into_inner())
}

/// Runtimes answer with one JSON text under `info`; whatever else there is stays as it is.
pub(super) fn info(given: &BTreeMap<String, String>) -> Value {
    let value = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()));
    match given.get("info") {
        Some(text) if given.len() == 1 => value(text),
        _ => given
            .iter()
            .map(|(key, text)| (key.clone(), value(text)))
            .collect(),
    }
}

/// The answer for what there was when it was listed; none if it has been removed since.
pub(super) fn unless_removed<T>(answer: Result<T, CommandError>) -> Result<Option<T>, CommandError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(CommandError::Refused {
            code: Code::NotFound, ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
