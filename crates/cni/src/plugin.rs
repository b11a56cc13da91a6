//! Plugins: commands, the resolution of a type to a plugin, and one call of one plugin.
//!
//! A type resolves to an [`InProcess`] implementation if there is one that knows everything in the configuration,
//! otherwise to a binary found by its plain name in the plugin directories. Both get the same configuration and
//! parameters and answer with the same JSON; [`process`] has the details of processes.
//!
//! Calls of implementations of this process for one container never overlap: one whose caller has gone is finished
//! before the next begins, so that a DEL finds all that the ADD before it made.
//!
//! See <https://www.cni.dev/docs/spec/#section-2-execution-protocol>.

pub(crate) mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::time::timeout_at;

use crate::config::is_plain_file_name;
use crate::error::Error;
use process::Deadline;

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
    /// Report the versions of CNI that the plugin speaks. Binaries only: what is in process speaks all of ours.
    Version,
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
            Self::Version => "VERSION",
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

impl Failure {
    /// CNI's code for what has no code of its own, as the reference plugins use it.
    pub const INTERNAL: u32 = 999;

    /// A failure with [`Self::INTERNAL`].
    pub fn internal(msg: impl Into<String>) -> Self {
        Self {
            code: Self::INTERNAL,
            msg: msg.into(),
            details: String::new(),
        }
    }
}

/// A plugin type implemented in this process. It is called on a thread that may block.
pub trait InProcess: fmt::Debug + Send + Sync {
    /// Whether the implementation knows every key and value of a configuration. If not, the binary is run.
    ///
    /// # Errors
    /// What it does not know, for a log line.
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String>;

    /// Does the same as the binary of this type. The value is the result of ADD; other commands' values are ignored.
    ///
    /// # Errors
    /// The error that the binary would report.
    fn call(&self, call: &Call, delegate: &Delegate<'_>) -> Result<Value, Failure>;
}

/// All plugins of a node.
#[derive(Debug)]
pub(crate) struct Plugins {
    bin_dirs: Vec<PathBuf>,
    in_process: BTreeMap<String, Arc<dyn InProcess>>,
    /// Containers with a call of an implementation of this process.
    busy: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// What has been logged: a type, and what its implementation does not know.
    reported: Mutex<BTreeSet<(String, String)>>,
}

/// Runs the plugins that another one delegates to, such as an IPAM plugin, whatever they resolve to.
#[derive(Debug)]
pub struct Delegate<'a> {
    plugins: &'a Plugins,
    deadline: Deadline,
    runtime: Handle,
}

/// What a plugin type resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// The implementation of the caller.
    InProcess,
    /// A program.
    Binary {
        /// Where it is.
        path: PathBuf,
        /// The versions of CNI that it speaks; none if its answer does not say.
        versions: Option<Vec<String>>,
    },
}

enum Resolved {
    Binary(PathBuf),
    InProcess(Arc<dyn InProcess>),
}

impl Plugins {
    pub(crate) fn new(bin_dirs: Vec<PathBuf>, in_process: BTreeMap<String, Arc<dyn InProcess>>) -> Self {
        Self {
            bin_dirs,
            in_process,
            busy: Mutex::default(),
            reported: Mutex::default(),
        }
    }

    fn resolve(&self, plugin: &str, call: &Call) -> Result<Resolved, Error> {
        let Some(implementation) = self.in_process.get(plugin) else {
            return find(plugin, &self.bin_dirs).map(Resolved::Binary);
        };
        let Err(unknown) = implementation.understands(&call.config) else {
            return Ok(Resolved::InProcess(Arc::clone(implementation)));
        };
        let path = find(plugin, &self.bin_dirs).map_err(|_| Error::NotUnderstood {
            plugin: plugin.to_owned(),
            unknown: unknown.clone(),
            searched: self.bin_dirs.clone(),
        })?;
        if self.reported.lock().insert((plugin.to_owned(), unknown.clone())) {
            tracing::info!(
                plugin,
                path = %path.display(),
                unknown,
                "this configuration of a CNI plugin has something that the implementation in process does not know; the plugin's binary is run"
            );
        }
        Ok(Resolved::Binary(path))
    }

    /// What a plugin with this configuration resolves to. A binary is asked which versions it speaks.
    pub(crate) async fn resolution(
        &self,
        plugin: &str,
        call: &Call,
        deadline: Deadline,
    ) -> Result<Resolution, Error> {
        if !is_plain_file_name(plugin) {
            return Err(Error::PluginNotFound {
                plugin: plugin.to_owned(),
                searched: self.bin_dirs.clone(),
            });
        }
        let path = match self.resolve(plugin, call)? {
            Resolved::InProcess(_) => return Ok(Resolution::InProcess),
            Resolved::Binary(path) => path,
        };
        let mut config = Map::new();
        if let Some(version) = call.config.get("cniVersion") {
            config.insert("cniVersion".to_owned(), version.clone());
        }
        let call = Call {
            command: Command::Version,
            config,
            ..call.clone()
        };
        let answer = process::run(plugin, &path, &self.bin_dirs, &call, deadline).await?;
        let spoken = answer.get("supportedVersions").and_then(Value::as_array);
        let spoken = spoken.map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned));
        Ok(Resolution::Binary {
            path,
            versions: spoken.map(Iterator::collect),
        })
    }

    pub(crate) async fn run(
        self: &Arc<Self>,
        plugin: &str,
        call: Call,
        deadline: Deadline,
    ) -> Result<Value, Error> {
        let implementation = match self.resolve(plugin, &call)? {
            Resolved::Binary(path) => {
                return process::run(plugin, &path, &self.bin_dirs, &call, deadline).await;
            }
            Resolved::InProcess(implementation) => implementation,
        };
        let command = call.command;
        let stuck = |_| Error::Stuck {
            plugin: plugin.to_owned(),
            command,
            limit: deadline.limit,
        };
        let turn = self.turn(&call.container_id);
        let turn = timeout_at(deadline.at, turn.lock_owned()).await.map_err(stuck)?;
        let (plugins, name) = (Arc::clone(self), plugin.to_owned());
        let work = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even if nobody waits for it any more.
            let _turn = turn;
            let delegate = Delegate {
                plugins: &plugins,
                deadline,
                runtime: Handle::current(),
            };
            implementation
                .call(&call, &delegate)
                .map_err(|failure| reported(&name, command, failure))
        });
        match timeout_at(deadline.at, work).await.map_err(stuck)? {
            Ok(outcome) => outcome,
            // A panic or the end of the tokio runtime: either way the plugin failed.
            Err(error) => Err(Error::Io {
                plugin: plugin.to_owned(),
                command,
                source: std::io::Error::other(error),
            }),
        }
    }

    /// What calls for one container take turns with; those for none, STATUS and GC, with each other.
    fn turn(&self, container: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock();
        if let Some(turn) = busy.get(container).and_then(Weak::upgrade) {
            return turn;
        }
        busy.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        busy.insert(container.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

impl Delegate<'_> {
    /// Runs a plugin. `call` is what its binary gets; the configuration may be that of the caller.
    ///
    /// # Errors
    /// The plugin's own failure, or why it could not be run.
    pub fn run(&self, plugin: &str, call: &Call) -> Result<Value, Failure> {
        if !is_plain_file_name(plugin) {
            return Err(Failure::internal(format!(
                "CNI plugin {plugin:?} is not the plain name of a binary"
            )));
        }
        let outcome = match self.plugins.resolve(plugin, call) {
            Ok(Resolved::InProcess(implementation)) => return implementation.call(call, self),
            Ok(Resolved::Binary(path)) => {
                let bin_dirs = &self.plugins.bin_dirs;
                let work = process::run(plugin, &path, bin_dirs, call, self.deadline);
                self.runtime.block_on(work)
            }
            Err(error) => Err(error),
        };
        outcome.map_err(|error| match error {
            Error::Plugin {
                code, msg, details, ..
            } => Failure { code, msg, details },
            other => Failure::internal(other.to_string()),
        })
    }
}

fn reported(plugin: &str, command: Command, failure: Failure) -> Error {
    Error::Plugin {
        plugin: plugin.to_owned(),
        command,
        code: failure.code,
        msg: failure.msg,
        details: failure.details,
        stderr: String::new(),
    }
}

/// Finds the binary of a type. The caller has checked that the type is a plain file name.
fn find(plugin: &str, bin_dirs: &[PathBuf]) -> Result<PathBuf, Error> {
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
