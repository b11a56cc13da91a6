//! What the metrics of a pod or container are made of. A part is missing where there is none, or where nobody told it.

use std::path::Path;
use std::sync::Arc;

use rustix::fs::{major, minor, stat, statvfs};
use rustix::io::Errno;

use crate::cgroups::{CpuStats, MemoryStats};
use crate::proto::v1;
use crate::sandbox::sampler::{self, Counters, Interface, Processes};

#[derive(Debug, Clone, Default)]
pub(super) struct Source<'a> {
    /// Nanoseconds since the epoch.
    pub(super) at: i64,
    pub(super) counters: Option<&'a Counters>,
    pub(super) traffic: &'a [Interface],
    pub(super) layer: Option<Layer<'a>>,
    pub(super) processes: Option<Processes>,
    pub(super) spec: Option<Spec>,
    /// Nanoseconds since the epoch.
    pub(super) started_at: Option<i64>,
}

impl<'a> Source<'a> {
    pub(super) fn cpu(&self) -> Option<&'a CpuStats> {
        self.counters?.stats.cpu.as_ref()
    }

    pub(super) fn memory(&self) -> Option<&'a MemoryStats> {
        self.counters?.stats.memory.as_ref()
    }
}

/// A writable layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) filesystem: &'a FileSystem,
    /// Bytes that the layer takes.
    pub(super) usage: Option<u64>,
    /// Bytes that it may take: its own limit, or the size of the file system.
    pub(super) limit: u64,
}

impl<'a> Layer<'a> {
    pub(super) fn new(filesystem: &'a FileSystem, measured: Option<&sampler::Measured>) -> Self {
        Self {
            filesystem,
            usage: measured.map(|measured| measured.usage.bytes),
            limit: measured
                .and_then(|measured| measured.limit)
                .unwrap_or(filesystem.size),
        }
    }
}

/// The file system of the writable layers.
#[derive(Debug, Default)]
pub(super) struct FileSystem {
    pub(super) device: Arc<str>,
    /// In bytes.
    size: u64,
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

impl FileSystem {
    /// The one that `path` is on. Blocks.
    pub(super) fn of(path: &Path) -> Result<Self, Errno> {
        let device = stat(path)?.st_dev;
        let size = statvfs(path)?;
        Ok(Self {
            device: sampler::device_name(major(device), minor(device)),
            size: size.f_blocks.saturating_mul(size.f_frsize),
            inodes: size.f_files,
            inodes_free: size.f_ffree,
        })
    }
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

impl From<&v1::LinuxContainerResources> for Spec {
    fn from(resources: &v1::LinuxContainerResources) -> Self {
        let given = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
        // -1 is no limit, too.
        let limit = |value: i64| given(value).unwrap_or(0);
        let reservation = resources
            .unified
            .get("memory.min")
            .and_then(|text| text.parse().ok());
        Self {
            cpu_period: given(resources.cpu_period),
            cpu_quota: given(resources.cpu_quota),
            cpu_shares: given(resources.cpu_shares),
            memory_limit: limit(resources.memory_limit_in_bytes),
            swap_limit: limit(resources.memory_swap_limit_in_bytes),
            memory_reservation: reservation.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_says_what_was_asked_for() {
        let spec = |resources: &v1::LinuxContainerResources| Spec::from(resources);
        assert_eq!(spec(&v1::LinuxContainerResources::default()), Spec::default());
        let mut resources = v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 2,
            memory_limit_in_bytes: 1 << 20,
            memory_swap_limit_in_bytes: -1,
            ..Default::default()
        };
        resources.unified.insert("memory.min".into(), "4096".into());
        let expected = Spec {
            cpu_period: Some(100_000),
            cpu_quota: None,
            cpu_shares: Some(2),
            memory_limit: 1 << 20,
            swap_limit: 0,
            memory_reservation: 4096,
        };
        assert_eq!(spec(&resources), expected);
        resources.unified.insert("memory.min".into(), "max".into());
        assert_eq!(spec(&resources).memory_reservation, 0);
    }
}
