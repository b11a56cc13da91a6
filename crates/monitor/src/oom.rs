//! Detects whether the kernel's OOM killer has killed a process in a container's cgroup.
//!
//! The counter is the line `oom_kill N` of `memory.events` (v2) or `memory.oom_control` (v1). It is compared with its value
//! at the container's start, since the cgroup may be older than the container.
//!
//! systemd removes a scope's cgroup as soon as it is empty, on a busy node possibly before the counter is read. On v2 the
//! parent's counter includes all cgroups below it, removed ones too. So if a container's own counter is gone, and its
//! first process died by a SIGKILL of unknown origin, a higher count of the parent means that the OOM killer sent it. At
//! worst this attributes the OOM kill of another container in the pod to it.

use std::os::fd::OwnedFd;

/// The OOM kills of a container since its start.
#[derive(Debug)]
pub(crate) struct OomWatch {
    own: Counter,
    parent: Option<Counter>,
}

/// A cgroup's counter of OOM kills.
#[derive(Debug)]
struct Counter {
    file: OwnedFd,
    before: u64,
}

impl Counter {
    fn new(file: OwnedFd) -> Self {
        let before = read(&file).unwrap_or(0);
        Self { file, before }
    }

    /// Whether the count has grown; none if it cannot be read, because the cgroup is gone.
    fn has_grown(&self) -> Option<bool> {
        read(&self.file).map(|now| now > self.before)
    }
}

impl OomWatch {
    /// Takes the counter files of a container's cgroup and, on v2, of the parent.
    pub(crate) fn new(own: OwnedFd, parent: Option<OwnedFd>) -> Self {
        Self {
            own: Counter::new(own),
            parent: parent.map(Counter::new),
        }
    }

    /// Whether the container's own counter has grown. A counter that cannot be read has not.
    pub(crate) fn own_count_has_grown(&self) -> bool {
        self.own.has_grown().unwrap_or(false)
    }

    /// Whether the OOM killer has killed the first process, which died by a SIGKILL of unknown origin.
    pub(crate) fn explains_sigkill(&self) -> bool {
        let parent = || self.parent.as_ref().and_then(Counter::has_grown);
        self.own.has_grown().or_else(parent).unwrap_or(false)
    }
}

fn read(file: &OwnedFd) -> Option<u64> {
    let mut text = [0; 1024];
    let length = rustix::io::pread(file, &mut text, 0).ok()?;
    parse(text.get(..length)?)
}

fn parse(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text)
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
