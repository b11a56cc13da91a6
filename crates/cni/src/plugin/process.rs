//! One run of a plugin's binary: environment, stdin, bounded stdout and stderr, deadline.
//!
//! The process leads its own process group; when the call times out or its future is dropped, the whole group is
//! killed, so that a shell script's children go too. Starting is `posix_spawn`: nothing here may need `pre_exec`.
//! stdout is capped (more is an error), of stderr the last few KiB are kept (more is read and dropped, so that a
//! talkative plugin does not block).

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command as Process};
use tokio::time::{Instant, timeout};

use super::{Call, Command};
use crate::error::Error;

/// Largest answer accepted.
pub(crate) const MAX_STDOUT: usize = 1 << 20;
/// Bytes of stderr kept for error messages.
const STDERR_TAIL: usize = 2 << 10;
/// How long output is awaited after the plugin's end, when something it left behind still holds the pipe.
const DRAIN: Duration = Duration::from_secs(1);
/// A binary that is being replaced cannot be started for a moment (ETXTBSY).
const BUSY_RETRIES: u32 = 5;
/// For a daemon started without PATH: plugins call iptables, ip and the like.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Time that a whole chain has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) limit: Duration,
    pub(crate) at: Instant,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        let now = Instant::now();
        // A limit that the clock cannot represent counts as no limit.
        let at = now
            .checked_add(limit)
            .unwrap_or_else(|| now + Duration::from_secs(86_400));
        Self { limit, at }
    }
}

/// Runs the binary and returns its parsed output; `Null` if there is none.
pub(crate) async fn run(
    plugin: &str,
    path: &Path,
    bin_dirs: &[PathBuf],
    call: &Call,
    deadline: Deadline,
) -> Result<Value, Error> {
    let command = call.command;
    let mut child = spawn(path, bin_dirs, call).await?;
    // Declared after the child, hence dropped before it: the group is killed while its leader is not yet reaped.
    let mut group = Group::of(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut answer = Output::new(MAX_STDOUT, Keep::Head);
    let mut complaints = Output::new(STDERR_TAIL, Keep::Tail);
    let input = Value::Object(call.config.clone()).to_string();
    let talk = async {
        let mut io = std::pin::pin!(async {
            let ((), (), ()) = tokio::join!(feed(stdin, input), answer.read(stdout), complaints.read(stderr));
        });
        tokio::select! {
            () = &mut io => child.wait().await,
            status = child.wait() => {
                // A timeout here means that a descendant holds the pipe; the output is complete.
                drop(timeout(DRAIN, io).await);
                status
            }
        }
    };
    let ended = tokio::time::timeout_at(deadline.at, talk).await;
    let stderr = complaints.text();
    let Ok(ended) = ended else {
        return Err(Error::Timeout {
            plugin: plugin.to_owned(),
            command,
            limit: deadline.limit,
            stderr,
        });
    };
    let status = ended.map_err(|source| Error::Io {
        plugin: plugin.to_owned(),
        command,
        source,
    })?;
    group.disarm();
    if answer.overflowed {
        return Err(Error::OutputTooLarge {
            plugin: plugin.to_owned(),
            command,
            limit: MAX_STDOUT,
        });
    }
    interpret(plugin, command, status, &answer.bytes, stderr)
}

async fn spawn(path: &Path, bin_dirs: &[PathBuf], call: &Call) -> Result<Child, Error> {
    let mut process = Process::new(path);
    process
        .env("CNI_COMMAND", call.command.to_string())
        .env("CNI_CONTAINERID", &call.container_id)
        .env("CNI_NETNS", &call.netns)
        .env("CNI_IFNAME", &call.if_name)
        .env("CNI_ARGS", joined_args(&call.args))
        .env("CNI_PATH", joined_paths(bin_dirs))
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if std::env::var_os("PATH").is_none() {
        process.env("PATH", DEFAULT_PATH);
    }
    let mut tries = 0;
    loop {
        match process.spawn() {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_RETRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50) * tries).await;
            }
            Err(source) => {
                return Err(Error::Spawn {
                    path: path.to_path_buf(),
                    command: call.command,
                    source,
                });
            }
        }
    }
}

/// The error object of the specification.
#[derive(Debug, Deserialize)]
struct ErrorObject {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

fn interpret(
    plugin: &str,
    command: Command,
    status: ExitStatus,
    stdout: &[u8],
    stderr: String,
) -> Result<Value, Error> {
    let plugin = plugin.to_owned();
    if status.success() {
        if stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        return serde_json::from_slice(stdout).map_err(|source| Error::InvalidResult {
            plugin,
            command,
            source,
        });
    }
    match serde_json::from_slice::<ErrorObject>(stdout) {
        Ok(ErrorObject { code, msg, details }) => Err(Error::Plugin {
            plugin,
            command,
            code,
            msg,
            details,
            stderr,
        }),
        Err(_) => Err(Error::Crashed {
            plugin,
            command,
            status,
            stderr,
        }),
    }
}

fn joined_args(args: &[(String, String)]) -> String {
    args.iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(";")
}

fn joined_paths(dirs: &[PathBuf]) -> OsString {
    dirs.iter()
        .map(|dir| dir.as_os_str())
        .collect::<Vec<_>>()
        .join(std::ffi::OsStr::new(":"))
}

/// A plugin that does not read its configuration is not an error here: its answer decides.
async fn feed(stdin: Option<ChildStdin>, input: String) {
    if let Some(mut stdin) = stdin {
        drop(stdin.write_all(input.as_bytes()).await);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Head,
    Tail,
}

/// A bounded part of a stream.
struct Output {
    bytes: Vec<u8>,
    limit: usize,
    keep: Keep,
    overflowed: bool,
}

impl Output {
    const fn new(limit: usize, keep: Keep) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            keep,
            overflowed: false,
        }
    }

    /// Reads to the end of the stream; beyond the limit it goes on reading and drops.
    async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut chunk = vec![0; 8 << 10];
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            self.push(chunk.get(..length).unwrap_or_default());
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        let excess = self.bytes.len().saturating_sub(self.limit);
        if excess > 0 {
            self.overflowed = true;
            match self.keep {
                Keep::Head => self.bytes.truncate(self.limit),
                Keep::Tail => drop(self.bytes.drain(..excess)),
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }
}

/// A plugin's process group, killed on drop unless the plugin has ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // ESRCH is the only possible error and means that there is nothing to kill.
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}
