//! ListContainers and StreamContainers: the containers a filter matches. kubelet asks every second.

use super::backend::PodService;
use super::stream::{Messages, messages};
use crate::error::Failure;
use crate::proto::v1;

/// Serves ListContainers.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::ListContainersRequest,
) -> Result<v1::ListContainersResponse, Failure> {
    let containers = pods.containers(request.filter.unwrap_or_default()).await?;
    Ok(v1::ListContainersResponse { containers })
}

/// Serves StreamContainers.
pub(super) async fn stream<P: PodService>(
    pods: &P,
    request: v1::StreamContainersRequest,
) -> Result<Messages<v1::StreamContainersResponse>, Failure> {
    let items = pods.containers(request.filter.unwrap_or_default()).await?;
    Ok(messages(items, |containers| v1::StreamContainersResponse {
        containers,
    }))
}
