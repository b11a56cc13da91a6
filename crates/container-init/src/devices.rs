//! `/dev`: the nodes of the plan and the standard links.
//!
//! Nothing is made in a `/dev` that is a bind mount of the host's. Nodes cannot be made in a user namespace, so [`fill`]
//! makes them before the child enters one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{ContainerPlan, DeviceKind, DevicePlan, IdRange, MountPlan, MountSource};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, major, makedev, minor, mknodat, openat,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsmount, fsopen, open_tree,
};

use crate::error::{At, Error, Shown, Step};
use crate::mount_ops::attach;
use crate::resolve::{self, Make};

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Makes the nodes in a new file system that becomes the `/dev` of a container in a user namespace.
pub(crate) fn fill(plan: &ContainerPlan, dev: BorrowedFd<'_>, range: IdRange) -> Result<(), Error> {
    // Ids that are not mapped become root of the namespace.
    let outside = |id| range.outside(id).unwrap_or(range.first);
    for device in &plan.devices {
        let Some(below) = device.path.strip_prefix(b"/dev/") else {
            continue;
        };
        let shown = || Step::Device((&device.path).into());
        let (parent, name) = resolve::make_parent(dev, below).at_with(shown)?;
        let mut mapped = device.clone();
        (mapped.uid, mapped.gid) = (outside(device.uid), outside(device.gid));
        make(&mapped, parent.as_fd(), name)?;
        // No other process has seen this file system yet, so its names cannot have changed meanwhile.
        let directories = (1..below.len()).filter(|at| below[*at] == b'/');
        for end in directories {
            let owner = (Uid::from_raw(range.first), Gid::from_raw(range.first));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            chownat(dev, &below[..end], Some(owner.0), Some(owner.1), flags).at_with(shown)?;
        }
    }
    Ok(())
}

/// Whether a mount is the container's own `/dev`, which [`fill`] may fill.
pub(crate) fn is_own_dev(mount: &MountPlan) -> bool {
    mount.target == b"/dev"
        && matches!(&mount.source, MountSource::Filesystem { fstype, .. } if fstype == "tmpfs")
}

/// Makes nodes and links; in a user namespace only what [`fill`] has not made.
pub(crate) fn populate(
    plan: &ContainerPlan,
    root: BorrowedFd<'_>,
    in_user_namespace: bool,
) -> Result<(), Error> {
    let over_dev = plan.mounts.iter().rev().find(|mount| mount.target == b"/dev");
    if over_dev.is_some_and(|mount| matches!(mount.source, MountSource::Bind { .. })) {
        return Ok(());
    }
    let dev =
        resolve::make(root, b"/dev", Make::Directory).at_with(|| Step::MountTarget(b"/dev"[..].into()))?;
    let filled = in_user_namespace && over_dev.is_some_and(is_own_dev);
    for device in &plan.devices {
        match device.path.strip_prefix(b"/dev/") {
            Some(_) if filled => {}
            Some(name) if !name.contains(&b'/') => make(device, dev.as_fd(), name)?,
            _ => {
                let (parent, name) = resolve::make_parent(root, &device.path)
                    .at_with(|| Step::Device((&device.path).into()))?;
                make(device, parent.as_fd(), name)?;
            }
        }
    }
    for (target, name) in LINKS {
        link(target, dev.as_fd(), name)?;
    }
    if rustix::fs::access(c"/proc/kcore", rustix::fs::Access::EXISTS).is_ok() {
        link("/proc/kcore", dev.as_fd(), "core")?;
    }
    Ok(())
}

fn link(target: &str, dev: BorrowedFd<'_>, name: &'static str) -> Result<(), Error> {
    match symlinkat(target, dev, name) {
        // The image has a file of this name, or the plan a mount.
        Err(Errno::EXIST) => Ok(()),
        other => other.at(Step::DeviceLink(name)),
    }
}

fn make(device: &DevicePlan, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Error> {
    let shown = || Step::Device((&device.path).into());
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let number = if kind == FileType::Fifo {
        0
    } else {
        makedev(device.major, device.minor)
    };
    let node = || {
        mknodat(
            parent,
            name,
            kind,
            Mode::from_raw_mode(device.mode & 0o7777),
            number,
        )
    };
    match node() {
        Err(Errno::EXIST) if is_node(parent, name, kind, number) => {}
        Err(Errno::EXIST) => {
            unlinkat(parent, name, AtFlags::empty()).at_with(shown)?;
            node().at_with(shown)?;
        }
        Err(Errno::PERM) => return bind_from_host(device, parent, name, kind, number),
        other => other.at_with(shown)?,
    }
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at_with(|| {
            Step::DeviceOwner {
                path: (&device.path).into(),
                uid: device.uid,
                gid: device.gid,
            }
        })?;
    }
    Ok(())
}

fn is_node(parent: BorrowedFd<'_>, name: &[u8], kind: FileType, number: u64) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == kind && (kind == FileType::Fifo || stat.st_rdev == number)
    })
}

/// Binds the host's node of the same path, if it is the same device: for where nodes may not be made (a user namespace).
fn bind_from_host(
    device: &DevicePlan,
    parent: BorrowedFd<'_>,
    name: &[u8],
    kind: FileType,
    number: u64,
) -> Result<(), Error> {
    let shown = || Step::Device((&device.path).into());
    let source = host_node(&device.path, kind, number)?;
    let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(parent, name, flags, Mode::from_raw_mode(0o644)).at_with(shown)?;
    attach(source.as_fd(), target.as_fd()).at_with(shown)
}

/// A detached bind mount of a device node of the host, which must have this kind and these numbers.
pub(crate) fn host_node(path: &[u8], kind: FileType, number: u64) -> Result<OwnedFd, Error> {
    let shown = || Shown::from(path);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let node = open_tree(CWD, path, flags).at_with(|| Step::MountSource {
        path: shown(),
        target: shown(),
    })?;
    let stat = fstat(&node).at_with(|| Step::Inspect(shown()))?;
    if FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == number {
        return Ok(node);
    }
    Err(Error::Impostor {
        path: shown(),
        expected: "the device of these numbers",
    })
}

/// Opens a null device in a file system of its own, which ends with the descriptor.
pub(crate) fn new_null() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    mknodat(
        &mount,
        "null",
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(1, 3),
    )?;
    openat(&mount, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Whether a descriptor is the null device, character device 1:3.
pub(crate) fn is_null(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = fstat(fd)?;
    let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(character && major(stat.st_rdev) == 1 && minor(stat.st_rdev) == 3)
}
