//! Puts a container's spec together from its parts.
//!
//! Masked and read-only paths are taken from CRI as they are: proto3 cannot tell an empty list from a missing one, and
//! an empty list is how kubelet says `procMount: Unmasked`. The defaults apply only without a security context.

use std::path::PathBuf;

use oci_spec::runtime::{
    Box as ConsoleSize, Linux, LinuxIntelRdt, LinuxNamespace, LinuxNamespaceType, Process, Root, Spec, User,
};
use pausa_monitor_protocol::Propagation;

use super::error::OciError;
use super::mounts::Mounts;
use super::{
    ContainerInput, annotations, capabilities, devices, hooks, mounts, namespaces, process, resources,
    security, userns,
};
use crate::proto::v1;

pub(crate) const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

pub(crate) const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The OCI runtime spec of a container.
///
/// # Errors
/// The first field that is wrong, not supported, or asks for what this node lacks.
pub fn generate(input: &ContainerInput<'_>) -> Result<Spec, OciError> {
    let default = v1::LinuxContainerSecurityContext::default();
    let security = super::security_context(input.config).unwrap_or(&default);
    check_privileged(input, security.privileged)?;
    let users = userns::container_users(input.pod.config, input.config, input.user)?;
    let mounts = mounts::mounts(input, users, security.readonly_rootfs)?;
    let (process, exact_env) = process_of(input, security)?;

    let mut annotations = annotations::annotations(input);
    annotations.extend(exact_env.map(|exact| (process::EXACT_ENV.to_owned(), exact)));
    let mut root = Root::default();
    root.set_path(input.rootfs.to_path_buf())
        .set_readonly(Some(security.readonly_rootfs));
    let mut namespaces = namespaces::to_oci(input.namespaces, &input.pod.namespaces, input.target_pid)?;
    let mut linux = linux(input, security, &mounts)?;
    if let Some(range) = users {
        let mut own = LinuxNamespace::default();
        own.set_typ(LinuxNamespaceType::User).set_path(None);
        namespaces.push(own);
        linux
            .set_uid_mappings(Some(userns::to_oci(range)))
            .set_gid_mappings(Some(userns::to_oci(range)));
    }
    let mut seccomp = security::seccomp(&input.prepared.seccomp, &bounding(&process), input.host)?;
    // In a user namespace the kernel sees to it, and who is privileged can do anything with the node's disks.
    if input.limited_layer && users.is_none() && !security.privileged {
        seccomp = Some(security::keep_projects(seccomp, input.host)?);
    }
    linux.set_namespaces(Some(namespaces)).set_seccomp(seccomp);
    let mut spec = Spec::default();
    // Older versions of crun refuse any later one, and nothing here needs it.
    spec.set_version("1.0.2".to_owned())
        .set_root(Some(root))
        .set_mounts(Some(mounts.all))
        .set_process(Some(process))
        // The pod's UTS namespace has it; a runtime must not set the host's by mistake.
        .set_hostname(None)
        .set_annotations(Some(annotations))
        .set_linux(Some(linux));
    process::keeping_exact_env(&mut spec, |spec| input.prepared.cdi.apply(spec)).map_err(OciError::cdi)?;
    hooks::add(&input.prepared.hooks, input.config, &mut spec)?;
    Ok(spec)
}

/// A container may be privileged only in a pod that was announced as such.
fn check_privileged(input: &ContainerInput<'_>, privileged: bool) -> Result<(), OciError> {
    let pod = super::pod_security_context(input.pod.config);
    if privileged && !pod.is_some_and(|pod| pod.privileged) {
        let reason = "the pod sandbox is not privileged";
        return Err(OciError::invalid(
            "linux.security_context.privileged",
            true,
            reason,
        ));
    }
    Ok(())
}

fn process_of(
    input: &ContainerInput<'_>,
    security: &v1::LinuxContainerSecurityContext,
) -> Result<(Process, Option<String>), OciError> {
    let config = input.config;
    let image = input.image.config().as_ref();
    let env = process::env(config, image, input.pod.hostname, &input.user.home, input.handler)?;
    let (env, exact_env) = process::to_spec(&env);
    let asked = security.capabilities.as_ref();
    let granted = capabilities::granted(asked, security.privileged, input.host.capabilities)?;
    let sets = capabilities::sets(granted, input.user.uid == 0);
    let limits = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());

    let mut user = User::default();
    user.set_uid(input.user.uid)
        .set_gid(input.user.gid)
        .set_additional_gids(Some(input.user.groups.clone()));
    let mut process = Process::default();
    process
        .set_terminal(Some(config.tty))
        .set_console_size(None::<ConsoleSize>)
        .set_user(user)
        .set_args(Some(process::args(config, image)?))
        .set_env(Some(env))
        .set_cwd(process::cwd(config, image)?)
        .set_capabilities(Some(capabilities::to_oci(&sets)))
        .set_rlimits(resources::rlimits(&input.handler.default_ulimits))
        .set_no_new_privileges(Some(security.no_new_privs))
        .set_apparmor_profile(input.prepared.apparmor.clone())
        .set_selinux_label(input.labels.map(|labels| labels.process.clone()))
        .set_oom_score_adj(Some(limits.map_or(Ok(0), resources::oom_score_adj)?));
    Ok((process, exact_env))
}

fn linux(
    input: &ContainerInput<'_>,
    security: &v1::LinuxContainerSecurityContext,
    mounts: &Mounts,
) -> Result<Linux, OciError> {
    let rules = devices::rules(&input.prepared.devices, security.privileged);
    let (masked, readonly) = hidden_paths(input, security)?;
    let mut linux = Linux::default();
    linux
        .set_cgroups_path(Some(PathBuf::from(input.cgroups_path)))
        .set_devices(Some(devices::to_oci(&input.prepared.devices)))
        .set_resources(Some(resources::resources(input.limits, rules)?))
        .set_intel_rdt(input.rdt_class.map(|class| {
            let mut rdt = LinuxIntelRdt::default();
            rdt.set_clos_id(Some(class.to_owned()));
            rdt
        }))
        .set_rootfs_propagation(match mounts.root_propagation {
            Propagation::Private => None,
            Propagation::Slave => Some("rslave".to_owned()),
            Propagation::Shared => Some("rshared".to_owned()),
        })
        .set_mount_label(input.labels.map(|labels| labels.file.clone()))
        .set_masked_paths(Some(masked))
        .set_readonly_paths(Some(readonly))
        .set_sysctl(None);
    Ok(linux)
}

/// Masked and read-only paths.
fn hidden_paths(
    input: &ContainerInput<'_>,
    security: &v1::LinuxContainerSecurityContext,
) -> Result<(Vec<String>, Vec<String>), OciError> {
    if security.privileged {
        return Ok((Vec::new(), Vec::new()));
    }
    if super::security_context(input.config).is_none() {
        return Ok((owned(&MASKED), owned(&READONLY)));
    }
    let lists = [
        ("linux.security_context.masked_paths", &security.masked_paths),
        ("linux.security_context.readonly_paths", &security.readonly_paths),
    ];
    for (field, list) in lists {
        for path in list {
            if mounts::clean(path).is_none() || path.contains('\0') {
                return Err(OciError::invalid(field, path, "it must be an absolute path"));
            }
        }
    }
    Ok((security.masked_paths.clone(), security.readonly_paths.clone()))
}

fn bounding(process: &Process) -> oci_spec::runtime::Capabilities {
    let sets = process.capabilities().as_ref();
    sets.and_then(|sets| sets.bounding().clone()).unwrap_or_default()
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|&path| path.to_owned()).collect()
}
