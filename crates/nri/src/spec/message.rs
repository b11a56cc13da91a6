//! The message about a container, as far as its spec knows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Linux, LinuxNamespaceType, LinuxResources, LinuxSchedulerFlag, Process, Spec};

use super::linux::NAMESPACES;
use super::seccomp;
use crate::proto::{
    self, Container, Hooks, HugepageLimit, IoPrioClass, LinuxContainer, LinuxCpu, LinuxDevice,
    LinuxDeviceCgroup, LinuxIoPriority, LinuxMemory, LinuxNamespace, LinuxNetDevice, LinuxPids, LinuxRdt,
    LinuxScheduler, LinuxSchedulerPolicy, Mount, OptionalBool, OptionalFileMode, OptionalInt, OptionalInt64,
    OptionalRepeatedString, OptionalString, OptionalUInt32, OptionalUInt64, PosixRlimit, User,
};

/// The message about a container with this spec. Left to the caller are ids, names, labels and annotations, the state
/// with its times, the image, CDI devices, the profile for seccomp that the client asked for, and classes of resources.
pub fn container_message(spec: &Spec) -> Container {
    let process = spec.process().as_ref();
    let list = |list: Option<&Option<Vec<String>>>| list.cloned().flatten().unwrap_or_default();
    Container {
        args: list(process.map(Process::args)),
        env: list(process.map(Process::env)),
        mounts: spec.mounts().iter().flatten().map(mount).collect(),
        hooks: spec.hooks().as_ref().map(hooks),
        linux: Some(linux(spec.linux().as_ref(), process)),
        rlimits: process.map(rlimits).unwrap_or_default(),
        user: process.map(|process| User {
            uid: process.user().uid(),
            gid: process.user().gid(),
            additional_gids: process.user().additional_gids().clone().unwrap_or_default(),
        }),
        ..Container::default()
    }
}

fn mount(mount: &oci_spec::runtime::Mount) -> Mount {
    Mount {
        destination: lossy(mount.destination()),
        r#type: mount.typ().clone().unwrap_or_default(),
        source: optional(mount.source()),
        options: mount.options().clone().unwrap_or_default(),
    }
}

fn hooks(hooks: &oci_spec::runtime::Hooks) -> Hooks {
    let list = |hooks: &Option<Vec<Hook>>| hooks.iter().flatten().map(hook).collect();
    Hooks {
        prestart: list(hooks.prestart()),
        create_runtime: list(hooks.create_runtime()),
        create_container: list(hooks.create_container()),
        start_container: list(hooks.start_container()),
        poststart: list(hooks.poststart()),
        poststop: list(hooks.poststop()),
    }
}

fn hook(hook: &Hook) -> proto::Hook {
    proto::Hook {
        path: lossy(hook.path()),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        timeout: hook.timeout().map(|value| OptionalInt { value }),
    }
}

fn rlimits(process: &Process) -> Vec<PosixRlimit> {
    let limits = process.rlimits().iter().flatten();
    let limits = limits.map(|limit| PosixRlimit {
        r#type: limit.typ().to_string(),
        hard: limit.hard(),
        soft: limit.soft(),
    });
    limits.collect()
}

fn linux(linux: Option<&Linux>, process: Option<&Process>) -> LinuxContainer {
    let of_process = match process {
        Some(process) => LinuxContainer {
            oom_score_adj: process
                .oom_score_adj()
                .map(|score| OptionalInt { value: score.into() }),
            io_priority: process.io_priority().as_ref().map(io_priority),
            scheduler: process.scheduler().as_ref().map(scheduler),
            ..LinuxContainer::default()
        },
        None => LinuxContainer::default(),
    };
    let Some(linux) = linux else { return of_process };
    let namespaces = linux.namespaces().iter().flatten();
    let net_devices = linux.net_devices().iter().flatten();
    LinuxContainer {
        namespaces: namespaces
            .map(|namespace| LinuxNamespace {
                r#type: namespace_name(namespace.typ()).to_owned(),
                path: optional(namespace.path()),
            })
            .collect(),
        devices: linux.devices().iter().flatten().map(device).collect(),
        resources: linux.resources().as_ref().map(resources),
        cgroups_path: optional(linux.cgroups_path()),
        seccomp_policy: linux.seccomp().as_ref().map(seccomp::from_oci),
        sysctl: pairs(linux.sysctl().as_ref()),
        net_devices: net_devices
            .map(|(host, device)| {
                let name = device.name().clone().unwrap_or_default();
                (host.clone(), LinuxNetDevice { name })
            })
            .collect(),
        rdt: linux.intel_rdt().as_ref().map(|rdt| LinuxRdt {
            clos_id: rdt.clos_id().clone().map(|value| OptionalString { value }),
            schemata: rdt
                .schemata()
                .clone()
                .map(|value| OptionalRepeatedString { value }),
            enable_monitoring: rdt.enable_monitoring().map(|value| OptionalBool { value }),
            remove: false,
        }),
        ..of_process
    }
}

fn device(device: &oci_spec::runtime::LinuxDevice) -> LinuxDevice {
    LinuxDevice {
        path: lossy(device.path()),
        r#type: device.typ().as_str().to_owned(),
        major: device.major(),
        minor: device.minor(),
        file_mode: device.file_mode().map(|value| OptionalFileMode { value }),
        uid: device.uid().map(|value| OptionalUInt32 { value }),
        gid: device.gid().map(|value| OptionalUInt32 { value }),
    }
}

fn resources(resources: &LinuxResources) -> proto::LinuxResources {
    let limits = resources.hugepage_limits().iter().flatten();
    let rules = resources.devices().iter().flatten();
    proto::LinuxResources {
        memory: resources.memory().as_ref().map(memory),
        cpu: resources.cpu().as_ref().map(cpu),
        hugepage_limits: limits
            .map(|limit| HugepageLimit {
                page_size: limit.page_size().clone(),
                limit: u64::try_from(limit.limit()).unwrap_or_default(),
            })
            .collect(),
        unified: pairs(resources.unified().as_ref()),
        devices: rules
            .map(|rule| LinuxDeviceCgroup {
                allow: rule.allow(),
                r#type: rule.typ().map(|typ| typ.as_str().to_owned()).unwrap_or_default(),
                major: rule.major().map(int),
                minor: rule.minor().map(int),
                access: rule.access().clone().unwrap_or_default(),
            })
            .collect(),
        pids: resources.pids().map(|pids| LinuxPids { limit: pids.limit() }),
        ..proto::LinuxResources::default()
    }
}

fn memory(memory: &oci_spec::runtime::LinuxMemory) -> LinuxMemory {
    LinuxMemory {
        limit: memory.limit().map(int),
        reservation: memory.reservation().map(int),
        swap: memory.swap().map(int),
        kernel: memory.kernel().map(int),
        kernel_tcp: memory.kernel_tcp().map(int),
        swappiness: memory.swappiness().map(uint),
        disable_oom_killer: memory.disable_oom_killer().map(|value| OptionalBool { value }),
        use_hierarchy: memory.use_hierarchy().map(|value| OptionalBool { value }),
    }
}

fn cpu(cpu: &oci_spec::runtime::LinuxCpu) -> LinuxCpu {
    LinuxCpu {
        shares: cpu.shares().map(uint),
        quota: cpu.quota().map(int),
        period: cpu.period().map(uint),
        realtime_runtime: cpu.realtime_runtime().map(int),
        realtime_period: cpu.realtime_period().map(uint),
        cpus: cpu.cpus().clone().unwrap_or_default(),
        mems: cpu.mems().clone().unwrap_or_default(),
    }
}

fn io_priority(priority: &oci_spec::runtime::LinuxIOPriority) -> LinuxIoPriority {
    let class = IoPrioClass::from_str_name(&priority.class().to_string());
    LinuxIoPriority {
        class: class.unwrap_or_default().into(),
        priority: i32::try_from(priority.priority()).unwrap_or_default(),
    }
}

fn scheduler(scheduler: &oci_spec::runtime::Scheduler) -> LinuxScheduler {
    let policy = LinuxSchedulerPolicy::from_str_name(&scheduler.policy().to_string());
    let flags = scheduler.flags().iter().flatten();
    let flags = flags.filter_map(|flag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => Some(proto::LinuxSchedulerFlag::SchedFlagResetOnFork),
        flag => proto::LinuxSchedulerFlag::from_str_name(&flag.to_string()),
    });
    LinuxScheduler {
        policy: policy.unwrap_or_default().into(),
        nice: scheduler.nice().unwrap_or_default(),
        priority: scheduler.priority().unwrap_or_default(),
        flags: flags.map(i32::from).collect(),
        runtime: scheduler.runtime().unwrap_or_default(),
        deadline: scheduler.deadline().unwrap_or_default(),
        period: scheduler.period().unwrap_or_default(),
    }
}

fn namespace_name(kind: LinuxNamespaceType) -> &'static str {
    let known = NAMESPACES.iter().find(|(_, known)| *known == kind);
    known.map(|(name, _)| *name).unwrap_or_default()
}

fn pairs(map: Option<&HashMap<String, String>>) -> std::collections::BTreeMap<String, String> {
    let pairs = map.into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn optional(path: &Option<PathBuf>) -> String {
    path.as_deref().map(lossy).unwrap_or_default()
}

/// Messages have UTF-8 only.
fn lossy(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

fn int(value: i64) -> OptionalInt64 {
    OptionalInt64 { value }
}

fn uint(value: u64) -> OptionalUInt64 {
    OptionalUInt64 { value }
}
