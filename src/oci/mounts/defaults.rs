//! The default mounts.

use std::path::Path;

use oci_spec::runtime::Mount;
use pausa_monitor_protocol::Namespace;

use super::{oci, own};
use crate::oci::PodFiles;

/// The kernel's own file systems. A privileged container may write to `/sys` and its cgroups.
///
/// The kernel lets nobody mount a sysfs whose network namespace belongs to another user namespace (`sysfs_init_fs_context`).
/// A pod with a user namespace on the host's network (`foreign_network`) therefore sees the host's `/sys`, with all that is
/// mounted there, read-only.
pub(super) fn kernel(privileged: bool, foreign_network: bool) -> Vec<Mount> {
    let readonly = if privileged { "rw" } else { "ro" };
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let sys = match foreign_network {
        true => oci(
            "/sys",
            "bind",
            "/sys",
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rro"],
        ),
        false => oci("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", readonly]),
    };
    let cgroup = ["nosuid", "noexec", "nodev", "relatime", readonly];
    vec![
        oci("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        oci("/dev", "tmpfs", "tmpfs", &dev),
        oci("/dev/pts", "devpts", "devpts", &pts),
        oci("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        oci("/sys/fs/cgroup", "cgroup", "cgroup", &cgroup),
    ]
}

/// `/dev/shm`: the pod's; the host's with the host's IPC namespace; a new one with the container's own IPC namespace.
pub(super) fn shm(ipc: &Namespace, of_pod: &Path) -> Mount {
    let target = "/dev/shm";
    if own(ipc) {
        let options = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
        return oci(target, "tmpfs", "shm", &options);
    }
    let (source, bind) = match ipc {
        Namespace::Host => (Path::new("/dev/shm"), "rbind"),
        // Nothing is mounted below it. To find that out, the kernel would go through all mounts beside it.
        _ => (of_pod, "bind"),
    };
    oci(target, "bind", source, &[bind, "rprivate", "rw"])
}

/// `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`, if the pod has them.
pub(super) fn pod_files(files: &PodFiles, readonly: bool) -> Vec<Mount> {
    let access = if readonly { "ro" } else { "rw" };
    [
        ("/etc/hosts", &files.hosts),
        ("/etc/hostname", &files.hostname),
        ("/etc/resolv.conf", &files.resolv_conf),
    ]
    .into_iter()
    .filter_map(|(target, source)| {
        let source = source.as_ref()?;
        Some(oci(target, "bind", source, &["rbind", "rprivate", access]))
    })
    .collect()
}
