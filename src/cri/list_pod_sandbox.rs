//! ListPodSandbox and StreamPodSandboxes: the pods a filter matches. kubelet asks every second.

use super::backend::PodService;
use super::stream::{Messages, messages};
use crate::error::Failure;
use crate::proto::v1;

/// Serves ListPodSandbox.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::ListPodSandboxRequest,
) -> Result<v1::ListPodSandboxResponse, Failure> {
    let items = pods.pods(request.filter.unwrap_or_default()).await?;
    Ok(v1::ListPodSandboxResponse { items })
}

/// Serves StreamPodSandboxes.
pub(super) async fn stream<P: PodService>(
    pods: &P,
    request: v1::StreamPodSandboxesRequest,
) -> Result<Messages<v1::StreamPodSandboxesResponse>, Failure> {
    let items = pods.pods(request.filter.unwrap_or_default()).await?;
    Ok(messages(items, |pod_sandboxes| v1::StreamPodSandboxesResponse {
        pod_sandboxes,
    }))
}
