//! Resolves paths of the container beneath its root, by handle, and makes missing files and directories.
//!
//! Images and volumes are hostile, and other containers may change them at the same time. An existing path is resolved by
//! the kernel (`openat2` with RESOLVE_IN_ROOT, no magic links). Where something has to be made, it is resolved here, one
//! component at a time, on handles that were opened without following links. `..` returns to the previous handle, never to
//! what the file system says. No path is resolved twice.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// Most symbolic links followed in one path, as in the kernel (path_resolution(7)).
const LINKS_MAX: u32 = 40;
/// Attempts while the kernel cannot rule out a race (EAGAIN of openat2).
const RACE_RETRIES: u32 = 64;

/// What to make if the path does not exist.
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

/// Opens an existing path that contains no symbolic link.
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

/// Opens a path as a handle. Makes it and its parent directories (mode 0755, owned by root) if they are missing.
pub(crate) fn make(root: BorrowedFd<'_>, path: &[u8], what: Make) -> Result<OwnedFd, Errno> {
    match open(root, path) {
        Err(Errno::NOENT) => Walk::new(root, path)?.run(what),
        other => other,
    }
}

/// Splits a path into its parent directory, made if missing, and its last component.
pub(crate) fn make_parent<'a>(root: BorrowedFd<'_>, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), Errno> {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let trimmed = &path[..end];
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

/// A walk from the root, one component after the other.
struct Walk {
    /// Handles of the root and of every directory down to the current one.
    handles: Vec<OwnedFd>,
    todo: VecDeque<Vec<u8>>,
    links: u32,
}

impl Walk {
    fn new(root: BorrowedFd<'_>, path: &[u8]) -> Result<Self, Errno> {
        let mut walk = Self {
            handles: vec![rustix::io::fcntl_dupfd_cloexec(root, 3)?],
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

    fn current(&self) -> BorrowedFd<'_> {
        self.handles.last().expect("the root is never popped").as_fd()
    }

    fn run(mut self, what: Make) -> Result<OwnedFd, Errno> {
        while let Some(name) = self.todo.pop_front() {
            if name == b".." {
                self.handles.truncate(usize::max(self.handles.len() - 1, 1));
                continue;
            }
            if let Some(file) = self.enter(&name, what)? {
                return Ok(file);
            }
        }
        Ok(self.handles.pop().expect("the root is never popped"))
    }

    /// Enters one component. Returns a handle if the path ends here in something that is not a directory.
    fn enter(&mut self, name: &[u8], what: Make) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(self.current(), name, flags, Mode::empty()) {
            Err(Errno::NOENT) if self.todo.is_empty() && what == Make::File => return self.make_file(name),
            Err(Errno::NOENT) => self.make_directory(name)?,
            other => other?,
        };
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Symlink => self.follow(&found)?,
            FileType::Directory => self.handles.push(found),
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
            self.handles.truncate(1);
        }
        self.prepend(&target);
        Ok(())
    }

    fn make_directory(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        match mkdirat(self.current(), name, Mode::from_raw_mode(0o755)) {
            // EEXIST: made by another process meanwhile. It is opened without following a link.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(self.current(), name, flags, Mode::empty())
    }

    fn make_file(&self, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.current(), name, flags, Mode::from_raw_mode(0o644)).map(Some)
    }
}

#[cfg(test)]
mod tests;
