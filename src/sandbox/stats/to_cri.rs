//! Numbers in CRI's words. What is not known is unset.

use super::layers::Measured;
use super::sample::Sample;
use crate::cgroups::{Pressure, Stalls};
use crate::container::ContainerRecord;
use crate::proto::v1;
use crate::sandbox::record::PodRecord;

/// What a pod or container uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage<'a> {
    pub(super) sample: Option<&'a Sample>,
    /// Nanoseconds of CPU time per second.
    pub(super) rate: Option<u64>,
}

impl Usage<'_> {
    pub(super) fn cpu(self) -> Option<v1::CpuUsage> {
        let sample = self.sample?;
        let cpu = sample.stats.cpu.as_ref()?;
        Some(v1::CpuUsage {
            timestamp: sample.at,
            usage_core_nano_seconds: Some(value(cpu.usage_ns)),
            usage_nano_cores: self.rate.map(value),
            psi: sample.pressures.cpu.as_ref().map(pressure),
        })
    }

    pub(super) fn memory(self) -> Option<v1::MemoryUsage> {
        let sample = self.sample?;
        let memory = sample.stats.memory.as_ref()?;
        let available = |limit: u64| limit.saturating_sub(memory.working_set);
        Some(v1::MemoryUsage {
            timestamp: sample.at,
            working_set_bytes: Some(value(memory.working_set)),
            available_bytes: memory.limit.map(available).map(value),
            usage_bytes: Some(value(memory.usage)),
            rss_bytes: Some(value(memory.rss)),
            page_faults: Some(value(memory.page_faults)),
            major_page_faults: Some(value(memory.major_page_faults)),
            psi: sample.pressures.memory.as_ref().map(pressure),
        })
    }

    pub(super) fn swap(self) -> Option<v1::SwapUsage> {
        let sample = self.sample?;
        let memory = sample.stats.memory.as_ref()?;
        let available = |limit: u64| limit.saturating_sub(memory.swap);
        Some(v1::SwapUsage {
            timestamp: sample.at,
            swap_available_bytes: memory.swap_limit.map(available).map(value),
            swap_usage_bytes: Some(value(memory.swap)),
        })
    }

    /// CRI has nothing but pressure here.
    pub(super) fn io(self) -> Option<v1::IoUsage> {
        let sample = self.sample?;
        let io = sample.pressures.io.as_ref()?;
        Some(v1::IoUsage {
            timestamp: sample.at,
            psi: Some(pressure(io)),
        })
    }

    pub(super) fn processes(self) -> Option<v1::ProcessUsage> {
        let sample = self.sample?;
        Some(v1::ProcessUsage {
            timestamp: sample.at,
            process_count: Some(value(sample.stats.pids.as_ref()?.current)),
        })
    }
}

/// Space of a writable layer, and where it is.
pub(super) fn filesystem(measured: &Measured, mountpoint: &str) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: measured.at,
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: mountpoint.to_owned(),
        }),
        used_bytes: Some(value(measured.usage.bytes)),
        inodes_used: Some(value(measured.usage.inodes)),
    }
}

/// Which container it is, all as it was given.
pub(super) fn container_attributes(record: &ContainerRecord) -> v1::ContainerAttributes {
    v1::ContainerAttributes {
        id: record.id.to_string(),
        metadata: record.config.metadata.clone(),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
    }
}

/// A pod; one that is not ready has no usage.
pub(super) fn pod(pod: &PodRecord, linux: Option<v1::LinuxPodSandboxStats>) -> v1::PodSandboxStats {
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: pod.id.to_string(),
            metadata: pod.config.metadata.clone(),
            labels: pod.config.labels.clone(),
            annotations: pod.config.annotations.clone(),
        }),
        linux,
        windows: None,
    }
}

fn value(value: u64) -> v1::UInt64Value {
    v1::UInt64Value { value }
}

fn pressure(pressure: &Pressure) -> v1::PsiStats {
    let data = |stalls: &Stalls| v1::PsiData {
        total: stalls.total_ns,
        avg10: stalls.avg10,
        avg60: stalls.avg60,
        avg300: stalls.avg300,
    };
    v1::PsiStats {
        full: pressure.full.as_ref().map(data),
        some: pressure.some.as_ref().map(data),
    }
}

#[cfg(test)]
mod tests;
