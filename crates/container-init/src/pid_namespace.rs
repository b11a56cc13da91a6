//! An existing PID namespace that a container's first process enters: the pod's, or that of another container.
//!
//! Whatever is in the namespace can see that process, and with CAP_SYS_PTRACE use it. So the container is built outside of
//! the namespace, and only a process that is the container's in everything else enters it (see `process`). One thing cannot
//! be made outside: a procfs shows the PID namespace of the process that makes it. It is taken from the holder of the
//! namespace, whose mount namespace has one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, open, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{At, Error, Step};

/// Longest fdinfo read, in bytes.
const TEXT_MAX: usize = 16 * 1024;

/// A PID namespace, by one of its processes: the pause process, or the first process of a container.
#[derive(Debug)]
pub(crate) struct PidNamespace {
    pid: OwnedFd,
    mount: OwnedFd,
}

impl PidNamespace {
    /// The namespace of the process behind `holder`. `/proc` must be the host's.
    pub(crate) fn of(holder: BorrowedFd<'_>) -> Result<Self, Error> {
        let pid = process_id(holder).at(Step::JoinPid)?;
        let open = |name| {
            let path = format!("/proc/{pid}/ns/{name}");
            open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        };
        let namespace = Self {
            pid: open("pid").at(Step::JoinPid)?,
            mount: open("mnt").at(Step::JoinPid)?,
        };
        // Process ids are reused: the files are the holder's only if it was alive when they were opened.
        check_alive(holder).at(Step::JoinPid)?;
        Ok(namespace)
    }

    /// Makes later children of this process start in the namespace.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        move_into_link_name_space(self.pid.as_fd(), Some(LinkNameSpaceType::ProcessID)).at(Step::JoinPid)
    }

    /// A detached clone of the holder's `/proc`, which is procfs of this namespace. `/proc` must be the host's.
    pub(crate) fn clone_procfs(&self) -> Result<OwnedFd, Error> {
        let step = || Step::HolderProc;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        // Not recursive: what a container has mounted inside of its procfs stays out.
        let clone = || open_tree(CWD, "/proc", flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW);
        let cloned = pausa_sys::in_mount_namespace(self.mount.as_fd(), clone).at_with(step)?;
        let cloned = cloned.at_with(step)?;
        if self.is_procfs_of(cloned.as_fd()).at_with(step)? {
            Ok(cloned)
        } else {
            Err(Error::Impostor {
                path: b"/proc"[..].into(),
                expected: "procfs of its PID namespace",
            })
        }
    }

    /// Whether a mount is the whole procfs of this namespace. Its process 1 is in the namespace, and no file system but the
    /// kernel's own procfs leads to that namespace.
    fn is_procfs_of(&self, mount: BorrowedFd<'_>) -> Result<bool, Errno> {
        if fstatfs(mount)?.f_type != PROC_SUPER_MAGIC {
            return Ok(false);
        }
        let first = openat(mount, "1/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let (first, own) = (fstat(&first)?, fstat(&self.pid)?);
        Ok((first.st_dev, first.st_ino) == (own.st_dev, own.st_ino))
    }
}

/// The id of the process behind a pidfd, in the PID namespace of the host's `/proc`.
///
/// # Errors
/// ESRCH: it has been reaped.
pub(crate) fn process_id(pidfd: BorrowedFd<'_>) -> Result<i32, Errno> {
    let info = read_text(&format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()), TEXT_MAX)?;
    let mut lines = info.lines();
    let pid = lines.find_map(|line| line.strip_prefix("Pid:"));
    pid.and_then(|pid| pid.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .ok_or(Errno::SRCH)
}

/// Fails with ESRCH if the process behind a pidfd has ended.
pub(crate) fn check_alive(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
    match poll(&mut ended, Some(&Timespec::default()))? {
        0 => Ok(()),
        _ => Err(Errno::SRCH),
    }
}

/// Reads the beginning of a small file.
pub(crate) fn read_text(path: &str, limit: usize) -> Result<String, Errno> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = vec![0; limit];
    let length = rustix::io::read(&file, &mut buffer)?;
    buffer.truncate(length);
    String::from_utf8(buffer).map_err(|_| Errno::ILSEQ)
}
