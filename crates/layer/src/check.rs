//! Verifies a layer on disk: the reproduced archive must hash to the diff id, and everything in it must be in the directory with
//! the same owner, mode, times and attributes.
//!
//! Only reads. The contents are verified by the archive's digest, and so are the entries themselves: no layer is reported intact
//! before the last byte was hashed.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Stat, getxattr, lgetxattr, major, minor, readlinkat, statat};
use rustix::io::Errno;

use crate::archive::Archive;
use crate::entry::{Entry, Kind, Metadata};
use crate::metadata::{OPAQUE, is_kept};
use crate::parents::{Parent, Parents, is_whiteout};
use crate::path::{self, Meaning};
use crate::stream::{Producer, Source};
use crate::{Compression, DiffId, Error, Limits, TarSplitReader, Unpacked, usage};

/// The state of a layer when it was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// [`Unpacked::diff_id`]
    pub diff_id: DiffId,
    /// [`Unpacked::files`]
    pub files: u64,
    /// [`Unpacked::dropped_xattrs`]
    pub dropped_xattrs: u64,
}

impl From<&Unpacked> for Expected {
    fn from(unpacked: &Unpacked) -> Self {
        Self {
            diff_id: unpacked.diff_id,
            files: unpacked.files,
            dropped_xattrs: unpacked.dropped_xattrs,
        }
    }
}

/// Compares the layer in `dir` with the tar-split file written when it was unpacked. Blocks while it reads the whole layer.
///
/// # Errors
/// Of the kinds Corrupt, Refused, Limit and Input if the layer or its tar-split file is damaged; System if it cannot be read.
pub fn check(
    dir: BorrowedFd<'_>,
    tar_split: impl Read,
    expected: &Expected,
    limits: &Limits,
) -> Result<(), Error> {
    let reader = TarSplitReader::new(tar_split, dir)
        .map_err(|source| unwrapped(Error::Input { offset: 0, source }))?;
    let producer = Producer::new(reader, Compression::None, limits)?;
    let mut archive = Archive::new(producer, limits);
    let mut checker = Checker {
        limits,
        parents: Parents::new(dir, limits),
        directories: BTreeMap::new(),
        dropped: 0,
    };
    let found = checker.run(&mut archive).and_then(|()| archive.drain());
    let (_, producer) = found.map_err(unwrapped)?;
    checker.directories()?;
    if producer.digest() != *expected.diff_id.as_bytes() {
        return Err(Error::damaged(b".", "has changed since it was unpacked"));
    }
    if checker.dropped > expected.dropped_xattrs {
        return Err(Error::damaged(b".", "has lost extended attributes"));
    }
    let files = usage::usage(dir)?.inodes;
    if files != expected.files {
        let what = format!("has {files} files instead of {}", expected.files);
        return Err(Error::damaged(b".", what));
    }
    Ok(())
}

/// Extracts an error of this crate that passed through a reader as an I/O error.
fn unwrapped(error: Error) -> Error {
    match error {
        Error::Input { offset, source } => match source.downcast::<Error>() {
            Ok(inner) => inner,
            Err(source) => Error::Input { offset, source },
        },
        other => other,
    }
}

struct Checker<'a> {
    limits: &'a Limits,
    parents: Parents<'a>,
    /// By physical path; the last of several entries counts.
    directories: BTreeMap<Vec<u8>, Metadata>,
    dropped: u64,
}

/// One entry and its expected location.
struct Found<'e> {
    entry: &'e Entry,
    parent: &'e Parent,
    name: &'e [u8],
}

impl Checker<'_> {
    fn run<S: Source>(&mut self, archive: &mut Archive<'_, S>) -> Result<(), Error> {
        while let Some(entry) = archive.next()? {
            self.entry(&entry)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let clean = path::clean(&entry.path, self.limits)?;
        let (parent, last) = path::split(&clean);
        let meaning = path::meaning(&clean);
        if meaning == Meaning::Ignored {
            return Ok(());
        }
        if last.is_empty() {
            self.directories.insert(Vec::new(), entry.metadata.clone());
            return Ok(());
        }
        let parent = self.parents.open(parent, &entry.path, false).map_err(missing)?;
        let found = |name| Found {
            entry,
            parent: &parent,
            name,
        };
        match meaning {
            Meaning::Opaque => opaque(&parent, &entry.path),
            Meaning::Whiteout { name } => whiteout(&found(name)),
            _ if entry.kind == Kind::Directory => {
                let physical = path::join(&parent.path, last);
                self.directories.insert(physical, entry.metadata.clone());
                Ok(())
            }
            _ if entry.kind == Kind::Hardlink => self.hardlink(&found(last)),
            _ => self.object(&found(last)),
        }
    }

    fn object(&mut self, found: &Found<'_>) -> Result<(), Error> {
        let entry = found.entry;
        let stat = found.stat()?;
        let device = |kind, numbers| {
            FileType::from_raw_mode(stat.st_mode) == kind
                && (major(stat.st_rdev), minor(stat.st_rdev)) == numbers
        };
        let is = |kind| FileType::from_raw_mode(stat.st_mode) == kind;
        let fits = match entry.kind {
            Kind::Regular => is(FileType::RegularFile),
            Kind::Symlink => is(FileType::Symlink),
            Kind::Fifo => is(FileType::Fifo),
            Kind::CharDevice { major, minor } => device(FileType::CharacterDevice, (major, minor)),
            Kind::BlockDevice { major, minor } => device(FileType::BlockDevice, (major, minor)),
            Kind::Directory | Kind::Hardlink => true,
        };
        if !fits {
            return Err(Error::damaged(&entry.path, "has another type"));
        }
        if entry.kind == Kind::Regular && u64::try_from(stat.st_size) != Ok(entry.size) {
            return Err(Error::damaged(&entry.path, "has another size"));
        }
        if entry.kind == Kind::Symlink {
            let target = readlinkat(&found.parent.fd, found.name, Vec::new())
                .map_err(|errno| Error::system(&entry.path, "readlinkat", errno))?;
            if target.to_bytes() != entry.link {
                return Err(Error::damaged(&entry.path, "points elsewhere"));
            }
        }
        same(&stat, &entry.metadata, &entry.path)?;
        self.dropped += xattrs(&entry.metadata, &entry.path, |key, value| {
            lgetxattr(found.proc_path(), key, value)
        })?;
        Ok(())
    }

    fn hardlink(&mut self, found: &Found<'_>) -> Result<(), Error> {
        let entry = found.entry;
        let target = path::clean(&entry.link, self.limits)?;
        let (parent, last) = path::split(&target);
        let parent = self.parents.open(parent, &entry.path, false).map_err(missing)?;
        let target = Found {
            entry,
            parent: &parent,
            name: last,
        };
        let (target, own) = (target.stat()?, found.stat()?);
        if (target.st_dev, target.st_ino) != (own.st_dev, own.st_ino) {
            return Err(Error::damaged(
                &entry.path,
                "is not a link to its target any more",
            ));
        }
        Ok(())
    }

    fn directories(&mut self) -> Result<(), Error> {
        for (physical, metadata) in &self.directories {
            let fd = self
                .parents
                .lookup(physical)
                .map_err(|errno| missing(Error::system(physical, "openat2(O_DIRECTORY)", errno)))?;
            let stat = rustix::fs::fstat(&fd).map_err(|errno| Error::system(physical, "fstat", errno))?;
            same(&stat, metadata, physical)?;
            let path = proc(fd.as_fd());
            self.dropped += xattrs(metadata, physical, |key, value| getxattr(&path, key, value))?;
        }
        Ok(())
    }
}

impl Found<'_> {
    fn stat(&self) -> Result<Stat, Error> {
        statat(&self.parent.fd, self.name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| {
            missing(Error::system(
                &self.entry.path,
                "fstatat(AT_SYMLINK_NOFOLLOW)",
                errno,
            ))
        })
    }

    fn proc_path(&self) -> Vec<u8> {
        [proc(self.parent.fd.as_fd()).as_bytes(), b"/", self.name].concat()
    }
}

fn proc(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Turns the error for a missing file into damage.
fn missing(error: Error) -> Error {
    match error {
        Error::System {
            path,
            source: Errno::NOENT | Errno::NOTDIR | Errno::LOOP,
            ..
        } => Error::damaged(path.as_bytes(), "is gone"),
        other => other,
    }
}

fn opaque(parent: &Parent, entry: &[u8]) -> Result<(), Error> {
    let mut value = [0; 2];
    match getxattr(proc(parent.fd.as_fd()), OPAQUE, &mut value[..]) {
        Ok(1) if value[0] == b'y' => Ok(()),
        Ok(_) | Err(Errno::NODATA) => Err(Error::damaged(entry, "does not hide the layers below any more")),
        Err(errno) => Err(Error::system(
            entry,
            "getxattr(\"trusted.overlay.opaque\")",
            errno,
        )),
    }
}

/// A later entry may have turned the whiteout into an opaque directory.
fn whiteout(found: &Found<'_>) -> Result<(), Error> {
    let stat = found.stat()?;
    if is_whiteout(&stat) || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Ok(());
    }
    Err(Error::damaged(
        &found.entry.path,
        "does not hide the layers below any more",
    ))
}

fn same(stat: &Stat, metadata: &Metadata, entry: &[u8]) -> Result<(), Error> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Symlink && stat.st_mode & 0o7777 != metadata.mode {
        let what = format!(
            "has the mode {:04o} instead of {:04o}",
            stat.st_mode & 0o7777,
            metadata.mode
        );
        return Err(Error::damaged(entry, what));
    }
    if (stat.st_uid, stat.st_gid) != (metadata.uid, metadata.gid) {
        let what = format!(
            "belongs to {}:{} instead of {}:{}",
            stat.st_uid, stat.st_gid, metadata.uid, metadata.gid
        );
        return Err(Error::damaged(entry, what));
    }
    let (seconds, nanoseconds) = metadata.mtime;
    // File systems may not keep times outside this range, nor all digits.
    let kept = (0..1 << 31).contains(&seconds);
    let digits = [0, u64::from(nanoseconds)];
    if kept && (stat.st_mtime != seconds || !digits.contains(&stat.st_mtime_nsec)) {
        return Err(Error::damaged(entry, "has another modification time"));
    }
    Ok(())
}

/// The number of missing attributes. An attribute with another value is damage.
fn xattrs(
    metadata: &Metadata,
    entry: &[u8],
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<u64, Error> {
    let mut missing = 0;
    for (at, (key, value)) in metadata.xattrs.iter().enumerate() {
        if metadata.xattrs[at + 1..].iter().any(|(later, _)| later == key) {
            continue;
        }
        if !is_kept(key) {
            missing += 1;
            continue;
        }
        // The kernel converts access lists to its own form.
        if key.starts_with(b"system.") {
            continue;
        }
        let mut buffer = vec![0; value.len() + 1];
        match get(key, &mut buffer) {
            Ok(length) if buffer[..length] == **value => {}
            Err(Errno::NODATA | Errno::OPNOTSUPP) => missing += 1,
            Ok(_) | Err(Errno::RANGE) => {
                let what = format!("has another value of {}", key.escape_ascii());
                return Err(Error::damaged(entry, what));
            }
            Err(errno) => return Err(Error::system(entry, "lgetxattr", errno)),
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests;
