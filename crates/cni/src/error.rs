//! The crate's error.
//!
//! One enum for the crate. Messages name the file, plugin and command; the source is never repeated in the text.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::plugin::Command;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Error {
    /// A configuration file or directory cannot be read.
    #[error("cannot read the CNI configuration {}", path.display())]
    ReadConfig {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A configuration file is too large.
    #[error("CNI configuration {} is larger than {limit} bytes", path.display())]
    ConfigTooLarge { path: PathBuf, limit: u64 },
    /// A configuration file is not a JSON object.
    #[error("CNI configuration {} is not a JSON object", path.display())]
    ParseConfig {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// A field of a configuration is missing or has a value that CNI does not allow.
    #[error("CNI configuration {}: `{field}` must be {expected}", path.display())]
    InvalidConfig {
        path: PathBuf,
        field: String,
        expected: &'static str,
    },
    /// A parameter of an attachment cannot be given to plugins.
    #[error("CNI parameter {field} is {value:?}, must be {expected}")]
    InvalidParameter {
        field: &'static str,
        value: String,
        expected: &'static str,
    },
    /// No plugin directory holds the plugin.
    #[error(
        "CNI plugin {plugin:?} is in none of the plugin directories {searched:?}: install it or fix `type`"
    )]
    PluginNotFound { plugin: String, searched: Vec<PathBuf> },
    /// The implementation in process does not know something of the configuration, and there is no binary.
    #[error(
        "the configuration of CNI plugin {plugin:?} has {unknown}, which the implementation in process does not know, and \
         its binary is in none of the plugin directories {searched:?}: install it, or remove that"
    )]
    NotUnderstood {
        plugin: String,
        unknown: String,
        searched: Vec<PathBuf>,
    },
    /// The implementation in process did not answer in time. It cannot be killed.
    #[error(
        "CNI plugin {plugin:?}, in process, did not answer {command} within {limit:?}; it goes on, and the next call for \
         the pod waits for it"
    )]
    Stuck {
        plugin: String,
        command: Command,
        limit: Duration,
    },
    /// The plugin could not be started.
    #[error("cannot start CNI plugin {} for {command}", path.display())]
    Spawn {
        path: PathBuf,
        command: Command,
        #[source]
        source: io::Error,
    },
    /// Talking to the running plugin failed.
    #[error("lost contact with CNI plugin {plugin:?} during {command}")]
    Io {
        plugin: String,
        command: Command,
        #[source]
        source: io::Error,
    },
    /// The plugin did not answer in time and was killed.
    #[error(
        "CNI plugin {plugin:?} did not answer {command} within {limit:?} and was killed{}",
        tail(stderr)
    )]
    Timeout {
        plugin: String,
        command: Command,
        limit: Duration,
        stderr: String,
    },
    /// The plugin wrote more than any result needs.
    #[error("CNI plugin {plugin:?} answered {command} with more than {limit} bytes")]
    OutputTooLarge {
        plugin: String,
        command: Command,
        limit: usize,
    },
    /// The plugin reported an error in the way the specification has for it.
    #[error(
        "CNI plugin {plugin:?} failed {command}: {msg} (code {code}){}{}",
        colon(details),
        tail(stderr)
    )]
    Plugin {
        plugin: String,
        command: Command,
        code: u32,
        msg: String,
        details: String,
        stderr: String,
    },
    /// The plugin ended with an exit code or signal, but without an error object.
    #[error(
        "CNI plugin {plugin:?} ended {command} with {status} and no error object{}",
        tail(stderr)
    )]
    Crashed {
        plugin: String,
        command: Command,
        status: ExitStatus,
        stderr: String,
    },
    /// The plugin succeeded, but its result cannot be understood.
    #[error("CNI plugin {plugin:?} answered {command} with something that is not a CNI result")]
    InvalidResult {
        plugin: String,
        command: Command,
        #[source]
        source: serde_json::Error,
    },
    /// The result cache cannot be used.
    #[error("cannot {operation} the CNI result cache {}", path.display())]
    Cache {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The kind of failure, for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The node's configuration is at fault; a retry does not help before it is changed.
    Config,
    /// The caller gave a parameter that CNI does not allow.
    InvalidParameter,
    /// A plugin took too long.
    Timeout,
    /// A plugin asks to be called again (code 11), or reported that it cannot serve now (codes 50 and 51).
    TryAgain,
    /// A plugin answered with an error, crashed or printed nonsense.
    Plugin,
    /// The node's files or processes are at fault.
    System,
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadConfig { .. }
            | Self::ConfigTooLarge { .. }
            | Self::ParseConfig { .. }
            | Self::InvalidConfig { .. }
            | Self::PluginNotFound { .. }
            | Self::NotUnderstood { .. } => ErrorKind::Config,
            Self::InvalidParameter { .. } => ErrorKind::InvalidParameter,
            Self::Timeout { .. } | Self::Stuck { .. } => ErrorKind::Timeout,
            Self::Plugin {
                code: 11 | 50 | 51, ..
            } => ErrorKind::TryAgain,
            Self::Plugin { .. }
            | Self::Crashed { .. }
            | Self::OutputTooLarge { .. }
            | Self::InvalidResult { .. } => ErrorKind::Plugin,
            Self::Spawn { .. } | Self::Io { .. } | Self::Cache { .. } => ErrorKind::System,
        }
    }
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!("; its stderr ends with {stderr:?}")
    }
}

fn colon(details: &str) -> String {
    if details.is_empty() {
        String::new()
    } else {
        format!(": {details}")
    }
}
