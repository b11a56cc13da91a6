//! Reads pods and containers. Blocks; to be called where that is allowed.

use std::collections::HashMap;
use std::sync::Arc;

use super::layers::Measured;
use super::sample::Sample;
use super::{Memory, network, to_cri};
use crate::cgroups::{CgroupError, CgroupPath, Cgroups};
use crate::container::{ContainerRecord, RunState};
use crate::error::chain;
use crate::id::Id;
use crate::proto::v1;
use crate::sandbox::error::PodError;
use crate::sandbox::record::{PodRecord, PodView};
use crate::sandbox::services::Services;

/// What reading takes.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) services: Arc<Services>,
    pub(super) memory: Arc<Memory>,
    /// Writable layers, as far as known.
    pub(super) measured: HashMap<Id, Measured>,
}

/// A container in CRI's to_cri, and what its pod's sum needs of it.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) stats: v1::ContainerStats,
    sample: Option<Sample>,
}

impl Reader {
    pub(super) fn container(
        &self,
        pod: &PodRecord,
        record: &ContainerRecord,
    ) -> Result<v1::ContainerStats, PodError> {
        let failed = |error: CgroupError| {
            let doing = format!("read the counters of container {}", record.id);
            PodError::failed(doing, error)
        };
        let sample = self.sample(pod, record).map_err(failed)?;
        Ok(self.to_cri(record, sample.as_ref()))
    }

    /// One container of a list: one that cannot be read shows without numbers.
    pub(super) fn listed(&self, pod: &PodRecord, record: &ContainerRecord) -> Listed {
        let sample = self.sample(pod, record).unwrap_or_else(|error| {
            let container = record.id.short();
            tracing::warn!(
                container,
                error = chain(&error),
                "cannot read a container's usage; it is listed without numbers"
            );
            None
        });
        Listed {
            stats: self.to_cri(record, sample.as_ref()),
            sample,
        }
    }

    /// One pod with its containers.
    pub(super) fn pod(&self, view: &PodView) -> v1::PodSandboxStats {
        let pod = &view.pod;
        let listed: Vec<_> = view
            .containers
            .values()
            .map(|record| self.listed(pod, record))
            .collect();
        let sample = self.pod_sample(pod, &listed).unwrap_or_else(|error| {
            let pod = pod.id.short();
            tracing::warn!(
                pod,
                error = chain(&error),
                "cannot read a pod's usage; it is listed without numbers"
            );
            None
        });
        let rate = self.rate(&pod.id, sample.as_ref());
        let usage = to_cri::Usage {
            sample: sample.as_ref(),
            rate,
        };
        let linux = v1::LinuxPodSandboxStats {
            cpu: usage.cpu(),
            memory: usage.memory(),
            network: network::usage(pod),
            process: usage.processes(),
            io: usage.io(),
            containers: listed.into_iter().map(|listed| listed.stats).collect(),
        };
        to_cri::pod(pod, Some(linux))
    }

    fn to_cri(&self, record: &ContainerRecord, sample: Option<&Sample>) -> v1::ContainerStats {
        let usage = to_cri::Usage {
            sample,
            rate: self.rate(&record.id, sample),
        };
        v1::ContainerStats {
            attributes: Some(to_cri::container_attributes(record)),
            cpu: usage.cpu(),
            memory: usage.memory(),
            writable_layer: self
                .measured
                .get(&record.id)
                .map(|measured| to_cri::filesystem(measured, &self.memory.mountpoint)),
            swap: usage.swap(),
            io: usage.io(),
        }
    }

    fn rate(&self, id: &Id, sample: Option<&Sample>) -> Option<u64> {
        let sample = sample?;
        let usage = sample.stats.cpu.as_ref()?.usage_ns;
        self.memory.rates.rate(id, sample.instant, usage)
    }

    /// The counters of a container; none unless it runs.
    fn sample(&self, pod: &PodRecord, record: &ContainerRecord) -> Result<Option<Sample>, CgroupError> {
        let RunState::Running { .. } = record.run else {
            return Ok(None);
        };
        let cgroups = &self.services.cgroups;
        let path = cgroups.container_path(pod.cgroup_parent(), record.id.as_str())?;
        Sample::read(cgroups, &path)
    }

    /// The counters of a pod: those of its own cgroup, or a sum.
    fn pod_sample(&self, pod: &PodRecord, containers: &[Listed]) -> Result<Option<Sample>, CgroupError> {
        let cgroups = &self.services.cgroups;
        if let Some(path) = pod_cgroup(cgroups, pod)?
            && let Some(sample) = Sample::read(cgroups, &path)?
        {
            return Ok(Some(sample));
        }
        let monitor = cgroups.monitor_path(pod.cgroup_parent(), pod.id.as_str())?;
        let monitor = Sample::read(cgroups, &monitor)?;
        let containers = containers.iter().filter_map(|listed| listed.sample.as_ref());
        Ok(Sample::sum(containers.chain(&monitor)))
    }
}

/// The cgroup that has all of a pod; none without one: the default parent is all pods'.
pub(in crate::sandbox) fn pod_cgroup(
    cgroups: &Cgroups,
    pod: &PodRecord,
) -> Result<Option<CgroupPath>, CgroupError> {
    if pod.cgroup_parent().is_empty() {
        return Ok(None);
    }
    let monitor = cgroups.monitor_path(pod.cgroup_parent(), pod.id.as_str())?;
    Ok(monitor.parent())
}
