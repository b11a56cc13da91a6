//! Who runs on which CPUs at one moment, for people to look at.
//!
//! Invariant: all parts are of the same moment, so that a CPU of a pinned container is never in the pool, too. What the kernel
//! made of it, partitions, is of a moment later.
//!
//! Must never: be a base for decisions. When it is read, the next moment has begun.

use std::sync::Arc;

use super::{CpuSet, Cpus, Holder, Location, Owner, Place};
use crate::blocking::blocking;
use crate::cgroups::Partition;
use crate::config::{CpuPinning, CpuShortage};
use crate::id::Id;
use crate::telemetry::metrics::CpuStates;

/// Who runs on which CPUs at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The CPUs that can be used.
    pub cpus: Vec<Location>,
    /// Never pinned.
    pub reserved: CpuSet,
    /// The CPUs of everybody who has none of their own.
    pub pool: CpuSet,
    /// How many containers these are.
    pub pool_containers: usize,
    pub pinning: CpuPinning,
    pub on_shortage: CpuShortage,
    /// Everybody outside of the pool, by owner.
    pub holders: Vec<Held>,
}

/// A container outside of the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub id: Id,
    pub owner: Owner,
    /// Whether its CPUs are its own.
    pub pinned: bool,
    /// What its CPUs are to the kernel.
    pub partition: Option<Partition>,
    pub cpus: CpuSet,
    /// The NUMA nodes with memory that the CPUs are near to.
    pub mems: CpuSet,
}

impl Cpus {
    /// How many CPUs are pinned and shared, for metrics.
    pub(crate) fn states(&self) -> CpuStates {
        let state = self.state.lock();
        let pinned = |holder: &&Holder| matches!(holder.place, Place::Pinned(_));
        CpuStates {
            pinned: state.taken().len(),
            pool: state.pool().len(),
            pinned_containers: state.holders.values().filter(pinned).count(),
        }
    }

    /// Who runs where now. During a change, a container still has what it is about to give back.
    pub async fn snapshot(&self) -> Snapshot {
        let state = self.state.lock().clone();
        let (mut holders, mut pool_containers) = (Vec::new(), 0);
        for (id, holder) in &state.holders {
            let (pinned, cpus) = match &holder.place {
                Place::Pinned(cpus) => (true, cpus.union(&holder.changing)),
                Place::Given(_) | Place::Pool if !holder.changing.is_empty() => {
                    (true, holder.changing.clone())
                }
                Place::Given(cpus) => (false, cpus.clone()),
                Place::Pool => {
                    // The others are monitors.
                    pool_containers += usize::from(!holder.owner.container.is_empty());
                    continue;
                }
            };
            let held = Held {
                id: id.clone(),
                owner: holder.owner.clone(),
                pinned,
                partition: None,
                mems: state.topology.memory_nodes(&cpus),
                cpus,
            };
            holders.push((holder.cgroup.clone(), held));
        }
        let cgroups = Arc::clone(&self.cgroups);
        let mut holders: Vec<Held> = blocking(move || {
            let read = holders.into_iter().map(|(cgroup, held)| Held {
                // One whose cgroup cannot be read has ended.
                partition: cgroups.partition(&cgroup).ok().flatten().filter(|_| held.pinned),
                ..held
            });
            read.collect()
        })
        .await;
        holders.sort_by_cached_key(|held| held.owner.to_string());
        Snapshot {
            cpus: state.topology.locations(),
            pool: state.pool(),
            pool_containers,
            reserved: state.reserved,
            pinning: self.pinning,
            on_shortage: self.on_shortage,
            holders,
        }
    }
}
