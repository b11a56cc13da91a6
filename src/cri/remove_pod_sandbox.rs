//! RemovePodSandbox: forgets a pod and all it had. Safe to repeat; an unknown pod is removed.

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves RemovePodSandbox.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::RemovePodSandboxRequest,
) -> Result<v1::RemovePodSandboxResponse, Failure> {
    require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
    pods.remove(request.pod_sandbox_id).await?;
    Ok(v1::RemovePodSandboxResponse {})
}
