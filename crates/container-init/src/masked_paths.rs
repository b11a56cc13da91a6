//! Masked and read-only paths.
//!
//! Every path is resolved once to a handle, and the mount goes onto that handle. The null device that
//! hides files is the host's and checked to be one; the container's own could be a link to anything
//! (CVE-2025-31133). Where the plan itself mounts proc or sysfs, a path that begins there must lie there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{ContainerPlan, MountSource};
use pausa_sys::MountAttributes;
use rustix::fs::{FileType, PROC_SUPER_MAGIC, fstat, fstatfs, makedev};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::devices;
use crate::error::{At, Error, Shown, Step};
use crate::mounts::{attach, clone_tree};
use crate::resolve;

/// `MOUNT_ATTR_RDONLY`.
const RDONLY: u64 = 1;

/// Hides the masked paths and protects the read-only ones. Absent paths are skipped.
pub(crate) fn apply(plan: &ContainerPlan, root: BorrowedFd<'_>) -> Result<(), Error> {
    let proc_is_ours = mounts_filesystem(plan, b"/proc", "proc");
    for path in &plan.readonly_paths {
        if let Some(handle) = find(plan, root, path, proc_is_ours)? {
            protect(path, handle.as_fd())?;
        }
    }
    let mut empty = None;
    for path in &plan.masked_paths {
        if let Some(handle) = find(plan, root, path, proc_is_ours)? {
            mask(path, handle.as_fd(), &mut empty)?;
        }
    }
    Ok(())
}

fn mounts_filesystem(plan: &ContainerPlan, target: &[u8], wanted: &str) -> bool {
    let last = plan.mounts.iter().rev().find(|mount| mount.target == target);
    last.is_some_and(
        |mount| matches!(&mount.source, MountSource::Filesystem { fstype, .. } if fstype == wanted),
    )
}

/// Whether the plan itself mounts something there, as it may over single files of procfs.
fn mounted_over(plan: &ContainerPlan, path: &[u8]) -> bool {
    plan.mounts.iter().any(|mount| mount.target == path)
}

fn find(
    plan: &ContainerPlan,
    root: BorrowedFd<'_>,
    path: &[u8],
    proc_is_ours: bool,
) -> Result<Option<OwnedFd>, Error> {
    let handle = match resolve::open(root, path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other.at_with(|| Step::HiddenPath(path.into()))?,
    };
    if proc_is_ours && path.starts_with(b"/proc/") {
        let file_system = fstatfs(&handle).at_with(|| Step::Inspect(path.into()))?;
        if file_system.f_type != PROC_SUPER_MAGIC && !mounted_over(plan, path) {
            return Err(Error::Impostor {
                path: path.into(),
                expected: "procfs",
            });
        }
    }
    Ok(Some(handle))
}

fn protect(path: &[u8], handle: BorrowedFd<'_>) -> Result<(), Error> {
    let copy = clone_tree(handle).at_with(|| Step::HiddenPath(path.into()))?;
    let attributes = MountAttributes {
        set: RDONLY,
        clear: 0,
        propagation: MountPropagationFlags::PRIVATE,
        recursive: true,
    };
    pausa_sys::mount_setattr(copy.as_fd(), &attributes).at_with(|| Step::MountAttributes {
        target: path.into(),
        set: RDONLY,
        clear: 0,
        how: ", AT_RECURSIVE",
    })?;
    attach(copy.as_fd(), handle).at_with(|| Step::Attach(path.into()))
}

/// `empty` is the first empty directory in place; the others are clones of it.
fn mask(path: &[u8], handle: BorrowedFd<'_>, empty: &mut Option<OwnedFd>) -> Result<(), Error> {
    let shown = || Shown::from(path);
    let stat = fstat(handle).at_with(|| Step::Inspect(shown()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let null = devices::host_node(b"/dev/null", FileType::CharacterDevice, makedev(1, 3))?;
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
