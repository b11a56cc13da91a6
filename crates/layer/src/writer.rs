//! Turns entries into files, one after the other, each as if the archive were read up to there only: a later entry of
//! the same name replaces an earlier one, a directory over a directory only brings its metadata up to date.
//!
//! Every call takes a handle from `parents` and one plain name that is created exclusively and never followed; what is
//! in the way is removed first. The times of directories are set at the end, deepest first, because every entry made in
//! a directory changes them.

mod file;
mod link;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dev, FileType, Mode, OFlags, ResolveFlags, makedev, mkdirat, mknodat, openat2, statat, symlinkat,
};
use rustix::io::Errno;

use crate::archive::Archive;
use crate::entry::{Entry, Kind};
use crate::error::{EntryPath, Limit};
use crate::metadata::{self, DEFAULT_ACL, Fresh, OPAQUE, Target};
use crate::parents::{Parent, Parents};
use crate::path::{self, Meaning};
use crate::stream::Source;
use crate::{Error, Limits, Unpacked, remove, usage};

/// What sizes are rounded up to; the block size of nearly every file system in use.
const UNIT: u64 = 4096;

/// The directory being filled.
pub(crate) struct Writer<'a> {
    root: BorrowedFd<'a>,
    limits: &'a Limits,
    parents: Parents<'a>,
    umask: u32,
    /// What directories are still to get, by physical path.
    late: BTreeMap<Vec<u8>, Late>,
    inodes: u64,
    bytes: u64,
    content: u64,
    /// Something was replaced, so that the counts above are too high.
    displaced: bool,
    opaque_root: bool,
    dropped_xattrs: u64,
}

/// Metadata of a directory that has to wait until everything lies in it.
struct Late {
    /// Changed by every entry made in the directory.
    mtime: (i64, u32),
    /// Inherited by every entry made in the directory.
    default_acl: Option<Vec<u8>>,
}

/// Where one entry goes.
struct Place<'e> {
    parent: Rc<Parent>,
    name: CString,
    entry: &'e Entry,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>, limits: &'a Limits) -> Result<Self, Error> {
        Ok(Self {
            root,
            limits,
            parents: Parents::new(root, limits),
            umask: umask(),
            late: BTreeMap::new(),
            inodes: 1,
            bytes: UNIT,
            content: 0,
            displaced: false,
            opaque_root: false,
            dropped_xattrs: 0,
        })
    }

    /// Writes one entry, reading its data from `archive`.
    pub(crate) fn entry<S: Source>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<'_, S>,
    ) -> Result<(), Error> {
        let clean = path::clean(&entry.path, self.limits)?;
        let (parent, last) = path::split(&clean);
        let name = match path::meaning(&clean) {
            Meaning::Ignored => return Ok(()),
            Meaning::Nothing => {
                return Err(Error::Whiteout {
                    path: EntryPath::new(entry.path.as_slice()),
                });
            }
            Meaning::Opaque => return self.opaque(parent, entry),
            Meaning::Whiteout { name } => name,
            Meaning::Plain if last.is_empty() => return self.root(entry),
            Meaning::Plain => last,
        };
        let parent = self.parents.open(parent, &entry.path, true)?;
        let place = Place {
            parent,
            name: CString::new(name).map_err(|_| Error::field(&entry.path, "path"))?,
            entry,
        };
        if name.len() != last.len() {
            return self.node(&place, FileType::CharacterDevice, 0, None);
        }
        match entry.kind {
            Kind::Regular => self.regular(&place, archive),
            Kind::Directory => self.directory(&place),
            Kind::Symlink => self.symlink(&place),
            Kind::Hardlink => self.hardlink(&place),
            Kind::CharDevice { major, minor } => self.node(
                &place,
                FileType::CharacterDevice,
                makedev(major, minor),
                Some(entry),
            ),
            Kind::BlockDevice { major, minor } => {
                self.node(&place, FileType::BlockDevice, makedev(major, minor), Some(entry))
            }
            Kind::Fifo => self.node(&place, FileType::Fifo, 0, Some(entry)),
        }
    }

    /// Sets the times of directories and sums up.
    pub(crate) fn finish(mut self, archive_bytes: u64) -> Result<Unpacked, Error> {
        // Reverse order puts children before their directory.
        for (physical, late) in std::mem::take(&mut self.late).into_iter().rev() {
            let fd = self.open_directory(&physical)?;
            let target = Target::Open(fd.as_fd());
            if let Some(acl) = &late.default_acl {
                self.dropped_xattrs += u64::from(!target.keep_xattr(DEFAULT_ACL, acl, &physical)?);
            }
            target.set_times(late.mtime, &physical)?;
        }
        let (bytes, inodes) = if self.displaced || self.parents.unlinked {
            let usage = usage::usage(self.root)?;
            (usage.bytes, usage.inodes)
        } else {
            (
                self.bytes + self.parents.created * UNIT,
                self.inodes + self.parents.created,
            )
        };
        let mut unpacked = Unpacked::without_digest(archive_bytes, bytes, inodes);
        unpacked.implied = self.parents.implied.into_iter().map(EntryPath::new).collect();
        unpacked.opaque_root = self.opaque_root;
        unpacked.dropped_xattrs = self.dropped_xattrs;
        unpacked.reproducible = !self.displaced;
        Ok(unpacked)
    }

    /// Creates an object by `make`, after removing an existing one of that name; true if there was one.
    fn create<T>(
        &mut self,
        place: &Place<'_>,
        call: impl Fn() -> String,
        make: impl Fn(BorrowedFd<'_>, &CString) -> Result<T, Errno>,
    ) -> Result<(T, bool), Error> {
        let fail = |errno| Error::system(&place.entry.path, call(), errno);
        match make(place.parent.fd.as_fd(), &place.name) {
            Ok(made) => Ok((made, false)),
            Err(Errno::EXIST) => {
                self.displace(place)?;
                let made = make(place.parent.fd.as_fd(), &place.name).map_err(fail)?;
                Ok((made, true))
            }
            Err(errno) => Err(fail(errno)),
        }
    }

    fn displace(&mut self, place: &Place<'_>) -> Result<(), Error> {
        remove::remove(place.parent.fd.as_fd(), &place.name)?;
        self.displaced = true;
        self.parents.forget();
        let gone = place.physical();
        let below = path::join(&gone, b"");
        self.late.remove(&gone);
        self.parents.implied.remove(&gone);
        // Names below it follow each other; the others must cost nothing, or replacing would be a bomb.
        let is_below = |path: &&Vec<u8>| path.starts_with(&below);
        while let Some(path) = self
            .late
            .range(below.clone()..)
            .next()
            .map(|(path, _)| path)
            .filter(is_below)
        {
            let path = path.clone();
            self.late.remove(&path);
        }
        let implied = &mut self.parents.implied;
        while let Some(path) = implied.range(below.clone()..).next().filter(is_below).cloned() {
            implied.remove(&path);
        }
        Ok(())
    }

    fn root(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.kind != Kind::Directory {
            return Err(Error::Root {
                path: EntryPath::new(entry.path.as_slice()),
            });
        }
        self.update_directory(
            b"",
            entry,
            Fresh {
                owned: false,
                mode: None,
            },
        )
    }

    fn directory(&mut self, place: &Place<'_>) -> Result<(), Error> {
        let entry = place.entry;
        let mode = Mode::from_raw_mode(entry.metadata.mode & 0o777);
        let call = || format!("mkdirat({:04o})", mode.as_raw_mode());
        let physical = place.physical();
        self.parents.check(&physical, &entry.path)?;
        let made = mkdirat(&place.parent.fd, &place.name, mode);
        if made == Err(Errno::EXIST) && self.is_directory(place)? {
            return self.update_directory(
                &physical,
                entry,
                Fresh {
                    owned: false,
                    mode: None,
                },
            );
        }
        let opaque = match made {
            Ok(()) => false,
            Err(_) => self.create(place, call, |at, name| mkdirat(at, name, mode))?.1,
        };
        self.inodes += 1;
        self.bytes += UNIT;
        if opaque {
            // The removed object hid everything of this name in the layers below; the directory must do so too.
            self.set_opaque(&physical, &entry.path)?;
        }
        let setgid = place.parent.setgid;
        let kept = entry.metadata.mode & !self.umask & 0o777;
        self.update_directory(
            &physical,
            entry,
            Fresh {
                owned: !setgid,
                mode: (!setgid).then_some(kept),
            },
        )
    }

    fn is_directory(&self, place: &Place<'_>) -> Result<bool, Error> {
        let stat = statat(&place.parent.fd, &place.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| Error::system(&place.entry.path, "fstatat(AT_SYMLINK_NOFOLLOW)", errno))?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    fn update_directory(&mut self, physical: &[u8], entry: &Entry, fresh: Fresh) -> Result<(), Error> {
        let meta = &entry.metadata;
        let complete = fresh.owned && meta.uid == 0 && meta.gid == 0 && fresh.mode == Some(meta.mode);
        if !complete || !meta.xattrs.is_empty() {
            let fd = self.open_directory(physical)?;
            self.dropped_xattrs += Target::Open(fd.as_fd()).apply(meta, fresh, &entry.path)?;
        }
        if meta.mode & 0o2000 != 0 {
            self.parents.forget();
        }
        self.parents.implied.remove(physical);
        let default_acl = meta
            .xattrs
            .iter()
            .find(|(name, _)| name == DEFAULT_ACL)
            .map(|(_, acl)| acl.clone());
        self.parents.remember(
            physical.len() + default_acl.as_ref().map_or(0, Vec::len),
            &entry.path,
        )?;
        self.late.insert(
            physical.to_vec(),
            Late {
                mtime: meta.mtime,
                default_acl,
            },
        );
        Ok(())
    }

    fn opaque(&mut self, parent: &[u8], entry: &Entry) -> Result<(), Error> {
        let parent = self.parents.open(parent, &entry.path, true)?;
        self.opaque_root |= parent.path.is_empty();
        self.set_opaque(&parent.path, &entry.path)
    }

    fn set_opaque(&self, physical: &[u8], entry: &[u8]) -> Result<(), Error> {
        let fd = self.open_directory(physical)?;
        metadata::set_xattr(&fd, OPAQUE, b"y")
            .map_err(|errno| Error::system(entry, "fsetxattr(\"trusted.overlay.opaque\", \"y\")", errno))
    }

    fn open_directory(&self, physical: &[u8]) -> Result<rustix::fd::OwnedFd, Error> {
        let name = if physical.is_empty() { b"." } else { physical };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(self.root, name, flags, Mode::empty(), resolve)
            .map_err(|errno| Error::system(physical, "openat2(O_DIRECTORY, RESOLVE_NO_SYMLINKS)", errno))
    }

    fn symlink(&mut self, place: &Place<'_>) -> Result<(), Error> {
        let target = CString::new(place.entry.link.as_slice())
            .ok()
            .filter(|target| !target.is_empty())
            .ok_or_else(|| Error::field(&place.entry.path, "link target"))?;
        let call = || format!("symlinkat(\"{}\")", target.to_bytes().escape_ascii());
        self.create(place, call, |at, name| symlinkat(&target, at, name))?;
        // The mode of a link cannot be set.
        let mode = Some(place.entry.metadata.mode);
        self.complete(
            place,
            Fresh {
                owned: !place.parent.setgid,
                mode,
            },
            0,
        )
    }

    /// A device, a fifo or, without an entry to take metadata from, a whiteout.
    fn node(
        &mut self,
        place: &Place<'_>,
        kind: FileType,
        dev: Dev,
        described: Option<&Entry>,
    ) -> Result<(), Error> {
        let bits = described.map_or(0, |entry| entry.metadata.mode & 0o777);
        let mode = Mode::from_raw_mode(bits);
        let call = || format!("mknodat({kind:?}, {bits:04o}, device {dev:#x})");
        self.create(place, call, |at, name| mknodat(at, name, kind, mode, dev))?;
        if described.is_none() {
            self.inodes += 1;
            return Ok(());
        }
        self.complete(
            place,
            Fresh {
                owned: !place.parent.setgid,
                mode: Some(bits & !self.umask),
            },
            0,
        )
    }

    fn complete(&mut self, place: &Place<'_>, fresh: Fresh, bytes: u64) -> Result<(), Error> {
        let target = Target::Named {
            parent: place.parent.fd.as_fd(),
            name: place.name.to_bytes(),
        };
        self.dropped_xattrs += target.apply(&place.entry.metadata, fresh, &place.entry.path)?;
        self.inodes += 1;
        self.bytes += bytes;
        target.set_times(place.entry.metadata.mtime, &place.entry.path)
    }

    /// Accounts for the contents of a file before any of it is written.
    fn admit(&mut self, entry: &Entry) -> Result<(), Error> {
        self.content = self.content.saturating_add(entry.size);
        if self.content > self.limits.content_bytes {
            return Err(Error::limit(
                Limit::ContentBytes,
                self.limits.content_bytes,
                &entry.path,
            ));
        }
        Ok(())
    }
}

impl Place<'_> {
    fn physical(&self) -> Vec<u8> {
        path::join(&self.parent.path, self.name.to_bytes())
    }
}

/// The process's umask, read rather than set, as other threads depend on it. Where it cannot be read, all bits count
/// as masked and every mode is set explicitly.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok())
        .unwrap_or(0o777)
}
