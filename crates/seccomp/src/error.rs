//! The crate's error: one variant for each thing that can be wrong with a profile.

use crate::kernel::ParseKernelVersionError;

/// Why a profile could not be read, resolved or compiled.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Error {
    /// The file is larger than any profile has reason to be.
    #[error("the seccomp profile has {size} bytes, the limit is {limit}: remove unneeded rules")]
    ProfileTooLarge { size: usize, limit: usize },
    /// The file is not a seccomp profile in JSON.
    #[error("the seccomp profile is not valid: check it against the OCI runtime spec's linux.seccomp")]
    Syntax {
        #[source]
        source: serde_json::Error,
    },
    /// Both ways to name the architectures are used.
    #[error("the seccomp profile has architectures as well as archMap: keep one of the two")]
    ArchitecturesTwice,
    /// An architecture that the OCI runtime spec does not have.
    #[error("the seccomp profile names architecture {name:?}, which the OCI runtime spec does not know")]
    UnknownArchitecture { name: String },
    /// One rule has `name` and `names`.
    #[error("rule {rule} of the seccomp profile has name ({name:?}) as well as names: keep names")]
    NamesTwice { rule: usize, name: String },
    /// `minKernel` is not a version.
    #[error("rule {rule} of the seccomp profile has a minKernel that cannot be read")]
    MinKernel {
        rule: usize,
        #[source]
        source: ParseKernelVersionError,
    },
    /// SCMP_ACT_NOTIFY needs a user-space agent, which is not supported.
    #[error(
        "{place} of the seccomp profile is SCMP_ACT_NOTIFY, which needs a seccomp agent and is not supported \
         by the built-in runtime handler: use another action or an OCI runtime handler"
    )]
    NotifyUnsupported { place: Place },
    /// A condition on an argument that no system call has.
    #[error("{place} of the seccomp profile has a condition on argument {index}, but there are only 0 to 5")]
    ArgumentIndex { place: Place, index: usize },
    /// An `errnoRet` that does not fit.
    #[error("{place} of the seccomp profile returns {value}, the largest possible value is {limit}")]
    ReturnValue { place: Place, value: u32, limit: u32 },
    /// The kernel would refuse the program.
    #[error(
        "the seccomp profile needs {instructions} BPF instructions, the kernel takes {limit}: \
         use fewer rules with arguments"
    )]
    ProgramTooLong { instructions: usize, limit: usize },
}

/// A place in a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `defaultAction` and `defaultErrnoRet`.
    DefaultAction,
    /// One rule of `syscalls`.
    Rule {
        /// Index of the rule.
        index: usize,
        /// Its first system call, to find it by.
        name: String,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DefaultAction => write!(f, "the default action"),
            Self::Rule { index, name } => write!(f, "rule {index} ({name:?})"),
        }
    }
}

/// The kind of failure, for callers that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The profile is invalid and must be edited.
    Invalid,
    /// The profile is valid, but needs another runtime handler.
    Unsupported,
    /// The profile is too large or compiles to too long a program.
    TooLarge,
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ProfileTooLarge { .. } | Self::ProgramTooLong { .. } => ErrorKind::TooLarge,
            Self::NotifyUnsupported { .. } => ErrorKind::Unsupported,
            Self::Syntax { .. }
            | Self::ArchitecturesTwice
            | Self::UnknownArchitecture { .. }
            | Self::NamesTwice { .. }
            | Self::MinKernel { .. }
            | Self::ArgumentIndex { .. }
            | Self::ReturnValue { .. } => ErrorKind::Invalid,
        }
    }
}
