//! Whether the kernel's OOM killer struck in a container's cgroup.
//!
//! The file is `memory.events` (v2) or `memory.oom_control` (v1); both count in a line `oom_kill N`. The
//! count at the start is what it is compared with: a cgroup may be older than the container in it.
//!
//! systemd removes a scope's cgroup as soon as nobody is in it, and on a busy node it may be faster than the read of
//! the count. On v2 the cgroup above counts the kills of all below it, also of those that are gone: a container whose
//! own count is lost and that was killed by nobody known has met the OOM killer if that number has grown. The kill of
//! another container in the pod can be taken for its own then, and nothing worse.

use std::os::fd::OwnedFd;

/// A container's count of OOM kills.
#[derive(Debug)]
pub(crate) struct OomWatch {
    own: Counter,
    above: Option<Counter>,
}

/// A cgroup's count of OOM kills.
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

    /// Whether it has grown; none if the cgroup is gone.
    fn has_grown(&self) -> Option<bool> {
        read(&self.file).map(|now| now > self.before)
    }
}

impl OomWatch {
    /// Starts watching a container's file, and that of the cgroup above it where it is on v2.
    pub(crate) fn new(own: OwnedFd, above: Option<OwnedFd>) -> Self {
        Self {
            own: Counter::new(own),
            above: above.map(Counter::new),
        }
    }

    /// Whether it struck since. A file that cannot be read says no.
    pub(crate) fn struck(&self) -> bool {
        self.own.has_grown().unwrap_or(false)
    }

    /// The same of a container whose first process got a SIGKILL that nobody is known to have sent.
    pub(crate) fn killed(&self) -> bool {
        let above = || self.above.as_ref().and_then(Counter::has_grown);
        self.own.has_grown().or_else(above).unwrap_or(false)
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
