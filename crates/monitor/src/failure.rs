//! Constructors of the failures that are sent to the daemon.

use pausa_monitor_protocol::{Failure, FailureKind};
use rustix::io::Errno;

/// A failure without an errno.
pub(crate) fn failure(kind: FailureKind, step: impl Into<String>) -> Failure {
    Failure {
        kind,
        step: step.into(),
        errno: 0,
    }
}

/// A system call of the monitor itself has failed.
pub(crate) fn internal(step: impl Into<String>) -> impl FnOnce(Errno) -> Failure {
    let step = step.into();
    move |errno| Failure {
        kind: FailureKind::Internal,
        step,
        errno: errno.raw_os_error(),
    }
}

/// Converts an errno of nix.
pub(crate) fn from_nix(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}
