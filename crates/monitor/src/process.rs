//! Processes in `/proc`, by process id.
//!
//! The kernel reuses process ids. Code that kills opens pidfds first and checks afterwards that the ids still belong to the
//! processes that are meant.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags};

/// A process's entry in `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    pub(crate) session: i32,
    /// As in proc(5): `Z` is a zombie, `D` is in uninterruptible sleep.
    pub(crate) state: char,
}

/// Reads a process's entry; none if it is gone.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses `PID (name) state parent group session …`. A name may contain brackets and line ends.
fn parse(stat: &[u8]) -> Option<Stat> {
    let after = memchr::memrchr(b')', stat)? + 1;
    let text = std::str::from_utf8(stat.get(after..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Stat {
        parent,
        session,
        state,
    })
}

/// The ids of all processes.
pub(crate) fn all() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Opens a pidfd; none if the process is gone.
pub(crate) fn open(pid: i32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Kills the process behind a pidfd. Failures are ignored: the process is gone, or a security module forbids the kill
/// (EPERM) and the caller finds the process again.
pub(crate) fn kill(pidfd: &OwnedFd) {
    rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL).ok();
}

#[cfg(test)]
mod tests;
