//! From records to messages for plugins, and from the resources in a message to a change of limits.

use oci_spec::runtime::Spec;
use pausa_nri::proto::security_profile::ProfileType;
use pausa_nri::proto::{
    CdiDevice, Container, ContainerState, HugepageLimit, Image, LinuxCpu, LinuxMemory, LinuxNamespace,
    LinuxPodSandbox, LinuxResources, OptionalInt64, OptionalString, OptionalUInt64, PodSandbox,
    SecurityProfile,
};

use crate::container::{ContainerRecord, RunState};
use crate::error::{ErrorKind, Kinded};
use crate::oci;
use crate::proto::v1;
use crate::sandbox::ops::read_spec;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;

/// A field of resources that would be left out otherwise.
#[derive(Debug, thiserror::Error)]
pub(in crate::sandbox) enum NotEnforced {
    #[error("linux.resources.{field} is set: pausa has no such limit, use `unified` on cgroup v2")]
    Ever { field: &'static str },
    #[error("linux.resources.{field} is set: it can only be set while the container is being created")]
    AfterCreation { field: &'static str },
}

impl Kinded for NotEnforced {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unimplemented
    }
}

pub(super) fn pod(services: &Services, record: &PodRecord) -> PodSandbox {
    let name = record.name();
    let of_monitor = services
        .cgroups
        .monitor_path(record.cgroup_parent(), record.id.as_str());
    let netns = record.netns.iter().map(|path| LinuxNamespace {
        r#type: "network".to_owned(),
        path: path.display().to_string(),
    });
    PodSandbox {
        id: record.id.to_string(),
        name: name.name,
        uid: name.uid,
        namespace: name.namespace,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.handler.clone(),
        linux: Some(LinuxPodSandbox {
            pod_overhead: record.overhead.as_ref().map(resources),
            pod_resources: record.resources.as_ref().map(resources),
            cgroup_parent: record.cgroup_parent().to_owned(),
            cgroups_path: of_monitor.map(|path| path.spec_path()).unwrap_or_default(),
            namespaces: netns.collect(),
            resources: None,
        }),
        pid: u32::try_from(record.monitor_pid).unwrap_or_default(),
        ips: record
            .network
            .iter()
            .flat_map(|network| &network.ips)
            .map(ToString::to_string)
            .collect(),
    }
}

/// What plugins are shown of a container's spec.
pub(super) fn of_spec(spec: &Spec) -> Container {
    let annotations = spec.annotations().clone().unwrap_or_default();
    Container {
        annotations: annotations.into_iter().collect(),
        ..pausa_nri::spec::container_message(spec)
    }
}

/// A container whose spec is in its bundle.
pub(super) fn recorded(services: &Services, record: &ContainerRecord) -> Container {
    // Plugins get along without what a spec says that cannot be read any more.
    let of_spec = read_spec(services, record).map(|spec| of_spec(&spec));
    container(record, of_spec.unwrap_or_default())
}

/// A container with what [`of_spec`] has given.
pub(super) fn container(record: &ContainerRecord, mut of_spec: Container) -> Container {
    let mut annotations = std::mem::take(&mut of_spec.annotations);
    annotations.extend(record.config.annotations.clone());
    let mut linux = of_spec.linux.take().unwrap_or_default();
    linux.seccomp_profile = oci::security_context(&record.config)
        .and_then(|security| security.seccomp.as_ref())
        .map(|profile| SecurityProfile {
            profile_type: match profile.profile_type() {
                v1::security_profile::ProfileType::RuntimeDefault => ProfileType::RuntimeDefault.into(),
                v1::security_profile::ProfileType::Unconfined => ProfileType::Unconfined.into(),
                v1::security_profile::ProfileType::Localhost => ProfileType::Localhost.into(),
            },
            localhost_ref: profile.localhost_ref.clone(),
        });
    if let Some(resources) = &mut linux.resources {
        resources.blockio_class = record.block_io.as_ref().map(|class| text(&class.class));
        resources.rdt_class = record.rdt_class.as_deref().map(text);
    }
    let message = Container {
        id: record.id.to_string(),
        pod_sandbox_id: record.pod.to_string(),
        name: record.name().0,
        labels: record.config.labels.clone(),
        annotations,
        linux: Some(linux),
        created_at: record.created_at,
        cdi_devices: record
            .config
            .cdi_devices
            .iter()
            .map(|device| CdiDevice {
                name: device.name.clone(),
            })
            .collect(),
        image: Some(Image {
            name: record.image.name.clone(),
            digest: digest_of(&record.image.reference).to_owned(),
            config_digest: record.image.id.clone(),
        }),
        ..of_spec
    };
    match &record.run {
        RunState::Created => Container {
            state: ContainerState::ContainerCreated.into(),
            ..message
        },
        RunState::Running { pid, started_at } => Container {
            state: ContainerState::ContainerRunning.into(),
            pid: u32::try_from(*pid).unwrap_or_default(),
            started_at: *started_at,
            ..message
        },
        RunState::Exited(exit) => Container {
            state: ContainerState::ContainerStopped.into(),
            started_at: exit.started_at,
            finished_at: exit.finished_at,
            exit_code: exit.code,
            status_reason: exit.reason.as_str().to_owned(),
            status_message: exit.message.clone(),
            ..message
        },
    }
}

/// `sha256:…` of a repository digest; nothing of an id.
fn digest_of(reference: &str) -> &str {
    reference.split_once('@').map_or("", |(_, digest)| digest)
}

fn text(value: &str) -> OptionalString {
    OptionalString {
        value: value.to_owned(),
    }
}

/// What CRI gives; 0 and empty are not given.
pub(super) fn resources(given: &v1::LinuxContainerResources) -> LinuxResources {
    let signed = |value: i64| (value != 0).then_some(OptionalInt64 { value });
    let unsigned = |value: i64| {
        let value = u64::try_from(value).ok().filter(|value| *value != 0);
        value.map(|value| OptionalUInt64 { value })
    };
    LinuxResources {
        memory: Some(LinuxMemory {
            limit: signed(given.memory_limit_in_bytes),
            swap: signed(given.memory_swap_limit_in_bytes),
            ..LinuxMemory::default()
        }),
        cpu: Some(LinuxCpu {
            shares: unsigned(given.cpu_shares),
            quota: signed(given.cpu_quota),
            period: unsigned(given.cpu_period),
            cpus: given.cpuset_cpus.clone(),
            mems: given.cpuset_mems.clone(),
            ..LinuxCpu::default()
        }),
        hugepage_limits: given
            .hugepage_limits
            .iter()
            .map(|limit| HugepageLimit {
                page_size: limit.page_size.clone(),
                limit: limit.limit,
            })
            .collect(),
        unified: given.unified.clone(),
        ..LinuxResources::default()
    }
}

/// The change of limits that a plugin wants for a container that exists.
///
/// # Errors
/// A limit that is not among those of CRI.
pub(super) fn update_of(wanted: &LinuxResources) -> Result<v1::LinuxContainerResources, NotEnforced> {
    for (is_set, field) in [
        (wanted.pids.is_some(), "pids"),
        (wanted.blockio_class.is_some(), "blockio_class"),
        (wanted.rdt_class.is_some(), "rdt_class"),
    ] {
        if is_set {
            return Err(NotEnforced::AfterCreation { field });
        }
    }
    change_of(wanted)
}

/// The change of limits that a plugin wants, but for the limit of processes and the classes.
///
/// # Errors
/// A limit that is not among those of CRI.
pub(in crate::sandbox) fn change_of(
    wanted: &LinuxResources,
) -> Result<v1::LinuxContainerResources, NotEnforced> {
    let memory = wanted.memory.unwrap_or_default();
    let cpu = wanted.cpu.clone().unwrap_or_default();
    for (is_set, field) in [
        (memory.reservation.is_some(), "memory.reservation"),
        (memory.kernel.is_some(), "memory.kernel"),
        (memory.kernel_tcp.is_some(), "memory.kernel_tcp"),
        (memory.swappiness.is_some(), "memory.swappiness"),
        (memory.disable_oom_killer.is_some(), "memory.disable_oom_killer"),
        (memory.use_hierarchy.is_some(), "memory.use_hierarchy"),
        (cpu.realtime_runtime.is_some(), "cpu.realtime_runtime"),
        (cpu.realtime_period.is_some(), "cpu.realtime_period"),
    ] {
        if is_set {
            return Err(NotEnforced::Ever { field });
        }
    }
    let signed = |value: Option<OptionalInt64>| value.map_or(0, |value| value.value);
    let unsigned = |value: Option<OptionalUInt64>| {
        value.map_or(0, |value| i64::try_from(value.value).unwrap_or(i64::MAX))
    };
    Ok(v1::LinuxContainerResources {
        cpu_period: unsigned(cpu.period),
        cpu_quota: signed(cpu.quota),
        cpu_shares: unsigned(cpu.shares),
        memory_limit_in_bytes: signed(memory.limit),
        memory_swap_limit_in_bytes: signed(memory.swap),
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        hugepage_limits: wanted
            .hugepage_limits
            .iter()
            .map(|limit| v1::HugepageLimit {
                page_size: limit.page_size.clone(),
                limit: limit.limit,
            })
            .collect(),
        unified: wanted.unified.clone(),
        oom_score_adj: 0,
    })
}

#[cfg(test)]
mod tests;
