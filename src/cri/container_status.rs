//! ContainerStatus: one container. kubelet takes NotFound, and only that, as "already gone".

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves ContainerStatus.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::ContainerStatusRequest,
) -> Result<v1::ContainerStatusResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    pods.container_status(request.container_id, request.verbose).await
}
