//! Files and directories of the store: written beside, synced, renamed into place.
//!
//! Everything here blocks and is called on threads that may. The paths are the store's own (fixed names and hex digits), never
//! an image's.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{IFlags, Mode, OFlags};

use crate::failpoint::failpoint;
use crate::image::error::{ImageError, io_error};

/// Longest record that is read: far beyond any real one, so that a damaged file cannot eat the memory.
pub(crate) const RECORD_MAX: u64 = 16 << 20;

/// What statfs(2) calls ext4.
const EXT4: rustix::fs::FsWord = 0xEF53;
/// What mke2fs(8) makes unless told otherwise.
const INODES_OF_A_GROUP: u64 = 8192;
/// As many as cost nothing to look at.
const FIRST_INODES: u64 = 128;

/// A name that no other caller in this process gets.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a directory and its parents.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), ImageError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(io_error("mkdir", path))
}

/// Asks the file system to put the directories that are made in this one far from each other (`chattr +T`): layers have
/// nothing to do with each other. Without it ext4 puts them where layers were just removed, and searches inode by inode for
/// one that was not in use lately. A hint only: file systems that know nothing of it refuse, which is as good.
pub(crate) fn spread(path: &Path) -> Result<(), ImageError> {
    let dir = open_dir(path)?;
    if let Ok(flags) = rustix::fs::ioctl_getflags(&dir)
        && !flags.contains(IFlags::TOPDIR)
    {
        rustix::fs::ioctl_setflags(&dir, flags | IFlags::TOPDIR).ok();
    }
    Ok(())
}

/// Whether a new directory, and the first one in it, lie on fresh ground, or on a file system where that does not matter.
///
/// ext4 without a journal spares the inode of a removed file for some seconds, and for minutes while its neighbours are being
/// written. For every new file it looks at each of those again, one by one: a layer put where another was just removed costs
/// many times its processor time. It fills a group of inodes from its beginning. So there nothing has to be looked at before
/// the first directory; and where the second one is not right behind, what is between them is spared. Another name is
/// another place ([`spread`]).
pub(crate) fn is_fresh(first: &Path, second: &Path) -> Result<bool, ImageError> {
    let dir = open_dir(first)?;
    if rustix::fs::fstatfs(&dir).map(|stat| stat.f_type) != Ok(EXT4) {
        return Ok(true);
    }
    let stat = |path: &Path| path.symlink_metadata().map_err(io_error("stat", path));
    let (first, second) = (stat(first)?.ino(), stat(second)?.ino());
    Ok(first % INODES_OF_A_GROUP < FIRST_INODES && second.checked_sub(first) == Some(1))
}

/// Opens a directory.
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

/// Replaces `path` durably: a reader, and a reboot, sees the old content or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    write_beside(path, bytes, true)?;
    sync_dir(path.parent().unwrap_or(path))
}

/// Replaces `path`: a reader sees the old content or the new one, a reboot perhaps neither.
pub(crate) fn replace_unsynced(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    write_beside(path, bytes, false)
}

fn write_beside(path: &Path, bytes: &[u8], sync: bool) -> Result<(), ImageError> {
    let dir = path.parent().unwrap_or(path);
    let temporary = dir.join(unique(".new"));
    let written = write(&temporary, bytes, sync)
        .map_err(io_error("write", &temporary))
        .inspect(|()| failpoint("file-written"))
        .and_then(|()| fs::rename(&temporary, path).map_err(io_error("rename to", path)));
    if let Err(error) = written {
        // A half-written file helps nobody; the failure itself is what is reported.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    if sync { file.sync_all() } else { Ok(()) }
}

/// Removes a file; what is not there counts as removed.
pub(crate) fn remove_file(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("unlink", path)(error)),
        _ => Ok(()),
    }
}

/// Reads a small file whole.
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
        // Names that are not UTF-8 are none of ours.
        if let Ok(name) = name.into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
