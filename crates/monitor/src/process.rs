//! Processes in `/proc`, by number.
//!
//! A number may come to mean another process at any time. Whoever kills takes pidfds first and checks
//! afterwards that the numbers still mean what they meant.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags};

/// What the kernel says about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kin {
    /// Its parent.
    pub(crate) parent: i32,
    /// Its session.
    pub(crate) session: i32,
    /// Its state, as in proc(5): `Z` is dead but not reaped, `D` waits for hardware.
    pub(crate) state: char,
}

/// Parent, session and state of a process; none if it is gone.
pub(crate) fn kin(pid: i32) -> Option<Kin> {
    parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `PID (name) state parent group session …`; a name may hold anything, brackets and line ends too.
fn parse(stat: &[u8]) -> Option<Kin> {
    let after = memchr::memrchr(b')', stat)? + 1;
    let text = std::str::from_utf8(stat.get(after..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Kin {
        parent,
        session,
        state,
    })
}

/// All processes there are.
pub(crate) fn all() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// A pidfd; none if the process is gone.
pub(crate) fn open(pid: i32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Kills the process of a pidfd. That it is gone already is as good; if it may not be killed (EPERM, from
/// a security module), whoever looks again finds it still there.
pub(crate) fn kill(pidfd: &OwnedFd) {
    rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL).ok();
}

#[cfg(test)]
mod tests;
