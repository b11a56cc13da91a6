//! Beginning to start containers and further processes in them; [`starts`] sees them through.

use std::os::fd::{AsFd, OwnedFd};

use pausa_container_init::{ContainerFds, PodContext, Streams};
use pausa_monitor_protocol::{ContainerPlan, ExecPlan, Failure, FailureKind, Namespace};

use crate::failure::{failure, internal};
use crate::log::{Source, Stream, Writer};
use crate::monitor::{Answer, Container, Input, Live, Monitor, OpenStream, Stage, Started};
use crate::oom::OomWatch;
use crate::poll::Token;
use crate::userns::UserNamespace;
use crate::{clock, starts};

pub(crate) use crate::descriptors::{Pipes, Sorted, lend};
pub(crate) use crate::descriptors::{clone_fd, set_nonblocking};
pub(crate) use crate::starts::{advance, deadline, give_up_all, kill_exec, pump, reaped, settle, unfinished};

/// Longest line of a log that a plan may ask to be kept whole.
const LINE_MAX: usize = 1024 * 1024;
/// Longest id.
const ID_MAX: usize = 128;

/// Begins to start a container. It is there from now on, as one that is starting; who asked is answered when
/// it runs or has failed.
///
/// # Errors
/// Nothing is left behind then.
pub(crate) fn start(
    monitor: &mut Monitor<'_>,
    answer: Answer,
    plan: &ContainerPlan,
    fds: Vec<OwnedFd>,
) -> Result<(), Failure> {
    may_start(monitor, &plan.id)?;
    let mut fds = Sorted::new(&plan.fds, fds)?;
    let mut pipes = Pipes::new(plan)?;
    let target = match &plan.namespaces.pid {
        Namespace::Container(id) => Some(clone_fd(&running(monitor, id)?.pidfd)?),
        _ => None,
    };
    let above = fds.cgroup.oom_events_above();
    let oom = fds.oom.take().map(|own| OomWatch::new(own, above));
    let context = PodContext {
        host: monitor.host.borrow(),
        pause: monitor.pod()?.pause.as_ref().map(|pause| pause.pidfd.as_fd()),
        target: target.as_ref().map(OwnedFd::as_fd),
    };
    let users = monitor.users();
    let lent = ContainerFds {
        userns: users.as_deref().map(UserNamespace::lend),
        ..fds.lend()
    };
    let progress = monitor.launch.spawn(plan, &lent, &pipes.lend(), &context)?;
    let max_line = longest_line(plan);
    let outputs = std::mem::take(&mut pipes.outputs).into_iter();
    let streams = outputs.map(|(fd, source)| watch(monitor, fd, source, max_line, false));
    let held = streams.collect::<Result<Vec<_>, _>>().and_then(|streams| {
        let (pid, pidfd) = starts::hold(&progress)?;
        Ok((streams, pid, pidfd))
    });
    let (streams, pid, pidfd) = match held {
        Ok(held) => held,
        Err(failure) => {
            starts::abandon(progress);
            return Err(failure);
        }
    };
    let number = monitor.poll.number();
    let full = false;
    let input = pipes.stdin.take().map(|fd| Input { fd, number, full });
    monitor.containers.push(Container {
        id: plan.id.clone(),
        pid,
        started_at: clock::now(),
        stage: Stage::Starting,
        live: Some(Live {
            pidfd,
            cgroup: std::mem::take(&mut fds.cgroup),
            oom,
            told_to_die: false,
            streams,
            input,
            input_once: plan.io.stdin_once,
            attached: Vec::new(),
            writer: fds.log.take().filter(|_| plan.log.is_some()).map(Writer::new),
            drop_told: None,
        }),
    });
    let what = Started::Container {
        id: plan.id.clone(),
        max_line,
    };
    starts::take_up(monitor, answer, what, progress);
    Ok(())
}

fn longest_line(plan: &ContainerPlan) -> usize {
    let asked = plan
        .log
        .map(|log| usize::try_from(log.max_line).unwrap_or(LINE_MAX));
    asked.unwrap_or(LINE_MAX).min(LINE_MAX)
}

fn may_start(monitor: &mut Monitor<'_>, id: &str) -> Result<(), Failure> {
    if monitor.leaving.is_some() {
        return Err(failure(FailureKind::State, "the pod is being shut down"));
    }
    monitor.pod()?;
    check_id(id)?;
    if monitor.container(id).is_ok() {
        return Err(failure(
            FailureKind::State,
            format!("container {id} has been started already"),
        ));
    }
    Ok(())
}

/// What is not an id of ours is not taken as one.
pub(crate) fn check_id(id: &str) -> Result<(), Failure> {
    match is_id(id) {
        true => Ok(()),
        false => Err(failure(FailureKind::Protocol, format!("{id:?} cannot be an id"))),
    }
}

/// Ids become file names.
fn is_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !id.is_empty() && id.len() <= ID_MAX && !id.starts_with('.') && id.bytes().all(allowed)
}

/// What a container holds, if its first process runs.
pub(crate) fn running<'a>(monitor: &'a mut Monitor<'_>, id: &str) -> Result<&'a mut Live, Failure> {
    let container = monitor.container(id)?;
    match (container.stage, &mut container.live) {
        (Stage::Running, Some(live)) => Ok(live),
        (Stage::Starting, _) => Err(failure(
            FailureKind::State,
            format!("container {id} is still being started"),
        )),
        _ => Err(failure(FailureKind::State, format!("container {id} has exited"))),
    }
}

/// Begins to read from a container's output.
pub(crate) fn watch(
    monitor: &mut Monitor<'_>,
    fd: OwnedFd,
    source: Source,
    max_line: usize,
    terminal: bool,
) -> Result<OpenStream, Failure> {
    let number = monitor.poll.number();
    let stream = Stream::new(fd, source, max_line);
    monitor
        .poll
        .add(stream.fd(), Token::Stream(number))
        .map_err(internal("read the container's output: epoll_ctl(EPOLL_CTL_ADD)"))?;
    Ok(OpenStream {
        number,
        stream,
        parked: None,
        terminal,
    })
}

/// Begins to run one more process in a container; who asked is answered when it runs or has failed.
///
/// # Errors
/// Nothing is left behind then.
pub(crate) fn exec(
    monitor: &mut Monitor<'_>,
    answer: Answer,
    plan: ExecPlan,
    fds: Vec<OwnedFd>,
) -> Result<(), Failure> {
    if monitor.leaving.is_some() {
        return Err(failure(FailureKind::State, "the pod is being shut down"));
    }
    check_id(&plan.id)?;
    if monitor.execs.iter().any(|exec| exec.id == plan.id) || starts::starts_exec(monitor, &plan.id) {
        return Err(failure(
            FailureKind::State,
            format!("exec {} runs already", plan.id),
        ));
    }
    let fds = Sorted::new(&plan.fds, fds)?;
    let (launch, users) = (monitor.launch, monitor.users());
    let live = running(monitor, &plan.container)?;
    let streams = Streams {
        stdin: fds.stdin.as_ref().map(OwnedFd::as_fd),
        stdout: fds.stdout.as_ref().map(OwnedFd::as_fd),
        stderr: fds.stderr.as_ref().map(OwnedFd::as_fd),
    };
    let lent = ContainerFds {
        userns: users.as_deref().map(UserNamespace::lend),
        ..lend(&live.cgroup)
    };
    let progress = launch.exec(&plan, live.pidfd.as_fd(), &lent, &streams)?;
    let what = Started::Exec {
        id: plan.id,
        container: plan.container,
        outputs: fds.readers,
        hung_up: false,
    };
    starts::take_up(monitor, answer, what, progress);
    Ok(())
}

#[cfg(test)]
mod tests;
