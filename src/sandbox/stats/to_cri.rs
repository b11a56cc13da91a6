//! Samples in CRI's words. What is not known is unset.

use crate::cgroups::{Pressure, Stalls};
use crate::container::ContainerRecord;
use crate::proto::v1;
use crate::sandbox::record::PodView;
use crate::sandbox::sampler::{ContainerSample, Counters, Interface, Measured, PodCounters, PodSample};

/// The interface that CNI makes first.
const DEFAULT: &str = "eth0";

/// A container, with all attributes as they were given.
pub(super) fn container(
    record: &ContainerRecord,
    sample: Option<&ContainerSample>,
    mountpoint: &str,
) -> v1::ContainerStats {
    let config = &record.config;
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: record.id.to_string(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }),
        ..container_usage(sample, mountpoint)
    }
}

/// [`container`] without its attributes.
pub(super) fn container_usage(sample: Option<&ContainerSample>, mountpoint: &str) -> v1::ContainerStats {
    let usage = Usage {
        counters: sample.and_then(ContainerSample::counters),
        rate: sample.and_then(|sample| sample.rate?.rate),
    };
    let layer = sample.and_then(|sample| sample.layer.as_ref());
    v1::ContainerStats {
        attributes: None,
        cpu: usage.cpu(),
        memory: usage.memory(),
        writable_layer: layer.map(|layer| filesystem(layer, mountpoint)),
        swap: usage.swap(),
        io: usage.io(),
    }
}

/// A pod with its containers; one without a sample has no usage.
pub(super) fn pod(view: &PodView, sample: Option<&PodSample>, mountpoint: &str) -> v1::PodSandboxStats {
    let config = &view.pod.config;
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: view.pod.id.to_string(),
            metadata: config.metadata.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        }),
        linux: sample.map(|sample| {
            let containers = view.containers.values();
            v1::LinuxPodSandboxStats {
                containers: containers
                    .map(|record| container(record, sample.containers.get(&record.id), mountpoint))
                    .collect(),
                ..pod_usage(sample)
            }
        }),
        windows: None,
    }
}

/// What a pod uses, without its containers.
pub(super) fn pod_usage(sample: &PodSample) -> v1::LinuxPodSandboxStats {
    let usage = Usage {
        counters: sample.counters.as_ref().map(PodCounters::counters),
        rate: sample.rate.and_then(|reading| reading.rate),
    };
    v1::LinuxPodSandboxStats {
        cpu: usage.cpu(),
        memory: usage.memory(),
        network: network(&sample.traffic, sample.at),
        process: usage.processes(),
        io: usage.io(),
        containers: Vec::new(),
    }
}

/// What a pod or container uses.
#[derive(Debug, Clone, Copy)]
struct Usage<'a> {
    counters: Option<&'a Counters>,
    /// Nanoseconds of CPU time per second.
    rate: Option<u64>,
}

impl Usage<'_> {
    fn cpu(self) -> Option<v1::CpuUsage> {
        let counters = self.counters?;
        let cpu = counters.stats.cpu.as_ref()?;
        Some(v1::CpuUsage {
            timestamp: counters.at,
            usage_core_nano_seconds: Some(value(cpu.usage_ns)),
            usage_nano_cores: self.rate.map(value),
            psi: counters.pressures.cpu.as_ref().map(pressure),
        })
    }

    fn memory(self) -> Option<v1::MemoryUsage> {
        let counters = self.counters?;
        let memory = counters.stats.memory.as_ref()?;
        let available = |limit: u64| limit.saturating_sub(memory.working_set);
        Some(v1::MemoryUsage {
            timestamp: counters.at,
            working_set_bytes: Some(value(memory.working_set)),
            available_bytes: memory.limit.map(available).map(value),
            usage_bytes: Some(value(memory.usage)),
            rss_bytes: Some(value(memory.rss)),
            page_faults: Some(value(memory.page_faults)),
            major_page_faults: Some(value(memory.major_page_faults)),
            psi: counters.pressures.memory.as_ref().map(pressure),
        })
    }

    fn swap(self) -> Option<v1::SwapUsage> {
        let counters = self.counters?;
        let memory = counters.stats.memory.as_ref()?;
        let available = |limit: u64| limit.saturating_sub(memory.swap);
        Some(v1::SwapUsage {
            timestamp: counters.at,
            swap_available_bytes: memory.swap_limit.map(available).map(value),
            swap_usage_bytes: Some(value(memory.swap)),
        })
    }

    /// CRI has nothing but pressure here.
    fn io(self) -> Option<v1::IoUsage> {
        let counters = self.counters?;
        let io = counters.pressures.io.as_ref()?;
        Some(v1::IoUsage {
            timestamp: counters.at,
            psi: Some(pressure(io)),
        })
    }

    fn processes(self) -> Option<v1::ProcessUsage> {
        let counters = self.counters?;
        Some(v1::ProcessUsage {
            timestamp: counters.at,
            process_count: Some(value(counters.stats.pids.as_ref()?.current)),
        })
    }
}

/// Space of a writable layer, and where it is.
fn filesystem(measured: &Measured, mountpoint: &str) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: measured.at,
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: mountpoint.to_owned(),
        }),
        used_bytes: Some(value(measured.usage.bytes)),
        inodes_used: Some(value(measured.usage.inodes)),
    }
}

/// eth0, or else the first, is the default one; CRI wants it apart from the others.
fn network(all: &[Interface], timestamp: i64) -> Option<v1::NetworkUsage> {
    let default = all
        .iter()
        .find(|one| one.name == DEFAULT)
        .or_else(|| all.first())?;
    let others = all.iter().filter(|one| !std::ptr::eq(*one, default));
    Some(v1::NetworkUsage {
        timestamp,
        default_interface: Some(interface(default)),
        interfaces: others.map(interface).collect(),
    })
}

fn interface(interface: &Interface) -> v1::NetworkInterfaceUsage {
    v1::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: Some(value(interface.received.bytes)),
        rx_errors: Some(value(interface.received.errors)),
        tx_bytes: Some(value(interface.sent.bytes)),
        tx_errors: Some(value(interface.sent.errors)),
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
