//! Implied directories: a layer has entries in them but no entry for them. Their metadata comes from the layers below.
//!
//! In an overlay the topmost directory of a name decides about mode, owner and attributes. A layer that puts a file into
//! `/tmp` without an entry for `/tmp` would remove the sticky bit in all images that have the layer. A layer is shared by images
//! with different layers below, so the layer itself cannot be right for all of them. Instead each image gets one more layer
//! on top of its own, with nothing in it but these directories.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, lgetxattr, llistxattr, mkdirat, openat};
use rustix::io::Errno;

use crate::entry::Metadata;
use crate::error::EntryPath;
use crate::metadata::{self, DEFAULT_ACL, Fresh, OPAQUE, Target, is_kept};
use crate::{Error, path};

/// Limit for one image; directories beyond it keep their default metadata.
const DIRECTORIES_MAX: usize = 20_000;
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A layer as unpacked, and its [`implied`](crate::Unpacked::implied) directories.
#[derive(Debug)]
#[expect(missing_docs, reason = "named and documented in `Unpacked`")]
pub struct Stacked<'a> {
    /// The directory that holds the layer's tree.
    pub dir: BorrowedFd<'a>,
    pub implied: &'a [EntryPath],
}

/// A path in one layer.
enum Found {
    /// Not in this layer; those below decide.
    Nothing,
    /// A directory, described or implied; those below show through it.
    Directory(OwnedFd),
    /// A directory that hides those below.
    Opaque(OwnedFd),
    /// No directory of this name from here on down.
    Hidden,
}

/// Creates, in the empty directory `into`, every directory that one of `layers` (lowest first) implies and a layer below it
/// has with other metadata. Returns how many there are; if there are none, no layer on top is needed.
///
/// # Errors
/// [`Error::System`] if a layer cannot be read or `into` cannot be written.
pub fn describe_implied(layers: &[Stacked<'_>], into: BorrowedFd<'_>) -> Result<u64, Error> {
    let merger = Merger {
        layers,
        implied: layers
            .iter()
            .map(|layer| layer.implied.iter().map(EntryPath::as_bytes).collect())
            .collect(),
    };
    // Parents sort before their children.
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
    /// Whether the topmost directory of this name is implied, and the one it hides has other metadata.
    fn is_wrong(&self, physical: &[u8]) -> Result<bool, Error> {
        for (at, layer) in self.layers.iter().enumerate().rev() {
            match look_up(layer.dir, physical)? {
                Found::Nothing => {}
                Found::Hidden | Found::Opaque(_) => return Ok(false),
                Found::Directory(_) if !self.implied[at].contains(physical) => return Ok(false),
                Found::Directory(_) => {
                    let described = self.described(physical)?;
                    return Ok(described.is_some_and(|metadata| metadata != implied_metadata(metadata.mtime)));
                }
            }
        }
        Ok(false)
    }

    /// The metadata of the topmost visible directory of this name that has an entry.
    fn described(&self, physical: &[u8]) -> Result<Option<Metadata>, Error> {
        for (at, layer) in self.layers.iter().enumerate().rev() {
            let (fd, last) = match look_up(layer.dir, physical)? {
                Found::Nothing => continue,
                Found::Hidden => return Ok(None),
                Found::Directory(fd) => (fd, false),
                Found::Opaque(fd) => (fd, true),
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

/// The metadata of an implied directory.
fn implied_metadata(mtime: (i64, u32)) -> Metadata {
    Metadata {
        mode: 0o755,
        mtime,
        ..Metadata::default()
    }
}

/// Looks up a path in one layer by plain names, as the overlay does.
fn look_up(layer: BorrowedFd<'_>, physical: &[u8]) -> Result<Found, Error> {
    let mut at: Option<OwnedFd> = None;
    let mut opaque = false;
    for component in physical.split(|byte| *byte == b'/') {
        let name = CString::new(component).map_err(|_| Error::field(physical, "path"))?;
        let dir = at.as_ref().map_or(layer, |fd| fd.as_fd());
        let next = match openat(dir, &name, HANDLE, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) if opaque => return Ok(Found::Hidden),
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(errno) => return Err(Error::system(physical, "openat(O_PATH | O_NOFOLLOW)", errno)),
        };
        let stat = fstat(&next).map_err(|errno| Error::system(physical, "fstat", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Found::Hidden);
        }
        opaque |= is_opaque(&next);
        at = Some(next);
    }
    Ok(match at {
        Some(fd) if opaque => Found::Opaque(fd),
        Some(fd) => Found::Directory(fd),
        None => Found::Nothing,
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
        // The host's label is not part of the image.
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
