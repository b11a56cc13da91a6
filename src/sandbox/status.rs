//! A pod in CRI's words.

use std::collections::BTreeMap;

use super::ops;
use super::record::{PodRecord, PodState, PodView};
use super::services::Services;
use crate::cgroups::QosClass;
use crate::container::{ContainerRecord, RunState};
use crate::proto::v1;

/// The state in CRI's words. A pod that is being made is not shown, hence not ready.
pub(super) fn state(record: &PodRecord) -> v1::PodSandboxState {
    match record.state {
        PodState::Ready => v1::PodSandboxState::SandboxReady,
        PodState::Creating | PodState::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

/// One row of ListPodSandbox.
pub(super) fn list_item(record: &PodRecord) -> v1::PodSandbox {
    v1::PodSandbox {
        id: record.id.to_string(),
        metadata: record.config.metadata.clone(),
        state: state(record).into(),
        created_at: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.handler.clone(),
    }
}

/// PodSandboxStatus without its verbose part.
pub(super) fn status(record: &PodRecord) -> v1::PodSandboxStatus {
    v1::PodSandboxStatus {
        id: record.id.to_string(),
        metadata: record.config.metadata.clone(),
        state: state(record).into(),
        created_at: record.created_at,
        network: Some(network(record)),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(record.namespaces()),
            }),
        }),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.handler.clone(),
    }
}

/// Addresses, the preferred one first; none on the host's network, as kubelet knows those itself.
fn network(record: &PodRecord) -> v1::PodSandboxNetworkStatus {
    let mut ips = record
        .network
        .iter()
        .flat_map(|network| &network.ips)
        .map(ToString::to_string);
    v1::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
    }
}

/// The verbose part of a pod's status: one JSON text under `info`, in the words that tools of the peers read.
pub(super) fn pod_info(view: &PodView) -> BTreeMap<String, String> {
    let record = &view.pod;
    let containers = view.containers.values().map(|container| &container.resources);
    let info = serde_json::json!({
        "pid": record.monitor_pid,
        "netNamespaceClosed": record.netns.is_none() && !record.host_network(),
        "netns": record.netns,
        "runtimeHandler": record.handler,
        "runtimeType": "builtin",
        "config": record.config,
        "overhead": record.overhead,
        "resources": record.resources,
        "qosClass": QosClass::of_pod(record.cgroup_parent(), containers),
        "cniResult": record.network.as_ref().map(|network| &network.result),
        "networkDebt": record.pending_detach,
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

/// The verbose part of a container's status.
pub(super) fn container_info(services: &Services, record: &ContainerRecord) -> BTreeMap<String, String> {
    let pid = match record.run {
        RunState::Running { pid, .. } => pid,
        RunState::Created | RunState::Exited(_) => 0,
    };
    let bundle = services.store.layout().bundle(&record.pod, &record.id);
    let spec = std::fs::read(bundle.join("config.json")).ok();
    let spec = spec.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let kept = services
        .store
        .layout()
        .persistent_container(&record.pod, &record.id);
    let info = serde_json::json!({
        "sandboxID": record.pod,
        "pid": pid,
        "runtimeType": "builtin",
        "bundle": bundle,
        "cgroup": record.cgroup,
        "cpuPinning": record.pinning.as_ref().filter(|_| !matches!(record.run, RunState::Exited(_))),
        "blockIOClass": record.block_io.as_ref().map(|class| &class.class),
        "rdtClass": record.rdt_class,
        "writableLayer": ops::describe_layer(&services.projects, &kept),
        "config": record.config,
        "runtimeSpec": spec,
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}
