//! Replaces a file as a whole: a reader sees the old content or the new one, never a part of either.
//!
//! The new content goes into a temporary file in the same directory, `.new-<pid>-<number>`, which is then renamed over
//! the target. A failure removes the temporary file and leaves the target as it was; a crash may leave the temporary
//! file behind, where [`remove_leftovers`] finds it. Files are created with mode 0600.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

/// How the names of temporary files begin.
const PREFIX: &str = ".new-";

/// What a replaced file survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process. After a power cut the file may have the old content, the new one, or none.
    Process,
    /// A power cut, once the call has returned: the file and its directory are fsynced.
    PowerCut,
}

/// Why a file could not be replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct AtomicFileError {
    /// `create`, `write`, `fsync` or `replace`.
    pub operation: &'static str,
    /// What it was tried on: the temporary file, the target (`replace`), or the target's directory (`fsync`).
    pub path: PathBuf,
    /// The failed call's errno.
    #[source]
    pub errno: Errno,
}

/// Replaces the file at `path`, or creates it. `path` is relative to `dir`, as with openat(2); for a plain path `dir`
/// is [`rustix::fs::CWD`].
///
/// # Errors
/// [`AtomicFileError`]. The target has its old content, except when the fsync of the directory failed: then it has the
/// new one, which a power cut may undo.
pub fn replace_file(
    dir: BorrowedFd<'_>,
    path: &Path,
    bytes: &[u8],
    durability: Durability,
) -> Result<(), AtomicFileError> {
    StagedFile::write(dir, path, bytes, durability)?.commit()
}

/// A complete temporary file that has not been renamed to its target yet. Dropping it removes it.
#[derive(Debug)]
pub struct StagedFile<'a> {
    dir: BorrowedFd<'a>,
    temporary: PathBuf,
    target: PathBuf,
    durability: Durability,
}

impl<'a> StagedFile<'a> {
    /// Writes the new content of `path`, which is relative to `dir`. The target is not touched.
    ///
    /// # Errors
    /// [`AtomicFileError`]. No temporary file is left.
    pub fn write(
        dir: BorrowedFd<'a>,
        path: &Path,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<Self, AtomicFileError> {
        let (file, temporary) = create_temporary(dir, path)?;
        let staged = Self {
            dir,
            temporary,
            target: path.to_owned(),
            durability,
        };
        let mut file = File::from(file);
        file.write_all(bytes).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            failed("write", &staged.temporary)(errno)
        })?;
        if durability == Durability::PowerCut {
            rustix::fs::fsync(&file).map_err(failed("fsync", &staged.temporary))?;
        }
        Ok(staged)
    }

    /// The temporary file, relative to the same directory as the target.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Renames the file to its target.
    ///
    /// # Errors
    /// As [`replace_file`].
    pub fn commit(mut self) -> Result<(), AtomicFileError> {
        rustix::fs::renameat(self.dir, &self.temporary, self.dir, &self.target)
            .map_err(failed("replace", &self.target))?;
        // The name is the target's now, and with this nobody's: there is nothing left to remove.
        self.temporary.clear();
        if self.durability == Durability::PowerCut {
            let parent = parent(&self.target);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(self.dir, parent, flags, Mode::empty())
                .and_then(rustix::fs::fsync)
                .map_err(failed("fsync", parent))?;
        }
        Ok(())
    }
}

impl Drop for StagedFile<'_> {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            // What led here is the error to report, and the leftover harms nobody.
            rustix::fs::unlinkat(self.dir, &self.temporary, AtFlags::empty()).ok();
        }
    }
}

/// Removes the temporary files that processes before this one left in a directory. Returns how many.
///
/// # Errors
/// The directory cannot be read, or one of the files cannot be removed.
pub fn remove_leftovers(dir: BorrowedFd<'_>) -> Result<usize, Errno> {
    let own = own_prefix();
    let mut removed = 0;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name.starts_with(PREFIX.as_bytes()) && !name.starts_with(own.as_bytes()) {
            match rustix::fs::unlinkat(dir, entry.file_name(), AtFlags::empty()) {
                Ok(()) => removed += 1,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(removed)
}

/// Creates an empty file beside `path` under a name that nobody has.
fn create_temporary(dir: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, PathBuf), AtomicFileError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    loop {
        let name = format!("{}{}", own_prefix(), NEXT.fetch_add(1, Ordering::Relaxed));
        let temporary = path.with_file_name(OsString::from(name));
        match rustix::fs::openat(dir, &temporary, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((file, temporary)),
            // Left by a process that had the same id.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("create", &temporary)(errno)),
        }
    }
}

fn own_prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> AtomicFileError {
    let path = path.to_owned();
    move |errno| AtomicFileError {
        operation,
        path,
        errno,
    }
}

#[cfg(test)]
mod tests;
