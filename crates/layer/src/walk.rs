//! Walks a tree of any depth with one directory handle open at a time.
//!
//! Going down never follows a link and never enters another mount (openat2(2), RESOLVE_NO_XDEV). Going up uses ".."
//! and then proves by device and inode that it is the directory that was left: a tree that somebody moves about while
//! it is walked ends the walk instead of leading it elsewhere.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, fstat, openat, openat2, statat,
};
use rustix::io::Errno;

use crate::Error;
use crate::error::EntryPath;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What to do at each object.
pub(crate) trait Visitor {
    /// Something that is no directory.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error>;
    /// A directory, before its contents.
    fn enter(&mut self, stat: &Stat) -> Result<(), Error>;
    /// A directory after its contents; true asks to walk it once more.
    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Error>;
}

struct Frame {
    name: CString,
    identity: (u64, u64),
    pending: Vec<CString>,
}

/// Opens the directory `name` in `dir` for walking.
pub(crate) fn open(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, name, DIRECTORY, Mode::empty(), resolve)
}

/// Visits everything below `root`, which was opened by [`open`]; `root` itself is entered but not left.
pub(crate) fn walk(root: OwnedFd, visitor: &mut impl Visitor) -> Result<(), Error> {
    let mut current = root;
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut frames = vec![enter(&current, c".", &mut buffer, visitor)?];
    while let Some(frame) = frames.last_mut() {
        if let Some(name) = frame.pending.pop() {
            current = open(current.as_fd(), &name).map_err(|errno| open_error(&name, errno))?;
            frames.push(enter(&current, &name, &mut buffer, visitor)?);
            continue;
        }
        let done = frames.pop().map(|frame| frame.name).unwrap_or_default();
        let Some(parent) = frames.last_mut() else { break };
        current = openat(&current, c"..", DIRECTORY, Mode::empty())
            .map_err(|errno| Error::system(done.to_bytes(), "openat(\"..\")", errno))?;
        let stat = fstat(&current).map_err(|errno| Error::system(done.to_bytes(), "fstat(\"..\")", errno))?;
        if (stat.st_dev, stat.st_ino) != parent.identity {
            return Err(Error::Moved {
                path: EntryPath::new(done.into_bytes()),
            });
        }
        if visitor.leave(current.as_fd(), &done)? {
            parent.pending.push(done);
        }
    }
    Ok(())
}

fn enter(
    dir: &OwnedFd,
    name: &CStr,
    buffer: &mut [MaybeUninit<u8>],
    visitor: &mut impl Visitor,
) -> Result<Frame, Error> {
    let stat = fstat(dir).map_err(|errno| Error::system(name.to_bytes(), "fstat", errno))?;
    visitor.enter(&stat)?;
    let mut pending = Vec::new();
    let mut entries = RawDir::new(dir, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|errno| Error::system(name.to_bytes(), "getdents64", errno))?;
        let child = entry.file_name();
        if child == c"." || child == c".." {
            continue;
        }
        if is_directory(dir, child, entry.file_type())? {
            pending.push(child.to_owned());
        } else {
            visitor.file(dir.as_fd(), child)?;
        }
    }
    Ok(Frame {
        name: name.to_owned(),
        identity: (stat.st_dev, stat.st_ino),
        pending,
    })
}

fn is_directory(dir: &OwnedFd, name: &CStr, kind: FileType) -> Result<bool, Error> {
    if kind != FileType::Unknown {
        return Ok(kind == FileType::Directory);
    }
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| Error::system(name.to_bytes(), "fstatat(AT_SYMLINK_NOFOLLOW)", errno))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Tells a mount point from other failures of [`open`].
pub(crate) fn open_error(name: &CStr, errno: Errno) -> Error {
    if errno == Errno::XDEV {
        return Error::MountPoint {
            path: EntryPath::new(name.to_bytes()),
        };
    }
    Error::system(
        name.to_bytes(),
        "openat2(O_DIRECTORY, RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)",
        errno,
    )
}
