//! UpdatePodSandboxResources: tells of a pod's new limits (Kubernetes 1.33). The pod's cgroup is kubelet's.

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves UpdatePodSandboxResources.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::UpdatePodSandboxResourcesRequest,
) -> Result<v1::UpdatePodSandboxResourcesResponse, Failure> {
    require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
    pods.update_pod_resources(request.pod_sandbox_id, request.overhead, request.resources)
        .await?;
    Ok(v1::UpdatePodSandboxResourcesResponse {})
}
