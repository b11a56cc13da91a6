//! Pods that were never created, for tests of what readers see.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Pods;
use super::handle::PodHandle;
use super::ops::CREATING_MAX;
use super::record::{PodName, PodRecord, PodState, PodView};
use crate::container::{ContainerRecord, ImageIdentity, RunState};
use crate::id::Id;
use crate::proto::v1;

/// The record of a pod that is ready and has nothing in the kernel.
pub(super) fn pod_record(config: v1::PodSandboxConfig) -> PodRecord {
    PodRecord {
        version: PodRecord::VERSION,
        id: Id::random(),
        config,
        handler: String::new(),
        created_at: 1,
        state: PodState::Ready,
        netns: None,
        network: None,
        pending_detach: false,
        monitor_cgroup: false,
        scope_prefix: "pausa".into(),
        monitor_pid: 0,
        boot_id: crate::state::boot_id(),
        selinux: None,
        overhead: None,
        resources: None,
    }
}

/// The record of a container that was created.
pub(super) fn container_record(pod: &Id, config: v1::ContainerConfig) -> ContainerRecord {
    ContainerRecord {
        version: ContainerRecord::VERSION,
        id: Id::random(),
        pod: pod.clone(),
        config,
        image: ImageIdentity::default(),
        created_at: 1,
        run: RunState::Created,
        log_path: None,
        cgroup: String::new(),
        volumes: BTreeMap::new(),
        user: v1::LinuxContainerUser::default(),
        stop_signal: 0,
        resources: v1::LinuxContainerResources::default(),
        pinning: None,
        pids_limit: None,
        cpu_burst: None,
        block_io: None,
        rdt_class: None,
        namespaces: BTreeMap::default(),
    }
}

impl Pods {
    /// As many pods as may be created at the same time, whose creation never ends.
    pub(crate) fn begin_all(&self) {
        for number in 0..CREATING_MAX {
            let metadata = v1::PodSandboxMetadata {
                name: format!("hanging-{number}"),
                ..Default::default()
            };
            let config = v1::PodSandboxConfig {
                metadata: Some(metadata),
                ..Default::default()
            };
            let (handle, _) = PodHandle::new(Id::random(), PodName::of(&config));
            self.registry.enter(&handle).expect("the name is free");
        }
    }

    /// Shows readers a pod with these containers. It has no actor: nothing can be done with it.
    pub(crate) fn publish(&self, pod: v1::PodSandboxConfig, containers: Vec<v1::ContainerConfig>) {
        let record = pod_record(pod);
        let (handle, _) = PodHandle::new(record.id.clone(), PodName::of(&record.config));
        self.registry.enter(&handle).expect("the name is free");
        let containers = containers.into_iter().map(|config| {
            let container = container_record(&record.id, config);
            self.registry
                .enter_container(container.id.clone(), Arc::clone(&handle));
            (container.id.clone(), Arc::new(container))
        });
        let containers = containers.collect();
        handle.publish(Arc::new(PodView::new(Arc::new(record), containers)));
    }
}
