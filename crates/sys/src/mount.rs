//! mount_setattr(2), kernel 5.12.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use crate::syscall::check;

/// What to change of a mount.
#[derive(Debug, Clone, Copy)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// The propagation to take; empty: as it is.
    pub propagation: MountPropagationFlags,
    /// Everything below the mount as well (`AT_RECURSIVE`).
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

/// Gives the owners of files on a mount that was never attached to the ids of `users`, a user namespace: whoever is
/// number 0 on disk is number 0 there. Mounts below it are left as they are.
///
/// # Errors
/// The errno of mount_setattr(2): EINVAL where the file system cannot.
pub fn map_mount_ids(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> Result<(), Errno> {
    let raw = libc::mount_attr {
        attr_set: IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd().unsigned_abs().into(),
    };
    set(mount, libc::AT_EMPTY_PATH, &raw)
}

/// Changes the mount whose root `mount` is.
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
    // SAFETY: the path is a C string and `raw` a live mount_attr of the size passed.
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
