//! The descriptors of a plan by role, and those that a container's streams take beside them.

use std::os::fd::{AsFd, OwnedFd};

use pausa_container_init::{ContainerFds, Streams};
use pausa_monitor_protocol::{ContainerPlan, Failure, FailureKind, FdRole};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::cgroup::Cgroup;
use crate::failure::{failure, internal};
use crate::log::Source;

/// The descriptors of a plan, by role.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) root: Option<OwnedFd>,
    pub(crate) mounts: Vec<(u32, OwnedFd)>,
    pub(crate) log: Option<OwnedFd>,
    pub(crate) cgroup: Cgroup,
    pub(crate) oom: Option<OwnedFd>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) readers: Vec<OwnedFd>,
}

impl Sorted {
    pub(crate) fn new(roles: &[FdRole], fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        let wrong = |what: String| failure(FailureKind::Protocol, what);
        if roles.len() != fds.len() {
            return Err(wrong(format!(
                "the plan names {} descriptors, {} came",
                roles.len(),
                fds.len()
            )));
        }
        let mut sorted = Self::default();
        for (role, fd) in roles.iter().zip(fds) {
            let place = match role {
                FdRole::Root => &mut sorted.root,
                FdRole::Log => &mut sorted.log,
                FdRole::CgroupDir => &mut sorted.cgroup.dir,
                FdRole::OomEvents => &mut sorted.oom,
                FdRole::Stdin => &mut sorted.stdin,
                FdRole::Stdout => &mut sorted.stdout,
                FdRole::Stderr => &mut sorted.stderr,
                FdRole::Mount(index) => {
                    sorted.mounts.push((*index, fd));
                    continue;
                }
                FdRole::CgroupTasks => {
                    sorted.cgroup.tasks.push(fd);
                    continue;
                }
                FdRole::OutputReader => {
                    sorted.readers.push(fd);
                    continue;
                }
            };
            if place.replace(fd).is_some() {
                return Err(wrong(format!("the plan names two descriptors {role:?}")));
            }
        }
        sorted.mounts.sort_by_key(|(index, _)| *index);
        for (position, (index, _)) in sorted.mounts.iter().enumerate() {
            if usize::try_from(*index) != Ok(position) {
                return Err(wrong(format!("the plan has no descriptor Mount({position})")));
            }
        }
        Ok(sorted)
    }

    pub(crate) fn lend(&self) -> ContainerFds<'_> {
        ContainerFds {
            root: self.root.as_ref().map(OwnedFd::as_fd),
            mounts: self.mounts.iter().map(|(_, fd)| fd.as_fd()).collect(),
            ..lend(&self.cgroup)
        }
    }
}

pub(crate) fn lend(cgroup: &Cgroup) -> ContainerFds<'_> {
    ContainerFds {
        cgroup_tasks: cgroup.tasks.iter().map(OwnedFd::as_fd).collect(),
        cgroup_dir: cgroup.dir.as_ref().map(OwnedFd::as_fd),
        ..ContainerFds::default()
    }
}

/// The pipes of a container without a terminal: the child's ends and ours.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    child: [Option<OwnedFd>; 3],
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) outputs: Vec<(OwnedFd, Source)>,
}

impl Pipes {
    pub(crate) fn new(plan: &ContainerPlan) -> Result<Self, Failure> {
        let mut pipes = Self::default();
        if plan.io.terminal {
            return Ok(pipes);
        }
        if plan.io.stdin {
            let (read, write) = pipe()?;
            set_nonblocking(&write)?;
            pipes.child[0] = Some(read);
            pipes.stdin = Some(write);
        }
        for (place, source) in [(1, Source::Stdout), (2, Source::Stderr)] {
            let (read, write) = pipe()?;
            set_nonblocking(&read)?;
            pipes.child[place] = Some(write);
            pipes.outputs.push((read, source));
        }
        Ok(pipes)
    }

    pub(crate) fn lend(&self) -> Streams<'_> {
        let [stdin, stdout, stderr] = self.child.each_ref().map(|fd| fd.as_ref().map(OwnedFd::as_fd));
        Streams {
            stdin,
            stdout,
            stderr,
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(internal("make the streams: pipe2(O_CLOEXEC)"))
}

/// Another descriptor of the same.
pub(crate) fn clone_fd(fd: impl AsFd) -> Result<OwnedFd, Failure> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(internal("keep a descriptor: fcntl(F_DUPFD_CLOEXEC)"))
}

/// Makes reads and writes through this descriptor, and all others of the same open file, never wait.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> Result<(), Failure> {
    let set = || -> Result<(), Errno> {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
    };
    set().map_err(internal("set a stream up: fcntl(F_SETFL, O_NONBLOCK)"))
}

#[cfg(test)]
mod tests;
