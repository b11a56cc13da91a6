//! Usage of pods and containers: what the kernel counted, in CRI's words.
//!
//! ```text
//!   views ─▶ which ones ─┬─▶ layers   writable layers: counted by the kernel where the file system has quotas for projects, else
//!                        │             measured in the background, 10 s old at most when asked for steadily
//!                        └─▶ read     cgroups and /proc, on the blocking pool ─▶ rates ─▶ words (CRI)
//! ```
//!
//! Which fields are set:
//! * a running container: all; any other: attributes and writable layer, the rest unset, in lists too (crictl and
//!   kubelet tell them apart by that);
//! * a ready pod: all. CPU, memory and processes come from the cgroup that kubelet made for it
//!   (`linux.cgroup_parent`); without one they are the sums of its containers and its monitor, and fall when a
//!   container goes. A pod that is not ready: attributes only, and it is in no list;
//! * what the kernel does not tell (PSI on cgroup v1, a limit that is not set) is unset, never zero.
//!
//! `usage_nano_cores` is the mean since an earlier call: see [`rates`]. The first call has none.
//! `process_count` is what `pids.current` says, as with the peers: threads count, because they are what runs out.
//!
//! Must never: hold a lock across a system call; fail a list because of one container; make kubelet wait for the
//! measuring of a large writable layer.
//!
//! Sources: CRI v1 `ContainerStats`, `PodSandboxStats`; KEP-2371 (stats from CRI), KEP-4205 (PSI).

mod full;
mod layers;
mod network;
mod rates;
mod read;
mod sample;
mod to_cri;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use pausa_layer::Usage;

pub(super) use layers::{Measured, Wait};
#[cfg(test)]
pub(super) use network::Traffic;
pub(super) use network::{Interface, interfaces};
pub(super) use read::pod_cgroup;

use full::FullLayers;
use layers::Layers;
use rates::Rates;
use read::Reader;

use super::record::{PodState, PodView};
use super::services::Services;
use super::{Pods, ops};
use crate::blocking::blocking;
use crate::container::ContainerRecord;
use crate::error::Failure;
use crate::id::Id;
use crate::proto::v1;
use crate::quota::Support;
use crate::require;

/// What is remembered between two calls.
#[derive(Debug)]
pub(super) struct Memory {
    layers: Arc<Layers>,
    full: FullLayers,
    rates: Rates,
    /// Where ImageFsInfo says that writable layers are.
    mountpoint: String,
}

impl Memory {
    pub(super) fn new(services: &Services) -> Self {
        // Asked and not composed: kubelet joins the two by this text.
        let filesystems = services.images.fs_info(Usage::default()).container_filesystems;
        let id = filesystems.into_iter().next().and_then(|one| one.fs_id);
        Self {
            layers: Arc::default(),
            full: FullLayers::default(),
            rates: Rates::default(),
            mountpoint: id.unwrap_or_default().mountpoint,
        }
    }
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
        let (view, record) = self.container(&request.container_id)?;
        let reader = self.reader(&[&record], Wait::Current).await;
        let stats = blocking(move || reader.container(&view.pod, &record)).await?;
        Ok(v1::ContainerStatsResponse { stats: Some(stats) })
    }

    /// Usage of the containers that match. One whose cgroup cannot be read is left with what could be.
    pub async fn list_container_stats(&self, filter: v1::ContainerStatsFilter) -> Vec<v1::ContainerStats> {
        let mut wanted = Vec::new();
        for view in self.views() {
            let matching = view.containers.values().filter(|record| {
                filter.matches(record.id.as_str(), record.pod.as_str(), &record.config.labels)
            });
            wanted.extend(matching.map(|record| (view.pod.clone(), record.clone())));
        }
        let records: Vec<_> = wanted.iter().map(|(_, record)| record).collect();
        let reader = self.reader(&records, Wait::First).await;
        blocking(move || {
            let stats = wanted
                .iter()
                .map(|(pod, record)| reader.listed(pod, record).stats);
            stats.collect()
        })
        .await
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
        let view = self.view(&request.pod_sandbox_id)?;
        let stats = if view.pod.state == PodState::Ready {
            let reader = self
                .reader(&containers(std::slice::from_ref(&view)), Wait::Current)
                .await;
            blocking(move || reader.pod(&view)).await
        } else {
            to_cri::pod(&view.pod, None)
        };
        Ok(v1::PodSandboxStatsResponse { stats: Some(stats) })
    }

    /// Usage of the ready pods that match.
    pub async fn list_pod_sandbox_stats(
        &self,
        filter: v1::PodSandboxStatsFilter,
    ) -> Vec<v1::PodSandboxStats> {
        let mut views = self.views();
        views.retain(|view| {
            view.pod.state == PodState::Ready && filter.matches(view.pod.id.as_str(), &view.pod.config.labels)
        });
        let reader = self.reader(&containers(&views), Wait::First).await;
        blocking(move || views.iter().map(|view| reader.pod(view)).collect()).await
    }

    /// All it takes to read these containers, with their writable layers measured.
    async fn reader(&self, records: &[&Arc<ContainerRecord>], wait: Wait) -> Reader {
        Reader {
            services: Arc::clone(&self.services),
            memory: Arc::clone(&self.stats),
            measured: self.measured(records, wait).await,
        }
    }

    /// The writable layers of these containers, as far as known in time.
    pub(super) async fn measured(
        &self,
        records: &[&Arc<ContainerRecord>],
        wait: Wait,
    ) -> HashMap<Id, Measured> {
        let layout = self.services.store.layout();
        let mut layers: Vec<_> = records
            .iter()
            .map(|record| {
                let kept = layout.persistent_container(&record.pod, &record.id);
                (record.id.clone(), record.pod.clone(), kept)
            })
            .collect();
        let mut counted = HashMap::new();
        if self.services.projects.support() != Support::Nothing {
            let (services, memory) = (Arc::clone(&self.services), Arc::clone(&self.stats));
            (layers, counted) = blocking(move || {
                let counted = count(&services, &memory, &layers);
                layers.retain(|(id, ..)| !counted.contains_key(id));
                (layers, counted)
            })
            .await;
        }
        let trees = layers.into_iter().map(|(id, _, kept)| (id, kept.join("upper")));
        let mut measured = layers::measured(&self.stats.layers, trees.collect(), wait).await;
        measured.extend(counted);
        measured
    }
}

/// Asks the kernel about layers (container, pod, persistent directory) with a project of their own, and takes note of the full
/// ones, also of those that share their pod's. Blocks.
fn count(services: &Services, memory: &Memory, layers: &[(Id, Id, PathBuf)]) -> HashMap<Id, Measured> {
    let mut counted = HashMap::new();
    for (id, pod, kept) in layers {
        let Some((project, quota)) = ops::layer_usage(&services.projects, kept) else {
            continue;
        };
        memory.full.look(id, pod, project.shared, &quota);
        if !project.shared {
            let (bytes, inodes) = (quota.bytes, quota.inodes);
            let usage = Usage { bytes, inodes };
            let at = crate::state::now();
            let limit = Some(quota.limit).filter(|limit| *limit > 0);
            counted.insert(id.clone(), Measured { at, usage, limit });
        }
    }
    counted
}

/// The containers of these pods.
pub(super) fn containers(views: &[Arc<PodView>]) -> Vec<&Arc<ContainerRecord>> {
    views.iter().flat_map(|view| view.containers.values()).collect()
}
