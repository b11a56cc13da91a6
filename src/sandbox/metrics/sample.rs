//! What the kernel says of a pod or a container. A part is missing where there is none, or where nobody told it.

use crate::cgroups::{CpuStats, DeviceIo, MemoryStats, Pressures, Stats};
use crate::id::Id;
use crate::sandbox::stats::Interface;

/// One pod.
#[derive(Debug)]
pub(super) struct PodSample {
    pub(super) traffic: Sample,
    /// Of the pod's own cgroup; none without one.
    pub(super) total: Option<Sample>,
    pub(super) containers: Vec<ContainerSample>,
}

/// One running container.
#[derive(Debug)]
pub(super) struct ContainerSample {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) image: String,
    pub(super) sample: Sample,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// Nanoseconds since the epoch.
    pub(super) at: i64,
    pub(super) stats: Stats,
    pub(super) pressures: Pressures,
    /// The block devices of `stats`, with their names.
    pub(super) devices: Vec<(String, DeviceIo)>,
    pub(super) traffic: Vec<Interface>,
    pub(super) layer: Option<Layer>,
    pub(super) processes: Option<Processes>,
    pub(super) spec: Option<Spec>,
    /// Nanoseconds since the epoch.
    pub(super) started_at: Option<i64>,
}

impl Sample {
    pub(super) fn cpu(&self) -> Option<&CpuStats> {
        self.stats.cpu.as_ref()
    }

    pub(super) fn memory(&self) -> Option<&MemoryStats> {
        self.stats.memory.as_ref()
    }
}

/// A writable layer and its file system.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    pub(super) device: String,
    /// Bytes that the layer takes.
    pub(super) usage: Option<u64>,
    /// Bytes that it may take: its own limit, or the size of the file system.
    pub(super) limit: u64,
    /// Inodes of the file system.
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

/// The processes of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Processes {
    pub(super) count: u64,
    /// Open descriptors of all of them, and sockets among these.
    pub(super) descriptors: Option<u64>,
    pub(super) sockets: Option<u64>,
    /// How many descriptors the first process may open.
    pub(super) max_descriptors: Option<u64>,
}

/// What was asked for, then every update. 0 is no limit; the rest is missing if it was not asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spec {
    /// Microseconds.
    pub(super) cpu_period: Option<u64>,
    pub(super) cpu_quota: Option<u64>,
    pub(super) cpu_shares: Option<u64>,
    /// Bytes.
    pub(super) memory_limit: u64,
    /// Memory and swap together.
    pub(super) swap_limit: u64,
    pub(super) memory_reservation: u64,
}
