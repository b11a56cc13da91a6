//! PodSandboxStats, ListPodSandboxStats and StreamPodSandboxStats: what pods use. Lists are of ready pods.

use super::backend::PodService;
use super::require;
use super::stream::{Messages, messages};
use crate::error::Failure;
use crate::proto::v1;

/// Serves PodSandboxStats.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::PodSandboxStatsRequest,
) -> Result<v1::PodSandboxStatsResponse, Failure> {
    require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
    let stats = Some(pods.pod_stats(request.pod_sandbox_id).await?);
    Ok(v1::PodSandboxStatsResponse { stats })
}

/// Serves ListPodSandboxStats.
pub(super) async fn list<P: PodService>(
    pods: &P,
    request: v1::ListPodSandboxStatsRequest,
) -> Result<v1::ListPodSandboxStatsResponse, Failure> {
    let stats = pods.list_pod_stats(request.filter.unwrap_or_default()).await?;
    Ok(v1::ListPodSandboxStatsResponse { stats })
}

/// Serves StreamPodSandboxStats.
pub(super) async fn stream<P: PodService>(
    pods: &P,
    request: v1::StreamPodSandboxStatsRequest,
) -> Result<Messages<v1::StreamPodSandboxStatsResponse>, Failure> {
    let stats = pods.list_pod_stats(request.filter.unwrap_or_default()).await?;
    Ok(messages(stats, |pod_sandbox_stats| {
        v1::StreamPodSandboxStatsResponse { pod_sandbox_stats }
    }))
}
