//! The crate's error: one variant for each thing that can be wrong with a profile.

use crate::kernel::ParseKernelVersionError;

/// Why a profile could not be read, resolved or compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is larger than any profile has reason to be.
    #[error("the seccomp profile has {size} bytes, the limit is {limit}: remove what it does not need")]
    ProfileTooLarge {
        /// Size of what was given.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The file is not a seccomp profile in JSON.
    #[error("the seccomp profile is not valid: check it against the OCI runtime spec's linux.seccomp")]
    Syntax {
        /// What the JSON parser found, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// Both ways to name the architectures are used.
    #[error("the seccomp profile has architectures as well as archMap: keep one of the two")]
    ArchitecturesTwice,
    /// An architecture that the OCI runtime spec does not have.
    #[error("the seccomp profile names architecture {name:?}, which the OCI runtime spec does not know")]
    UnknownArchitecture {
        /// The name as written.
        name: String,
    },
    /// One rule has `name` and `names`.
    #[error("rule {rule} of the seccomp profile has name ({name:?}) as well as names: keep names")]
    NamesTwice {
        /// Index of the rule in `syscalls`.
        rule: usize,
        /// The value of `name`.
        name: String,
    },
    /// `minKernel` is not a version.
    #[error("rule {rule} of the seccomp profile has a minKernel that cannot be read")]
    MinKernel {
        /// Index of the rule in `syscalls`.
        rule: usize,
        /// What is wrong with it.
        #[source]
        source: ParseKernelVersionError,
    },
    /// SCMP_ACT_NOTIFY needs a user-space agent, which is not supported.
    #[error(
        "{place} of the seccomp profile is SCMP_ACT_NOTIFY, which needs a seccomp agent and is not supported \
         by the built-in runtime handler: use another action or an OCI runtime handler"
    )]
    NotifyUnsupported {
        /// Where it stands.
        place: Place,
    },
    /// A condition on an argument that no system call has.
    #[error("{place} of the seccomp profile has a condition on argument {index}, but there are only 0 to 5")]
    ArgumentIndex {
        /// Where it stands.
        place: Place,
        /// The index as written.
        index: usize,
    },
    /// An `errnoRet` that does not fit.
    #[error("{place} of the seccomp profile returns {value}, the largest possible value is {limit}")]
    ReturnValue {
        /// Where it stands.
        place: Place,
        /// The value as written.
        value: u32,
        /// The largest the kernel takes.
        limit: u32,
    },
    /// The kernel would refuse the program.
    #[error(
        "the seccomp profile needs {instructions} BPF instructions, the kernel takes {limit}: \
         use fewer rules with arguments"
    )]
    ProgramTooLong {
        /// How many there are.
        instructions: usize,
        /// The kernel's limit.
        limit: usize,
    },
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

/// What a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The profile is wrong and will stay so until somebody edits it.
    Invalid,
    /// The profile is right, but asks for what only another runtime handler can do.
    Unsupported,
    /// The profile is too large or compiles to too long a program.
    TooLarge,
}

impl Error {
    /// What kind of failure this is.
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
