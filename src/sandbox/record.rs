//! A pod's record, as saved and as published.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pausa_monitor_protocol::IdRange;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::status;
use crate::container::{self, ContainerRecord};
use crate::id::Id;
use crate::lsm::selinux::PodLabel;
use crate::network::Attachment;
use crate::oci::{pod_namespaces, pod_security_context};
use crate::proto::v1;

/// Everything that is remembered of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PodRecord {
    /// Form of this record.
    pub version: u32,
    pub id: Id,
    /// What was asked for, unchanged.
    pub config: v1::PodSandboxConfig,
    /// The runtime handler, as asked for; empty: the default.
    pub handler: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Where it is in its life.
    pub state: PodState,
    /// Its network namespace, where it has one of its own.
    pub netns: Option<PathBuf>,
    /// What the network said; none on the host's network, and once detached.
    pub network: Option<Attachment>,
    /// A network attachment may exist: nobody has confirmed that the pod is detached.
    #[serde(rename = "network_debt")]
    pub pending_detach: bool,
    /// Its monitor has a cgroup that is still to be removed.
    pub monitor_cgroup: bool,
    /// Its monitor's process id, for tools; never used to send a signal.
    pub monitor_pid: i32,
    /// What the names of its containers' scopes begin with, under systemd.
    #[serde(default = "scope_prefix")]
    pub scope_prefix: String,
    /// The boot in which it was made.
    pub boot_id: String,
    /// Its label; none where SELinux is off.
    #[serde(default)]
    pub selinux: Option<PodLabel>,
    /// What the pod itself needs beside its containers, as kubelet last said.
    #[serde(default)]
    pub overhead: Option<v1::LinuxContainerResources>,
    /// The resources of the pod's cgroup, as kubelet last said.
    #[serde(default)]
    pub resources: Option<v1::LinuxContainerResources>,
}

impl PodRecord {
    /// The form that this version writes.
    pub(super) const VERSION: u32 = 1;

    /// Its name, by which kubelet means it.
    pub(super) fn name(&self) -> PodName {
        PodName::of(&self.config)
    }

    /// The namespace modes asked for, defaults where nothing was.
    pub(super) fn namespaces(&self) -> v1::NamespaceOption {
        pod_namespaces(&self.config)
    }

    /// Whether its network was taken from it and nothing is owed any more.
    pub(super) fn detached(&self) -> bool {
        self.state == PodState::NotReady && self.netns.is_none() && !self.pending_detach
    }

    /// The range of ids of its user namespace, where it has one. What cannot be was refused when it was asked for.
    pub(super) fn id_range(&self) -> Option<IdRange> {
        crate::oci::pod_users(&self.config).ok().flatten()
    }

    /// The parent cgroup asked for; empty: the default.
    pub(super) fn cgroup_parent(&self) -> &str {
        cgroup_parent(&self.config)
    }

    /// The SELinux options asked for.
    pub(super) fn selinux_options(&self) -> Option<&v1::SeLinuxOption> {
        selinux_options(&self.config)
    }

    /// Whether it lives in the host's network namespace.
    pub(super) fn host_network(&self) -> bool {
        self.namespaces().network() == v1::NamespaceMode::Node
    }
}

/// Of pods that were made when there was no other.
fn scope_prefix() -> String {
    crate::config::DEFAULT_SCOPE_PREFIX.to_owned()
}

/// The parent cgroup that a pod's configuration asks for; empty: the default.
pub(super) fn cgroup_parent(config: &v1::PodSandboxConfig) -> &str {
    config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent)
}

/// The SELinux options of a pod's configuration.
pub(super) fn selinux_options(config: &v1::PodSandboxConfig) -> Option<&v1::SeLinuxOption> {
    pod_security_context(config)?.selinux_options.as_ref()
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PodState {
    /// Being made: not shown to anybody, undone if the daemon dies now.
    Creating,
    /// SANDBOX_READY.
    Ready,
    /// SANDBOX_NOTREADY: stopped, or its monitor or pause process is gone.
    NotReady,
}

/// What kubelet calls a pod: unique among the pods of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodName {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.attempt`.
    pub attempt: u32,
}

impl PodName {
    /// The name in a configuration.
    pub(super) fn of(config: &v1::PodSandboxConfig) -> Self {
        let metadata = config.metadata.clone().unwrap_or_default();
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            attempt: metadata.attempt,
        }
    }
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}_{}_{}_{}",
            self.name, self.namespace, self.uid, self.attempt
        )
    }
}

/// What readers see of a pod: never changes, is replaced as a whole.
#[derive(Debug, Clone)]
pub(super) struct PodView {
    pub pod: Arc<PodRecord>,
    /// Its containers, those being made left out.
    pub containers: BTreeMap<Id, Arc<ContainerRecord>>,
    items: OnceLock<ListItems>,
}

/// A pod and its containers as the items of lists, encoded: kubelet lists all of them every second.
#[derive(Debug, Clone)]
struct ListItems {
    pod: Bytes,
    containers: Vec<Bytes>,
}

impl PodView {
    pub(super) fn new(pod: Arc<PodRecord>, containers: BTreeMap<Id, Arc<ContainerRecord>>) -> Self {
        let items = OnceLock::new();
        Self {
            pod,
            containers,
            items,
        }
    }

    /// Its item in ListPodSandbox.
    pub(super) fn list_item(&self) -> Bytes {
        self.items().pod.clone()
    }

    /// Its containers with their items in ListContainers.
    pub(super) fn container_list_items(&self) -> impl Iterator<Item = (&Arc<ContainerRecord>, &Bytes)> {
        self.containers.values().zip(&self.items().containers)
    }

    fn items(&self) -> &ListItems {
        self.items.get_or_init(|| {
            let encode = |record: &Arc<ContainerRecord>| container::list_item(record).encode_to_vec().into();
            ListItems {
                pod: status::list_item(&self.pod).encode_to_vec().into(),
                containers: self.containers.values().map(encode).collect(),
            }
        })
    }
}
