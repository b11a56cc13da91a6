//! The processes of a container, as listed by the kernel for its cgroup and the cgroups that the container has made below
//! it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pausa_container_init::ContainerFds;
use pausa_monitor_protocol::Failure;
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::internal;

/// How many levels below a container's cgroup are searched.
const DEPTH: u32 = 16;

/// A container's cgroups: of v1, of v2, or neither.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    /// v1: the `tasks` file of each hierarchy, open for writing.
    pub(crate) tasks: Vec<OwnedFd>,
    /// v2: the cgroup's directory.
    pub(crate) dir: Option<OwnedFd>,
}

impl Cgroup {
    pub(crate) fn as_container_fds(&self) -> ContainerFds<'_> {
        ContainerFds {
            cgroup_tasks: self.tasks.iter().map(OwnedFd::as_fd).collect(),
            cgroup_dir: self.dir.as_ref().map(OwnedFd::as_fd),
            ..ContainerFds::default()
        }
    }

    /// Kills all processes in it at once, if the kernel supports that (v2, Linux 5.14). [`Self::members`] shows the result.
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
            // Refused for a threaded cgroup, whose processes are then killed one by one.
            rustix::io::write(&kill, b"1").ok();
        }
    }

    /// v2: `memory.events` of the parent, which also counts the OOM kills of this cgroup.
    pub(crate) fn parent_oom_events(&self) -> Option<OwnedFd> {
        let dir = self.dir.as_ref()?;
        rustix::fs::openat(
            dir,
            "../memory.events",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()
    }

    /// All processes in it and below it. None if the kernel cannot list them.
    pub(crate) fn members(&self) -> Option<Vec<i32>> {
        let mut found = Vec::new();
        if let Some(dir) = &self.dir {
            collect(dir.as_fd(), DEPTH, &mut found);
            return Some(found);
        }
        let tasks = self.tasks.first()?;
        match directory_of(tasks) {
            Ok(dir) => collect(dir.as_fd(), DEPTH, &mut found),
            // The cgroup was removed, so it was empty.
            Err(Errno::NOENT) => {}
            Err(_) => return None,
        }
        Some(found)
    }
}

/// Moves this process into cgroups v1, given their open `tasks` files. It has one thread: no log is written yet.
///
/// # Errors
/// The kernel refuses it, for example if a cpuset has no CPUs.
pub(crate) fn join(tasks: &[OwnedFd]) -> Result<(), Failure> {
    for file in tasks {
        let joined = rustix::io::write(file, b"0");
        joined.map_err(internal("join the pod's cgroups: write(tasks, \"0\")"))?;
    }
    Ok(())
}

/// Opens the directory of an open `tasks` file.
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

/// Adds the processes of a cgroup and of the cgroups below it. Ignores cgroups that are removed meanwhile.
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
