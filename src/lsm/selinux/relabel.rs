//! Gives the files of a volume a container's label (`Mount.selinux_relabel`).
//!
//! By handles: every file is opened beneath its directory without following a link, and labelled through that handle. So a
//! container that changes the volume meanwhile can only make pausa label files of the volume. Other file systems that are
//! mounted in it are left alone: each has its own volume, or none.
//!
//! A file that has the label already is only looked at. The top directory comes last, so that a walk that was cut off has
//! not made the volume look done.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, ResolveFlags, XattrFlags, fstat, getxattr, openat, openat2, setxattr,
};
use rustix::io::Errno;

use super::ATTRIBUTE;
use crate::error::{ErrorKind, Kinded};

/// Longest label that is compared; no real one is as long.
const LABEL_MAX: usize = 256;

/// Most files of a volume that are labelled: looking at so many takes half a minute. A larger volume is to be labelled once,
/// or mounted with `context=`, which kubelet does by itself (KEP-1710).
const FILES_MAX: u64 = 4_000_000;
/// Most directories in one another, each of which is held open.
const DEPTH_MAX: usize = 256;

/// Directories of the system, which are never relabelled as a whole: a service or a login would fail after that.
const SYSTEM: [&str; 45] = [
    "/",
    "/afs",
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/etc/kubernetes",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/etc/ssh",
    "/etc/ssl",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/run/lock",
    "/run/pausa",
    "/run/user",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/lib/kubelet",
    "/var/lib/pausa",
    "/var/log",
    "/var/tmp",
];

/// Why a volume was not relabelled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelabelError {
    /// It is the system's.
    #[error("it is a directory of the system, which needs its own labels; mount a directory below it")]
    System,
    #[error(
        "it has more than {FILES_MAX} files: label them once with `chcon -R`, and mount it without selinux_relabel"
    )]
    TooMany,
    #[error("it has more than {DEPTH_MAX} directories in one another")]
    TooDeep,
    #[error("{call} of {name:?} failed")]
    Call {
        call: &'static str,
        name: String,
        #[source]
        source: std::io::Error,
    },
}

impl Kinded for RelabelError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::System => ErrorKind::InvalidArgument,
            Self::TooMany | Self::TooDeep => ErrorKind::ResourceExhausted,
            Self::Call { .. } => ErrorKind::Internal,
        }
    }
}

fn failed(call: &'static str, name: impl Into<String>) -> impl FnOnce(Errno) -> RelabelError {
    let name = name.into();
    move |errno| RelabelError::Call {
        call,
        name,
        source: errno.into(),
    }
}

/// Whether a path is one that must keep its labels.
fn is_system(path: &Path) -> bool {
    let whole_trees = ["/boot", "/dev", "/proc", "/sys"];
    SYSTEM.iter().any(|system| path == Path::new(system))
        || whole_trees.iter().any(|tree| path.starts_with(tree))
        || path.parent() == Some(Path::new("/home"))
}

/// Labels a volume, a directory with all that is in it or a file, whose path has no links. Returns how many labels were
/// changed. Nothing happens on a file system without labels. May take long.
pub(crate) fn relabel(path: &Path, label: &str) -> Result<u64, RelabelError> {
    if is_system(path) {
        return Err(RelabelError::System);
    }
    let name = path.display().to_string();
    let top = openat2(CWD, path, FLAGS, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .map_err(failed("openat2(O_PATH, RESOLVE_NO_SYMLINKS)", name.as_str()))?;
    let mut walk = Walk {
        label,
        looked_at: 0,
        changed: 0,
    };
    match walk.is_labelled(top.as_fd()) {
        Err(Errno::OPNOTSUPP) => return Ok(0),
        other => other.map_err(failed("getxattr(security.selinux)", name.as_str()))?,
    };
    if is_directory(top.as_fd()).map_err(failed("fstat", name.as_str()))? {
        walk.below(top.as_fd())?;
    }
    match walk.set(top.as_fd()) {
        // Has no labels of its own, such as a mount with `context=`.
        Err(Errno::OPNOTSUPP) => Ok(walk.changed),
        other => other
            .map(|()| walk.changed)
            .map_err(failed("setxattr(security.selinux)", name)),
    }
}

/// How files are opened: for nothing but to be named.
const FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Walk<'a> {
    label: &'a str,
    looked_at: u64,
    changed: u64,
}

impl Walk<'_> {
    /// Labels everything below a directory.
    fn below(&mut self, top: BorrowedFd<'_>) -> Result<(), RelabelError> {
        // Each with its handle: it is labelled after all that is in it.
        let mut open: Vec<(Option<OwnedFd>, Dir)> = vec![(None, read(top)?)];
        while let Some((_, dir)) = open.last_mut() {
            let Some(entry) = dir.read() else {
                let Some((Some(handle), _)) = open.pop() else {
                    break;
                };
                self.set_or_skip(handle.as_fd(), "a directory")?;
                continue;
            };
            let entry = entry.map_err(failed("getdents64", "a directory"))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Some(handle) = beneath(dir, name)? else {
                continue;
            };
            self.looked_at += 1;
            if self.looked_at > FILES_MAX {
                return Err(RelabelError::TooMany);
            }
            let shown = name.to_string_lossy();
            if is_directory(handle.as_fd()).map_err(failed("fstat", shown.clone()))? {
                if open.len() >= DEPTH_MAX {
                    return Err(RelabelError::TooDeep);
                }
                let below = read(handle.as_fd())?;
                open.push((Some(handle), below));
            } else {
                self.set_or_skip(handle.as_fd(), &shown)?;
            }
        }
        Ok(())
    }

    fn set_or_skip(&mut self, file: BorrowedFd<'_>, name: &str) -> Result<(), RelabelError> {
        self.set(file).map_err(failed("setxattr(security.selinux)", name))
    }

    /// Labels one file, unless it has the label.
    fn set(&mut self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.is_labelled(file)? {
            return Ok(());
        }
        self.changed += 1;
        setxattr(
            itself(file),
            ATTRIBUTE,
            self.label.as_bytes(),
            XattrFlags::empty(),
        )
    }

    fn is_labelled(&self, file: BorrowedFd<'_>) -> Result<bool, Errno> {
        let mut value = [0_u8; LABEL_MAX];
        match getxattr(itself(file), ATTRIBUTE, &mut value) {
            Ok(length) => {
                let value = value.get(..length).unwrap_or_default();
                // The kernel gives it with a final NUL.
                Ok(value.strip_suffix(&[0]).unwrap_or(value) == self.label.as_bytes())
            }
            Err(Errno::NODATA | Errno::RANGE) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// The file itself by its handle, also if it is a link: a path in procfs that is not resolved any further.
fn itself(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn read(directory: BorrowedFd<'_>) -> Result<Dir, RelabelError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened =
        openat(directory, c".", flags, Mode::empty()).map_err(failed("open(O_DIRECTORY)", "a directory"))?;
    Dir::new(opened).map_err(failed("fdopendir", "a directory"))
}

/// Opens an entry of a directory. None if it is gone, or another file system.
fn beneath(dir: &Dir, name: &CStr) -> Result<Option<OwnedFd>, RelabelError> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let directory = dir.fd().map_err(failed("dirfd", "a directory"))?;
    match openat2(directory, name, FLAGS, Mode::empty(), resolve) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::NOENT | Errno::XDEV) => Ok(None),
        Err(errno) => Err(failed("openat2(O_PATH, RESOLVE_NO_XDEV)", name.to_string_lossy())(errno)),
    }
}

fn is_directory(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests;
