//! Reads pods and containers. Blocks; to be called where that is allowed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Depth;
use super::counters::Counters;
use super::devices::Devices;
use super::layers::Measured;
use super::network::{self, Interface};
use super::processes::{self, Processes};
use super::rates::Reading;
use crate::cgroups::{Cgroup, CgroupError, CgroupPath, Cgroups};
use crate::container::{ContainerRecord, RunState};
use crate::error::chain;
use crate::id::Id;
use crate::sandbox::ops;
use crate::sandbox::record::{PodRecord, PodView};
use crate::sandbox::services::Services;

/// Sub-cgroups of a container in which its processes are looked for.
const MAX_CGROUPS: usize = 256;

/// A pod and its containers at one moment.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct PodSample {
    pub(in crate::sandbox) counters: Option<PodCounters>,
    pub(in crate::sandbox) rate: Option<Reading>,
    /// When the traffic was read, in nanoseconds since the epoch.
    pub(in crate::sandbox) at: i64,
    pub(in crate::sandbox) traffic: Vec<Interface>,
    pub(in crate::sandbox) containers: BTreeMap<Id, ContainerSample>,
}

/// What a pod has used.
#[derive(Debug)]
pub(in crate::sandbox) enum PodCounters {
    /// Of the cgroup that kubelet made for it.
    Own(Counters),
    /// It has none: its containers and its monitor together.
    Sum(Counters),
}

/// A container at one moment.
#[derive(Debug)]
pub(in crate::sandbox) struct ContainerSample {
    /// Its first process, if it was running.
    pid: Option<i32>,
    /// None unless it was running.
    pub(in crate::sandbox) counters: Result<Option<Counters>, Arc<CgroupError>>,
    pub(in crate::sandbox) rate: Option<Reading>,
    /// Its writable layer, as far as known.
    pub(in crate::sandbox) layer: Option<Measured>,
    /// With [`Depth::Detailed`].
    pub(in crate::sandbox) processes: Option<Processes>,
}

impl PodSample {
    /// Whether nothing has started or ended since.
    pub(super) fn is_of(&self, view: &PodView) -> bool {
        let mut records = view.containers.values();
        records.all(|record| {
            let sample = self.containers.get(&record.id);
            sample.is_some_and(|sample| sample.pid == pid(record))
        })
    }
}

impl PodCounters {
    pub(in crate::sandbox) fn counters(&self) -> &Counters {
        let (Self::Own(counters) | Self::Sum(counters)) = self;
        counters
    }
}

impl ContainerSample {
    pub(in crate::sandbox) fn counters(&self) -> Option<&Counters> {
        self.counters.as_ref().ok().and_then(Option::as_ref)
    }
}

/// What reading takes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) services: &'a Services,
    pub(super) devices: Devices,
    /// Writable layers, as far as known.
    pub(super) measured: HashMap<Id, Measured>,
    pub(super) depth: Depth,
}

impl Reader<'_> {
    /// Reads a pod and its containers; `before` is the sample that rates begin at. What cannot be read is missing.
    pub(super) fn pod(&self, view: &PodView, before: Option<&PodSample>) -> PodSample {
        let pod = &view.pod;
        let container = |record: &Arc<ContainerRecord>| {
            let before = before.and_then(|before| before.containers.get(&record.id));
            (record.id.clone(), self.container(pod, record, before))
        };
        let containers: BTreeMap<_, _> = view.containers.values().map(container).collect();
        let counters = self.total(pod, &containers).unwrap_or_else(|error| {
            let pod = pod.id.short();
            tracing::warn!(
                pod,
                error = chain(&error),
                "cannot read the counters of a pod; its stats and metrics lack numbers"
            );
            None
        });
        let used = counters.as_ref().map(PodCounters::counters);
        PodSample {
            rate: Reading::after(before.and_then(|before| before.rate), used),
            counters,
            at: crate::state::now(),
            traffic: network::interfaces(pod),
            containers,
        }
    }

    fn container(
        &self,
        pod: &PodRecord,
        record: &ContainerRecord,
        before: Option<&ContainerSample>,
    ) -> ContainerSample {
        let pid = pid(record);
        let read = pid.map_or(Ok(None), |pid| self.running(pod, record, pid));
        let (counters, processes) = match read {
            Ok(None) => (Ok(None), None),
            Ok(Some((counters, processes))) => (Ok(Some(counters)), processes),
            Err(error) => {
                let container = record.id.short();
                tracing::warn!(
                    container,
                    error = chain(&error),
                    "cannot read the counters of a container; its stats and metrics lack numbers"
                );
                (Err(Arc::new(error)), None)
            }
        };
        let used = counters.as_ref().ok().and_then(Option::as_ref);
        ContainerSample {
            pid,
            rate: Reading::after(before.and_then(|before| before.rate), used),
            counters,
            layer: self.measured.get(&record.id).copied(),
            processes,
        }
    }

    fn running(
        &self,
        pod: &PodRecord,
        record: &ContainerRecord,
        pid: i32,
    ) -> Result<Option<(Counters, Option<Processes>)>, CgroupError> {
        let path = ops::cgroup_path(self.services, pod, &record.id)?;
        let Some(cgroup) = self.open(&path, self.depth)? else {
            return Ok(None);
        };
        let pids = match self.depth {
            Depth::Usual => None,
            Depth::Detailed => cgroup.pids_within(MAX_CGROUPS)?,
        };
        let processes = pids.map(|pids| processes::read(&pids, pid));
        Ok(Some((self.counters(&cgroup, self.depth)?, processes)))
    }

    /// What a pod has used: its own cgroup's, or a sum.
    fn total(
        &self,
        pod: &PodRecord,
        containers: &BTreeMap<Id, ContainerSample>,
    ) -> Result<Option<PodCounters>, CgroupError> {
        let cgroups = &self.services.cgroups;
        if let Some(path) = own_cgroup(cgroups, pod)?
            && let Some(cgroup) = self.open(&path, self.depth)?
        {
            return Ok(Some(PodCounters::Own(self.counters(&cgroup, self.depth)?)));
        }
        let monitor = self.open(
            &cgroups.monitor_path(pod.cgroup_parent(), pod.id.as_str())?,
            Depth::Usual,
        )?;
        let monitor = monitor.map(|cgroup| self.counters(&cgroup, Depth::Usual));
        let monitor = monitor.transpose()?;
        let containers = containers.values().filter_map(ContainerSample::counters);
        Ok(Counters::sum(containers.chain(&monitor)).map(PodCounters::Sum))
    }

    /// A cgroup, to be read; none if there is none.
    fn open(&self, path: &CgroupPath, depth: Depth) -> Result<Option<Cgroup>, CgroupError> {
        let cgroups = &self.services.cgroups;
        let opened = match depth {
            Depth::Usual => cgroups.open_counters(path),
            Depth::Detailed => cgroups.open_all_counters(path),
        };
        match opened {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(CgroupError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn counters(&self, cgroup: &Cgroup, depth: Depth) -> Result<Counters, CgroupError> {
        let mut counters = Counters::now();
        counters.stats = match depth {
            Depth::Usual => cgroup.stats()?,
            Depth::Detailed => cgroup.detailed_stats()?,
        };
        counters.pressures = cgroup.pressures();
        let io = std::mem::take(&mut counters.stats.io).into_iter();
        let named = io.map(|io| (self.devices.name(io.major, io.minor), io));
        counters.devices = named.collect();
        Ok(counters)
    }
}

fn pid(record: &ContainerRecord) -> Option<i32> {
    match record.run {
        RunState::Running { pid, .. } => Some(pid),
        RunState::Created | RunState::Exited(_) => None,
    }
}

/// The cgroup that has all of a pod; none without one: the default parent is all pods'.
fn own_cgroup(cgroups: &Cgroups, pod: &PodRecord) -> Result<Option<CgroupPath>, CgroupError> {
    if pod.cgroup_parent().is_empty() {
        return Ok(None);
    }
    let monitor = cgroups.monitor_path(pod.cgroup_parent(), pod.id.as_str())?;
    Ok(monitor.parent())
}
