//! UpdateContainerResources: new limits for a container, in place. What is zero or empty stays.

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves UpdateContainerResources.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::UpdateContainerResourcesRequest,
) -> Result<v1::UpdateContainerResourcesResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    let resources = request.linux.unwrap_or_default();
    pods.update_container_resources(request.container_id, resources, request.annotations)
        .await?;
    Ok(v1::UpdateContainerResourcesResponse {})
}
