//! StartContainer: runs a created container.

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves StartContainer.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::StartContainerRequest,
) -> Result<v1::StartContainerResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    pods.start_container(request.container_id).await?;
    Ok(v1::StartContainerResponse {})
}
