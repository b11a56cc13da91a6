//! Errors in a container's configuration, and of this node.

use std::borrow::Cow;
use std::path::PathBuf;

use super::hooks::HookFileError;
use crate::error::{ErrorKind, Kinded};
use crate::lsm::LsmError;

/// A CRI field, by its path in the message.
pub type Field = Cow<'static, str>;

/// Why a container's configuration cannot become a runtime spec or a plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciError {
    /// Neither CRI nor the image says what to run.
    #[error("no command specified: set command or args, or use an image with ENTRYPOINT or CMD")]
    NoCommand,
    /// A field has a wrong value.
    #[error("{field} is {value:?}: {reason}")]
    Invalid {
        field: Field,
        value: String,
        reason: &'static str,
    },
    /// A field asks for something that this node does not have.
    #[error("{field} is {value:?}: {reason}")]
    HostLacks {
        field: Field,
        value: String,
        reason: &'static str,
    },
    /// A user or group that the image does not have.
    #[error("{field} names {value:?}, which is not in the image's {file}: use a numeric id or another image")]
    UnknownName {
        field: Field,
        value: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
    },
    /// A file of the image cannot be read.
    #[error("cannot read the image's {file}: {call} failed")]
    ImageFile {
        /// The file, as the container sees it.
        file: &'static str,
        /// System call with arguments.
        call: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// A file of the image is of a wrong type or too large.
    #[error("the image's {file} {reason}: pausa does not run such an image")]
    HostileFile {
        /// The file, as the container sees it.
        file: &'static str,
        reason: &'static str,
    },
    /// A path of the host that the container needs cannot be used.
    #[error("{field}: {call} of {} failed on this node", path.display())]
    HostPath {
        field: Field,
        path: PathBuf,
        call: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// A seccomp profile that cannot be used.
    #[error("{field}: the profile is refused")]
    Seccomp {
        field: Field,
        #[source]
        source: pausa_seccomp::Error,
    },
    /// A security module of this node cannot confine the container as asked.
    #[error("{field}")]
    Lsm {
        field: Field,
        #[source]
        source: LsmError,
    },
    /// The node does not have a CDI device as it is asked for.
    #[error("{field}")]
    Cdi {
        field: Field,
        #[source]
        source: pausa_cdi::CdiError,
    },
    /// A hook that is configured on this node cannot be used.
    #[error("the hooks of hooks_dirs cannot be used: containers are refused until they can")]
    Hooks(#[from] HookFileError),
    /// A runtime spec, perhaps edited by a tool, that cannot become a plan.
    #[error("config.json: {field} is {value:?}: {reason}")]
    Spec {
        /// The field of the runtime spec.
        field: Field,
        value: String,
        reason: &'static str,
    },
}

impl OciError {
    pub(crate) fn cdi(source: pausa_cdi::CdiError) -> Self {
        Self::Cdi {
            field: "CDI_devices".into(),
            source,
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass numbers, flags and texts alike"
    )]
    pub(crate) fn invalid(field: impl Into<Field>, value: impl ToString, reason: &'static str) -> Self {
        Self::Invalid {
            field: field.into(),
            value: value.to_string(),
            reason,
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass numbers, flags and texts alike"
    )]
    pub(crate) fn spec(field: impl Into<Field>, value: impl ToString, reason: &'static str) -> Self {
        Self::Spec {
            field: field.into(),
            value: value.to_string(),
            reason,
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass numbers, flags and texts alike"
    )]
    pub(crate) fn lacks(field: impl Into<Field>, value: impl ToString, reason: &'static str) -> Self {
        Self::HostLacks {
            field: field.into(),
            value: value.to_string(),
            reason,
        }
    }
}

impl Kinded for OciError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCommand | Self::Invalid { .. } | Self::UnknownName { .. } | Self::HostileFile { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::HostLacks { .. } | Self::HostPath { .. } | Self::Hooks(_) => ErrorKind::FailedPrecondition,
            Self::Seccomp { source, .. } => match source.kind() {
                pausa_seccomp::ErrorKind::Unsupported => ErrorKind::Unimplemented,
                _ => ErrorKind::InvalidArgument,
            },
            Self::Lsm { source, .. } => source.kind(),
            Self::Cdi { source, .. } => match source.kind() {
                pausa_cdi::ErrorKind::Invalid => ErrorKind::InvalidArgument,
                _ => ErrorKind::FailedPrecondition,
            },
            Self::ImageFile { .. } | Self::Spec { .. } => ErrorKind::Internal,
        }
    }
}
