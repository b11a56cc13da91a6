//! Usage of pods and containers in CRI's words, from the samples of [`sampler`](super::sampler).
//!
//! Which fields are set:
//! * a running container: all; any other: attributes and writable layer, the rest unset, in lists too (crictl and
//!   kubelet tell them apart by that);
//! * a ready pod: all. CPU, memory and processes come from the cgroup that kubelet made for it
//!   (`linux.cgroup_parent`); without one they are the sums of its containers and its monitor, and fall when a
//!   container goes. A pod that is not ready: attributes only, and it is in no list;
//! * what the kernel does not tell (PSI on cgroup v1, a limit that is not set) is unset, never zero.
//!
//! `usage_nano_cores` is the mean since the sample before. The first sample has none.
//! `process_count` is what `pids.current` says, as with the peers: threads count, because they are what runs out.
//!
//! Sources: CRI v1 `ContainerStats`, `PodSandboxStats`; KEP-2371 (stats from CRI), KEP-4205 (PSI).

mod encode;
mod to_cri;

use std::sync::Arc;

use bytes::Bytes;
use pausa_layer::Usage;

use super::Pods;
use super::error::PodError;
use super::record::PodState;
use super::sampler::{List, Purpose};
use crate::container::ContainerRecord;
use crate::error::Failure;
use crate::image::Images;
use crate::proto::v1;
use crate::require;

/// Where ImageFsInfo says that writable layers are. Asked and not composed: kubelet joins the two by this text.
pub(super) fn mountpoint(images: &Images) -> Arc<str> {
    let filesystems = images.fs_info(Usage::default()).container_filesystems;
    let id = filesystems.into_iter().next().and_then(|one| one.fs_id);
    id.unwrap_or_default().mountpoint.into()
}

impl Pods {
    /// Usage of one container.
    ///
    /// # Errors
    /// There is no such container, or its cgroup cannot be read.
    pub async fn container_stats(
        &self,
        request: v1::ContainerStatsRequest,
    ) -> Result<v1::ContainerStatsResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        let (_, handle) = self.registry.container(&request.container_id)?;
        handle.greeted().await?;
        let (view, record) = self.container(&request.container_id)?;
        let samples = self.samples(&[view], Purpose::One).await;
        let sample = samples.first().and_then(|pod| pod.containers.get(&record.id));
        if let Some(Err(error)) = sample.map(|sample| &sample.counters) {
            let doing = format!("read the counters of container {}", record.id);
            return Err(PodError::failed(doing, Arc::clone(error)).into());
        }
        Ok(v1::ContainerStatsResponse {
            stats: Some(to_cri::container(&record, sample, &self.writable_layers)),
        })
    }

    /// Usage of the containers that match, as encoded items of ListContainerStats. One whose cgroup cannot be read is left
    /// with what could be.
    pub async fn list_container_stats(&self, filter: v1::ContainerStatsFilter) -> Vec<Bytes> {
        let matches = |record: &ContainerRecord| {
            filter.matches(record.id.as_str(), record.pod.as_str(), &record.config.labels)
        };
        let mut views = self.views();
        views.retain(|view| view.containers.values().any(|record| matches(record)));
        let samples = self.samples(&views, Purpose::List(List::ContainerStats)).await;
        let mut items = Vec::new();
        for (view, sample) in views.iter().zip(&samples) {
            let records = view.containers.values().filter(|record| matches(record));
            items.extend(records.map(|record| {
                let sample = sample.containers.get(&record.id);
                Bytes::from(encode::container(record, sample, &self.writable_layers))
            }));
        }
        items
    }

    /// Usage of one pod.
    ///
    /// # Errors
    /// There is no such pod.
    pub async fn pod_sandbox_stats(
        &self,
        request: v1::PodSandboxStatsRequest,
    ) -> Result<v1::PodSandboxStatsResponse, Failure> {
        require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
        self.registry.pod(&request.pod_sandbox_id)?.greeted().await?;
        let view = self.view(&request.pod_sandbox_id)?;
        let sample = match view.pod.state {
            PodState::Ready => self
                .samples(std::slice::from_ref(&view), Purpose::One)
                .await
                .pop(),
            PodState::Creating | PodState::NotReady => None,
        };
        let stats = to_cri::pod(&view, sample.as_deref(), &self.writable_layers);
        Ok(v1::PodSandboxStatsResponse { stats: Some(stats) })
    }

    /// Usage of the ready pods that match, as encoded items of ListPodSandboxStats.
    pub async fn list_pod_sandbox_stats(&self, filter: v1::PodSandboxStatsFilter) -> Vec<Bytes> {
        let mut views = self.ready_pods();
        views.retain(|view| filter.matches(view.pod.id.as_str(), &view.pod.config.labels));
        let samples = self.samples(&views, Purpose::List(List::PodStats)).await;
        let pods = views.iter().zip(&samples);
        pods.map(|(view, sample)| encode::pod(view, sample, &self.writable_layers).into())
            .collect()
    }
}
