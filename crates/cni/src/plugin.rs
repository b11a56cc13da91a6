//! Plugins: commands, the resolution of a type to a plugin, and one call of one plugin.
//!
//! A type resolves to an [`InProcess`] implementation when the runtime has one for it, otherwise to a binary found
//! by its plain name in the plugin directories. Both get the same configuration and parameters and answer with the
//! same JSON; [`process`] has the details of processes.
//!
//! See <https://www.cni.dev/docs/spec/#section-2-execution-protocol>.

pub(crate) mod process;

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::Error;

/// A command of the protocol, the value of `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Add the pod to the network.
    Add,
    /// Remove the pod from the network.
    Del,
    /// Verify that the result of ADD is still in place.
    Check,
    /// Report whether ADD could work now.
    Status,
    /// Remove resources that belong to none of the valid attachments.
    Gc,
}

impl Command {
    /// The word of the protocol.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One call of one plugin.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub struct Call {
    pub command: Command,
    /// `CNI_CONTAINERID`, empty for STATUS and GC.
    pub container_id: String,
    /// `CNI_NETNS`, empty when the namespace is gone.
    pub netns: PathBuf,
    /// `CNI_IFNAME`, empty for STATUS and GC.
    pub if_name: String,
    /// `CNI_ARGS`.
    pub args: Vec<(String, String)>,
    /// The plugin's configuration with name, version, `prevResult` and `runtimeConfig` filled in.
    pub config: Map<String, Value>,
}

/// An error as a plugin reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// CNI's code (below 100) or the plugin's own.
    pub code: u32,
    /// What went wrong, in one line; `details` has the rest.
    pub msg: String,
    /// Longer explanation, may be empty.
    pub details: String,
}

/// A plugin type implemented in this process. It is called on a thread that may block.
pub trait InProcess: fmt::Debug + Send + Sync {
    /// Does the same as the binary of this type. The value is the result of ADD; other commands' values are ignored.
    ///
    /// # Errors
    /// The error that the binary would report.
    fn call(&self, call: &Call) -> Result<Value, Failure>;
}

#[derive(Debug, Clone)]
pub(crate) enum Resolved {
    Binary(PathBuf),
    InProcess(Arc<dyn InProcess>),
}

/// Finds the binary of a type. The caller has checked that the type is a plain file name.
pub(crate) fn find(plugin: &str, bin_dirs: &[PathBuf]) -> Result<PathBuf, Error> {
    let executable = |path: &Path| {
        path.metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    bin_dirs
        .iter()
        .map(|dir| dir.join(plugin))
        .find(|path| executable(path))
        .ok_or_else(|| Error::PluginNotFound {
            plugin: plugin.to_owned(),
            searched: bin_dirs.to_vec(),
        })
}

/// Runs an implementation of this process on a blocking thread.
pub(crate) async fn run_in_process(
    plugin: &str,
    implementation: Arc<dyn InProcess>,
    call: Call,
) -> Result<Value, Error> {
    let command = call.command;
    let outcome = tokio::task::spawn_blocking(move || implementation.call(&call)).await;
    let failed = |failure: Failure| Error::Plugin {
        plugin: plugin.to_owned(),
        command,
        code: failure.code,
        msg: failure.msg,
        details: failure.details,
        stderr: String::new(),
    };
    match outcome {
        Ok(outcome) => outcome.map_err(failed),
        // A panic or the end of the tokio runtime: either way the plugin failed.
        Err(error) => Err(Error::Io {
            plugin: plugin.to_owned(),
            command,
            source: std::io::Error::other(error),
        }),
    }
}
