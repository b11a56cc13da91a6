//! Errors: of a request for devices ([`CdiError`]), and of what there is to request ([`Problem`], [`SpecError`]).

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io;
use std::path::PathBuf;
use std::str::Utf8Error;
use std::sync::Arc;

use pausa_yaml::YamlError;

/// How many names a message lists of those there are.
const SHOWN: usize = 16;

/// Why a container cannot have the devices it asks for.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum CdiError {
    /// A name is not fully qualified, or has characters that names cannot have.
    #[error("CDI device {name:?} is no name of the form vendor.com/class=device")]
    Name { name: String },
    /// The same, in an annotation.
    #[error(
        "annotation {key:?} asks for CDI device {name:?}, which is no name of the form vendor.com/class=device"
    )]
    Annotation { key: String, name: String },
    /// Devices that no spec file defines, or more than one.
    #[error("{}", unavailable(devices, broken))]
    Unavailable {
        devices: Vec<Unavailable>,
        /// What could not be read, and so could define them.
        broken: Vec<Problem>,
    },
    /// A device node whose type or numbers the spec file leaves to the host is not there.
    #[error("the CDI device node {} cannot be looked up on the host: is its driver loaded?", path.display())]
    Node {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{}, which a CDI device needs, is no device node", path.display())]
    NotANode { path: PathBuf },
    /// It is not of the type that the spec file says.
    #[error("{}, which a CDI device needs, is of type {found}, but its spec file says {expected}", path.display())]
    NodeType {
        path: PathBuf,
        expected: &'static str,
        found: &'static str,
    },
    /// The container's OCI spec is not one of a Linux container with a process.
    #[error("the OCI spec has no {part}, which edits of CDI devices need")]
    Incomplete { part: &'static str },
}

/// The kind of failure, for callers that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request has something that is no name of a device.
    Invalid,
    /// The node has no such devices, or it is unclear which is meant. This may change.
    Unavailable,
    /// The spec files ask for something that the host does not have.
    Host,
    /// The OCI spec is not one that edits can be made in.
    Unsupported,
}

impl CdiError {
    /// What kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. } | Self::Annotation { .. } => ErrorKind::Invalid,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Node { .. } | Self::NotANode { .. } | Self::NodeType { .. } => ErrorKind::Host,
            Self::Incomplete { .. } => ErrorKind::Unsupported,
        }
    }
}

/// A device that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Unavailable {
    /// Spec files of one directory define it, so that it is unclear which of them counts.
    #[error("{device} is defined more than once: keep one of {}", few(files.iter().map(|file| file.display())))]
    Conflict { device: String, files: Vec<PathBuf> },
    /// The kind has other devices.
    #[error("{device} is unknown; this kind has {}", few(known))]
    Device { device: String, known: Vec<String> },
    /// The vendor has other classes.
    #[error("{device} is unknown; this vendor has the kinds {}", few(known))]
    Class { device: String, known: Vec<String> },
    /// There are other vendors, or none.
    #[error("{device} is unknown; vendors are: {}", few(known))]
    Vendor { device: String, known: Vec<String> },
}

/// Something that is not used, while everything else is.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Problem {
    /// A directory cannot be listed.
    #[error("the CDI directory {} cannot be read", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: Arc<io::Error>,
    },
    /// A directory has more spec files than are read.
    #[error("the CDI directory {} has more than {limit} spec files: the others are not read", path.display())]
    TooManyFiles { path: PathBuf, limit: usize },
    /// A spec file is broken.
    #[error("the CDI spec file {} cannot be used", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: Arc<SpecError>,
    },
    /// Spec files of one directory define the same device.
    #[error("CDI device {device} is defined more than once: keep one of {}", few(files.iter().map(|file| file.display())))]
    Conflict { device: String, files: Vec<PathBuf> },
}

/// What is wrong with a spec file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum SpecError {
    /// The file cannot be opened or read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// The file is a pipe, a device or a socket.
    #[error("it is no regular file")]
    NotRegular,
    /// The file is larger than any spec file has reason to be.
    #[error("it has more than {limit} bytes")]
    TooLarge { limit: u64 },
    /// Bytes that are no text.
    #[error("it is not UTF-8")]
    Encoding(#[source] Utf8Error),
    /// Neither JSON nor YAML.
    #[error("it is neither JSON nor YAML that can be used")]
    Syntax(#[source] YamlError),
    /// A field with the wrong type, or a value that CDI does not allow.
    #[error("`{field}` must be {expected}")]
    Field { field: String, expected: &'static str },
    /// A field that CDI does not have, or that is there twice.
    #[error("`{field}` is unknown, or there twice")]
    UnknownField { field: String },
    /// A version that is too old, too new or none.
    #[error("`cdiVersion` is {version:?}, supported are 0.3.0 to 1.1.0")]
    Version { version: String },
    /// Something newer than the version the file declares.
    #[error("`{field}` needs `cdiVersion` {needed}, but the file declares {declared}")]
    NeedsVersion {
        field: String,
        needed: &'static str,
        declared: &'static str,
    },
}

/// A list that a person can read.
fn few(names: impl IntoIterator<Item = impl Display>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<String> = names.by_ref().take(SHOWN).map(|name| name.to_string()).collect();
    let more = names.count();
    match (shown.is_empty(), more) {
        (true, _) => return "none".to_owned(),
        (false, 0) => {}
        (false, more) => shown.push(format!("{more} more")),
    }
    shown.join(", ")
}

/// Each device with its reason, then what is broken with all its causes.
fn unavailable(devices: &[Unavailable], broken: &[Problem]) -> String {
    let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
    let mut text = format!("CDI devices are not available: {}", devices.join("; "));
    if !broken.is_empty() {
        text.push_str("; they could be in what is broken: ");
        text.push_str(&few(broken.iter().map(|problem| {
            let mut whole = problem.to_string();
            let mut cause = problem.source();
            while let Some(error) = cause {
                // Writing to a string cannot fail.
                write!(whole, ": {error}").ok();
                cause = error.source();
            }
            whole
        })));
    }
    text
}
