//! Errors of cgroups.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::systemd::BusError;
use crate::error::{ErrorKind, Kinded};

/// Why a cgroup cannot be created, changed, read or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// A field has a wrong value.
    #[error("{field} is {value:?}: {reason}")]
    Invalid {
        field: String,
        value: String,
        reason: &'static str,
    },
    /// The parent is in the form of the other driver.
    #[error(
        "linux.cgroup_parent is {parent:?}, but the cgroup driver here is {driver}: set cgroupDriver of kubelet and \
         cgroup_driver of pausa to the same"
    )]
    WrongDriver { parent: String, driver: &'static str },
    /// This node does not support it.
    #[error("{field} is set: {reason}")]
    HostLacks {
        /// The CRI field or configuration key.
        field: String,
        reason: &'static str,
    },
    /// The file for a value is not there.
    #[error(
        "{field} is set: this node's kernel or the parent cgroup does not offer {file} and the controller it is of"
    )]
    NoFile { field: &'static str, file: String },
    /// A new memory limit is below what is in use: the kernel would kill the container.
    #[error(
        "linux.resources.memory_limit_in_bytes is {limit}, but {used} bytes are in use: raise the limit or let the \
         container free memory first"
    )]
    BelowUse {
        limit: u64,
        /// What is in use and cannot be given back.
        used: u64,
    },
    /// A value that the kernel refuses.
    #[error("the kernel refuses {value:?} of {field} in {}", file.display())]
    Refused {
        field: &'static str,
        value: String,
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Device rules cannot be enforced on cgroup v2.
    #[error(
        "device rules cannot be enforced in {}: {call} failed; pausa needs CAP_BPF and CAP_SYS_ADMIN outside of any user \
         namespace, and a kernel with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF", path.display()
    )]
    Devices {
        call: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The kernel does not make a cgroup a partition.
    #[error(
        "the kernel says {said:?} in {}: CPUs may be in use by another partition or above by a cpuset without them",
        path.display()
    )]
    NoPartition { path: PathBuf, said: String },
    #[error("{call} of {} failed", path.display())]
    System {
        call: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The cgroup does not exist.
    #[error("there is no cgroup {}", path.display())]
    NotFound { path: PathBuf },
    /// Processes that do not end.
    #[error("cgroup {} cannot be removed: it still has processes {pids:?}; see /proc/PID/wchan", path.display())]
    Busy {
        path: PathBuf,
        /// At most 16 of them.
        pids: Vec<i32>,
    },
    /// There are no cgroups on this node.
    #[error("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    /// systemd refuses or does not answer.
    #[error("systemd did not {step} {unit}: see `systemctl status {unit}`")]
    Systemd {
        /// What was asked of it.
        step: &'static str,
        unit: String,
        #[source]
        source: BusError,
    },
}

impl CgroupError {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass numbers, flags and texts alike"
    )]
    pub(crate) fn invalid(field: impl Into<String>, value: impl ToString, reason: &'static str) -> Self {
        Self::Invalid {
            field: field.into(),
            value: value.to_string(),
            reason,
        }
    }
}

impl Kinded for CgroupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::WrongDriver { .. } => ErrorKind::InvalidArgument,
            // The value may be wrong, but it may as well be the state of the node that does not admit it: CPUs that
            // the parent does not have (EACCES on v1), processes that use what is taken away (EBUSY).
            Self::Refused { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::INVAL | Errno::RANGE | Errno::OVERFLOW) => ErrorKind::InvalidArgument,
                Some(Errno::BUSY | Errno::ACCESS | Errno::PERM | Errno::NODEV | Errno::OPNOTSUPP) => {
                    ErrorKind::FailedPrecondition
                }
                Some(Errno::NOSPC | Errno::NOMEM) => ErrorKind::ResourceExhausted,
                _ => ErrorKind::Internal,
            },
            Self::HostLacks { .. }
            | Self::NoFile { .. }
            | Self::Devices { .. }
            | Self::BelowUse { .. }
            | Self::Busy { .. }
            | Self::NoPartition { .. }
            | Self::NotMounted => ErrorKind::FailedPrecondition,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::System { .. } | Self::Systemd { .. } => ErrorKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests;
