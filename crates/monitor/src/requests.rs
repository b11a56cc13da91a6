//! From a request to what does it.

use std::os::fd::OwnedFd;

use pausa_monitor_protocol::{
    Failure, FailureKind, OLDEST_PLANS, PROTOCOL_VERSION, PodPlan, Reply, Request, ToMonitor, negotiated,
};

use crate::failure::{failure, internal};
use crate::monitor::{Answer, Monitor, Setup};
use crate::poll::Token;
use crate::{attachments, container_ops, execs, kills, pod, shutdown, start_container};

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
        return now(Ok(hello(monitor, answer.connection, version)));
    }
    let version = monitor
        .connections
        .get(&answer.connection)
        .and_then(|connection| connection.version);
    match version {
        None => {
            return Err(failure(
                FailureKind::Protocol,
                "Hello has to come first on every connection",
            ));
        }
        Some(version) if version < OLDEST_PLANS && takes_plan(&request) => return Err(too_old(version)),
        Some(_) => {}
    }
    match request {
        Request::Hello { .. } => Ok(None),
        Request::Setup(plan) => now(set_up(monitor, &plan, fds)),
        Request::Start(plan) => later(start_container::start(monitor, answer, &plan, fds)),
        Request::Exec(plan) => later(start_container::exec(monitor, answer, *plan, fds)),
        Request::Signal { container, signal } => now(container_ops::signal(monitor, &container, signal)),
        Request::KillAll { container } => later(kills::container(monitor, &container, Some(answer))),
        Request::KillExec { exec } => later(kills::exec(monitor, &exec, Some(answer))),
        Request::ReopenLog { container } => now(container_ops::reopen_log(monitor, &container, fds)),
        Request::Forget { container } => now(container_ops::forget(monitor, &container)),
        Request::Shutdown => {
            shutdown::asked(monitor, answer);
            Ok(None)
        }
        Request::HangUp { exec } => now(Ok(execs::hang_up(monitor, &exec))),
        Request::Attach(plan) => {
            let terminal = attachments::attach(monitor, answer.connection, &plan, fds)?;
            Ok(Some((Reply::Done, terminal.into_iter().collect())))
        }
        Request::Detach { attach } => now(Ok(attachments::detach(monitor, answer.connection, &attach))),
    }
}

fn now(result: Result<Reply, Failure>) -> Outcome {
    result.map(|reply| Some((reply, Vec::new())))
}

fn later(result: Result<(), Failure>) -> Outcome {
    result.map(|()| None)
}

/// A request that this version does not know, or that it knows in another form, can still be answered.
pub(crate) fn refuse(monitor: &mut Monitor<'_>, answer: Answer) {
    let told = failure(
        FailureKind::Protocol,
        format!(
            "this monitor speaks version {PROTOCOL_VERSION} of the protocol, which does not have this request or not in this form"
        ),
    );
    monitor.answer(answer, Err(told), Vec::new());
}

const fn takes_plan(request: &Request) -> bool {
    matches!(
        request,
        Request::Setup(_) | Request::Start(_) | Request::Exec(_) | Request::Attach(_)
    )
}

fn too_old(version: u32) -> Failure {
    failure(
        FailureKind::Protocol,
        format!(
            "the daemon speaks version {version} of the protocol, but this monitor takes plans from version {OLDEST_PLANS} on: make the pod anew"
        ),
    )
}

/// Any version will do for what never changes; see the protocol's rules.
fn hello(monitor: &mut Monitor<'_>, connection: u64, version: u32) -> Reply {
    if let Some(connection) = monitor.connections.get_mut(&connection) {
        connection.version = Some(negotiated(version, PROTOCOL_VERSION));
    }
    Reply::Hello {
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
            .map(crate::monitor::Container::report)
            .collect(),
    }
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
    let pod = pod::set_up(plan, dir)?;
    monitor
        .poll
        .add(std::os::fd::AsFd::as_fd(&pod.listener), Token::Listener)
        .map_err(internal("listen for daemons: epoll_ctl(EPOLL_CTL_ADD)"))?;
    monitor.setup = Setup::Done(pod);
    Ok(Reply::Done)
}
