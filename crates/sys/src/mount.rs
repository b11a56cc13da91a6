//! mount_setattr(2), kernel 5.12, and file systems that are mounted nowhere.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::syscall::check;

/// A change of a mount's attributes.
#[derive(Debug, Clone, Copy)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// The new propagation; empty: unchanged.
    pub propagation: MountPropagationFlags,
    /// Applies to all mounts below it as well (`AT_RECURSIVE`).
    pub recursive: bool,
}

impl Default for MountAttributes {
    fn default() -> Self {
        Self {
            set: 0,
            clear: 0,
            propagation: MountPropagationFlags::empty(),
            recursive: false,
        }
    }
}

/// `MOUNT_ATTR_IDMAP`.
const IDMAP: u64 = 0x0010_0000;

/// Maps the owners of the files on a detached mount into the user namespace `users`: id 0 on disk becomes id 0 of the
/// namespace. Mounts below it are changed too if `recursive`.
///
/// # Errors
/// The errno of mount_setattr(2): EINVAL if the file system does not support ID-mapped mounts.
pub fn map_mount_ids(mount: BorrowedFd<'_>, users: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
    let raw = libc::mount_attr {
        attr_set: IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd().unsigned_abs().into(),
    };
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    set(mount, libc::AT_EMPTY_PATH | below, &raw)
}

/// Changes the mount whose root directory or file `mount` is.
///
/// # Errors
/// The errno of mount_setattr(2).
pub fn mount_setattr(mount: BorrowedFd<'_>, attributes: &MountAttributes) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH;
    if attributes.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let raw = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation.bits().into(),
        userns_fd: 0,
    };
    set(mount, flags, &raw)
}

fn set(mount: BorrowedFd<'_>, flags: i32, raw: &libc::mount_attr) -> Result<(), Errno> {
    // SAFETY: the path is a C string, and `raw` is a live mount_attr of the size passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(raw),
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// Opens a directory in a procfs of the caller's own, which ends with the descriptor; where there cannot be one, as in a mount
/// namespace of another user namespace, in `/proc`.
///
/// To look up a sysctl of a network namespace in the `/proc` that all share, the kernel goes through what it remembers of the
/// same name in every other one.
///
/// # Errors
/// The errno of openat(2).
pub fn own_proc(path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = new_file_system("proc", &[]).and_then(|procfs| openat(&procfs, path, flags, Mode::empty()));
    own.or_else(|_| openat(CWD, format!("/proc/{path}"), flags, Mode::empty()))
}

/// Makes a file system that is mounted nowhere and ends with the descriptor.
pub(crate) fn new_file_system(kind: &str, options: &[(&str, &str)]) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
