//! From a request to what does it.

use std::os::fd::OwnedFd;

use pausa_monitor_protocol::{Failure, FailureKind, PROTOCOL_VERSION, PodPlan, Reply, Request, ToMonitor};

use crate::failure::{failure, internal};
use crate::poll::Token;
use crate::state::{Answer, Monitor, Setup, Stage};
use crate::{exits, kill, launches, leave, setup};

/// An answer given at once, with what goes along; none if it comes later.
type Outcome = Result<Option<(Reply, Vec<OwnedFd>)>, Failure>;

/// Does what is asked and answers, now or later.
pub(crate) fn serve(monitor: &mut Monitor<'_>, connection: u64, message: ToMonitor, fds: Vec<OwnedFd>) {
    let answer = Answer {
        connection,
        id: message.id,
    };
    match perform(monitor, answer, message.request, fds) {
        Ok(None) => {}
        Ok(Some((reply, fds))) => monitor.answer(answer, Ok(reply), fds),
        Err(failure) => monitor.answer(answer, Err(failure), Vec::new()),
    }
}

fn perform(monitor: &mut Monitor<'_>, answer: Answer, request: Request, fds: Vec<OwnedFd>) -> Outcome {
    if let Request::Hello { version } = request {
        return now(hello(monitor, answer.connection, version));
    }
    if !monitor
        .connections
        .get(&answer.connection)
        .is_some_and(|connection| connection.greeted)
    {
        return Err(failure(
            FailureKind::Protocol,
            "Hello has to come first on every connection",
        ));
    }
    match request {
        Request::Hello { .. } => Ok(None),
        Request::Setup(plan) => now(set_up(monitor, &plan, fds)),
        Request::Start(plan) => now(launches::start(monitor, &plan, fds)),
        Request::Exec(plan) => {
            let (reply, terminal) = launches::exec(monitor, &plan, fds)?;
            Ok(Some((reply, terminal.into_iter().collect())))
        }
        Request::Signal { container, signal } => now(launches::signal(monitor, &container, signal)),
        Request::KillAll { container } => later(kill::container(monitor, &container, Some(answer))),
        Request::KillExec { exec } => later(kill::exec(monitor, &exec, Some(answer))),
        Request::ReopenLog { container } => now(launches::reopen_log(monitor, &container, fds)),
        Request::Forget { container } => now(forget(monitor, &container)),
        Request::Shutdown => {
            leave::asked(monitor, answer);
            Ok(None)
        }
    }
}

fn now(result: Result<Reply, Failure>) -> Outcome {
    result.map(|reply| Some((reply, Vec::new())))
}

fn later(result: Result<(), Failure>) -> Outcome {
    result.map(|()| None)
}

/// A daemon that is newer has to speak this version; one that is older cannot.
fn hello(monitor: &mut Monitor<'_>, connection: u64, version: u32) -> Result<Reply, Failure> {
    if version < PROTOCOL_VERSION {
        return Err(failure(
            FailureKind::Protocol,
            format!(
                "this monitor speaks version {PROTOCOL_VERSION} of the protocol, the daemon only {version}"
            ),
        ));
    }
    if let Some(connection) = monitor.connections.get_mut(&connection) {
        connection.greeted = true;
    }
    Ok(Reply::Hello {
        version: PROTOCOL_VERSION,
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        pause: monitor
            .pod()
            .ok()
            .and_then(|pod| pod.pause.as_ref())
            .map(|pause| pause.pid),
        containers: monitor
            .containers
            .iter()
            .map(crate::state::Container::report)
            .collect(),
    })
}

fn set_up(monitor: &mut Monitor<'_>, plan: &PodPlan, fds: Vec<OwnedFd>) -> Result<Reply, Failure> {
    if !matches!(monitor.setup, Setup::Open) {
        return Err(failure(
            FailureKind::State,
            "the pod has been set up already, or its setup has failed",
        ));
    }
    let mut fds = fds.into_iter();
    let Some(dir) = fds.next() else {
        return Err(failure(
            FailureKind::Protocol,
            "set the pod up: its directory has to come along as a descriptor",
        ));
    };
    monitor.setup = Setup::Failed;
    crate::cgroup::join(fds.as_slice())?;
    let pod = setup::set_up(plan, dir)?;
    monitor
        .poll
        .add(std::os::fd::AsFd::as_fd(&pod.listener), Token::Listener)
        .map_err(internal("listen for daemons: epoll_ctl(EPOLL_CTL_ADD)"))?;
    monitor.setup = Setup::Done(pod);
    Ok(Reply::Done)
}

fn forget(monitor: &mut Monitor<'_>, id: &str) -> Result<Reply, Failure> {
    if !matches!(monitor.container(id)?.stage, Stage::Exited(_)) {
        return Err(failure(
            FailureKind::State,
            format!("container {id} has not exited"),
        ));
    }
    exits::delete_record(monitor.pod()?, id).map_err(internal(format!(
        "forget container {id}: unlinkat(exits/{id}.json)"
    )))?;
    monitor.containers.retain(|container| container.id != id);
    Ok(Reply::Done)
}
