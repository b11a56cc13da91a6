//! ContainerStats, ListContainerStats and StreamContainerStats: what containers use. Of those that do not run, only
//! who they are and what they have written.

use super::backend::PodService;
use super::require;
use super::stream::{Messages, messages};
use crate::error::Failure;
use crate::proto::v1;

/// Serves ContainerStats.
pub(super) async fn answer<P: PodService>(
    pods: &P,
    request: v1::ContainerStatsRequest,
) -> Result<v1::ContainerStatsResponse, Failure> {
    require::text("container_id", &request.container_id)?;
    let stats = Some(pods.container_stats(request.container_id).await?);
    Ok(v1::ContainerStatsResponse { stats })
}

/// Serves ListContainerStats.
pub(super) async fn list<P: PodService>(
    pods: &P,
    request: v1::ListContainerStatsRequest,
) -> Result<v1::ListContainerStatsResponse, Failure> {
    let stats = pods
        .list_container_stats(request.filter.unwrap_or_default())
        .await?;
    Ok(v1::ListContainerStatsResponse { stats })
}

/// Serves StreamContainerStats.
pub(super) async fn stream<P: PodService>(
    pods: &P,
    request: v1::StreamContainerStatsRequest,
) -> Result<Messages<v1::StreamContainerStatsResponse>, Failure> {
    let stats = pods
        .list_container_stats(request.filter.unwrap_or_default())
        .await?;
    Ok(messages(stats, |container_stats| {
        v1::StreamContainerStatsResponse { container_stats }
    }))
}
