//! What can go wrong with a monitor.

use std::io;

use pausa_monitor_protocol::socket::SocketError;
use pausa_monitor_protocol::{Failure, FailureKind};
use rustix::io::Errno;

use crate::error::{ErrorKind, Kinded};

/// Why a monitor could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The program could not be made ready to be started.
    #[error("cannot prepare the monitor's program: {call} failed")]
    Prepare {
        /// The call with its arguments.
        call: &'static str,
        #[source]
        source: io::Error,
    },
    /// The process could not be started.
    #[error("cannot start the monitor of pod {pod}: {call} failed")]
    Start {
        pod: String,
        /// The call with its arguments.
        call: &'static str,
        #[source]
        source: io::Error,
    },
    /// Nobody listens in the pod's directory.
    #[error("cannot reach the monitor at {path}: {call} failed; if its process is gone, so is the pod")]
    Connect {
        path: String,
        call: &'static str,
        #[source]
        source: io::Error,
    },
    /// The socket failed, or what came over it is no message.
    #[error("cannot talk to monitor {pid}")]
    Socket {
        /// Its process id, 0 if it is not known yet.
        pid: i32,
        #[source]
        source: SocketError,
    },
    /// The monitor lives, but has not answered since it was connected to.
    #[error(
        "monitor {pid} does not answer; the pod goes on, and this is possible again when it does; it may hang on a stalled file system of the pod's logs, see /proc/{pid}/wchan"
    )]
    Silent {
        /// Its process id.
        pid: i32,
    },
    /// The monitor has ended, or has cut this connection.
    #[error("monitor {pid} is gone")]
    Gone {
        /// Its process id, 0 if it is not known yet.
        pid: i32,
    },
    /// The monitor is too old for this.
    #[error(
        "cannot {what} in this pod any more: its monitor {pid} speaks version {theirs} of the protocol, and plans are written since version {oldest}; the pod goes on; recreate it when you can"
    )]
    Version {
        pid: i32,
        /// What was asked for, as a verb.
        what: &'static str,
        /// What both speak.
        theirs: u32,
        /// The oldest version that would do.
        oldest: u32,
    },
    /// The monitor answered with something that is no answer to what was asked.
    #[error("monitor {pid} gave no proper answer to {request}")]
    Unexpected { pid: i32, request: &'static str },
    /// The monitor did not do it.
    #[error("the monitor could not do it")]
    Refused(#[source] Failure),
}

impl Kinded for MonitorError {
    fn kind(&self) -> ErrorKind {
        match self {
            // A limit of processes, when one was to be made.
            Self::Refused(failure) if failure.errno == Errno::AGAIN.raw_os_error() => {
                ErrorKind::ResourceExhausted
            }
            Self::Refused(failure) => match failure.kind {
                FailureKind::NotFound => ErrorKind::NotFound,
                FailureKind::State => ErrorKind::FailedPrecondition,
                FailureKind::Start => ErrorKind::InvalidArgument,
                FailureKind::Protocol | FailureKind::Internal => ErrorKind::Internal,
            },
            Self::Version { .. } => ErrorKind::FailedPrecondition,
            Self::Silent { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        }
    }
}
