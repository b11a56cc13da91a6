//! The descriptors that come with a plan, sorted by role, and the pipes that the monitor makes for a container.

use std::os::fd::{AsFd, OwnedFd};

use pausa_container_init::{ContainerFds, Streams};
use pausa_monitor_protocol::{ContainerPlan, Failure, FailureKind, FdRole};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::cgroup::Cgroup;
use crate::failure::{failure, internal};
use crate::log::Source;

/// The descriptors of a plan. `output_readers` are the reading ends that an exec's plan may send along.
#[derive(Debug, Default)]
pub(crate) struct PlanFds {
    pub(crate) root: Option<OwnedFd>,
    pub(crate) mounts: Vec<(u32, OwnedFd)>,
    pub(crate) log: Option<OwnedFd>,
    pub(crate) cgroup: Cgroup,
    pub(crate) oom_events: Option<OwnedFd>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) output_readers: Vec<OwnedFd>,
    pub(crate) birth: Option<OwnedFd>,
}

impl PlanFds {
    /// # Errors
    /// Number or roles of the descriptors do not match the plan.
    pub(crate) fn new(roles: &[FdRole], fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        let wrong = |what: String| failure(FailureKind::Protocol, what);
        if roles.len() != fds.len() {
            return Err(wrong(format!(
                "the plan names {} descriptors, but {} were sent",
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
                FdRole::OomEvents => &mut sorted.oom_events,
                FdRole::Stdin => &mut sorted.stdin,
                FdRole::Stdout => &mut sorted.stdout,
                FdRole::Stderr => &mut sorted.stderr,
                FdRole::Birth => &mut sorted.birth,
                FdRole::Mount(index) => {
                    sorted.mounts.push((*index, fd));
                    continue;
                }
                FdRole::CgroupTasks => {
                    sorted.cgroup.tasks.push(fd);
                    continue;
                }
                FdRole::OutputReader => {
                    sorted.output_readers.push(fd);
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

    /// What container-init needs of them to start a container.
    pub(crate) fn as_container_fds(&self) -> ContainerFds<'_> {
        ContainerFds {
            root: self.root.as_ref().map(OwnedFd::as_fd),
            mounts: self.mounts.iter().map(|(_, fd)| fd.as_fd()).collect(),
            ..self.cgroup.as_container_fds()
        }
    }

    /// The streams of an exec.
    pub(crate) fn as_streams(&self) -> Streams<'_> {
        Streams {
            stdin: self.stdin.as_ref().map(OwnedFd::as_fd),
            stdout: self.stdout.as_ref().map(OwnedFd::as_fd),
            stderr: self.stderr.as_ref().map(OwnedFd::as_fd),
        }
    }
}

/// The pipes of a container without a terminal.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    /// The child's ends: stdin, stdout, stderr.
    child: [Option<OwnedFd>; 3],
    /// The monitor's ends, non-blocking.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) outputs: Vec<(OwnedFd, Source)>,
}

impl Pipes {
    pub(crate) fn new(plan: &ContainerPlan) -> Result<Self, Failure> {
        let pipe = || {
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
                .map_err(internal("make the streams: pipe2(O_CLOEXEC)"))
        };
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
        for (index, source) in [(1, Source::Stdout), (2, Source::Stderr)] {
            let (read, write) = pipe()?;
            set_nonblocking(&read)?;
            pipes.child[index] = Some(write);
            pipes.outputs.push((read, source));
        }
        Ok(pipes)
    }

    pub(crate) fn for_child(&self) -> Streams<'_> {
        let [stdin, stdout, stderr] = self.child.each_ref().map(|fd| fd.as_ref().map(OwnedFd::as_fd));
        Streams {
            stdin,
            stdout,
            stderr,
        }
    }
}

/// Duplicates a descriptor, with close-on-exec.
pub(crate) fn duplicate(fd: impl AsFd) -> Result<OwnedFd, Failure> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(internal("duplicate a descriptor: fcntl(F_DUPFD_CLOEXEC)"))
}

/// Makes an open file description non-blocking, for every descriptor of it.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> Result<(), Failure> {
    let set = || -> Result<(), Errno> {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
    };
    set().map_err(internal("set up a stream: fcntl(F_SETFL, O_NONBLOCK)"))
}

#[cfg(test)]
mod tests;
