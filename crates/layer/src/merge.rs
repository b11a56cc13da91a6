//! Directories that a layer has only because something lies in them, and what they are called in the layers below.
//!
//! In an overlay the topmost directory of a name decides about mode, owner and attributes. A layer that puts a file into
//! `/tmp` without describing `/tmp` would take the sticky bit away from all images that have it. A layer is shared by images with
//! different layers below, so the layer itself cannot be right for all of them. What can be is one more layer on top of
//! an image's own, with nothing in it but these directories.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, lgetxattr, llistxattr, mkdirat, openat};
use rustix::io::Errno;

use crate::entry::Metadata;
use crate::error::EntryPath;
use crate::metadata::{self, DEFAULT_ACL, Fresh, OPAQUE, Target, is_kept};
use crate::{Error, path};

/// Directories one image may need; with more of them, those beyond keep the modes they have.
const DIRECTORIES_MAX: usize = 20_000;
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A layer as unpacked, and its [`implied`](crate::Unpacked::implied) directories.
#[derive(Debug)]
pub struct Stacked<'a> {
    /// Its directory.
    pub dir: BorrowedFd<'a>,
    /// As the unpacker said.
    pub implied: &'a [EntryPath],
}

/// What one layer says about a path.
enum Said {
    /// Nothing; those below decide.
    Nothing,
    /// A directory, described or implied; those below show through it.
    Directory(OwnedFd),
    /// A directory that hides those below.
    Opaque(OwnedFd),
    /// No directory of this name from here on down.
    Hidden,
}

/// Makes, in the empty directory `into`, every directory that one of `layers` (lowest first) implies and another below it
/// describes otherwise. Yields how many there are; without any, no layer on top is needed.
///
/// # Errors
/// [`Error::System`] where a layer cannot be read or `into` not be written.
pub fn describe_implied(layers: &[Stacked<'_>], into: BorrowedFd<'_>) -> Result<u64, Error> {
    let merger = Merger {
        layers,
        implied: layers
            .iter()
            .map(|layer| layer.implied.iter().map(EntryPath::as_bytes).collect())
            .collect(),
    };
    // Parents sort before what lies in them.
    let wanted: BTreeSet<&[u8]> = merger.implied.iter().skip(1).flatten().copied().collect();
    let mut made = BTreeSet::new();
    for physical in wanted.into_iter().take(DIRECTORIES_MAX) {
        if !plain(physical) || !merger.is_wrong(physical)? {
            continue;
        }
        let ends = physical
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at);
        for end in ends.chain([physical.len()]) {
            let prefix = &physical[..end];
            if made.insert(prefix.to_vec()) {
                merger.make(prefix, into)?;
            }
        }
    }
    merger.times(&made, into)?;
    Ok(made.len() as u64)
}

/// Whether a name has only plain components: names may come from a record that was damaged.
fn plain(physical: &[u8]) -> bool {
    let components = physical.split(|byte| *byte == b'/');
    !physical.contains(&0)
        && components
            .into_iter()
            .all(|name| !matches!(name, b"" | b"." | b".."))
}

struct Merger<'a> {
    layers: &'a [Stacked<'a>],
    implied: Vec<BTreeSet<&'a [u8]>>,
}

impl Merger<'_> {
    /// Whether the topmost directory of this name is implied, and the one it stands for another.
    fn is_wrong(&self, physical: &[u8]) -> Result<bool, Error> {
        for (at, layer) in self.layers.iter().enumerate().rev() {
            match say(layer.dir, physical)? {
                Said::Nothing => {}
                Said::Hidden | Said::Opaque(_) => return Ok(false),
                Said::Directory(_) if !self.implied[at].contains(physical) => return Ok(false),
                Said::Directory(_) => {
                    let described = self.described(physical)?;
                    return Ok(described.is_some_and(|metadata| metadata != implied_metadata(metadata.mtime)));
                }
            }
        }
        Ok(false)
    }

    /// What the topmost description of this directory that can be seen says.
    fn described(&self, physical: &[u8]) -> Result<Option<Metadata>, Error> {
        for (at, layer) in self.layers.iter().enumerate().rev() {
            let (fd, last) = match say(layer.dir, physical)? {
                Said::Nothing => continue,
                Said::Hidden => return Ok(None),
                Said::Directory(fd) => (fd, false),
                Said::Opaque(fd) => (fd, true),
            };
            if !self.implied[at].contains(physical) {
                return read(&fd, physical).map(Some);
            }
            if last {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn make(&self, physical: &[u8], into: BorrowedFd<'_>) -> Result<(), Error> {
        let metadata = self
            .described(physical)?
            .unwrap_or_else(|| implied_metadata((0, 0)));
        let (parent, name) = path::split(physical);
        let parent = open(into, parent)?;
        let mode = Mode::from_raw_mode(0o700);
        mkdirat(&parent, name, mode).map_err(|errno| Error::system(physical, "mkdirat(0700)", errno))?;
        let fd = metadata::open_directory(parent.as_fd(), name)
            .map_err(|errno| Error::system(physical, "openat(O_DIRECTORY)", errno))?;
        let fresh = Fresh {
            owned: false,
            mode: None,
        };
        Target::Open(fd.as_fd())
            .apply(&metadata, fresh, physical)
            .map(drop)
    }

    /// Last, because every directory made in another changes its times and inherits its access list.
    fn times(&self, made: &BTreeSet<Vec<u8>>, into: BorrowedFd<'_>) -> Result<(), Error> {
        for physical in made.iter().rev() {
            let Some(metadata) = self.described(physical)? else {
                continue;
            };
            let fd = open(into, physical)?;
            let target = Target::Open(fd.as_fd());
            if let Some((_, acl)) = metadata.xattrs.iter().find(|(name, _)| name == DEFAULT_ACL) {
                target.keep_xattr(DEFAULT_ACL, acl, physical)?;
            }
            target.set_times(metadata.mtime, physical)?;
        }
        Ok(())
    }
}

/// What an implied directory is.
fn implied_metadata(mtime: (i64, u32)) -> Metadata {
    Metadata {
        mode: 0o755,
        mtime,
        ..Metadata::default()
    }
}

/// Goes down one layer by plain names, as the overlay does.
fn say(layer: BorrowedFd<'_>, physical: &[u8]) -> Result<Said, Error> {
    let mut at: Option<OwnedFd> = None;
    let mut opaque = false;
    for component in physical.split(|byte| *byte == b'/') {
        let name = CString::new(component).map_err(|_| Error::field(physical, "path"))?;
        let dir = at.as_ref().map_or(layer, |fd| fd.as_fd());
        let next = match openat(dir, &name, HANDLE, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) if opaque => return Ok(Said::Hidden),
            Err(Errno::NOENT) => return Ok(Said::Nothing),
            Err(errno) => return Err(Error::system(physical, "openat(O_PATH | O_NOFOLLOW)", errno)),
        };
        let stat = fstat(&next).map_err(|errno| Error::system(physical, "fstat", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Said::Hidden);
        }
        opaque |= is_opaque(&next);
        at = Some(next);
    }
    Ok(match at {
        Some(fd) if opaque => Said::Opaque(fd),
        Some(fd) => Said::Directory(fd),
        None => Said::Nothing,
    })
}

fn proc(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}/.", fd.as_raw_fd())
}

fn is_opaque(fd: &OwnedFd) -> bool {
    let mut value = [0; 2];
    lgetxattr(proc(fd), OPAQUE, &mut value[..]).is_ok_and(|length| value[..length] == *b"y")
}

fn open(root: BorrowedFd<'_>, physical: &[u8]) -> Result<OwnedFd, Error> {
    let name = if physical.is_empty() { b"." } else { physical };
    metadata::open_directory(root, name)
        .map_err(|errno| Error::system(physical, "openat(O_DIRECTORY)", errno))
}

/// Owner, mode, time and attributes of a directory.
fn read(fd: &OwnedFd, physical: &[u8]) -> Result<Metadata, Error> {
    let stat: Stat = fstat(fd).map_err(|errno| Error::system(physical, "fstat", errno))?;
    let path = proc(fd);
    let mut names = vec![0; 64 << 10];
    let length = match llistxattr(&path, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(Error::system(physical, "llistxattr", errno)),
    };
    let mut xattrs = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        // A host's label is not the image's.
        if name.is_empty() || name == b"security.selinux" || !is_kept(name) {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = lgetxattr(&path, name, &mut value[..])
            .map_err(|errno| Error::system(physical, "lgetxattr", errno))?;
        value.truncate(length);
        xattrs.push((name.to_vec(), value));
    }
    Ok(Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        xattrs,
    })
}

#[cfg(test)]
mod tests;
