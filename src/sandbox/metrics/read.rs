//! Reads pods and containers. Blocks; to be called where that is allowed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rustix::fs::{major, minor, stat, statvfs};

use super::processes;
use super::sample::{ContainerSample, Layer, PodSample, Sample, Spec};
use crate::cgroups::{Cgroup, CgroupError, CgroupPath};
use crate::container::{ContainerRecord, RunState};
use crate::error::chain;
use crate::id::Id;
use crate::proto::v1;
use crate::sandbox::record::{PodRecord, PodView};
use crate::sandbox::services::Services;
use crate::sandbox::stats::{Measured, interfaces, pod_cgroup};

/// Sub-cgroups of a container in which its processes are looked for.
const MAX_CGROUPS: usize = 256;

/// What reading takes, and what is the same for all containers of a list.
#[derive(Debug)]
pub(super) struct Reader {
    services: Arc<Services>,
    /// Writable layers, as far as known.
    measured: HashMap<Id, Measured>,
    /// The file system of the writable layers.
    filesystem: Option<Layer>,
    devices: Devices,
}

impl Reader {
    pub(super) fn new(services: Arc<Services>, measured: HashMap<Id, Measured>) -> Self {
        let mut devices = Devices::default();
        let base = services.store.layout().persistent_pods().to_path_buf();
        let filesystem = stat(&base).and_then(|stat| {
            let size = statvfs(&base)?;
            Ok(Layer {
                device: devices.name(major(stat.st_dev), minor(stat.st_dev)).to_owned(),
                usage: None,
                limit: size.f_blocks.saturating_mul(size.f_frsize),
                inodes: size.f_files,
                inodes_free: size.f_ffree,
            })
        });
        Self {
            services,
            measured,
            filesystem: filesystem.ok(),
            devices,
        }
    }

    /// One pod with its running containers. One that cannot be read is left out.
    pub(super) fn pod(&mut self, view: &PodView) -> PodSample {
        let pod = &view.pod;
        let total = self.total(pod).unwrap_or_else(|error| {
            let pod = pod.id.short();
            tracing::warn!(
                pod,
                error = chain(&error),
                "cannot read the counters of a pod; its metrics are left out"
            );
            None
        });
        let containers = view.containers.values().filter_map(|record| {
            self.container(pod, record).unwrap_or_else(|error| {
                let container = record.id.short();
                tracing::warn!(
                    container,
                    error = chain(&error),
                    "cannot read the counters of a container; its metrics are left out"
                );
                None
            })
        });
        PodSample {
            containers: containers.collect(),
            traffic: traffic(pod),
            total,
        }
    }

    /// The cgroup of a pod, where it has one.
    fn total(&mut self, pod: &PodRecord) -> Result<Option<Sample>, CgroupError> {
        let Some(path) = pod_cgroup(&self.services.cgroups, pod)? else {
            return Ok(None);
        };
        let Some(cgroup) = self.open(&path)? else {
            return Ok(None);
        };
        self.counters(&cgroup).map(Some)
    }

    /// One container; none unless it runs.
    fn container(
        &mut self,
        pod: &PodRecord,
        record: &ContainerRecord,
    ) -> Result<Option<ContainerSample>, CgroupError> {
        let RunState::Running { pid, started_at } = record.run else {
            return Ok(None);
        };
        let cgroups = &self.services.cgroups;
        let path = cgroups.container_path(pod.cgroup_parent(), record.id.as_str())?;
        let Some(cgroup) = self.open(&path)? else {
            return Ok(None);
        };
        let pids = cgroup.pids_within(MAX_CGROUPS)?;
        Ok(Some(ContainerSample {
            id: record.id.clone(),
            name: record.name().0,
            image: record.image.name.clone(),
            sample: Sample {
                layer: self.layer(record),
                processes: pids.map(|pids| processes::read(&pids, pid)),
                spec: Some(spec(&record.resources)),
                started_at: Some(started_at),
                ..self.counters(&cgroup)?
            },
        }))
    }

    fn open(&self, path: &CgroupPath) -> Result<Option<Cgroup>, CgroupError> {
        match self.services.cgroups.open_all_counters(path) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(CgroupError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn counters(&mut self, cgroup: &Cgroup) -> Result<Sample, CgroupError> {
        let mut stats = cgroup.detailed_stats()?;
        let io = std::mem::take(&mut stats.io).into_iter();
        let devices = io.map(|io| (self.devices.name(io.major, io.minor).to_owned(), io));
        Ok(Sample {
            at: crate::state::now(),
            devices: devices.collect(),
            stats,
            pressures: cgroup.pressures(),
            ..Sample::default()
        })
    }

    fn layer(&self, record: &ContainerRecord) -> Option<Layer> {
        let filesystem = self.filesystem.as_ref()?;
        let measured = self.measured.get(&record.id);
        Some(Layer {
            usage: measured.map(|measured| measured.usage.bytes),
            limit: measured
                .and_then(|measured| measured.limit)
                .unwrap_or(filesystem.limit),
            ..filesystem.clone()
        })
    }
}

/// The traffic of a pod. Names that are not UTF-8 may have come out the same: the first one stays.
fn traffic(pod: &PodRecord) -> Sample {
    let mut interfaces = interfaces(pod);
    let mut names = BTreeSet::new();
    interfaces.retain(|one| names.insert(one.name.clone()));
    Sample {
        at: crate::state::now(),
        traffic: interfaces,
        ..Sample::default()
    }
}

/// Resources in the metrics' words.
fn spec(resources: &v1::LinuxContainerResources) -> Spec {
    let given = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    // -1 is no limit, too.
    let limit = |value: i64| given(value).unwrap_or(0);
    let reservation = resources
        .unified
        .get("memory.min")
        .and_then(|text| text.parse().ok());
    Spec {
        cpu_period: given(resources.cpu_period),
        cpu_quota: given(resources.cpu_quota),
        cpu_shares: given(resources.cpu_shares),
        memory_limit: limit(resources.memory_limit_in_bytes),
        swap_limit: limit(resources.memory_swap_limit_in_bytes),
        memory_reservation: reservation.unwrap_or(0),
    }
}

/// Names of block devices, each looked up once.
#[derive(Debug, Default)]
struct Devices {
    names: HashMap<(u32, u32), String>,
}

impl Devices {
    /// For example `/dev/sda`; the numbers, for one that has no node.
    fn name(&mut self, major: u32, minor: u32) -> &str {
        let look = || {
            let uevent = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent"));
            let name = uevent.ok().and_then(|text| {
                let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
                Some(format!("/dev/{name}"))
            });
            name.unwrap_or_else(|| format!("{major}:{minor}"))
        };
        self.names.entry((major, minor)).or_insert_with(look)
    }
}

#[cfg(test)]
mod tests;
