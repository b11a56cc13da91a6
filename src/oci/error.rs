//! What can be wrong with a container's configuration, or with what it finds on this node.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::error::{ErrorKind, Kinded};

/// A CRI field, by its path in the message.
pub type Field = Cow<'static, str>;

/// Why a container's configuration cannot become a runtime spec or a plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciError {
    /// Neither CRI nor the image says what to run.
    #[error("no command specified: set command or args, or use an image with ENTRYPOINT or CMD")]
    NoCommand,
    /// A field has a value that cannot be.
    #[error("{field} is {value:?}: {reason}")]
    Invalid {
        /// The field.
        field: Field,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A field asks for what pausa does not do.
    #[error("{field} is set: {reason}")]
    Unsupported {
        /// The field.
        field: Field,
        /// What is not supported.
        reason: &'static str,
    },
    /// A field asks for what this node does not have.
    #[error("{field} is {value:?}: {reason}")]
    HostLacks {
        /// The field.
        field: Field,
        /// Its value.
        value: String,
        /// What is not there.
        reason: &'static str,
    },
    /// A user or group that the image does not have.
    #[error("{field} names {value:?}, which is not in the image's {file}: use a numeric id or another image")]
    UnknownName {
        /// The field.
        field: Field,
        /// The name.
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
        /// errno.
        #[source]
        source: std::io::Error,
    },
    /// A file of the image is not what it should be.
    #[error("the image's {file} {reason}: such an image is not run")]
    HostileFile {
        /// The file, as the container sees it.
        file: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A path of the host that the container needs cannot be used.
    #[error("{field}: {call} of {} failed on this node", path.display())]
    HostPath {
        /// The field.
        field: Field,
        /// The path on the host.
        path: PathBuf,
        /// System call.
        call: &'static str,
        /// errno.
        #[source]
        source: std::io::Error,
    },
    /// A seccomp profile that cannot be used.
    #[error("{field}: the profile is refused")]
    Seccomp {
        /// The field.
        field: Field,
        /// Why.
        #[source]
        source: pausa_seccomp::Error,
    },
    /// A runtime spec, perhaps edited by a tool, that cannot become a plan.
    #[error("config.json: {field} is {value:?}: {reason}")]
    Spec {
        /// The field of the runtime spec.
        field: Field,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl OciError {
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
            Self::Unsupported { .. } => ErrorKind::Unimplemented,
            Self::HostLacks { .. } | Self::HostPath { .. } => ErrorKind::FailedPrecondition,
            Self::Seccomp { source, .. } => match source.kind() {
                pausa_seccomp::ErrorKind::Unsupported => ErrorKind::Unimplemented,
                _ => ErrorKind::InvalidArgument,
            },
            Self::ImageFile { .. } | Self::Spec { .. } => ErrorKind::Internal,
        }
    }
}
