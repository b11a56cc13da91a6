//! What can go wrong with cgroups.

use std::io;
use std::path::PathBuf;

use super::systemd::BusError;
use crate::error::{ErrorKind, Kinded};

/// Why a cgroup cannot be made, changed, read or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// A field has a value that cannot be.
    #[error("{field} is {value:?}: {reason}")]
    Invalid {
        /// The CRI field.
        field: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The parent has the form of the other driver.
    #[error(
        "linux.cgroup_parent is {parent:?}, but the cgroup driver here is {driver}: set cgroupDriver of kubelet and \
         cgroup_driver of pausa to the same"
    )]
    WrongDriver {
        /// As given.
        parent: String,
        /// The driver in use.
        driver: &'static str,
    },
    /// This node cannot do what is asked.
    #[error("{field} is set: {reason}")]
    HostLacks {
        /// The CRI field or configuration key.
        field: String,
        /// What is not there.
        reason: &'static str,
    },
    /// A new memory limit is below what is in use: the kernel would kill the container.
    #[error(
        "linux.resources.memory_limit_in_bytes is {limit}, but {used} bytes are in use: raise the limit or let the \
         container free memory first"
    )]
    BelowUse {
        /// The limit asked for.
        limit: u64,
        /// What is in use and cannot be given back.
        used: u64,
    },
    /// A value that the kernel refuses.
    #[error("the kernel refuses {value:?} in {}, which {field} asks for", file.display())]
    Refused {
        /// The CRI field.
        field: &'static str,
        /// What was written.
        value: String,
        /// Where.
        file: PathBuf,
        /// errno.
        #[source]
        source: io::Error,
    },
    /// The rules about devices cannot be enforced on cgroup v2.
    #[error(
        "device rules cannot be enforced in {}: {call} failed; pausa needs CAP_BPF and CAP_SYS_ADMIN outside of any user \
         namespace, and a kernel with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF", path.display()
    )]
    Devices {
        /// System call.
        call: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// errno.
        #[source]
        source: io::Error,
    },
    /// A system call failed.
    #[error("{call} of {} failed", path.display())]
    System {
        /// System call.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// errno.
        #[source]
        source: io::Error,
    },
    /// The cgroup is not there.
    #[error("there is no cgroup {}", path.display())]
    NotFound {
        /// Which.
        path: PathBuf,
    },
    /// Processes that do not go away.
    #[error("cgroup {} cannot be removed: it still has processes {pids:?}; see /proc/PID/wchan", path.display())]
    Busy {
        /// Which.
        path: PathBuf,
        /// Who is in it, some of them.
        pids: Vec<i32>,
    },
    /// There are no cgroups on this node.
    #[error("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    /// systemd refuses.
    #[error("systemd did not {step} {unit}: see `systemctl status {unit}`")]
    Systemd {
        /// What was asked of it.
        step: &'static str,
        /// The unit.
        unit: String,
        /// Why.
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
            Self::Invalid { .. } | Self::WrongDriver { .. } | Self::Refused { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::HostLacks { .. }
            | Self::Devices { .. }
            | Self::BelowUse { .. }
            | Self::Busy { .. }
            | Self::NotMounted => ErrorKind::FailedPrecondition,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::System { .. } | Self::Systemd { .. } => ErrorKind::Internal,
        }
    }
}
