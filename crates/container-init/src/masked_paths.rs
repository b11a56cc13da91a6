//! Masked and read-only paths.
//!
//! Every path is resolved to a handle once, and the mount goes onto that handle. Files are masked by a null device, after
//! a check that it is one: in a `/dev` that is a volume it could be a link to anything (CVE-2025-31133). If the plan mounts
//! proc, paths that begin with `/proc/` must lie in procfs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{ContainerPlan, MountSource};
use pausa_sys::MountAttributes;
use rustix::fs::{
    AtFlags, FileType, OFlags, PROC_SUPER_MAGIC, StatxAttributes, StatxFlags, fstat, fstatfs, makedev, statx,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::devices;
use crate::error::{At, Error, Shown, Step};
use crate::mount_ops::{attach, clone_tree};
use crate::resolve;

/// `MOUNT_ATTR_RDONLY`.
const RDONLY: u64 = 1;

/// Masks the masked paths and makes the read-only ones read-only. Skips absent paths.
pub(crate) fn apply(plan: &ContainerPlan, root: BorrowedFd<'_>) -> Result<(), Error> {
    let last = plan.mounts.iter().rev().find(|mount| mount.target == b"/proc");
    let mounts_proc = last.is_some_and(
        |mount| matches!(&mount.source, MountSource::Filesystem { fstype, .. } if fstype == "proc"),
    );
    for path in &plan.readonly_paths {
        if let Some(handle) = find(plan, root, path, mounts_proc)? {
            make_readonly(path, handle.as_fd())?;
        }
    }
    let mut empty = None;
    for path in &plan.masked_paths {
        if let Some(handle) = find(plan, root, path, mounts_proc)? {
            mask(path, handle.as_fd(), root, &mut empty)?;
        }
    }
    Ok(())
}

/// Opens a path; none if it is absent.
fn find(
    plan: &ContainerPlan,
    root: BorrowedFd<'_>,
    path: &[u8],
    mounts_proc: bool,
) -> Result<Option<OwnedFd>, Error> {
    let handle = match resolve::open(root, path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other.at_with(|| Step::HiddenPath(path.into()))?,
    };
    if mounts_proc && path.starts_with(b"/proc/") {
        let file_system = fstatfs(&handle).at_with(|| Step::Inspect(path.into()))?;
        // The plan may mount over single files of procfs.
        let mounted_over = plan.mounts.iter().any(|mount| mount.target == path);
        if file_system.f_type != PROC_SUPER_MAGIC && !mounted_over {
            return Err(Error::Impostor {
                path: path.into(),
                expected: "procfs",
            });
        }
    }
    Ok(Some(handle))
}

/// Makes a mount read-only as it is, and a directory or file within a mount by a read-only clone of it. A clone of a mount
/// would show everything below it twice.
fn make_readonly(path: &[u8], handle: BorrowedFd<'_>) -> Result<(), Error> {
    let stat = statx(handle, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .at_with(|| Step::Inspect(path.into()))?;
    let copy = if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        None
    } else {
        Some(clone_tree(handle).at_with(|| Step::HiddenPath(path.into()))?)
    };
    let attributes = MountAttributes {
        set: RDONLY,
        clear: 0,
        propagation: match copy {
            Some(_) => MountPropagationFlags::PRIVATE,
            None => MountPropagationFlags::empty(),
        },
        recursive: true,
    };
    let mount = copy.as_ref().map_or(handle, OwnedFd::as_fd);
    pausa_sys::mount_setattr(mount, &attributes).at_with(|| Step::MountAttributes {
        target: path.into(),
        set: RDONLY,
        clear: 0,
        how: ", AT_RECURSIVE",
    })?;
    match copy {
        Some(copy) => attach(copy.as_fd(), handle).at_with(|| Step::Attach(path.into())),
        None => Ok(()),
    }
}

/// `empty` holds the first empty directory that was attached; further ones are clones of it.
fn mask(
    path: &[u8],
    handle: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    empty: &mut Option<OwnedFd>,
) -> Result<(), Error> {
    let shown = || Shown::from(path);
    let stat = fstat(handle).at_with(|| Step::Inspect(shown()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let null = null_device(path, root)?;
        return attach(null.as_fd(), handle).at_with(|| Step::Attach(shown()));
    }
    match empty {
        Some(empty) => {
            let copy = clone_tree(empty.as_fd()).at_with(|| Step::HiddenPath(shown()))?;
            attach(copy.as_fd(), handle).at_with(|| Step::Attach(shown()))
        }
        None => {
            let made = empty_directory().at_with(|| Step::OpenFilesystem {
                target: shown(),
                fstype: "tmpfs".to_owned(),
            })?;
            attach(made.as_fd(), handle).at_with(|| Step::Attach(shown()))?;
            *empty = Some(made);
            Ok(())
        }
    }
}

/// A mount of the container's null device, or else of the host's. That one is read-only, since otherwise the container could
/// change its mode and owner by those of the masked path.
fn null_device(path: &[u8], root: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    if let Ok(own) = resolve::open_plain(root, b"/dev/null", OFlags::PATH)
        && devices::is_null(own.as_fd()) == Ok(true)
    {
        return clone_tree(own.as_fd()).at_with(|| Step::HiddenPath(path.into()));
    }
    let host = devices::host_node(b"/dev/null", FileType::CharacterDevice, makedev(1, 3))?;
    let attributes = MountAttributes {
        set: RDONLY,
        ..MountAttributes::default()
    };
    pausa_sys::mount_setattr(host.as_fd(), &attributes).at_with(|| Step::MountAttributes {
        target: path.into(),
        set: RDONLY,
        clear: 0,
        how: "",
    })?;
    Ok(host)
}

fn empty_directory() -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), c"nr_inodes", c"1")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
