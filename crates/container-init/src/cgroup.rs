//! The cgroup for an exec, where it is not as simple as joining the container's own.
//!
//! A container without pids left accepts no new process, but one that is moved: see [`Admission`].
//!
//! A container that manages cgroups itself (systemd inside) moves its processes into children of its cgroup and enables
//! controllers there. From then on the kernel refuses processes in the cgroup itself (EBUSY, "no internal processes" in
//! cgroups(7)), and the exec joins the cgroup of the container's first process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat, openat2, readlink};
use rustix::io::Errno;

use crate::ContainerFds;
use crate::error::{At, Error, Step};
use crate::pid_namespace::{check_alive, process_id, read_text};

/// Longest `/proc/PID/cgroup` read, in bytes.
const TEXT_MAX: usize = 16 * 1024;

/// RDTGROUP_SUPER_MAGIC of the kernel's linux/magic.h.
const RESCTRL: u64 = 0x0765_5821;

/// The container's cgroups, for a process that was made outside of them.
#[derive(Debug)]
pub(crate) struct Admission {
    tasks: Vec<OwnedFd>,
    directory: Option<OwnedFd>,
    /// pidfd of the container's first process.
    container: OwnedFd,
}

impl Admission {
    pub(crate) fn new(fds: &ContainerFds<'_>, container: BorrowedFd<'_>) -> Result<Self, Error> {
        let keep = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).at(Step::Duplicate);
        Ok(Self {
            tasks: fds
                .cgroup_tasks
                .iter()
                .copied()
                .map(keep)
                .collect::<Result<_, _>>()?,
            directory: fds.cgroup_dir.map(keep).transpose()?,
            container: keep(container)?,
        })
    }

    /// Moves a process of one thread.
    pub(crate) fn admit(&self, pid: i32) -> Result<(), Error> {
        let pid = pid.to_string();
        for tasks in &self.tasks {
            enter(tasks.as_fd(), pid.as_bytes()).at(Step::Admit("tasks"))?;
        }
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let enter = |directory: BorrowedFd<'_>| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let list = openat(directory, "cgroup.procs", flags, Mode::empty())?;
            rustix::io::write(&list, pid.as_bytes()).map(drop)
        };
        let entered = match enter(directory.as_fd()) {
            Err(Errno::BUSY) => of_process(directory.as_fd(), self.container.as_fd())
                .and_then(|current| enter(current.as_fd())),
            other => other,
        };
        entered.at(Step::Admit("cgroup.procs"))
    }
}

/// Puts a process into one of the groups of a running container, by its `tasks` file; 0 is this process.
///
/// A resctrl group may have been removed since the container's start. Then the kernel has moved the container's processes into
/// the default group, where the others of its pod are, this one too.
pub(crate) fn enter(tasks: BorrowedFd<'_>, pid: &[u8]) -> Result<(), Errno> {
    let is_resctrl = || fstatfs(tasks).is_ok_and(|system| u64::try_from(system.f_type) == Ok(RESCTRL));
    match rustix::io::write(tasks, pid) {
        Err(Errno::NODEV | Errno::NOENT) if is_resctrl() => Ok(()),
        written => written.map(drop),
    }
}

/// Opens the cgroup, below `directory`, that the process behind `pidfd` is in.
pub(crate) fn of_process(directory: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let pid = process_id(pidfd)?;
    let table = read_text(&format!("/proc/{pid}/cgroup"), TEXT_MAX)?;
    // Process ids are reused: the table is only valid if the process behind the pidfd was alive when it was read.
    check_alive(pidfd)?;
    let path = table
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or(Errno::NOENT)?;
    let own = readlink(format!("/proc/self/fd/{}", directory.as_raw_fd()), Vec::new())?;
    let below = below(own.as_bytes(), path.as_bytes()).ok_or(Errno::XDEV)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(directory, below, flags, Mode::empty(), resolve)
}

/// The part of `path` (from the root of the hierarchy) below `directory` (from the root of the file system). The mount
/// point of the hierarchy is not known, but some prefix of `path` is the end of `directory`.
fn below<'a>(directory: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let ends = (1..path.len()).filter(|at| path[*at] == b'/').rev();
    ends.into_iter()
        .find(|at| directory.ends_with(&path[..*at]))
        .map(|at| &path[at + 1..])
}

#[cfg(test)]
mod tests;
