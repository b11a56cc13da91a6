//! `linux` of an adjustment: what is in the spec's `linux`, and what became part of its `process`.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxIOPriorityBuilder,
    LinuxMemoryPolicy, LinuxNamespace, LinuxNamespaceType, LinuxNetDevice, LinuxSchedulerFlag, Process,
    Scheduler,
};

use super::check::{SpecError, invalid, known, number_list, parse, path, text};
use super::{Rest, Rules, resources, seccomp, some};
use crate::creation::bare;
use crate::owners::REMOVAL;
use crate::proto::{
    self, IoPrioClass, LinuxContainerAdjustment, LinuxSchedulerPolicy, MpolFlag, MpolMode, OptionalFileMode,
    OptionalUInt32,
};

/// Names of namespaces in the OCI runtime spec. oci-spec prints others.
pub(super) const NAMESPACES: [(&str, LinuxNamespaceType); 8] = [
    ("network", LinuxNamespaceType::Network),
    ("pid", LinuxNamespaceType::Pid),
    ("mount", LinuxNamespaceType::Mount),
    ("ipc", LinuxNamespaceType::Ipc),
    ("uts", LinuxNamespaceType::Uts),
    ("user", LinuxNamespaceType::User),
    ("cgroup", LinuxNamespaceType::Cgroup),
    ("time", LinuxNamespaceType::Time),
];

/// Largest device numbers of the kernel: 12 and 20 bits.
const NUMBERS: (i64, i64) = (0xfff, 0xf_ffff);

pub(super) fn apply_process(
    wanted: &LinuxContainerAdjustment,
    process: &mut Process,
    rest: &mut Rest,
) -> Result<(), SpecError> {
    if let Some(score) = wanted.oom_score_adj {
        let value = i32::try_from(score.value).ok();
        let value = value.filter(|value| (-1000..=1000).contains(value));
        let error = || invalid("linux.oom_score_adj", score.value, "from -1000 to 1000");
        process.set_oom_score_adj(Some(value.ok_or_else(error)?));
    }
    if let Some(wanted) = wanted.io_priority {
        const CLASS: &str = "linux.io_priority.class";
        let class: IoPrioClass = known(CLASS, wanted.class)?;
        if !(0..=7).contains(&wanted.priority) {
            return Err(invalid(
                "linux.io_priority.priority",
                wanted.priority,
                "from 0 to 7",
            ));
        }
        process.set_io_priority(match class {
            IoPrioClass::IoprioClassNone => None,
            class => {
                let class: IOPriorityClass = parse(CLASS, class.as_str_name(), "a class of I/O")?;
                let oci = LinuxIOPriorityBuilder::default().class(class);
                // Building fails only if a field is missing.
                oci.priority(wanted.priority).build().ok()
            }
        });
    }
    if let Some(wanted) = &wanted.scheduler {
        process.set_scheduler(scheduler(wanted, rest)?);
    }
    Ok(())
}

pub(super) fn apply(
    wanted: &LinuxContainerAdjustment,
    linux: &mut Linux,
    rules: Rules,
    rest: &mut Rest,
) -> Result<(), SpecError> {
    for wanted in &wanted.devices {
        device(wanted, linux)?;
    }
    if !wanted.cgroups_path.is_empty() {
        const FIELD: &str = "linux.cgroups_path";
        if wanted.cgroups_path.split('/').any(|part| part == "..") {
            return Err(invalid(FIELD, &wanted.cgroups_path, "a path without `..`"));
        }
        linux.set_cgroups_path(Some(text(FIELD, &wanted.cgroups_path)?.into()));
    }
    if let Some(policy) = &wanted.seccomp_policy {
        linux.set_seccomp(Some(seccomp::to_oci(policy)?));
    }
    for wanted in &wanted.namespaces {
        namespace(wanted, linux)?;
    }
    for (name, value) in removals_first(&wanted.sysctl) {
        sysctl(name, value, linux)?;
    }
    for (name, wanted) in removals_first(&wanted.net_devices) {
        net_device(name, wanted, linux)?;
    }
    if let Some(wanted) = &wanted.memory_policy {
        linux.set_memory_policy(Some(memory_policy(wanted)?));
    }
    if let Some(wanted) = &wanted.resources {
        resources::apply(wanted, linux.resources_mut().get_or_insert_default(), rules)?;
        rest.blockio_class = wanted.blockio_class.as_ref().map(|class| class.value.clone());
        rest.rdt_class = wanted.rdt_class.as_ref().map(|class| class.value.clone());
    }
    if let Some(class) = &rest.rdt_class {
        linux.set_intel_rdt(resources::rdt_class(class)?);
    }
    if let Some(wanted) = &wanted.rdt {
        resources::apply_rdt(wanted, linux.intel_rdt_mut())?;
    }
    Ok(())
}

/// The device, and the right to use it. The rule for a device that is removed stays: others may have its numbers.
fn device(wanted: &proto::LinuxDevice, linux: &mut Linux) -> Result<(), SpecError> {
    let target = path("linux.devices.path", bare(&wanted.path))?;
    let devices = linux.devices_mut().get_or_insert_default();
    devices.retain(|known| *known.path() != target);
    if wanted.path.starts_with(REMOVAL) {
        return Ok(());
    }
    let (typ, rule) = match wanted.r#type.as_str() {
        "c" | "u" => (LinuxDeviceType::C, Some("rw")),
        "b" => (LinuxDeviceType::B, Some("rwm")),
        "p" => (LinuxDeviceType::P, None),
        other => return Err(invalid("linux.devices.type", other, "b, c, u or p")),
    };
    for (field, value, limit) in [
        ("linux.devices.major", wanted.major, NUMBERS.0),
        ("linux.devices.minor", wanted.minor, NUMBERS.1),
    ] {
        if !(0..=limit).contains(&value) {
            return Err(invalid(
                field,
                value,
                "a number of a device: 12 bits, or 20 of the minor",
            ));
        }
    }
    let mut oci = LinuxDevice::default();
    oci.set_path(target)
        .set_typ(typ)
        .set_major(wanted.major)
        .set_minor(wanted.minor)
        // Go programs leave the bits for the type of file in it.
        .set_file_mode(wanted.file_mode.map(|OptionalFileMode { value }| value & 0o7777))
        .set_uid(wanted.uid.map(|OptionalUInt32 { value }| value))
        .set_gid(wanted.gid.map(|OptionalUInt32 { value }| value));
    devices.push(oci);
    if let Some(access) = rule {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(typ))
            .set_major(Some(wanted.major))
            .set_minor(Some(wanted.minor))
            .set_access(Some(access.to_owned()));
        let resources = linux.resources_mut().get_or_insert_default();
        resources.devices_mut().get_or_insert_default().push(rule);
    }
    Ok(())
}

fn namespace(wanted: &proto::LinuxNamespace, linux: &mut Linux) -> Result<(), SpecError> {
    const TYPE: &str = "linux.namespaces.type";
    let name = bare(&wanted.r#type);
    let kind = NAMESPACES.iter().find(|(known, _)| *known == name);
    let (_, kind) = kind.ok_or_else(|| invalid(TYPE, name, "a type of the OCI runtime spec"))?;
    let own = Some(&wanted.path).filter(|path| !path.is_empty());
    let target = own.map(|own| path("linux.namespaces.path", own)).transpose()?;
    let namespaces = linux.namespaces_mut().get_or_insert_default();
    if name != wanted.r#type {
        namespaces.retain(|known| known.typ() != *kind);
        return Ok(());
    }
    let mut oci = LinuxNamespace::default();
    oci.set_typ(*kind).set_path(target);
    match namespaces.iter_mut().find(|known| known.typ() == *kind) {
        Some(known) => *known = oci,
        None => namespaces.push(oci),
    }
    Ok(())
}

fn removals_first<V>(map: &BTreeMap<String, V>) -> impl Iterator<Item = (&String, &V)> {
    let removals = map.iter().filter(|(key, _)| key.starts_with(REMOVAL));
    removals.chain(map.iter().filter(|(key, _)| !key.starts_with(REMOVAL)))
}

/// Only what belongs to a namespace of the container: the rest is the node's, and no runtime sets it.
fn sysctl(name: &str, value: &str, linux: &mut Linux) -> Result<(), SpecError> {
    const FIELD: &str = "linux.sysctl";
    let key = bare(name).replace('/', ".");
    if key.split('.').any(str::is_empty) || key.contains('\0') {
        return Err(invalid(FIELD, name, "a name of a sysctl"));
    }
    if name.starts_with(REMOVAL) {
        linux.sysctl_mut().get_or_insert_default().remove(&key);
        return Ok(());
    }
    let kind = match key.as_str() {
        key if key.starts_with("net.") => Some(LinuxNamespaceType::Network),
        key if ["fs.mqueue.", "kernel.shm", "kernel.msg"]
            .iter()
            .any(|part| key.starts_with(part)) =>
        {
            Some(LinuxNamespaceType::Ipc)
        }
        "kernel.sem" => Some(LinuxNamespaceType::Ipc),
        "kernel.domainname" => Some(LinuxNamespaceType::Uts),
        _ => None,
    };
    let mut namespaces = linux.namespaces().iter().flatten();
    if !namespaces.any(|namespace| Some(namespace.typ()) == kind) {
        return Err(invalid(FIELD, name, "one of a namespace that the container has"));
    }
    let value = text(FIELD, value)?;
    linux.sysctl_mut().get_or_insert_default().insert(key, value);
    Ok(())
}

/// Moves a device of the node into the container's network namespace.
fn net_device(name: &str, wanted: &proto::LinuxNetDevice, linux: &mut Linux) -> Result<(), SpecError> {
    let interface = |field, name: &str| {
        let odd = |c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace();
        match name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(odd) {
            true => Err(invalid(field, name, "a name of an interface, of up to 15 bytes")),
            false => Ok(name.to_owned()),
        }
    };
    let key = interface("linux.net_devices", bare(name))?;
    let devices = linux.net_devices_mut().get_or_insert_default();
    if name.starts_with(REMOVAL) {
        devices.remove(&key);
        return Ok(());
    }
    let mut device = LinuxNetDevice::default();
    // Without a name of its own it keeps that of the node.
    device.set_name(match wanted.name.as_str() {
        "" => Some(String::new()),
        name => Some(interface("linux.net_devices.name", name)?),
    });
    devices.insert(key, device);
    Ok(())
}

fn memory_policy(wanted: &proto::LinuxMemoryPolicy) -> Result<LinuxMemoryPolicy, SpecError> {
    const MODE: &str = "linux.memory_policy.mode";
    const FLAGS: &str = "linux.memory_policy.flags";
    let mode: MpolMode = known(MODE, wanted.mode)?;
    let flags = wanted.flags.iter().map(|flag| {
        let flag: MpolFlag = known(FLAGS, *flag)?;
        parse(FLAGS, flag.as_str_name(), "a flag of set_mempolicy(2)")
    });
    let nodes = Some(&wanted.nodes).filter(|nodes| !nodes.is_empty());
    let nodes = nodes.map(|nodes| number_list("linux.memory_policy.nodes", nodes));
    let mut oci = LinuxMemoryPolicy::default();
    oci.set_mode(parse(MODE, mode.as_str_name(), "a mode of set_mempolicy(2)")?)
        .set_nodes(nodes.transpose()?)
        .set_flags(some(flags.collect::<Result<_, _>>()?));
    Ok(oci)
}

/// None for the policy that stands for none.
fn scheduler(wanted: &proto::LinuxScheduler, rest: &mut Rest) -> Result<Option<Scheduler>, SpecError> {
    const POLICY: &str = "linux.scheduler.policy";
    const FLAGS: &str = "linux.scheduler.flags";
    let policy: LinuxSchedulerPolicy = known(POLICY, wanted.policy)?;
    if policy == LinuxSchedulerPolicy::SchedNone {
        return Ok(None);
    }
    let mut flags = Vec::new();
    for flag in &wanted.flags {
        let flag: proto::LinuxSchedulerFlag = known(FLAGS, *flag)?;
        let name = flag.as_str_name();
        let oci = match flag {
            proto::LinuxSchedulerFlag::SchedFlagResetOnFork => LinuxSchedulerFlag::SchedResetOnFork,
            _ => parse(FLAGS, name, "a flag of sched_setattr(2)")?,
        };
        if matches!(
            oci,
            LinuxSchedulerFlag::SchedResetOnFork | LinuxSchedulerFlag::SchedFlagDLOverrun
        ) {
            rest.scheduler_flags.push(name);
        }
        flags.push(oci);
    }
    if !(-20..=19).contains(&wanted.nice) {
        return Err(invalid("linux.scheduler.nice", wanted.nice, "from -20 to 19"));
    }
    if !(0..=99).contains(&wanted.priority) {
        return Err(invalid(
            "linux.scheduler.priority",
            wanted.priority,
            "from 0 to 99",
        ));
    }
    let given = |value: u64| (value != 0).then_some(value);
    let mut oci = Scheduler::default();
    oci.set_policy(parse(POLICY, policy.as_str_name(), "a policy of sched(7)")?)
        .set_nice((wanted.nice != 0).then_some(wanted.nice))
        .set_priority((wanted.priority != 0).then_some(wanted.priority))
        .set_flags(some(flags))
        .set_runtime(given(wanted.runtime))
        .set_deadline(given(wanted.deadline))
        .set_period(given(wanted.period));
    Ok(Some(oci))
}
