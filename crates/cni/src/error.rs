//! What can go wrong between us and a network's plugins.
//!
//! One enum for the crate. Messages name the file, plugin and command; the source is never repeated in the text.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::plugin::Command;

/// An error of this crate. [`Error::kind`] tells the cases apart that a caller treats differently.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration file or directory cannot be read.
    #[error("cannot read the CNI configuration {}", path.display())]
    ReadConfig {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A configuration file is larger than any sane one.
    #[error("CNI configuration {} is larger than {limit} bytes", path.display())]
    ConfigTooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A configuration file is no JSON object.
    #[error("CNI configuration {} is not a JSON object", path.display())]
    ParseConfig {
        /// The file.
        path: PathBuf,
        /// Where the parser stopped.
        #[source]
        source: serde_json::Error,
    },
    /// A field of a configuration is missing or has a value that CNI does not allow.
    #[error("CNI configuration {}: `{field}` must be {expected}", path.display())]
    InvalidConfig {
        /// The file.
        path: PathBuf,
        /// The field, with its place in the list.
        field: String,
        /// What CNI wants there.
        expected: &'static str,
    },
    /// A parameter of an attachment cannot be given to plugins.
    #[error("CNI parameter {field} is {value:?}, must be {expected}")]
    InvalidParameter {
        /// The parameter's name in the specification.
        field: &'static str,
        /// What was given.
        value: String,
        /// What CNI allows.
        expected: &'static str,
    },
    /// No plugin directory holds the plugin.
    #[error(
        "CNI plugin {plugin:?} is in none of the plugin directories {searched:?}: install it or fix `type`"
    )]
    PluginNotFound {
        /// The `type` of the configuration.
        plugin: String,
        /// Where we looked.
        searched: Vec<PathBuf>,
    },
    /// The plugin could not be started.
    #[error("cannot start CNI plugin {} for {command}", path.display())]
    Spawn {
        /// The binary.
        path: PathBuf,
        /// The CNI command.
        command: Command,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Talking to the running plugin failed.
    #[error("lost contact with CNI plugin {plugin:?} during {command}")]
    Io {
        /// The plugin's type.
        plugin: String,
        /// The CNI command.
        command: Command,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The plugin did not answer in time and was killed.
    #[error(
        "CNI plugin {plugin:?} did not answer {command} within {limit:?} and was killed{}",
        tail(stderr)
    )]
    Timeout {
        /// The plugin's type.
        plugin: String,
        /// The CNI command.
        command: Command,
        /// Time given to the whole chain.
        limit: Duration,
        /// The end of what the plugin wrote to stderr.
        stderr: String,
    },
    /// The plugin wrote more than any result needs.
    #[error("CNI plugin {plugin:?} answered {command} with more than {limit} bytes")]
    OutputTooLarge {
        /// The plugin's type.
        plugin: String,
        /// The CNI command.
        command: Command,
        /// The limit in bytes.
        limit: usize,
    },
    /// The plugin reported an error in the way the specification has for it.
    #[error(
        "CNI plugin {plugin:?} failed {command}: {msg} (code {code}){}{}",
        colon(details),
        tail(stderr)
    )]
    Plugin {
        /// The plugin's type.
        plugin: String,
        /// The CNI command.
        command: Command,
        /// The plugin's error code; 1 to 99 are CNI's, 100 and above the plugin's own.
        code: u32,
        /// The plugin's short message.
        msg: String,
        /// The plugin's longer explanation, may be empty.
        details: String,
        /// The end of what the plugin wrote to stderr.
        stderr: String,
    },
    /// The plugin ended with an exit code or signal, but without an error object.
    #[error(
        "CNI plugin {plugin:?} ended {command} with {status} and no error object{}",
        tail(stderr)
    )]
    Crashed {
        /// The plugin's type.
        plugin: String,
        /// The CNI command.
        command: Command,
        /// How it ended.
        status: ExitStatus,
        /// The end of what the plugin wrote to stderr.
        stderr: String,
    },
    /// The plugin succeeded, but its result cannot be understood.
    #[error("CNI plugin {plugin:?} answered {command} with something that is no CNI result")]
    InvalidResult {
        /// The plugin's type.
        plugin: String,
        /// The CNI command.
        command: Command,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The result cache cannot be used.
    #[error("cannot {operation} the CNI result cache {}", path.display())]
    Cache {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The node's configuration is at fault; retrying does not help until somebody changes it.
    Config,
    /// The caller gave a parameter that CNI does not allow.
    InvalidParameter,
    /// A plugin took too long.
    Timeout,
    /// A plugin asks to be called again (code 11), or reported that it cannot serve now (codes 50 and 51).
    TryAgain,
    /// A plugin failed.
    Plugin,
    /// The node's files or processes are at fault.
    System,
}

impl Error {
    /// The case this error belongs to.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadConfig { .. }
            | Self::ConfigTooLarge { .. }
            | Self::ParseConfig { .. }
            | Self::InvalidConfig { .. }
            | Self::PluginNotFound { .. } => ErrorKind::Config,
            Self::InvalidParameter { .. } => ErrorKind::InvalidParameter,
            Self::Timeout { .. } => ErrorKind::Timeout,
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
