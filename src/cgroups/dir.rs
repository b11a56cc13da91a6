//! A cgroup's directory in one hierarchy, by descriptor: paths are resolved beneath it only.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, mkdirat, openat2, unlinkat};
use rustix::io::Errno;

use super::error::CgroupError;

/// Sub-cgroups nest at most this deep before removal gives up.
const MAX_DEPTH: usize = 64;

/// Files of a cgroup are small; `cgroup.procs` of a fork bomb is not.
const MAX_READ: usize = 8 << 20;

/// Bytes read at once: more than any file of counters has, except `io.stat` with very many devices.
const BUFFER: usize = 8192;

/// An open directory of a cgroup file system.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    pub(crate) fn root(path: &Path) -> Result<Self, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| CgroupError::System {
            call: "open(O_DIRECTORY)",
            path: path.to_path_buf(),
            source: errno.into(),
        })?;
        Ok(Self {
            fd,
            path: path.to_path_buf(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory beneath; none if it does not exist.
    pub(crate) fn open(&self, relative: &str) -> Result<Option<Self>, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match self.openat2(relative, flags) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: self.path.join(relative),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.system("openat2(O_DIRECTORY)", relative, errno)),
        }
    }

    /// The directory above; none at the root of the hierarchy.
    pub(crate) fn above(&self) -> Result<Option<Self>, CgroupError> {
        const ABOVE: &str = "..";
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat2(&self.fd, ABOVE, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: self.path.parent().unwrap_or(&self.path).to_path_buf(),
            })),
            Err(Errno::XDEV) => Ok(None),
            Err(errno) => Err(self.system("openat2(O_DIRECTORY)", ABOVE, errno)),
        }
    }

    /// Creates a directory; false if it existed.
    pub(crate) fn make(&self, name: &str) -> Result<bool, CgroupError> {
        match mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(self.system("mkdirat", name, errno)),
        }
    }

    pub(crate) fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let fd = self.openat2(file, OFlags::WRONLY | OFlags::CLOEXEC)?;
        rustix::io::write(&fd, value.as_bytes())?;
        Ok(())
    }

    /// A file's text without the last newline; none if it does not exist.
    pub(crate) fn read(&self, file: &str) -> Result<Option<String>, CgroupError> {
        self.read_until(file, |count| count == 0)
    }

    /// [`Self::read`] for files that the kernel writes as one record, as it does with counters: a read that does not fill
    /// the buffer is the last one. Lists like `cgroup.procs` are many records.
    pub(crate) fn record(&self, file: &str) -> Result<Option<String>, CgroupError> {
        self.read_until(file, |count| count < BUFFER)
    }

    fn read_until(&self, file: &str, last: impl Fn(usize) -> bool) -> Result<Option<String>, CgroupError> {
        let fd = match self.openat2(file, OFlags::RDONLY | OFlags::CLOEXEC) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.system("openat2(O_RDONLY)", file, errno)),
        };
        match read_to_end(&fd, last) {
            Ok(text) => Ok(Some(text)),
            // The cgroup was removed meanwhile.
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(self.system("read", file, errno)),
        }
    }

    pub(crate) fn file(&self, file: &str, flags: OFlags) -> Result<OwnedFd, CgroupError> {
        self.openat2(file, flags | OFlags::CLOEXEC)
            .map_err(|errno| self.system("openat2", file, errno))
    }

    /// Another descriptor of the directory.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, CgroupError> {
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)
            .map_err(|errno| self.system("fcntl(F_DUPFD_CLOEXEC)", "", errno))
    }

    /// The ids in `cgroup.procs` here and beneath.
    pub(crate) fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        Ok(self.pids_within(usize::MAX)?.unwrap_or_default())
    }

    /// [`Self::pids`]; none if more than `most` cgroups are beneath.
    pub(crate) fn pids_within(&self, mut most: usize) -> Result<Option<Vec<i32>>, CgroupError> {
        let mut pids = Vec::new();
        let complete = self.collect_pids(&mut pids, MAX_DEPTH, &mut most)?;
        Ok(complete.then_some(pids))
    }

    fn collect_pids(&self, pids: &mut Vec<i32>, depth: usize, most: &mut usize) -> Result<bool, CgroupError> {
        let text = self.read("cgroup.procs")?.unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        for name in self.children()? {
            if *most == 0 {
                return Ok(false);
            }
            *most -= 1;
            if depth > 0
                && let Some(child) = self.open(&name)?
                && !child.collect_pids(pids, depth - 1, most)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes a directory beneath, with its sub-cgroups. False if it is busy.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, CgroupError> {
        self.remove_to_depth(name, MAX_DEPTH)
    }

    fn remove_to_depth(&self, name: &str, depth: usize) -> Result<bool, CgroupError> {
        match self.unlink(name) {
            Ok(()) | Err(Errno::NOENT) => return Ok(true),
            // cgroup file systems say EBUSY for children as well as for processes.
            Err(Errno::BUSY | Errno::NOTEMPTY) if depth > 0 => {}
            Err(Errno::BUSY | Errno::NOTEMPTY) => return Ok(false),
            Err(errno) => return Err(self.system("unlinkat(AT_REMOVEDIR)", name, errno)),
        }
        let Some(here) = self.open(name)? else {
            return Ok(true);
        };
        for child in here.children()? {
            here.remove_to_depth(&child, depth - 1)?;
        }
        match self.unlink(name) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
            Err(errno) => Err(self.system("unlinkat(AT_REMOVEDIR)", name, errno)),
        }
    }

    /// Removes a directory beneath if it is empty.
    pub(crate) fn remove_if_empty(&self, name: &str) {
        // Fails while it has processes or sub-cgroups.
        self.unlink(name).ok();
    }

    fn unlink(&self, name: &str) -> Result<(), Errno> {
        unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// The names of the cgroups directly beneath.
    pub(crate) fn children(&self) -> Result<Vec<String>, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A new open file, because duplicates share the position.
        let list = match self.openat2(".", flags) {
            Ok(list) => list,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(self.system("openat2(O_DIRECTORY)", ".", errno)),
        };
        let mut names = Vec::new();
        let mut buffer = Vec::with_capacity(8192);
        let mut entries = RawDir::new(list.as_fd(), buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| self.system("getdents64", "", errno))?;
            if entry.file_type() == FileType::Directory
                && let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn openat2(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(&self.fd, relative, flags, Mode::empty(), beneath)
    }

    pub(crate) fn system(&self, call: &'static str, name: &str, errno: Errno) -> CgroupError {
        CgroupError::System {
            call,
            path: self.path.join(name),
            source: errno.into(),
        }
    }
}

/// Reads a file until `last` says that a read of that many bytes was the last one.
fn read_to_end(fd: &OwnedFd, last: impl Fn(usize) -> bool) -> Result<String, Errno> {
    let mut bytes = Vec::new();
    loop {
        bytes.reserve(BUFFER);
        let count = rustix::io::read(fd, spare_capacity(&mut bytes))?;
        if last(count) || bytes.len() > MAX_READ {
            break;
        }
    }
    let mut text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    text.truncate(text.trim_end().len());
    Ok(text)
}
