//! From hooks, sysctls and scheduling of a spec to the plan of a container that has such.

use std::path::Path;

use oci_spec::runtime::{
    Hook, IOPriorityClass, Linux, LinuxIOPriority, LinuxMemoryPolicy, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler as SpecScheduler,
    Spec,
};
use pausa_monitor_protocol::{HookCommand, HookPlan, MemoryPolicy, Scheduler, Scheduling};

use crate::cgroups::cpus::CpuSet;
use crate::oci::error::OciError;
use crate::oci::mounts::path_bytes;

/// Longest time that a hook may be given, in seconds: what the whole start may take.
const TIMEOUT_MAX: u32 = 120;

/// The hooks of the container `id`, whose bundle is in this directory.
///
/// # Errors
/// A hook that cannot be run.
pub fn hook_plan(spec: &Spec, id: &str, bundle: &Path) -> Result<HookPlan, OciError> {
    let Some(hooks) = spec.hooks().as_ref() else {
        return Ok(HookPlan::default());
    };
    let root = spec.root().as_ref().map(|root| root.path().as_path());
    let mut create_runtime = commands("hooks.prestart", hooks.prestart())?;
    create_runtime.extend(commands("hooks.createRuntime", hooks.create_runtime())?);
    Ok(HookPlan {
        create_runtime,
        create_container: commands("hooks.createContainer", hooks.create_container())?,
        start_container: commands("hooks.startContainer", hooks.start_container())?,
        poststart: commands("hooks.poststart", hooks.poststart())?,
        poststop: commands("hooks.poststop", hooks.poststop())?,
        bundle: path_bytes(bundle),
        root: path_bytes(root.unwrap_or(bundle)),
        state: state(spec, id, bundle),
    })
}

fn commands(field: &'static str, hooks: &Option<Vec<Hook>>) -> Result<Vec<HookCommand>, OciError> {
    let command = |hook: &Hook| {
        let path = hook.path();
        let wrong = |problem| Err(OciError::spec(field, path.display(), problem));
        if !path.is_absolute() {
            return wrong("the path of a hook must be absolute");
        }
        let timeout = match hook.timeout() {
            None => None,
            Some(seconds) => match u32::try_from(seconds) {
                Ok(seconds @ 1..) => Some(seconds.min(TIMEOUT_MAX)),
                _ => return wrong("the timeout of a hook must be at least 1 s"),
            },
        };
        let bytes = |list: &Option<Vec<String>>| -> Vec<Vec<u8>> {
            let list = list.as_deref().unwrap_or_default();
            list.iter().map(|text| text.clone().into_bytes()).collect()
        };
        let path = path_bytes(path);
        let mut args = bytes(hook.args());
        if args.is_empty() {
            args.push(path.clone());
        }
        Ok(HookCommand {
            path,
            args,
            env: bytes(hook.env()),
            timeout,
        })
    };
    hooks.as_deref().unwrap_or_default().iter().map(command).collect()
}

/// See `HookPlan::state` and the OCI runtime specification, "State".
fn state(spec: &Spec, id: &str, bundle: &Path) -> Vec<u8> {
    let state = serde_json::json!({
        "ociVersion": spec.version(),
        "id": id,
        "bundle": bundle,
        "annotations": spec.annotations(),
    });
    let text = state.to_string();
    let members = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    members.unwrap_or_default().as_bytes().to_vec()
}

/// `linux.sysctl`, sorted.
pub(super) fn sysctls(linux: &Linux) -> Vec<(String, String)> {
    let mut all: Vec<_> = linux.sysctl().iter().flatten().collect();
    all.sort();
    all.into_iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

pub(super) fn scheduling(process: &Process, linux: &Linux) -> Result<Scheduling, OciError> {
    Ok(Scheduling {
        scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
        io_priority: process.io_priority().as_ref().map(io_priority).transpose()?,
        memory: linux.memory_policy().as_ref().map(memory_policy).transpose()?,
    })
}

/// Numbers as in linux/sched.h.
fn scheduler(scheduler: &SpecScheduler) -> Result<Scheduler, OciError> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flags = scheduler.flags().as_deref().unwrap_or_default();
    let flags = flags.iter().map(|flag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    });
    let priority = scheduler.priority().unwrap_or(0);
    let priority = u32::try_from(priority)
        .map_err(|_| OciError::spec("process.scheduler.priority", priority, "it must not be negative"))?;
    Ok(Scheduler {
        policy,
        flags: flags.fold(0, |all, flag| all | flag),
        nice: scheduler.nice().unwrap_or(0),
        priority,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}

/// Class and level as in linux/ioprio.h.
fn io_priority(priority: &LinuxIOPriority) -> Result<u16, OciError> {
    let class: u16 = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = u16::try_from(priority.priority()).ok().filter(|level| *level < 8);
    let level = level.ok_or_else(|| {
        OciError::spec(
            "process.ioPriority.priority",
            priority.priority(),
            "it must be 0 to 7",
        )
    })?;
    Ok(class << 13 | level)
}

/// Numbers as in linux/mempolicy.h.
fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy, OciError> {
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().as_deref().unwrap_or_default();
    let flags = flags.iter().map(|flag| match flag {
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
    });
    let text = policy.nodes().as_deref().unwrap_or_default();
    let wrong = || {
        OciError::spec(
            "linux.memoryPolicy.nodes",
            text,
            "it must be a list such as 0-1,3",
        )
    };
    let nodes: CpuSet = text.parse().map_err(|_| wrong())?;
    let mut mask: Vec<u64> = Vec::new();
    for node in nodes.iter() {
        let word = node / 64;
        if mask.len() <= word {
            mask.resize(word + 1, 0);
        }
        mask[word] |= 1_u64 << (node % 64);
    }
    Ok(MemoryPolicy {
        mode: flags.fold(mode, |mode, flag| mode | flag),
        nodes: mask,
    })
}

#[cfg(test)]
mod tests;
