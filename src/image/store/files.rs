//! Files and directories of the store.
//!
//! All functions block. Paths are the store's own (fixed names and hex digits), never those of an image.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pausa_sys::{Durability, StagedFile};
use rustix::fs::{CWD, IFlags, Mode, OFlags};

use crate::failpoint::failpoint;
use crate::image::error::{ImageError, io_error};

/// Longest record that is read. It is far longer than any real one and protects the memory from a damaged
/// file.
pub(crate) const RECORD_MAX: u64 = 16 << 20;

/// The file system type of ext4 in statfs(2).
const EXT4: rustix::fs::FsWord = 0xEF53;
/// The default of mke2fs(8).
const INODES_PER_GROUP: u64 = 8192;
/// Inodes at the beginning of a group that cost almost nothing to search.
const FIRST_INODES: u64 = 128;

/// A name that no other call gives, in this daemon or an earlier one: what an earlier one has left may still be there.
pub(crate) fn unique(prefix: &str) -> String {
    static STARTED: LazyLock<i64> = LazyLock::new(crate::state::now);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{:x}-{}", *STARTED, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether at least this part of the file system of `path` is free, of its bytes and of its inodes.
pub(crate) fn has_free(path: &Path, percent: u64) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|stat| {
        let enough = |free: u64, all: u64| u128::from(free) * 100 >= u128::from(all) * u128::from(percent);
        // Where inodes are made as needed, both numbers are 0.
        enough(stat.f_bavail, stat.f_blocks) && enough(stat.f_favail, stat.f_files)
    })
}

/// Creates a directory and its parents.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), ImageError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(io_error("mkdir", path))
}

/// Asks the file system to place the subdirectories of this directory far from each other (`chattr +T`),
/// because layers are unrelated. Otherwise ext4 places them where layers were just removed, and searches
/// inode by inode for one that was not used recently. This is a hint: other file systems refuse it, and do
/// not need it.
pub(crate) fn spread_subdirectories(path: &Path) -> Result<(), ImageError> {
    let dir = open_dir(path)?;
    if let Ok(flags) = rustix::fs::ioctl_getflags(&dir)
        && !flags.contains(IFlags::TOPDIR)
    {
        rustix::fs::ioctl_setflags(&dir, flags | IFlags::TOPDIR).ok();
    }
    Ok(())
}

/// Whether the inodes around a new directory `first` and its first subdirectory `second` were not used
/// recently, or the file system does not care.
///
/// ext4 without a journal does not reuse the inode of a removed file for some seconds, or for minutes while
/// its neighbours are being written. For every new file it checks all of these inodes again, one by one:
/// unpacking a layer where another one was just removed costs many times the usual processor time. ext4 fills
/// a group of inodes from its beginning. So if `first` is not at the beginning of its group, or if `second`
/// does not follow directly, recently used inodes are in between. A directory with another name gets another
/// place ([`spread_subdirectories`]).
pub(crate) fn is_fresh(first: &Path, second: &Path) -> Result<bool, ImageError> {
    let dir = open_dir(first)?;
    if rustix::fs::fstatfs(&dir).map(|stat| stat.f_type) != Ok(EXT4) {
        return Ok(true);
    }
    let stat = |path: &Path| path.symlink_metadata().map_err(io_error("stat", path));
    let (first, second) = (stat(first)?.ino(), stat(second)?.ino());
    Ok(first % INODES_PER_GROUP < FIRST_INODES && second.checked_sub(first) == Some(1))
}

pub(crate) fn open_dir(path: &Path) -> Result<File, ImageError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| io_error("open(O_DIRECTORY|O_NOFOLLOW)", path)(errno.into()))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), ImageError> {
    open_dir(path)?.sync_all().map_err(io_error("fsync", path))
}

/// Makes everything in the file system of a directory durable, syncfs(2).
pub(crate) fn sync_all(path: &Path) -> Result<(), ImageError> {
    rustix::fs::syncfs(open_dir(path)?).map_err(|errno| io_error("syncfs", path)(errno.into()))
}

/// Replaces a file. A reader sees the old content or the new one, even after a power cut.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    replace_with(path, bytes, Durability::PowerCut)
}

/// Replaces a file. A reader sees the old content or the new one; after a power cut the file may be lost.
pub(crate) fn replace_unsynced(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    replace_with(path, bytes, Durability::Process)
}

fn replace_with(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), ImageError> {
    StagedFile::write(CWD, path, bytes, durability)
        .inspect(|_| failpoint("file-written"))
        .and_then(StagedFile::commit)
        .map_err(|error| io_error(error.operation, &error.path)(error.errno.into()))
}

/// Removes a file. A missing file counts as removed.
pub(crate) fn remove_file(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("unlink", path)(error)),
        _ => Ok(()),
    }
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(io_error("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(ImageError::Record {
            path: path.to_owned(),
            reason: format!("it is longer than {limit} bytes"),
        });
    }
    Ok(bytes)
}

/// The names in a directory.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, ImageError> {
    let entries = fs::read_dir(path).map_err(io_error("readdir", path))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("readdir", path))?.file_name();
        // All names in the store are UTF-8.
        if let Ok(name) = name.into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
