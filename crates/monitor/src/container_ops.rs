//! What is asked about a container that is there: a signal, another log file, to be forgotten.

use std::os::fd::{AsFd, OwnedFd};

use pausa_monitor_protocol::{Failure, FailureKind, ProcessState, Reply};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::failure::{failure, internal};
use crate::monitor::{Monitor, Stage};
use crate::{exits, start_container};

/// Sends a signal to a container's first process; one that is still being started is ended.
///
/// # Errors
/// No such container, or a number that is no signal. That it has exited is none.
pub(crate) fn signal(monitor: &mut Monitor<'_>, id: &str, signal: i32) -> Result<Reply, Failure> {
    start_container::settle(monitor, id);
    let container = monitor.container(id)?;
    let (Stage::Running, Some(live)) = (container.stage, &mut container.live) else {
        return Ok(Reply::Done);
    };
    live.told_to_die |= signal == Signal::KILL.as_raw();
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

/// Forgets a container that has exited, and its record.
///
/// # Errors
/// No such container, or it has not exited.
pub(crate) fn forget(monitor: &mut Monitor<'_>, id: &str) -> Result<Reply, Failure> {
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
