//! The disk usage of a tree, and making it durable.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Stat, statat, syncfs};
use rustix::io::Errno;

use crate::Error;
use crate::walk::{self, Visitor};

/// Space and inodes of a tree, its root included; hard links count once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of allocated blocks: what removing the tree would free.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

/// Measures the tree below the directory `dir`, in which others may be at work: what comes or goes meanwhile counts or
/// does not. A mount point within is an error.
pub fn usage(dir: BorrowedFd<'_>) -> Result<Usage, Error> {
    let root = walk::open(dir, c".").map_err(|errno| walk::open_error(c".", errno))?;
    let mut counter = Counter::default();
    walk::walk(root, &mut counter)?;
    Ok(counter.usage)
}

/// Makes everything written to the file system of `dir` durable, syncfs(2): cheaper than an fsync per file, and other
/// writers of that file system wait along.
pub fn sync_tree(dir: BorrowedFd<'_>) -> Result<(), Error> {
    syncfs(dir).map_err(|errno| Error::system(b".", "syncfs", errno))
}

#[derive(Default)]
struct Counter {
    usage: Usage,
    linked: HashSet<(u64, u64)>,
}

impl Counter {
    fn count(&mut self, stat: &Stat) {
        self.usage.inodes += 1;
        self.usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    }
}

impl Visitor for Counter {
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => {
                stat.map_err(|errno| Error::system(name.to_bytes(), "fstatat(AT_SYMLINK_NOFOLLOW)", errno))?
            }
        };
        if stat.st_nlink < 2 || self.linked.insert((stat.st_dev, stat.st_ino)) {
            self.count(&stat);
        }
        Ok(())
    }

    fn enter(&mut self, stat: &Stat) -> Result<(), Error> {
        self.count(stat);
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Result<bool, Error> {
        Ok(false)
    }

    fn is_lenient(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
