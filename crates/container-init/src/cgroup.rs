//! The cgroup for an exec if the container's own cgroup v2 accepts no processes.
//!
//! A container that manages cgroups itself (systemd inside) moves its processes into children of its cgroup and enables
//! controllers there. From then on the kernel refuses processes in the cgroup itself (EBUSY, "no internal processes" in
//! cgroups(7)), and the exec joins the cgroup of the container's first process.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2, readlink};
use rustix::io::Errno;

use crate::pid_namespace::{check_alive, process_id, read_text};

/// Longest `/proc/PID/cgroup` read, in bytes.
const TEXT_MAX: usize = 16 * 1024;

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
