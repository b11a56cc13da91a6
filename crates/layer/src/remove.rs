//! Removes trees that strangers filled: by handle, without following links, without crossing into a mount.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Stat, unlinkat};
use rustix::io::Errno;

use crate::Error;
use crate::walk::{self, Visitor};

mod crowd;

/// How often a directory may turn out to have been refilled, or read incompletely, before it counts as busy.
const RETRIES: u32 = 64;

/// Removes `name`, and everything below it, from the directory `dir`. A missing name counts as removed.
///
/// A large tree is removed by several threads. A mount point anywhere in it is an error; anything visited before it is gone
/// then.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Error> {
    let bytes = name.as_bytes();
    let plain = !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/');
    match CString::new(bytes) {
        Ok(name) if plain => {
            crowd::empty(dir, &name)?;
            remove(dir, &name)
        }
        _ => Err(Error::system(bytes, "unlinkat", Errno::INVAL)),
    }
}

/// [`remove_tree`] for a name known to be a plain component, by this thread alone.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
    match unlink(dir, name, AtFlags::empty()) {
        // Linux says EISDIR, POSIX allows EPERM.
        Err(Error::System {
            source: Errno::ISDIR | Errno::PERM,
            ..
        }) => {}
        other => return other,
    }
    let mut remover = Remover { retries: RETRIES };
    loop {
        let root = match walk::open(dir, name) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(|errno| walk::open_error(name, errno))?,
        };
        walk::walk(root, &mut remover)?;
        if !remover.leave(dir, name)? {
            return Ok(());
        }
    }
}

struct Remover {
    retries: u32,
}

impl Visitor for Remover {
    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
        unlink(dir, name, AtFlags::empty())
    }

    fn enter(&mut self, _: &Stat) -> Result<(), Error> {
        Ok(())
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Error> {
        match unlink(parent, name, AtFlags::REMOVEDIR) {
            // Reading a directory while it shrinks may skip names on some file systems.
            Err(Error::System {
                source: Errno::NOTEMPTY,
                ..
            }) if self.retries > 0 => {
                self.retries -= 1;
                Ok(true)
            }
            other => other.map(|()| false),
        }
    }
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Error> {
    match unlinkat(dir, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) if flags.contains(AtFlags::REMOVEDIR) => {
            Err(Error::system(name.to_bytes(), "unlinkat(AT_REMOVEDIR)", errno))
        }
        Err(errno) => Err(Error::system(name.to_bytes(), "unlinkat", errno)),
    }
}

#[cfg(test)]
mod tests;
