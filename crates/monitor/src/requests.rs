//! From a request to the part of the monitor that serves it.

use std::os::fd::{AsFd, OwnedFd};

use pausa_monitor_protocol::{
    Failure, FailureKind, OLDEST_PLANS, PROTOCOL_VERSION, PodNamespaces, PodPlan, Reply, Request, ToMonitor,
    negotiated,
};

use crate::connections::ReplyTo;
use crate::failure::{failure, internal};
use crate::monitor::Monitor;
use crate::pod::{self, Pod, Setup};
use crate::poll::Token;
use crate::start_container::{check_id, start_container, start_exec};
use crate::starts::HookRun;

/// A reply with its descriptors; none if the request is answered later.
type Answer = Option<(Reply, Vec<OwnedFd>)>;

/// Serves a request and answers it, now or later.
pub(crate) fn serve(monitor: &mut Monitor, connection: u64, message: ToMonitor, fds: Vec<OwnedFd>) {
    let reply_to = ReplyTo {
        connection,
        request: message.id,
    };
    match perform(monitor, reply_to, message.request, fds) {
        Ok(None) => {}
        Ok(Some((reply, fds))) => monitor.connections.reply(reply_to, Ok(reply), fds),
        Err(failure) => monitor.connections.reply(reply_to, Err(failure), Vec::new()),
    }
}

/// Answers a request that this version does not know, or knows in another form.
pub(crate) fn refuse(monitor: &mut Monitor, reply_to: ReplyTo) {
    let failure = failure(
        FailureKind::Protocol,
        format!(
            "this monitor speaks version {PROTOCOL_VERSION} of the protocol, which does not have this request or not in this form"
        ),
    );
    monitor.connections.reply(reply_to, Err(failure), Vec::new());
}

fn perform(
    monitor: &mut Monitor,
    reply_to: ReplyTo,
    request: Request,
    fds: Vec<OwnedFd>,
) -> Result<Answer, Failure> {
    let connection = reply_to.connection;
    let done = |()| Some((Reply::Done, Vec::new()));
    let later = |()| None;
    if !matches!(request, Request::Hello { .. }) {
        check_version(monitor.connections.version(connection), &request)?;
    }
    match request {
        Request::Hello { version } => Ok(Some((hello(monitor, connection, version), Vec::new()))),
        Request::Unshare(namespaces) => unshare(monitor, &namespaces, &fds).map(done),
        Request::Setup(plan) => set_up(monitor, &plan, fds).map(done),
        Request::Start(plan) => start_container(monitor, reply_to, (*plan).into(), fds).map(later),
        Request::StartExtended(plan) => start_container(monitor, reply_to, *plan, fds).map(later),
        Request::Poststop { container, hooks } => {
            check_id(&container)?;
            monitor.run_hooks_of(&hooks, 0, container, HookRun::Lost { reply_to });
            Ok(None)
        }
        Request::Exec(plan) => start_exec(monitor, reply_to, *plan, fds).map(later),
        Request::Signal { container, signal } => {
            monitor.cancel_container_start(&container);
            monitor.containers.signal(&container, signal).map(done)
        }
        Request::KillAll { container } => monitor.kill_container(&container, Some(reply_to)).map(later),
        Request::KillExec { exec } => monitor.kill_exec(&exec, Some(reply_to)).map(later),
        Request::ReopenLog { container } => {
            let is_complete = monitor.containers.reopen_log(&container, fds, reply_to)?;
            Ok(is_complete.then(|| (Reply::Done, Vec::new())))
        }
        Request::Forget { container } => {
            let pod = monitor.setup.pod()?;
            monitor.containers.forget(&container, &pod.exits).map(done)
        }
        Request::Shutdown => {
            monitor.shut_down(reply_to);
            Ok(None)
        }
        Request::HangUp { exec } => {
            monitor.starts.hang_up(&exec);
            monitor.execs.hang_up(&exec);
            Ok(done(()))
        }
        Request::Attach(plan) => {
            check_id(&plan.id)?;
            let terminal = monitor.containers.attach(connection, &plan, fds)?;
            Ok(Some((Reply::Done, terminal.into_iter().collect())))
        }
        Request::Detach { attach } => {
            monitor.containers.detach(connection, &attach);
            Ok(done(()))
        }
    }
}

fn check_version(version: Option<u32>, request: &Request) -> Result<(), Failure> {
    let has_plan = matches!(
        request,
        Request::Unshare(_)
            | Request::Setup(_)
            | Request::Start(_)
            | Request::StartExtended(_)
            | Request::Exec(_)
            | Request::Attach(_)
            | Request::Poststop { .. }
    );
    let message = match version {
        None => "Hello must be the first request on a connection".to_owned(),
        Some(version) if version < OLDEST_PLANS && has_plan => format!(
            "the daemon speaks version {version} of the protocol, but this monitor accepts plans from version {OLDEST_PLANS} on: recreate the pod"
        ),
        Some(_) => return Ok(()),
    };
    Err(failure(FailureKind::Protocol, message))
}

/// Any version is accepted: most requests are the same in all of them, see the protocol's rules.
fn hello(monitor: &mut Monitor, connection: u64, version: u32) -> Reply {
    monitor
        .connections
        .set_version(connection, negotiated(version, PROTOCOL_VERSION));
    Reply::Hello {
        version: PROTOCOL_VERSION,
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        pause: monitor.setup.pause().map(|pause| pause.pid),
        containers: monitor.containers.reports(),
    }
}

fn unshare(monitor: &mut Monitor, namespaces: &PodNamespaces, tasks: &[OwnedFd]) -> Result<(), Failure> {
    if !matches!(monitor.setup, Setup::NotDone) {
        return Err(failure(
            FailureKind::State,
            "the pod's namespaces have already been made, or making them has failed",
        ));
    }
    monitor.setup = Setup::Failed;
    crate::cgroup::join(tasks)?;
    monitor.setup = Setup::Unshared(pod::unshare(namespaces)?);
    Ok(())
}

fn set_up(monitor: &mut Monitor, plan: &PodPlan, fds: Vec<OwnedFd>) -> Result<(), Failure> {
    let Setup::Unshared(userns) = &mut monitor.setup else {
        return Err(failure(
            FailureKind::State,
            "the pod has already been set up, or its setup has failed, or its namespaces have not been made yet",
        ));
    };
    let userns = userns.take();
    let mut fds = fds.into_iter();
    let (Some(dir), Some(base_mounts)) = (fds.next(), fds.next()) else {
        return Err(failure(
            FailureKind::Protocol,
            "set up the pod: the descriptor of its directory or of the base mounts is missing",
        ));
    };
    monitor.setup = Setup::Failed;
    crate::cgroup::join(fds.as_slice())?;
    let pod = Pod::set_up(plan, userns, dir, base_mounts)?;
    monitor
        .poll
        .add(pod.listener.as_fd(), Token::Listener)
        .map_err(internal("listen for daemons: epoll_ctl(EPOLL_CTL_ADD)"))?;
    monitor.setup = Setup::Done(pod);
    Ok(())
}
