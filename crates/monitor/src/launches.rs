//! Starting containers and further processes in them.

use std::os::fd::{AsFd, OwnedFd};

use pausa_container_init::{ContainerFds, PodContext, Spawned, Streams};
use pausa_monitor_protocol::{
    ContainerPlan, ExecPlan, Failure, FailureKind, FdRole, Namespace, ProcessState, Reply,
};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::cgroup::Cgroup;
use crate::clock;
use crate::failure::{failure, internal};
use crate::log::{Source, Stream, Writer};
use crate::oom::OomWatch;
use crate::poll::Token;
use crate::state::{Container, Exec, Live, Monitor, OpenStream, Stage};

/// Longest line of a log that a plan may ask to be kept whole.
const LINE_MAX: usize = 1024 * 1024;
/// Longest id.
const ID_MAX: usize = 128;

/// The descriptors of a plan, by role.
#[derive(Debug, Default)]
struct Sorted {
    root: Option<OwnedFd>,
    mounts: Vec<(u32, OwnedFd)>,
    log: Option<OwnedFd>,
    cgroup: Cgroup,
    oom: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Sorted {
    fn new(roles: &[FdRole], fds: Vec<OwnedFd>) -> Result<Self, Failure> {
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

    fn lend(&self) -> ContainerFds<'_> {
        ContainerFds {
            root: self.root.as_ref().map(OwnedFd::as_fd),
            mounts: self.mounts.iter().map(|(_, fd)| fd.as_fd()).collect(),
            ..lend(&self.cgroup)
        }
    }
}

fn lend(cgroup: &Cgroup) -> ContainerFds<'_> {
    ContainerFds {
        cgroup_tasks: cgroup.tasks.iter().map(OwnedFd::as_fd).collect(),
        cgroup_dir: cgroup.dir.as_ref().map(OwnedFd::as_fd),
        ..ContainerFds::default()
    }
}

/// The pipes of a container without a terminal: the child's ends and ours.
#[derive(Debug, Default)]
struct Pipes {
    child: [Option<OwnedFd>; 3],
    stdin: Option<OwnedFd>,
    outputs: Vec<(OwnedFd, Source)>,
}

impl Pipes {
    fn new(plan: &ContainerPlan) -> Result<Self, Failure> {
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

    fn lend(&self) -> Streams<'_> {
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

fn set_nonblocking(fd: &OwnedFd) -> Result<(), Failure> {
    let set = || -> Result<(), Errno> {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
    };
    set().map_err(internal("make the streams: fcntl(F_SETFL, O_NONBLOCK)"))
}

/// Starts a container.
///
/// # Errors
/// Nothing is left behind then.
pub(crate) fn start(
    monitor: &mut Monitor<'_>,
    plan: &ContainerPlan,
    fds: Vec<OwnedFd>,
) -> Result<Reply, Failure> {
    may_start(monitor, &plan.id)?;
    let mut fds = Sorted::new(&plan.fds, fds)?;
    let mut pipes = Pipes::new(plan)?;
    let target = match &plan.namespaces.pid {
        Namespace::Container(id) => Some(running(monitor, id)?.pidfd.try_clone().map_err(|_| {
            failure(
                FailureKind::Internal,
                "join another container: no descriptor is left",
            )
        })?),
        _ => None,
    };
    let oom = fds.oom.take().map(OomWatch::new);
    let context = PodContext {
        host: monitor.host.borrow(),
        pause: monitor.pod()?.pause.as_ref().map(|pause| pause.pidfd.as_fd()),
        target: target.as_ref().map(OwnedFd::as_fd),
    };
    let spawned = monitor.launch.spawn(plan, &fds.lend(), &pipes.lend(), &context)?;
    let started_at = clock::now();
    let live = Live {
        cgroup: std::mem::take(&mut fds.cgroup),
        oom,
        stdin: pipes.stdin.take(),
        writer: fds.log.take().filter(|_| plan.log.is_some()).map(Writer::new),
        streams: Vec::new(),
        drop_told: None,
        pidfd: spawned.pidfd,
    };
    let max = plan
        .log
        .map_or(LINE_MAX, |log| usize::try_from(log.max_line).unwrap_or(LINE_MAX));
    let streams = watch(
        monitor,
        std::mem::take(&mut pipes.outputs),
        spawned.terminal,
        max.min(LINE_MAX),
    );
    let streams = match streams {
        Ok(streams) => streams,
        Err(failure) => {
            // Reaped later, as one that nobody knows.
            crate::process::kill(&live.pidfd);
            live.cgroup.kill();
            return Err(failure);
        }
    };
    monitor.containers.push(Container {
        id: plan.id.clone(),
        pid: spawned.pid,
        started_at,
        stage: Stage::Running,
        live: Some(Live { streams, ..live }),
    });
    Ok(Reply::Started {
        pid: spawned.pid,
        at: started_at,
    })
}

fn may_start(monitor: &mut Monitor<'_>, id: &str) -> Result<(), Failure> {
    if monitor.leaving.is_some() {
        return Err(failure(FailureKind::State, "the pod is being shut down"));
    }
    monitor.pod()?;
    if !is_id(id) {
        return Err(failure(
            FailureKind::Protocol,
            format!("{id:?} cannot be a container's id"),
        ));
    }
    if monitor.container(id).is_ok() {
        return Err(failure(
            FailureKind::State,
            format!("container {id} has been started already"),
        ));
    }
    Ok(())
}

/// Ids become file names.
fn is_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !id.is_empty() && id.len() <= ID_MAX && !id.starts_with('.') && id.bytes().all(allowed)
}

/// What a container holds, if its first process runs.
fn running<'a>(monitor: &'a mut Monitor<'_>, id: &str) -> Result<&'a Live, Failure> {
    let container = monitor.container(id)?;
    match (container.stage, &container.live) {
        (Stage::Running, Some(live)) => Ok(live),
        _ => Err(failure(FailureKind::State, format!("container {id} has exited"))),
    }
}

/// Begins to read a container's output.
fn watch(
    monitor: &mut Monitor<'_>,
    outputs: Vec<(OwnedFd, Source)>,
    terminal: Option<OwnedFd>,
    max: usize,
) -> Result<Vec<OpenStream>, Failure> {
    let mut streams = Vec::new();
    let terminals = terminal.into_iter().map(|fd| (fd, Source::Stdout, true));
    let pipes = outputs.into_iter().map(|(fd, source)| (fd, source, false));
    for (fd, source, terminal) in pipes.chain(terminals) {
        if terminal {
            set_nonblocking(&fd)?;
        }
        let number = monitor.poll.number();
        let stream = Stream::new(fd, source, max);
        monitor
            .poll
            .add(stream.fd(), Token::Stream(number))
            .map_err(internal("read the container's output: epoll_ctl(EPOLL_CTL_ADD)"))?;
        streams.push(OpenStream {
            number,
            stream,
            parked: None,
            terminal,
        });
    }
    Ok(streams)
}

/// Runs one more process in a container. Also gives the master of its terminal, where it has one: what
/// goes through it is the asker's business alone.
///
/// # Errors
/// Nothing is left behind then.
pub(crate) fn exec(
    monitor: &mut Monitor<'_>,
    plan: &ExecPlan,
    fds: Vec<OwnedFd>,
) -> Result<(Reply, Option<OwnedFd>), Failure> {
    if monitor.leaving.is_some() {
        return Err(failure(FailureKind::State, "the pod is being shut down"));
    }
    if monitor.execs.iter().any(|exec| exec.id == plan.id) {
        return Err(failure(
            FailureKind::State,
            format!("exec {} runs already", plan.id),
        ));
    }
    let fds = Sorted::new(&plan.fds, fds)?;
    let launch = monitor.launch;
    let live = running(monitor, &plan.container)?;
    let streams = Streams {
        stdin: fds.stdin.as_ref().map(OwnedFd::as_fd),
        stdout: fds.stdout.as_ref().map(OwnedFd::as_fd),
        stderr: fds.stderr.as_ref().map(OwnedFd::as_fd),
    };
    let Spawned { pid, pidfd, terminal } =
        launch.exec(plan, live.pidfd.as_fd(), &lend(&live.cgroup), &streams)?;
    let at = clock::now();
    monitor.execs.push(Exec {
        id: plan.id.clone(),
        container: plan.container.clone(),
        pid,
        pidfd,
    });
    Ok((Reply::Started { pid, at }, terminal))
}

/// Sends a signal to a container's first process.
///
/// # Errors
/// No such container, or a number that is no signal. That it has exited is none.
pub(crate) fn signal(monitor: &mut Monitor<'_>, id: &str, signal: i32) -> Result<Reply, Failure> {
    let container = monitor.container(id)?;
    let (Stage::Running, Some(live)) = (container.stage, &container.live) else {
        return Ok(Reply::Done);
    };
    match pausa_sys::signal_by_pidfd(live.pidfd.as_fd(), signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(Reply::Done),
        Err(errno) => Err(internal(format!(
            "signal container {id}: pidfd_send_signal({signal})"
        ))(errno)),
    }
}

/// Goes on with a container's log in another file.
///
/// # Errors
/// No such container, one without a log, or one whose log is complete.
pub(crate) fn reopen_log(monitor: &mut Monitor<'_>, id: &str, fds: Vec<OwnedFd>) -> Result<Reply, Failure> {
    let container = monitor.container(id)?;
    if matches!(container.report().state, ProcessState::Exited(_)) {
        return Err(failure(FailureKind::State, format!("container {id} has exited")));
    }
    let mut fds = fds.into_iter();
    let (Some(file), None) = (fds.next(), fds.next()) else {
        return Err(failure(
            FailureKind::Protocol,
            "reopen a log: exactly one descriptor has to come along",
        ));
    };
    match container.live.as_mut().and_then(|live| live.writer.as_mut()) {
        Some(writer) => {
            writer.replace(file);
            Ok(Reply::Done)
        }
        None => Err(failure(FailureKind::State, format!("container {id} has no log"))),
    }
}

#[cfg(test)]
mod tests;
