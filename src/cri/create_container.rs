//! CreateContainer: a container in a pod that is ready. The same metadata again joins the earlier call.

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves CreateContainer.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::CreateContainerRequest,
) -> Result<v1::CreateContainerResponse, Failure> {
    require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
    let mut config = require::message("config", request.config)?;
    let metadata = require::message("config.metadata", config.metadata.as_ref())?;
    require::text("config.metadata.name", &metadata.name)?;
    config.image = Some(require::image("config.image", config.image.take())?);
    let container_id = pods
        .create_container(request.pod_sandbox_id, config, request.sandbox_config)
        .await?;
    Ok(v1::CreateContainerResponse { container_id })
}
