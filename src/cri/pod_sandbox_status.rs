//! PodSandboxStatus: one pod. kubelet takes NotFound, and only that, as "already gone".

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves PodSandboxStatus.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::PodSandboxStatusRequest,
) -> Result<v1::PodSandboxStatusResponse, Failure> {
    require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
    pods.pod_status(request.pod_sandbox_id, request.verbose).await
}
