//! Whether the kernel's OOM killer struck in a container's cgroup.
//!
//! The file is `memory.events` (v2) or `memory.oom_control` (v1); both count in a line `oom_kill N`. The
//! count at the start is what it is compared with: a cgroup may be older than the container in it.

use std::os::fd::OwnedFd;

/// A cgroup's count of OOM kills.
#[derive(Debug)]
pub(crate) struct OomWatch {
    file: OwnedFd,
    before: u64,
}

impl OomWatch {
    /// Starts watching.
    pub(crate) fn new(file: OwnedFd) -> Self {
        let before = read(&file).unwrap_or(0);
        Self { file, before }
    }

    /// Whether it struck since. A file that cannot be read says no.
    pub(crate) fn struck(&self) -> bool {
        read(&self.file).is_some_and(|now| now > self.before)
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
