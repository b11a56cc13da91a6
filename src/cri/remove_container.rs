//! RemoveContainer: forgets a container, after killing it. Safe to repeat; an unknown container is removed.

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves RemoveContainer.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::RemoveContainerRequest,
) -> Result<v1::RemoveContainerResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    pods.remove_container(request.container_id).await?;
    Ok(v1::RemoveContainerResponse {})
}
