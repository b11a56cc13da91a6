//! RuntimeService: every RPC to its own file.
//!
//! Must never: do anything here but choose the file and name what the request is about, for the log.

use tonic::{Request, async_trait};

use super::backend::{PodService, StreamService};
use super::call::{Reply, call};
use super::stream::Messages;
use super::{
    RuntimeDoor, attach, container_stats, container_status, create_container, exec, exec_sync,
    list_containers, list_pod_sandbox, node_status, pod_sandbox_stats, pod_sandbox_status, port_forward,
    remove_container, remove_pod_sandbox, reopen_container_log, run_pod_sandbox, runtime_config,
    start_container, stop_container, stop_pod_sandbox, unbuilt, update_container_resources,
    update_pod_sandbox_resources, update_runtime_config, version,
};
use crate::proto::v1;
use crate::proto::v1::runtime_service_server::RuntimeService;

#[async_trait]
impl<P: PodService, S: StreamService> RuntimeService for RuntimeDoor<P, S> {
    async fn version(&self, request: Request<v1::VersionRequest>) -> Reply<v1::VersionResponse> {
        let request = request.into_inner();
        call("Version", "", version::answer(request)).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Reply<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        call(
            "RunPodSandbox",
            &run_pod_sandbox::subject(&request),
            run_pod_sandbox::answer(self, request),
        )
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Reply<v1::StopPodSandboxResponse> {
        let request = request.into_inner();
        call(
            "StopPodSandbox",
            &request.pod_sandbox_id.clone(),
            stop_pod_sandbox::answer(&*self.pods, request),
        )
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Reply<v1::RemovePodSandboxResponse> {
        let request = request.into_inner();
        call(
            "RemovePodSandbox",
            &request.pod_sandbox_id.clone(),
            remove_pod_sandbox::answer(&*self.pods, request),
        )
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Reply<v1::PodSandboxStatusResponse> {
        let request = request.into_inner();
        call(
            "PodSandboxStatus",
            &request.pod_sandbox_id.clone(),
            pod_sandbox_status::answer(&*self.pods, request),
        )
        .await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Reply<v1::ListPodSandboxResponse> {
        let request = request.into_inner();
        let work = list_pod_sandbox::answer(&*self.pods, request);
        call("ListPodSandbox", "", work).await
    }

    type StreamPodSandboxesStream = Messages<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Reply<Self::StreamPodSandboxesStream> {
        let request = request.into_inner();
        let work = list_pod_sandbox::stream(&*self.pods, request);
        call("StreamPodSandboxes", "", work).await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Reply<v1::CreateContainerResponse> {
        let request = request.into_inner();
        call(
            "CreateContainer",
            &request.pod_sandbox_id.clone(),
            create_container::answer(&*self.pods, request),
        )
        .await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Reply<v1::StartContainerResponse> {
        let request = request.into_inner();
        call(
            "StartContainer",
            &request.container_id.clone(),
            start_container::answer(&*self.pods, request),
        )
        .await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Reply<v1::StopContainerResponse> {
        let request = request.into_inner();
        call(
            "StopContainer",
            &request.container_id.clone(),
            stop_container::answer(&*self.pods, request),
        )
        .await
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Reply<v1::RemoveContainerResponse> {
        let request = request.into_inner();
        call(
            "RemoveContainer",
            &request.container_id.clone(),
            remove_container::answer(&*self.pods, request),
        )
        .await
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Reply<v1::ListContainersResponse> {
        let request = request.into_inner();
        let work = list_containers::answer(&*self.pods, request);
        call("ListContainers", "", work).await
    }

    type StreamContainersStream = Messages<v1::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Reply<Self::StreamContainersStream> {
        let request = request.into_inner();
        let work = list_containers::stream(&*self.pods, request);
        call("StreamContainers", "", work).await
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Reply<v1::ContainerStatusResponse> {
        let request = request.into_inner();
        call(
            "ContainerStatus",
            &request.container_id.clone(),
            container_status::answer(&*self.pods, request),
        )
        .await
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Reply<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        call(
            "UpdateContainerResources",
            &request.container_id.clone(),
            update_container_resources::answer(&*self.pods, request),
        )
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Reply<v1::ReopenContainerLogResponse> {
        let request = request.into_inner();
        call(
            "ReopenContainerLog",
            &request.container_id.clone(),
            reopen_container_log::answer(&*self.pods, request),
        )
        .await
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Reply<v1::ExecSyncResponse> {
        let request = request.into_inner();
        call(
            "ExecSync",
            &request.container_id.clone(),
            exec_sync::answer(&*self.pods, request),
        )
        .await
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Reply<v1::ExecResponse> {
        let request = request.into_inner();
        let subject = request.container_id.clone();
        call("Exec", &subject, exec::answer(&*self.streams, request)).await
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Reply<v1::AttachResponse> {
        let request = request.into_inner();
        let subject = request.container_id.clone();
        call("Attach", &subject, attach::answer(&*self.streams, request)).await
    }

    async fn port_forward(&self, request: Request<v1::PortForwardRequest>) -> Reply<v1::PortForwardResponse> {
        let request = request.into_inner();
        let subject = request.pod_sandbox_id.clone();
        let work = port_forward::answer(&*self.streams, request);
        call("PortForward", &subject, work).await
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Reply<v1::ContainerStatsResponse> {
        let request = request.into_inner();
        let subject = request.container_id.clone();
        let work = container_stats::answer(&*self.pods, request);
        call("ContainerStats", &subject, work).await
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Reply<v1::ListContainerStatsResponse> {
        let work = container_stats::list(&*self.pods, request.into_inner());
        call("ListContainerStats", "", work).await
    }

    type StreamContainerStatsStream = Messages<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Reply<Self::StreamContainerStatsStream> {
        let work = container_stats::stream(&*self.pods, request.into_inner());
        call("StreamContainerStats", "", work).await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Reply<v1::PodSandboxStatsResponse> {
        let request = request.into_inner();
        let subject = request.pod_sandbox_id.clone();
        let work = pod_sandbox_stats::answer(&*self.pods, request);
        call("PodSandboxStats", &subject, work).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Reply<v1::ListPodSandboxStatsResponse> {
        let work = pod_sandbox_stats::list(&*self.pods, request.into_inner());
        call("ListPodSandboxStats", "", work).await
    }

    type StreamPodSandboxStatsStream = Messages<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Reply<Self::StreamPodSandboxStatsStream> {
        let work = pod_sandbox_stats::stream(&*self.pods, request.into_inner());
        call("StreamPodSandboxStats", "", work).await
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Reply<v1::UpdateRuntimeConfigResponse> {
        let request = request.into_inner();
        call(
            "UpdateRuntimeConfig",
            "",
            update_runtime_config::answer(&*self.pods, request),
        )
        .await
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Reply<v1::StatusResponse> {
        let request = request.into_inner();
        call("Status", "", node_status::answer(self, request)).await
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Reply<v1::CheckpointContainerResponse> {
        call("CheckpointContainer", "", unbuilt::answer("CheckpointContainer")).await
    }

    async fn checkpoint_pod(&self, _: Request<v1::CheckpointPodRequest>) -> Reply<v1::CheckpointPodResponse> {
        call("CheckpointPod", "", unbuilt::answer("CheckpointPod")).await
    }

    async fn restore_pod(&self, _: Request<v1::RestorePodRequest>) -> Reply<v1::RestorePodResponse> {
        call("RestorePod", "", unbuilt::answer("RestorePod")).await
    }

    type GetContainerEventsStream = Messages<v1::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Reply<Self::GetContainerEventsStream> {
        call("GetContainerEvents", "", unbuilt::answer("GetContainerEvents")).await
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Reply<v1::ListMetricDescriptorsResponse> {
        call(
            "ListMetricDescriptors",
            "",
            unbuilt::answer("ListMetricDescriptors"),
        )
        .await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Reply<v1::ListPodSandboxMetricsResponse> {
        call(
            "ListPodSandboxMetrics",
            "",
            unbuilt::answer("ListPodSandboxMetrics"),
        )
        .await
    }

    type StreamPodSandboxMetricsStream = Messages<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Reply<Self::StreamPodSandboxMetricsStream> {
        call(
            "StreamPodSandboxMetrics",
            "",
            unbuilt::answer("StreamPodSandboxMetrics"),
        )
        .await
    }

    async fn runtime_config(&self, _: Request<v1::RuntimeConfigRequest>) -> Reply<v1::RuntimeConfigResponse> {
        call("RuntimeConfig", "", runtime_config::answer(&self.facts)).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Reply<v1::UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        call(
            "UpdatePodSandboxResources",
            &request.pod_sandbox_id.clone(),
            update_pod_sandbox_resources::answer(&*self.pods, request),
        )
        .await
    }
}
