//! Owner, mode, attributes and times, in the only order that preserves them all: chown clears setuid, setgid and
//! `security.capability`, so it comes first; then the mode, then attributes, then times.
//!
//! Calls that would change nothing are left out: they would be most of an unpacker's calls.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, fchmod, fchown,
    fsetxattr, futimens, lsetxattr, openat, utimensat,
};
use rustix::io::Errno;

use crate::Error;
use crate::entry::Metadata;

/// Marks a directory that hides everything of its name in the layers below.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// The default access list of a directory, acl(5).
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Opens a directory without following a link, to change its metadata.
pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

pub(crate) fn own(fd: impl AsFd, uid: u32, gid: u32) -> Result<(), Errno> {
    fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

pub(crate) fn set_mode(fd: impl AsFd, mode: u32) -> Result<(), Errno> {
    fchmod(fd, Mode::from_raw_mode(mode))
}

pub(crate) fn set_xattr(fd: impl AsFd, name: &str, value: &[u8]) -> Result<(), Errno> {
    fsetxattr(fd, name, value, XattrFlags::empty())
}

/// Both times are the modification time: archives seldom have another, and a later pull must give the same tree.
pub(crate) fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.0,
        tv_nsec: mtime.1.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// An object whose metadata is to be set.
pub(crate) enum Target<'a> {
    /// Open for writing or a directory.
    Open(BorrowedFd<'a>),
    /// Not to be opened: a link, a device, a fifo.
    Named { parent: BorrowedFd<'a>, name: &'a [u8] },
}

/// Metadata that a new object has already.
#[derive(Clone, Copy)]
pub(crate) struct Fresh {
    /// Owned by root already.
    pub(crate) owned: bool,
    /// Has these mode bits already.
    pub(crate) mode: Option<u32>,
}

impl Target<'_> {
    /// Sets everything but times; returns how many attributes could not be kept.
    pub(crate) fn apply(&self, metadata: &Metadata, fresh: Fresh, entry: &[u8]) -> Result<u64, Error> {
        let chown = !fresh.owned || metadata.uid != 0 || metadata.gid != 0;
        if chown {
            self.chown(metadata).map_err(|errno| {
                Error::system(
                    entry,
                    format!("fchownat({}:{})", metadata.uid, metadata.gid),
                    errno,
                )
            })?;
        }
        if fresh.mode != Some(metadata.mode) {
            self.chmod(metadata.mode)
                .map_err(|errno| Error::system(entry, format!("fchmod({:04o})", metadata.mode), errno))?;
        }
        let mut dropped = 0;
        for (name, value) in &metadata.xattrs {
            // Set at the end, because objects created in the directory would inherit it.
            if name != DEFAULT_ACL && !self.keep_xattr(name, value, entry)? {
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    /// Sets one attribute; false if it is not kept, or if this file system does not support it for such a file.
    pub(crate) fn keep_xattr(&self, name: &[u8], value: &[u8], entry: &[u8]) -> Result<bool, Error> {
        if !is_kept(name) {
            return Ok(false);
        }
        match self.setxattr(name, value) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP) => Ok(false),
            Err(Errno::PERM) if name.starts_with(b"user.") => Ok(false),
            Err(errno) => {
                let call = format!("setxattr(\"{}\", {} bytes)", name.escape_ascii(), value.len());
                Err(Error::system(entry, call, errno))
            }
        }
    }

    fn chown(&self, metadata: &Metadata) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        match self {
            Self::Open(fd) => fchown(fd, Some(uid), Some(gid)),
            Self::Named { parent, name } => {
                chownat(parent, *name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn chmod(&self, mode: u32) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => set_mode(fd, mode),
            Self::Named { parent, name } => {
                // fchmodat(2) has no AT_SYMLINK_NOFOLLOW before Linux 6.6; a handle's magic link leads to the
                // object itself, never further.
                let handle = openat(
                    parent,
                    *name,
                    OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                chmod(
                    format!("/proc/self/fd/{}", handle.as_raw_fd()),
                    Mode::from_raw_mode(mode),
                )
            }
        }
    }

    fn setxattr(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fsetxattr(fd, key, value, XattrFlags::empty()),
            Self::Named { parent, name } => {
                let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
                path.extend_from_slice(name);
                lsetxattr(path, key, value, XattrFlags::empty())
            }
        }
    }

    pub(crate) fn set_times(&self, mtime: (i64, u32), entry: &[u8]) -> Result<(), Error> {
        let times = times(mtime);
        match self {
            Self::Open(fd) => futimens(fd, &times),
            Self::Named { parent, name } => utimensat(parent, *name, &times, AtFlags::SYMLINK_NOFOLLOW),
        }
        .map_err(|errno| Error::system(entry, format!("utimensat({}.{:09})", mtime.0, mtime.1), errno))
    }
}

/// Attributes an image may bring. The overlay's own would let a layer alias files of other layers.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let known = [&b"user."[..], b"trusted.", b"security.", b"system.posix_acl_"];
    !overlay && known.iter().any(|prefix| name.starts_with(prefix))
}
