//! StopContainer: ends a container, with a grace. Safe to repeat; an unknown container is stopped.

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves StopContainer.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::StopContainerRequest,
) -> Result<v1::StopContainerResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    // No grace and less than none are the same: KILL at once.
    let timeout = request.timeout.max(0);
    pods.stop_container(request.container_id, timeout).await?;
    Ok(v1::StopContainerResponse {})
}
