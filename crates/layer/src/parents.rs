//! Handles of the parent directories of entries.
//!
//! Usually one openat2(2) that refuses links of any kind is enough. Archives may put an entry below a symbolic link of
//! their own ("lib -> usr/lib", then "lib/x"); then the path is walked component by component, and links are resolved as
//! if the layer's root were the process's root: ".." stops there and absolute targets begin there. The walk returns the
//! *physical* path, free of links, and only physical paths are kept for later.
//!
//! Invariants: no lookup follows a link in the kernel; every physical path obeys the limits on length and depth, so
//! the tree can always be opened from its root in one call; a handle in the cache is reachable by its key, for the
//! cache is emptied whenever anything is removed.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, major, minor, mkdirat, openat, openat2,
    readlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{EntryPath, Limit};
use crate::metadata::{self, OPAQUE};
use crate::{Error, Limits, path};

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// As many links as Linux follows in one lookup.
const LINKS: usize = 40;
const CACHED: usize = 32;

/// An open directory of the layer.
#[derive(Debug)]
pub(crate) struct Parent {
    /// O_PATH.
    pub(crate) fd: OwnedFd,
    /// Physical path; empty for the root.
    pub(crate) path: Vec<u8>,
    /// New objects in it inherit the group.
    pub(crate) setgid: bool,
}

/// Finds, creates and remembers parents.
pub(crate) struct Parents<'a> {
    root: BorrowedFd<'a>,
    limits: &'a Limits,
    /// Most recently used last.
    cache: Vec<(Vec<u8>, Rc<Parent>)>,
    /// Directories without an entry of their own.
    pub(crate) implied: BTreeSet<Vec<u8>>,
    /// How many directories were created for that reason.
    pub(crate) created: u64,
    /// A whiteout of this layer was replaced.
    pub(crate) unlinked: bool,
    /// Bytes of names held until the end, here and by the writer.
    remembered: usize,
}

/// A path being walked.
struct Way<'e> {
    entry: &'e [u8],
    create: bool,
    at: OwnedFd,
    path: Vec<u8>,
    todo: VecDeque<Vec<u8>>,
    links: usize,
}

impl<'a> Parents<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>, limits: &'a Limits) -> Self {
        Self {
            root,
            limits,
            cache: Vec::with_capacity(CACHED),
            implied: BTreeSet::new(),
            created: 0,
            unlinked: false,
            remembered: 0,
        }
    }

    /// Must be called after anything was removed, and when a directory becomes setgid.
    pub(crate) fn forget(&mut self) {
        self.cache.clear();
    }

    /// The directory with this clean path. A missing one is created if `create`, otherwise the error is ENOENT.
    pub(crate) fn open(&mut self, wanted: &[u8], entry: &[u8], create: bool) -> Result<Rc<Parent>, Error> {
        if let Some(at) = self.cache.iter().rposition(|(path, _)| path == wanted) {
            let hit = self.cache.remove(at);
            let parent = Rc::clone(&hit.1);
            self.cache.push(hit);
            return Ok(parent);
        }
        let parent = match self.lookup(wanted) {
            Ok(fd) => Parent {
                setgid: self.is_setgid(&fd, entry)?,
                fd,
                path: wanted.to_vec(),
            },
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.walk(wanted, entry, create)?,
            Err(errno) => return Err(Error::system(entry, open_call(wanted), errno)),
        };
        let parent = Rc::new(parent);
        if self.cache.len() == CACHED {
            self.cache.remove(0);
        }
        self.cache.push((wanted.to_vec(), Rc::clone(&parent)));
        Ok(parent)
    }

    /// Opens a directory by its physical path.
    pub(crate) fn lookup(&self, physical: &[u8]) -> Result<OwnedFd, Errno> {
        let name = if physical.is_empty() { b"." } else { physical };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(
            self.root,
            name,
            HANDLE | OFlags::DIRECTORY,
            Mode::empty(),
            resolve,
        )
    }

    fn is_setgid(&self, fd: &OwnedFd, entry: &[u8]) -> Result<bool, Error> {
        let stat = fstat(fd).map_err(|errno| Error::system(entry, "fstat(parent)", errno))?;
        Ok(Mode::from_raw_mode(stat.st_mode).contains(Mode::SGID))
    }

    fn walk(&mut self, wanted: &[u8], entry: &[u8], create: bool) -> Result<Parent, Error> {
        let mut way = Way {
            entry,
            create,
            at: self
                .lookup(b"")
                .map_err(|errno| Error::system(entry, open_call(b""), errno))?,
            path: Vec::new(),
            todo: components(wanted).collect(),
            links: 0,
        };
        while let Some(name) = way.todo.pop_front() {
            if name == b".." {
                way.path.truncate(path::split(&way.path).0.len());
                way.at = self
                    .lookup(&way.path)
                    .map_err(|errno| Error::system(entry, open_call(&way.path), errno))?;
            } else {
                self.step(&mut way, &name)?;
            }
        }
        let setgid = self.is_setgid(&way.at, entry)?;
        Ok(Parent {
            fd: way.at,
            path: way.path,
            setgid,
        })
    }

    /// Walks one component: into a directory, through a link, or into a new directory.
    fn step(&mut self, way: &mut Way<'_>, name: &[u8]) -> Result<(), Error> {
        let physical = path::join(&way.path, name);
        let open = |at: &OwnedFd| openat(at, name, HANDLE | OFlags::NOFOLLOW, Mode::empty());
        let next = match open(&way.at) {
            Err(Errno::NOENT) if way.create => {
                self.create(way, name, &physical, false)?;
                open(&way.at)
            }
            other => other,
        };
        let next = next.map_err(|errno| Error::system(way.entry, open_call(&physical), errno))?;
        let stat = fstat(&next).map_err(|errno| Error::system(way.entry, "fstat(parent)", errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                way.at = next;
                way.path = physical;
                Ok(())
            }
            FileType::Symlink => self.follow(way, &next),
            _ if is_whiteout(&stat) && way.create => {
                // The layers below stay hidden: the directory begins empty.
                unlinkat(&way.at, name, AtFlags::empty())
                    .map_err(|errno| Error::system(way.entry, "unlinkat(whiteout)", errno))?;
                self.unlinked = true;
                self.forget();
                self.create(way, name, &physical, true)?;
                way.at =
                    open(&way.at).map_err(|errno| Error::system(way.entry, open_call(&physical), errno))?;
                way.path = physical;
                Ok(())
            }
            _ => Err(Error::ParentNotDirectory {
                path: EntryPath::new(way.entry),
                parent: EntryPath::new(physical),
            }),
        }
    }

    fn follow(&self, way: &mut Way<'_>, link: &OwnedFd) -> Result<(), Error> {
        way.links += 1;
        if way.links > LINKS {
            return Err(Error::ParentLoop {
                path: EntryPath::new(way.entry),
                allowed: LINKS,
            });
        }
        let target = readlinkat(link, c"", Vec::new())
            .map_err(|errno| Error::system(way.entry, "readlinkat(parent)", errno))?;
        let target = target.to_bytes();
        if target.starts_with(b"/") {
            way.at = self
                .lookup(b"")
                .map_err(|errno| Error::system(way.entry, open_call(b""), errno))?;
            way.path.clear();
        }
        for component in components(target).collect::<Vec<_>>().into_iter().rev() {
            way.todo.push_front(component);
        }
        Ok(())
    }

    fn create(&mut self, way: &Way<'_>, name: &[u8], physical: &[u8], opaque: bool) -> Result<(), Error> {
        self.check(physical, way.entry)?;
        let fail = |errno| {
            Error::system(
                way.entry,
                format!("mkdirat(\"{}\", 0755)", name.escape_ascii()),
                errno,
            )
        };
        mkdirat(&way.at, name, Mode::from_raw_mode(0o755)).map_err(fail)?;
        let fd = metadata::open_directory(way.at.as_fd(), name).map_err(fail)?;
        metadata::own(&fd, 0, 0).map_err(fail)?;
        metadata::set_mode(&fd, 0o755).map_err(fail)?;
        if opaque {
            metadata::set_xattr(&fd, OPAQUE, b"y").map_err(|errno| {
                Error::system(way.entry, "fsetxattr(\"trusted.overlay.opaque\", \"y\")", errno)
            })?;
        }
        self.created += 1;
        self.remember(physical.len(), way.entry)?;
        self.implied.insert(physical.to_vec());
        Ok(())
    }

    /// Accounts for a name or value that is to be held in memory.
    pub(crate) fn remember(&mut self, bytes: usize, entry: &[u8]) -> Result<(), Error> {
        const OVERHEAD: usize = 64;
        self.remembered += bytes + OVERHEAD;
        if self.remembered > self.limits.directory_memory {
            return Err(Error::limit(
                Limit::DirectoryMemory,
                self.limits.directory_memory as u64,
                entry,
            ));
        }
        Ok(())
    }

    /// Whether a physical path obeys the limits: through links it may be longer than the entry's name.
    pub(crate) fn check(&self, physical: &[u8], entry: &[u8]) -> Result<(), Error> {
        if physical.len() > self.limits.path_bytes {
            return Err(Error::limit(
                Limit::PathBytes,
                self.limits.path_bytes as u64,
                entry,
            ));
        }
        if physical.split(|byte| *byte == b'/').count() > self.limits.depth {
            return Err(Error::limit(Limit::Depth, self.limits.depth as u64, entry));
        }
        Ok(())
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(<[u8]>::to_vec)
}

/// The kernel's mark for "hidden": a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (0, 0)
}

fn open_call(path: &[u8]) -> String {
    format!(
        "openat2(\"{}\", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS)",
        path.escape_ascii()
    )
}
