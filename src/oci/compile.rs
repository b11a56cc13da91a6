//! From a runtime spec to the flat plan that a monitor carries out.
//!
//! The spec may have been written by an earlier version or edited by a tool: what cannot be done is an error and never
//! skipped. The caller sends the descriptors; see [`compile()`] for their order.

mod extensions;
mod mounts;

use std::path::Path;

pub use extensions::hook_plan;
use oci_spec::runtime::{Mount, PosixRlimit, PosixRlimitType, Spec};
use pausa_monitor_protocol::{
    ContainerPlan, ExtendedPlan, IoPlan, LogPlan, NamespacePlan, ProcessPlan, Propagation, Rlimit,
};

use super::capabilities;
use super::devices;
use super::error::OciError;
use super::mounts::path_bytes;
use super::process;
use super::programs::SeccompPrograms;
use crate::cgroups::Layout;

/// The input of [`compile()`].
#[derive(Debug)]
pub struct CompileInput<'a> {
    pub id: &'a str,
    /// The directory of the bundle.
    pub bundle: &'a Path,
    pub spec: &'a Spec,
    /// See [`super::namespace_plan`]: the spec has paths, the monitor has descriptors.
    pub namespaces: &'a NamespacePlan,
    pub cgroups: &'a Layout,
    pub io: IoPlan,
    pub log: Option<LogPlan>,
    pub programs: &'a SeccompPrograms,
}

/// The plan of a container.
///
/// `container.fds` is left empty. The caller appends one role for each descriptor it sends, in the order it sends them:
/// first [`Root`](pausa_monitor_protocol::FdRole::Root), then the log, then what
/// [`Cgroup::join_fds`](crate::cgroups::Cgroup::join_fds) gives, then the OOM events.
///
/// # Errors
/// A spec that cannot be carried out, or a seccomp filter that cannot be compiled.
pub fn compile(input: &CompileInput<'_>) -> Result<ExtendedPlan, OciError> {
    let spec = input.spec;
    let missing = |field: &'static str| OciError::spec(field, "", "it is missing");
    let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
    let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
    let bytes = |list: &Option<Vec<String>>| {
        let list = list.as_deref().unwrap_or_default();
        list.iter().map(|path| path.clone().into_bytes()).collect()
    };
    let process = spec.process().as_ref().ok_or_else(|| missing("process"))?;
    let container = ContainerPlan {
        id: input.id.to_owned(),
        fds: Vec::new(),
        namespaces: input.namespaces.clone(),
        root_propagation: propagation(linux.rootfs_propagation().as_deref())?,
        root_readonly: root.readonly().unwrap_or(false),
        mounts: mounts::plan(
            spec.mounts().as_deref().unwrap_or_default(),
            root.path(),
            input.cgroups,
            linux.mount_label().as_deref(),
        )?,
        devices: devices::plan(linux.devices().as_deref())?,
        masked_paths: bytes(linux.masked_paths()),
        readonly_paths: readonly_paths(spec, input.cgroups, bytes(linux.readonly_paths())),
        io: input.io,
        log: input.log,
        process: exec_process(spec, input.programs)?,
    };
    Ok(ExtendedPlan {
        container,
        hooks: hook_plan(spec, input.id, input.bundle)?,
        sysctls: extensions::sysctls(linux),
        scheduling: extensions::scheduling(process, linux)?,
    })
}

/// The spec's paths, and on cgroup v1 the directory that holds the hierarchies: mount points are created in it, so it
/// becomes read-only only after all mounts.
fn readonly_paths(spec: &Spec, cgroups: &Layout, mut paths: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let readonly = |mount: &&Mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        mount.typ().as_deref() == Some("cgroup") && options.iter().any(|option| option == "ro")
    };
    if !cgroups.is_v2() {
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        paths.extend(
            mounts
                .iter()
                .filter(readonly)
                .map(|mount| path_bytes(mount.destination())),
        );
    }
    paths
}

/// The plan of a container's process. An exec has the same identity, environment, limits and filter; its caller
/// replaces `args`, `terminal` and `terminal_size`.
///
/// # Errors
/// A spec whose process cannot be carried out, or a seccomp filter that cannot be compiled.
pub fn exec_process(spec: &Spec, programs: &SeccompPrograms) -> Result<ProcessPlan, OciError> {
    let missing = || OciError::spec("process", "", "it is missing");
    let process = spec.process().as_ref().ok_or_else(missing)?;
    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let user = process.user();
    let args = process.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        return Err(OciError::spec("process.args", "", "it is missing"));
    }
    let size = process.console_size().as_ref().map(|size| {
        let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        (cells(size.height()), cells(size.width()))
    });
    let limits = process.rlimits().as_deref().unwrap_or_default();
    Ok(ProcessPlan {
        args: args.iter().map(|arg| arg.clone().into_bytes()).collect(),
        env: process::from_spec(process.env().as_deref(), spec.annotations().as_ref())?,
        cwd: path_bytes(process.cwd()),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022),
        capabilities: capabilities::from_oci(process.capabilities().as_ref()),
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        seccomp: filter.map(|filter| programs.program(filter)).transpose()?,
        rlimits: limits.iter().map(rlimit).collect(),
        oom_score_adj: process.oom_score_adj(),
        apparmor: process.apparmor_profile().clone(),
        selinux: process.selinux_label().clone(),
        terminal: process.terminal().unwrap_or(false),
        terminal_size: size,
    })
}

fn propagation(text: Option<&str>) -> Result<Propagation, OciError> {
    match text {
        None | Some("" | "private" | "rprivate") => Ok(Propagation::Private),
        Some("slave" | "rslave") => Ok(Propagation::Slave),
        Some("shared" | "rshared") => Ok(Propagation::Shared),
        Some(other) => Err(OciError::spec(
            "linux.rootfsPropagation",
            other,
            "it must be rprivate, rslave or rshared",
        )),
    }
}

/// Numbers as in `asm-generic/resource.h`, which x86 and arm use.
fn rlimit(limit: &PosixRlimit) -> Rlimit {
    let resource = match limit.typ() {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    };
    Rlimit {
        resource,
        soft: limit.soft(),
        hard: limit.hard(),
    }
}

#[cfg(test)]
mod tests;
