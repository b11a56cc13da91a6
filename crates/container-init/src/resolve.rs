//! Paths of the container, resolved beneath its root by handle and made where they are missing.
//!
//! Images and volumes are hostile and other containers may change them meanwhile. So the kernel resolves
//! (`openat2` with RESOLVE_IN_ROOT, no magic links), or, where something has to be made, we do, one
//! component at a time on handles that were never followed through a link. `..` goes back to the handle
//! we came from, never to what the file system says. No path is ever used twice.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// Symbolic links followed in one path, as in the kernel (path_resolution(7)).
const LINKS_MAX: u32 = 40;
/// Attempts where the kernel cannot rule out a race (EAGAIN of openat2).
const RACE_RETRIES: u32 = 64;

/// What to make where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Directory,
    File,
}

/// Opens an existing path as a handle (`O_PATH`), following links inside the root.
pub(crate) fn open(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open_with(
        root,
        path,
        OFlags::PATH,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Opens an existing path that has no symbolic link in it.
pub(crate) fn open_plain(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    open_with(
        root,
        path,
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

fn open_with(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    for _ in 0..RACE_RETRIES {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a path as a handle, making it and the directories before it (0755, root's) where they are missing.
pub(crate) fn make(root: BorrowedFd<'_>, path: &[u8], what: Make) -> Result<OwnedFd, Errno> {
    match open(root, path) {
        Err(Errno::NOENT) => Walk::new(root, path)?.run(what),
        other => other,
    }
}

/// The parent directory, made where missing, and the last component of a path.
pub(crate) fn make_parent<'a>(root: BorrowedFd<'_>, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), Errno> {
    let trimmed = path.trim_suffix_slashes();
    let (parent, name) = match trimmed.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&trimmed[..at], &trimmed[at + 1..]),
        None => (&b""[..], trimmed),
    };
    if matches!(name, b"" | b"." | b"..") {
        return Err(Errno::INVAL);
    }
    let parent = make(
        root,
        if parent.is_empty() { b"/" } else { parent },
        Make::Directory,
    )?;
    Ok((parent, name))
}

trait TrimSlashes {
    fn trim_suffix_slashes(&self) -> &[u8];
}

impl TrimSlashes for [u8] {
    fn trim_suffix_slashes(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        &self[..end]
    }
}

/// A walk from the root, one component after the other.
struct Walk {
    /// Handles from the root to where we are.
    way: Vec<OwnedFd>,
    todo: VecDeque<Vec<u8>>,
    links: u32,
}

impl Walk {
    fn new(root: BorrowedFd<'_>, path: &[u8]) -> Result<Self, Errno> {
        let mut walk = Self {
            way: vec![rustix::io::fcntl_dupfd_cloexec(root, 3)?],
            todo: VecDeque::new(),
            links: 0,
        };
        walk.prepend(path);
        Ok(walk)
    }

    fn prepend(&mut self, path: &[u8]) {
        for component in path.split(|byte| *byte == b'/').rev() {
            if !component.is_empty() && component != b"." {
                self.todo.push_front(component.to_vec());
            }
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.way.last().expect("the root is never popped").as_fd()
    }

    fn run(mut self, what: Make) -> Result<OwnedFd, Errno> {
        while let Some(name) = self.todo.pop_front() {
            if name == b".." {
                self.way.truncate(usize::max(self.way.len() - 1, 1));
                continue;
            }
            if let Some(file) = self.enter(&name, what)? {
                return Ok(file);
            }
        }
        Ok(self.way.pop().expect("the root is never popped"))
    }

    /// One component; returns a handle where the path ends in something that is not a directory.
    fn enter(&mut self, name: &[u8], what: Make) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(self.here(), name, flags, Mode::empty()) {
            Err(Errno::NOENT) if self.todo.is_empty() && what == Make::File => return self.make_file(name),
            Err(Errno::NOENT) => self.make_directory(name)?,
            other => other?,
        };
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Symlink => self.follow(&found)?,
            FileType::Directory => self.way.push(found),
            _ if self.todo.is_empty() => return Ok(Some(found)),
            _ => return Err(Errno::NOTDIR),
        }
        Ok(None)
    }

    fn follow(&mut self, link: &OwnedFd) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(link, c"", Vec::new())?.into_bytes();
        if target.first() == Some(&b'/') {
            self.way.truncate(1);
        }
        self.prepend(&target);
        Ok(())
    }

    fn make_directory(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        match mkdirat(self.here(), name, Mode::from_raw_mode(0o755)) {
            // Somebody was faster. Whatever it is, it is not followed.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(self.here(), name, flags, Mode::empty())
    }

    fn make_file(&self, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.here(), name, flags, Mode::from_raw_mode(0o644)).map(Some)
    }
}

#[cfg(test)]
mod tests;
