//! Walks a tree of any depth with one directory handle open at a time.
//!
//! Going down never follows a link and never enters another mount (openat2(2), RESOLVE_NO_XDEV). Going up uses ".."
//! and then proves by device and inode that it is the directory that was left: a tree that somebody moves about while
//! it is walked ends the walk instead of leading it elsewhere. A visitor that only looks may go on: what vanished is
//! passed over, and where the way back is lost the way is gone again from the root, as far as it still exists.

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
    /// Anything but a directory.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error>;
    /// A directory, before its contents.
    fn enter(&mut self, stat: &Stat) -> Result<(), Error>;
    /// A directory after its contents; true asks to walk it once more.
    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Error>;
    /// Whether other processes may change the tree meanwhile.
    fn is_lenient(&self) -> bool {
        false
    }
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
    let lenient = visitor.is_lenient();
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut frames = vec![enter(&root, c".", &mut buffer, visitor)?];
    let start = if lenient { again(&root)? } else { None };
    let mut current = root;
    while let Some(frame) = frames.last_mut() {
        if let Some(name) = frame.pending.pop() {
            match open(current.as_fd(), &name) {
                Err(errno) if lenient && is_gone(errno) => {}
                opened => {
                    current = opened.map_err(|errno| open_error(&name, errno))?;
                    frames.push(enter(&current, &name, &mut buffer, visitor)?);
                }
            }
            continue;
        }
        let done = frames.pop().map(|frame| frame.name).unwrap_or_default();
        let Some(parent) = frames.last_mut() else { break };
        match up(&current, &done, parent.identity) {
            Ok(directory) => current = directory,
            Err(error) => {
                let Some(start) = start.as_ref() else {
                    return Err(error);
                };
                current = return_to(start, &mut frames)?;
                continue;
            }
        }
        if visitor.leave(current.as_fd(), &done)? {
            parent.pending.push(done);
        }
    }
    Ok(())
}

/// Whether the errno means that the object was removed or replaced meanwhile.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// A second handle of a directory.
fn again(directory: &OwnedFd) -> Result<Option<OwnedFd>, Error> {
    let opened = openat(directory, c".", DIRECTORY, Mode::empty());
    opened
        .map(Some)
        .map_err(|errno| Error::system(b".", "openat(\".\")", errno))
}

/// The parent of `directory`, proven to be the one that was left.
fn up(directory: &OwnedFd, name: &CStr, identity: (u64, u64)) -> Result<OwnedFd, Error> {
    let parent = openat(directory, c"..", DIRECTORY, Mode::empty())
        .map_err(|errno| Error::system(name.to_bytes(), "openat(\"..\")", errno))?;
    let stat = fstat(&parent).map_err(|errno| Error::system(name.to_bytes(), "fstat(\"..\")", errno))?;
    if (stat.st_dev, stat.st_ino) != identity {
        return Err(Error::Moved {
            path: EntryPath::new(name.to_bytes()),
        });
    }
    Ok(parent)
}

/// Walks down from `start` again, along `frames`. Frames whose directory is gone are dropped.
fn return_to(start: &OwnedFd, frames: &mut Vec<Frame>) -> Result<OwnedFd, Error> {
    let mut at = openat(start, c".", DIRECTORY, Mode::empty())
        .map_err(|errno| Error::system(b".", "openat(\".\")", errno))?;
    for depth in 1..frames.len() {
        let frame = &frames[depth];
        let next = open(at.as_fd(), &frame.name).and_then(|next| Ok((fstat(&next)?, next)));
        match next {
            Ok((stat, next)) if (stat.st_dev, stat.st_ino) == frame.identity => at = next,
            Ok(_) => {
                frames.truncate(depth);
                break;
            }
            Err(errno) if is_gone(errno) => {
                frames.truncate(depth);
                break;
            }
            Err(errno) => return Err(open_error(&frame.name, errno)),
        }
    }
    Ok(at)
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
        let entry = match entry {
            // The directory was removed after it was opened.
            Err(Errno::NOENT) if visitor.is_lenient() => break,
            entry => entry.map_err(|errno| Error::system(name.to_bytes(), "getdents64", errno))?,
        };
        let child = entry.file_name();
        if child == c"." || child == c".." {
            continue;
        }
        let is_directory = match is_directory(dir, child, entry.file_type()) {
            Err(Errno::NOENT) if visitor.is_lenient() => continue,
            known => known
                .map_err(|errno| Error::system(child.to_bytes(), "fstatat(AT_SYMLINK_NOFOLLOW)", errno))?,
        };
        if is_directory {
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

fn is_directory(dir: &OwnedFd, name: &CStr, kind: FileType) -> Result<bool, Errno> {
    if kind != FileType::Unknown {
        return Ok(kind == FileType::Directory);
    }
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
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
