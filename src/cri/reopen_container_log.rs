//! ReopenContainerLog: a new log file after kubelet moved the old one.

use super::backend::PodService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves ReopenContainerLog.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::ReopenContainerLogRequest,
) -> Result<v1::ReopenContainerLogResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    pods.reopen_container_log(request.container_id).await?;
    Ok(v1::ReopenContainerLogResponse {})
}
