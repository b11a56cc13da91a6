//! The processes of a container, by the kernel's own list.
//!
//! A container may make cgroups below its own, so they are looked through as well.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::Failure;
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::internal;

/// How deep below a container's cgroup is looked.
const DEPTH: u32 = 16;

/// A container's cgroups.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    /// v1: `tasks` of each hierarchy, open for writing.
    pub(crate) tasks: Vec<OwnedFd>,
    /// v2: the directory.
    pub(crate) dir: Option<OwnedFd>,
}

impl Cgroup {
    /// Kills everything in it at once, where the kernel can do that (v2, Linux 5.14). Whether it did so
    /// is seen from [`Self::members`].
    pub(crate) fn kill(&self) {
        let Some(dir) = &self.dir else {
            return;
        };
        let kill = rustix::fs::openat(
            dir,
            "cgroup.kill",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        if let Ok(kill) = kill {
            // Refused for a threaded cgroup: its processes are then killed one by one.
            rustix::io::write(&kill, b"1").ok();
        }
    }

    /// On v2, where the OOM kills of the cgroup above are counted, and with them those of this one.
    pub(crate) fn oom_events_above(&self) -> Option<OwnedFd> {
        let dir = self.dir.as_ref()?;
        rustix::fs::openat(
            dir,
            "../memory.events",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()
    }

    /// All processes in it and below it. None if there is no way to know.
    pub(crate) fn members(&self) -> Option<Vec<i32>> {
        let mut found = Vec::new();
        if let Some(dir) = &self.dir {
            collect(dir.as_fd(), DEPTH, &mut found);
            return Some(found);
        }
        let tasks = self.tasks.first()?;
        match directory_of(tasks) {
            Ok(dir) => collect(dir.as_fd(), DEPTH, &mut found),
            // Removed, so it was empty.
            Err(Errno::NOENT) => {}
            Err(_) => return None,
        }
        Some(found)
    }
}

/// Moves this process into cgroups of v1, given their open `tasks`. It has one thread, so that is all of it.
///
/// # Errors
/// The kernel refuses, for one a cpuset without CPUs.
pub(crate) fn join(tasks: &[OwnedFd]) -> Result<(), Failure> {
    for file in tasks {
        let joined = rustix::io::write(file, b"0");
        joined.map_err(internal("join the pod's cgroups: write(tasks, \"0\")"))?;
    }
    Ok(())
}

/// The directory of an open `tasks`, by the name the kernel gives it.
fn directory_of(tasks: &OwnedFd) -> Result<OwnedFd, Errno> {
    let link = format!("/proc/self/fd/{}", tasks.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new())?.into_bytes();
    let end = memchr::memrchr(b'/', &path).ok_or(Errno::NOENT)?;
    if !path.ends_with(b"/tasks") {
        return Err(Errno::NOENT);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(&path[..end], flags, Mode::empty())
}

/// Adds the processes of a cgroup and of those below it. What is removed meanwhile has none.
fn collect(dir: BorrowedFd<'_>, depth: u32, found: &mut Vec<i32>) {
    let read = OFlags::RDONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::openat(dir, "cgroup.procs", read, Mode::empty()) {
        let text = std::io::read_to_string(std::fs::File::from(file)).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    let Some(deeper) = depth.checked_sub(1) else {
        return;
    };
    let Ok(entries) = Dir::read_from(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !entry.file_type().is_dir() || name.to_bytes().starts_with(b".") {
            continue;
        }
        let flags = read | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        if let Ok(below) = rustix::fs::openat(dir, name, flags, Mode::empty()) {
            collect(below.as_fd(), deeper, found);
        }
    }
}
