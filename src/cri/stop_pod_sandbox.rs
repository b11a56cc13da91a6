//! StopPodSandbox: ends a pod's containers and its network. Safe to repeat; an unknown pod is stopped.

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves StopPodSandbox.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::StopPodSandboxRequest,
) -> Result<v1::StopPodSandboxResponse, Failure> {
    require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
    pods.stop(request.pod_sandbox_id).await?;
    Ok(v1::StopPodSandboxResponse {})
}
