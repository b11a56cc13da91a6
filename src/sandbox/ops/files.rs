//! A pod's files: hostname, hosts, resolv.conf, shared memory, and its network namespace's place.
//!
//! Paths here are the daemon's own, below directories only root may enter, so they are safe by string.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pausa_monitor_protocol::IdRange;
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, StatxAttributes, StatxFlags, XattrFlags, flock, setxattr,
    statx,
};

use super::userns;
use crate::lsm::selinux;
use crate::network::files as text;
use crate::oci::pod_namespaces;
use crate::proto::v1;
use crate::sandbox::error::PodError;

/// Name of the pod's shared memory directory.
pub(super) const SHM: &str = "shm";
/// Name of the file bound to `/etc/hostname`.
pub(super) const HOSTNAME: &str = "hostname";
/// Name of the file bound to `/etc/hosts`.
pub(super) const HOSTS: &str = "hosts";
/// Name of the file bound to `/etc/resolv.conf`.
pub(super) const RESOLV_CONF: &str = "resolv.conf";

/// Mode and size of `/dev/shm`, as both peers have them. The owner is added where there is a user namespace.
const SHM_OPTIONS: &str = "mode=1777,size=67108864";

/// The pod's hostname: what was asked for, or the host's.
pub(super) fn hostname(config: &v1::PodSandboxConfig) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    text::hostname(&config.hostname, &host).to_owned()
}

/// The pod's DNS configuration as the network module takes it.
pub(super) fn dns(config: &v1::PodSandboxConfig) -> Option<text::DnsConfig> {
    config.dns_config.as_ref().map(|dns| text::DnsConfig {
        servers: dns.servers.clone(),
        searches: dns.searches.clone(),
        options: dns.options.clone(),
    })
}

/// Writes the files that do not depend on the pod's address.
pub(super) fn write_pod_files(
    dir: &Path,
    config: &v1::PodSandboxConfig,
    range: Option<IdRange>,
    label: Option<&str>,
) -> Result<(), PodError> {
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolv_conf = text::resolv_conf(dns(config).as_ref(), &host);
    write(dir, RESOLV_CONF, &resolv_conf, range, label)?;
    write(dir, HOSTNAME, &format!("{}\n", hostname(config)), range, label)
}

/// Writes the hosts file: a copy of the host's in the host's network, the pod's own elsewhere.
pub(super) fn write_hosts(
    dir: &Path,
    config: &v1::PodSandboxConfig,
    ips: &[IpAddr],
    range: Option<IdRange>,
    label: Option<&str>,
) -> Result<(), PodError> {
    let options = pod_namespaces(config);
    let hosts = if options.network() == v1::NamespaceMode::Node {
        fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        text::hosts(&hostname(config), ips)
    };
    write(dir, HOSTS, &hosts, range, label)
}

fn write(
    dir: &Path,
    name: &str,
    content: &str,
    range: Option<IdRange>,
    label: Option<&str>,
) -> Result<(), PodError> {
    let path = dir.join(name);
    // Whatever the daemon's umask is: every user of the pod reads these.
    let mode = fs::Permissions::from_mode(0o644);
    fs::write(&path, content)
        .and_then(|()| fs::set_permissions(&path, mode))
        .map_err(|error| PodError::io(format!("write {}", path.display()), error))?;
    if let Some(label) = label {
        let labelled = setxattr(&path, selinux::ATTRIBUTE, label.as_bytes(), XattrFlags::empty());
        labelled.map_err(|errno| {
            PodError::io(
                format!("label {}: setxattr(security.selinux, {label})", path.display()),
                errno,
            )
        })?;
    }
    userns::chown(&path, range)
}

/// Mounts the pod's shared memory.
pub(super) fn mount_shm(dir: &Path, range: Option<IdRange>, label: Option<&str>) -> Result<(), PodError> {
    let shm = dir.join(SHM);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mut options = SHM_OPTIONS.to_owned();
    if let Some(IdRange { first, .. }) = range {
        options += &format!(",uid={first},gid={first}");
    }
    if let Some(label) = label {
        // A level has commas.
        options += &format!(",context=\"{label}\"");
    }
    let mounted = fs::create_dir_all(&shm).and_then(|()| {
        Ok(mount(
            Some("shm"),
            &shm,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )?)
    });
    mounted.map_err(|error| PodError::io(format!("mount shared memory on {}", shm.display()), error))
}

/// Unmounts whatever is mounted there, if anything is.
pub(in crate::sandbox) fn unmount(path: &Path) {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot unmount; the mount stays until the node is restarted");
        }
    }
}

/// Makes the directory of network namespaces a mount of its own, shared with other mount namespaces.
///
/// `ip netns add` and CNI's libraries do the same before their first namespace. What is bound in the directory by then gets
/// a second mount, and the first one is hidden below: nothing can remove the file any more, and the namespace stays. For the
/// same reason nothing is done where something is bound already.
pub(in crate::sandbox) fn share_netns_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let open = fs::File::open(dir)?;
    // Of two daemons that start at the same time only one does it. The lock ends with the descriptor.
    flock(&open, FlockOperation::LockExclusive)?;
    let here = statx(CWD, dir, AtFlags::empty(), StatxFlags::empty())?;
    if here.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) || fs::read_dir(dir)?.next().is_some() {
        return Ok(());
    }
    let none = None::<&str>;
    mount(Some(dir), dir, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    mount(none, dir, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)?;
    Ok(())
}

/// Binds a process's network namespace to a path, where it stays until [`unbind_netns`].
pub(super) fn bind_netns(pid: i32, path: &Path) -> Result<(), PodError> {
    let source = format!("/proc/{pid}/ns/net");
    let bound = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::OpenOptions::new().write(true).create_new(true).open(path))
        .and_then(|_| {
            Ok(mount(
                Some(source.as_str()),
                path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?)
        });
    bound.map_err(|error| PodError::io(format!("bind {source} to {}", path.display()), error))
}

/// Removes the file that a network namespace is bound to. Doing it twice does no harm.
pub(in crate::sandbox) fn unbind_netns(path: &Path) {
    unmount(path);
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the file that a network namespace was bound to; it stays, empty");
        }
        _ => {}
    }
}

/// Opens a directory for the monitor to work in.
pub(in crate::sandbox) fn open_directory(path: &Path) -> Result<OwnedFd, PodError> {
    rustix::fs::open(
        path,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )
    .map_err(|error| PodError::io(format!("open {}", path.display()), error))
}

#[cfg(test)]
mod tests;
