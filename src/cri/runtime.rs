//! RuntimeService: every RPC is one operation of [`crate::sandbox`], which documents it.

use futures_util::StreamExt;
use tonic::{Request, async_trait};

use super::call::{Reply, call};
use super::stream::{Messages, messages};
use super::{NodeInfo, Services, status};
use crate::blocking::blocking;
use crate::error::{ErrorKind, Failure, chain};
use crate::proto::lists::List;
use crate::proto::server::runtime_service_server::RuntimeService;
use crate::proto::v1;
use crate::sandbox::Pods;

/// The version of kubelet's own API that all runtimes report since CRI v1alpha1.
const KUBE_API_VERSION: &str = "0.1.0";

#[async_trait]
impl RuntimeService for Services {
    /// The version that the client sends has never meant anything. kubelet refuses a runtime with an empty field.
    async fn version(&self, _: Request<v1::VersionRequest>) -> Reply<v1::VersionResponse> {
        let version = v1::VersionResponse {
            version: KUBE_API_VERSION.into(),
            runtime_name: self.node.running.config().runtime_name.clone(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        };
        call("Version", "", async { Ok::<_, Failure>(version) }).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Reply<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        let metadata = request
            .config
            .as_ref()
            .and_then(|config| config.metadata.as_ref());
        let name = metadata.map_or_else(String::new, |pod| format!("{}/{}", pod.namespace, pod.name));
        call("RunPodSandbox", &name, self.pods.run_pod_sandbox(request)).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Reply<v1::StopPodSandboxResponse> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        call("StopPodSandbox", &id, self.pods.stop_pod_sandbox(request)).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Reply<v1::RemovePodSandboxResponse> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        call("RemovePodSandbox", &id, self.pods.remove_pod_sandbox(request)).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Reply<v1::PodSandboxStatusResponse> {
        let request = request.into_inner();
        let status = async { self.pods.pod_sandbox_status(&request) };
        call("PodSandboxStatus", &request.pod_sandbox_id, status).await
    }

    async fn list_pod_sandbox(&self, request: Request<v1::ListPodSandboxRequest>) -> Reply<List> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async {
            let items = self.pods.list_pod_sandbox(&filter);
            Ok::<_, Failure>(List { items })
        };
        call("ListPodSandbox", "", list).await
    }

    type StreamPodSandboxesStream = Messages<List>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Reply<Self::StreamPodSandboxesStream> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async { Ok::<_, Failure>(messages(self.pods.list_pod_sandbox(&filter))) };
        call("StreamPodSandboxes", "", list).await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Reply<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        call("CreateContainer", &id, self.pods.create_container(request)).await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Reply<v1::StartContainerResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        call("StartContainer", &id, self.pods.start_container(request)).await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Reply<v1::StopContainerResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        call("StopContainer", &id, self.pods.stop_container(request)).await
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Reply<v1::RemoveContainerResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        call("RemoveContainer", &id, self.pods.remove_container(request)).await
    }

    async fn list_containers(&self, request: Request<v1::ListContainersRequest>) -> Reply<List> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async {
            let items = self.pods.list_containers(&filter);
            Ok::<_, Failure>(List { items })
        };
        call("ListContainers", "", list).await
    }

    type StreamContainersStream = Messages<List>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Reply<Self::StreamContainersStream> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async { Ok::<_, Failure>(messages(self.pods.list_containers(&filter))) };
        call("StreamContainers", "", list).await
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Reply<v1::ContainerStatusResponse> {
        let request = request.into_inner();
        let status = async { self.pods.container_status(&request) };
        call("ContainerStatus", &request.container_id, status).await
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Reply<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        let update = self.pods.update_container_resources(request);
        call("UpdateContainerResources", &id, update).await
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Reply<v1::ReopenContainerLogResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        call("ReopenContainerLog", &id, self.pods.reopen_container_log(request)).await
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Reply<v1::ExecSyncResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        call("ExecSync", &id, self.pods.exec_sync(request)).await
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Reply<v1::ExecResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        call("Exec", &id, self.pods.exec(request)).await
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Reply<v1::AttachResponse> {
        let request = request.into_inner();
        call("Attach", &request.container_id, self.pods.attach(&request)).await
    }

    async fn port_forward(&self, request: Request<v1::PortForwardRequest>) -> Reply<v1::PortForwardResponse> {
        let request = request.into_inner();
        let forward = self.pods.port_forward(&request);
        call("PortForward", &request.pod_sandbox_id, forward).await
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Reply<v1::ContainerStatsResponse> {
        let request = request.into_inner();
        let id = request.container_id.clone();
        call("ContainerStats", &id, self.pods.container_stats(request)).await
    }

    async fn list_container_stats(&self, request: Request<v1::ListContainerStatsRequest>) -> Reply<List> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async {
            let items = self.pods.list_container_stats(filter).await;
            Ok::<_, Failure>(List { items })
        };
        call("ListContainerStats", "", list).await
    }

    type StreamContainerStatsStream = Messages<List>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Reply<Self::StreamContainerStatsStream> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async { Ok::<_, Failure>(messages(self.pods.list_container_stats(filter).await)) };
        call("StreamContainerStats", "", list).await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Reply<v1::PodSandboxStatsResponse> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        call("PodSandboxStats", &id, self.pods.pod_sandbox_stats(request)).await
    }

    async fn list_pod_sandbox_stats(&self, request: Request<v1::ListPodSandboxStatsRequest>) -> Reply<List> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async {
            let items = self.pods.list_pod_sandbox_stats(filter).await;
            Ok::<_, Failure>(List { items })
        };
        call("ListPodSandboxStats", "", list).await
    }

    type StreamPodSandboxStatsStream = Messages<List>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Reply<Self::StreamPodSandboxStatsStream> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async { Ok::<_, Failure>(messages(self.pods.list_pod_sandbox_stats(filter).await)) };
        call("StreamPodSandboxStats", "", list).await
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Reply<v1::UpdateRuntimeConfigResponse> {
        let update = self.pods.update_runtime_config(request.into_inner());
        call("UpdateRuntimeConfig", "", update).await
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Reply<v1::StatusResponse> {
        let verbose = request.into_inner().verbose;
        call("Status", "", status(&self.pods, &self.node, verbose)).await
    }

    /// The cgroup driver, which kubelet then uses too (Kubernetes 1.28).
    async fn runtime_config(&self, _: Request<v1::RuntimeConfigRequest>) -> Reply<v1::RuntimeConfigResponse> {
        let linux = Some(v1::LinuxRuntimeConfiguration {
            cgroup_driver: self.node.cgroup_driver.into(),
        });
        let config = async { Ok::<_, Failure>(v1::RuntimeConfigResponse { linux }) };
        call("RuntimeConfig", "", config).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Reply<v1::UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id.clone();
        let update = self.pods.update_pod_sandbox_resources(request);
        call("UpdatePodSandboxResources", &id, update).await
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Reply<v1::CheckpointContainerResponse> {
        unimplemented("CheckpointContainer").await
    }

    async fn checkpoint_pod(&self, _: Request<v1::CheckpointPodRequest>) -> Reply<v1::CheckpointPodResponse> {
        unimplemented("CheckpointPod").await
    }

    async fn restore_pod(&self, _: Request<v1::RestorePodRequest>) -> Reply<v1::RestorePodResponse> {
        unimplemented("RestorePod").await
    }

    type GetContainerEventsStream = Messages<v1::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Reply<Self::GetContainerEventsStream> {
        let events = self.pods.container_events();
        let events: Self::GetContainerEventsStream =
            Box::pin(events.map(|event| event.map_err(status::from_failure)));
        call("GetContainerEvents", "", async { Ok::<_, Failure>(events) }).await
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Reply<v1::ListMetricDescriptorsResponse> {
        let descriptors = Pods::metric_descriptors();
        let list = async { Ok::<_, Failure>(v1::ListMetricDescriptorsResponse { descriptors }) };
        call("ListMetricDescriptors", "", list).await
    }

    async fn list_pod_sandbox_metrics(&self, _: Request<v1::ListPodSandboxMetricsRequest>) -> Reply<List> {
        let list = async {
            let items = self.pods.list_pod_sandbox_metrics().await;
            Ok::<_, Failure>(List { items })
        };
        call("ListPodSandboxMetrics", "", list).await
    }

    type StreamPodSandboxMetricsStream = Messages<List>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Reply<Self::StreamPodSandboxMetricsStream> {
        let list = async { Ok::<_, Failure>(messages(self.pods.list_pod_sandbox_metrics().await)) };
        call("StreamPodSandboxMetrics", "", list).await
    }
}

/// The answer to an RPC that pausa does not serve yet: clients fall back where they can, as with an older runtime.
async fn unimplemented<T>(rpc: &'static str) -> Reply<T> {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("pausa {version} does not serve {rpc} yet");
    call(rpc, "", async {
        Err(Failure::new(ErrorKind::Unimplemented, text))
    })
    .await
}

/// Whether this node can run pods, with which handlers and features. kubelet wants both conditions in every answer, and
/// takes a node whose NetworkReady is false for not ready. RuntimeReady is true by the fact that somebody answers.
async fn status(pods: &Pods, node: &NodeInfo, verbose: bool) -> Result<v1::StatusResponse, Failure> {
    let network = &pods.services().network;
    let network_ready = match network.readiness() {
        Ok(()) => condition("NetworkReady", true, "", ""),
        Err(reason) => condition("NetworkReady", false, reason.reason, &reason.message),
    };
    let user_namespaces = node.user_namespaces.clone().await;
    let features = v1::RuntimeHandlerFeatures {
        recursive_read_only_mounts: node.recursive_read_only_mounts,
        user_namespaces,
    };
    let config = node.running.config();
    let handlers = config.handlers.keys().map(|name| v1::RuntimeHandler {
        name: name.clone(),
        features: Some(features),
    });
    let mut response = v1::StatusResponse {
        status: Some(v1::RuntimeStatus {
            conditions: vec![condition("RuntimeReady", true, "", ""), network_ready],
        }),
        runtime_handlers: handlers.collect(),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            // Nothing more is needed than for those with a network of their own.
            user_namespaces_host_network: user_namespaces,
            mount_options: true,
        }),
        ..Default::default()
    };
    if verbose {
        let described = network.describe();
        let entries = described.as_object().into_iter().flatten();
        response.info = entries
            .map(|(key, value)| (key.clone(), value.to_string()))
            .collect();
        let services = pods.services();
        for (module, described) in [
            ("apparmor", services.apparmor.load().describe()),
            ("selinux", services.selinux.describe()),
            ("nri", services.nri.describe()),
            ("cdi", describe_cdi(pods).await),
        ] {
            response.info.insert(module.to_owned(), described.to_string());
        }
        let config = serde_json::to_string(&*config)
            .map_err(|source| Failure::from_error(ErrorKind::Internal, &source))?;
        response.info.insert("config".to_owned(), config);
    }
    Ok(response)
}

/// The CDI devices of this node, and what is wrong with their files.
async fn describe_cdi(pods: &Pods) -> serde_json::Value {
    let pods = pods.clone();
    let listing = blocking(move || pods.services().cdi.load().list()).await;
    let devices: Vec<_> = listing
        .devices
        .into_iter()
        .map(|device| serde_json::json!({"name": device.name, "file": device.file}))
        .collect();
    let problems: Vec<_> = listing.problems.iter().map(|problem| chain(problem)).collect();
    serde_json::json!({"devices": devices, "problems": problems})
}

fn condition(kind: &str, status: bool, reason: &str, message: &str) -> v1::RuntimeCondition {
    v1::RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}
