//! Pods as kubelet asks for them, and containers in them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use pausa::proto::v1;
use rustix::process::Pid;
use tonic::{Response, Status};

use super::container::{Container, Ended};
use super::node::{Node, reference, spec};
use super::{map, ok, strings};

/// A running pod.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) node: &'a Node,
    pub(crate) id: String,
    pub(crate) config: v1::PodSandboxConfig,
}

/// What kubelet masks by default (`procMount: Default`).
const MASKED: [&str; 8] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/scsi",
    "/sys/firmware",
];
/// What kubelet makes read-only by default.
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// An init that ends at SIGTERM.
pub(crate) const IDLE: &str = "trap 'exit 0' TERM; sleep 3600 & wait";

/// A file or directory of the node as a volume.
pub(crate) fn bind(host: &Path, container: &str) -> v1::Mount {
    v1::Mount {
        host_path: host.display().to_string(),
        container_path: container.to_owned(),
        ..Default::default()
    }
}

fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Node {
    /// The configuration of a pod that nobody has asked for yet.
    pub(crate) fn pod_config(&self) -> v1::PodSandboxConfig {
        let number = number();
        let uid = format!("{}-{number}", std::process::id());
        let name = format!("pod-{number}");
        let log_directory = self.dir().join(format!("logs/{uid}"));
        v1::PodSandboxConfig {
            hostname: name.clone(),
            log_directory: log_directory.display().to_string(),
            labels: map(&[
                ("io.kubernetes.pod.name", &name),
                ("io.kubernetes.pod.namespace", "critest"),
                ("io.kubernetes.pod.uid", &uid),
            ]),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: self.slot().pod_cgroup(&uid),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(separate()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            metadata: Some(v1::PodSandboxMetadata {
                name,
                uid,
                namespace: "critest".to_owned(),
                attempt: 0,
            }),
            ..Default::default()
        }
    }

    /// Asks for a pod.
    pub(crate) async fn try_pod(
        &self,
        config: &v1::PodSandboxConfig,
    ) -> Result<Response<v1::RunPodSandboxResponse>, Status> {
        std::fs::create_dir_all(&config.log_directory).expect("kubelet makes the log directory");
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let answer = self.runtime().run_pod_sandbox(request).await;
        if let Ok(response) = &answer {
            self.remember(&response.get_ref().pod_sandbox_id);
        }
        answer
    }

    /// Runs a pod.
    pub(crate) async fn run_pod(&self, config: v1::PodSandboxConfig) -> Pod<'_> {
        let id = ok("RunPodSandbox", self.try_pod(&config).await).pod_sandbox_id;
        Pod {
            node: self,
            id,
            config,
        }
    }

    /// Runs a pod that differs from the usual one as `change` says, on a node that has the base image.
    pub(crate) async fn pod_with(&self, change: impl FnOnce(&mut v1::PodSandboxConfig)) -> Pod<'_> {
        self.pull("base").await;
        let mut config = self.pod_config();
        change(&mut config);
        self.run_pod(config).await
    }

    /// Runs the usual pod.
    pub(crate) async fn pod(&self) -> Pod<'_> {
        self.pod_with(|_| {}).await
    }
}

/// kubelet's usual namespaces: network and IPC of the pod, a PID namespace for every container.
pub(crate) fn separate() -> v1::NamespaceOption {
    v1::NamespaceOption {
        pid: v1::NamespaceMode::Container.into(),
        ..Default::default()
    }
}

/// The security context in a pod's configuration.
pub(crate) fn pod_security(config: &mut v1::PodSandboxConfig) -> &mut v1::LinuxSandboxSecurityContext {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
}

/// Has a pod's containers share its PID namespace, so that the pod has a pause process.
pub(crate) fn share_pids(config: &mut v1::PodSandboxConfig) {
    let options = pod_security(config).namespace_options.get_or_insert_default();
    options.pid = v1::NamespaceMode::Pod.into();
}

/// The security context in a container's configuration.
pub(crate) fn security(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
}

impl<'a> Pod<'a> {
    /// The usual container: the base image, idle until SIGTERM, its namespaces like the pod's.
    pub(crate) fn container_config(&self) -> v1::ContainerConfig {
        let number = number();
        let pod_linux = self.config.linux.clone().unwrap_or_default();
        let pod_security = pod_linux.security_context.unwrap_or_default();
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: format!("c{number}"),
                attempt: 0,
            }),
            image: Some(spec(&reference("base"))),
            command: strings(&["sh", "-c", IDLE]),
            log_path: format!("c{number}/0.log"),
            labels: map(&[("io.kubernetes.container.name", &format!("c{number}"))]),
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: pod_security.namespace_options,
                    masked_paths: strings(&MASKED),
                    readonly_paths: strings(&READONLY),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Asks for a container.
    pub(crate) async fn try_create(
        &self,
        config: &v1::ContainerConfig,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config.clone()),
            sandbox_config: Some(self.config.clone()),
        };
        let answer = self.node.runtime().create_container(request).await;
        if let Ok(response) = &answer {
            self.node.remember(&response.get_ref().container_id);
        }
        answer
    }

    /// Creates a container.
    pub(crate) async fn create(&self, config: v1::ContainerConfig) -> Container<'a> {
        let id = ok("CreateContainer", self.try_create(&config).await).container_id;
        let log = PathBuf::from(&self.config.log_directory).join(&config.log_path);
        Container {
            node: self.node,
            id,
            config,
            log,
        }
    }

    /// Creates and starts the usual container as changed.
    pub(crate) async fn start(&self, change: impl FnOnce(&mut v1::ContainerConfig)) -> Container<'a> {
        let mut config = self.container_config();
        change(&mut config);
        let container = self.create(config).await;
        container.start().await;
        container
    }

    /// Starts the usual container with these resources.
    pub(crate) async fn start_with(&self, resources: v1::LinuxContainerResources) -> Container<'a> {
        self.start(|config| config.linux.get_or_insert_default().resources = Some(resources))
            .await
    }

    /// Runs the usual container as changed until its end.
    pub(crate) async fn run(&self, change: impl FnOnce(&mut v1::ContainerConfig)) -> Ended {
        self.start(change).await.end().await
    }

    /// Runs a shell script in a container that differs from the usual one as `change` says; it must succeed.
    pub(crate) async fn sh_with(
        &self,
        script: &str,
        change: impl FnOnce(&mut v1::ContainerConfig),
    ) -> String {
        let ended = self.run(|config| {
            config.command = strings(&["sh", "-c", script]);
            change(config);
        });
        let ended = ended.await;
        assert_eq!(ended.status.exit_code, 0, "{script}: {ended:?}");
        ended.stdout()
    }

    /// Runs a shell script in the usual container; it must succeed.
    pub(crate) async fn sh(&self, script: &str) -> String {
        self.sh_with(script, |_| {}).await
    }

    pub(crate) async fn status(&self) -> v1::PodSandboxStatus {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: self.id.clone(),
            ..Default::default()
        };
        let response = ok(
            "PodSandboxStatus",
            self.node.runtime().pod_sandbox_status(request).await,
        );
        response.status.expect("a pod's status")
    }

    /// The verbose part of its status.
    pub(crate) async fn details(&self) -> serde_json::Value {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: self.id.clone(),
            verbose: true,
        };
        let response = ok(
            "PodSandboxStatus",
            self.node.runtime().pod_sandbox_status(request).await,
        );
        serde_json::from_str(&response.info["info"]).expect("info is JSON")
    }

    /// Tells of other resources for the pod as a whole.
    pub(crate) async fn try_update(
        &self,
        resources: v1::LinuxContainerResources,
    ) -> Result<Response<v1::UpdatePodSandboxResourcesResponse>, Status> {
        let request = v1::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: self.id.clone(),
            overhead: None,
            resources: Some(resources),
        };
        self.node.runtime().update_pod_sandbox_resources(request).await
    }

    pub(crate) async fn ip(&self) -> String {
        self.status().await.network.expect("a pod's network").ip
    }

    pub(crate) async fn stop(&self) {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: self.id.clone(),
        };
        ok(
            "StopPodSandbox",
            self.node.runtime().stop_pod_sandbox(request).await,
        );
    }

    pub(crate) async fn remove(&self) {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: self.id.clone(),
        };
        ok(
            "RemovePodSandbox",
            self.node.runtime().remove_pod_sandbox(request).await,
        );
    }
}

/// The process of a pod's monitor, of the daemon that the node has.
pub(crate) fn monitor_of(node: &Node, pod: &Pod<'_>) -> Pid {
    let record = node.dir().join("s/pods").join(&pod.id).join("pod.json");
    let record = std::fs::read(record).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    let pid = record["monitor_pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok());
    pid.and_then(Pid::from_raw).expect("a process id")
}
