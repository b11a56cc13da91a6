//! Plugins that the runtime starts: finding them, their processes, and what they print.
//!
//! A process has the connection as descriptor 3, nothing else of the runtime's, and three variables that say so. It
//! leads a session of its own, and hence a process group, so that its children end with it. What it prints goes to the
//! log.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::error::{NriError, Refusal, chain, clean};
use crate::name::Name;

/// Largest configuration of a plugin, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Longer lines of what a plugin prints are logged in pieces, in bytes.
const MAX_LINE: u64 = 512;
/// A program that is being replaced cannot be started for a moment (ETXTBSY).
const BUSY_RETRIES: u32 = 5;
/// How long the rest of what a plugin printed is awaited after its end.
const DRAIN: Duration = Duration::from_secs(1);

/// A plugin that is installed.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) name: Name,
    pub(crate) path: PathBuf,
    /// What Configure hands over.
    pub(crate) config: String,
}

/// Finds the executable files of a directory, in the order of their names. One without a usable name or configuration
/// is logged and left out. Blocks.
pub(crate) fn installed(directory: &Path, configs: &Path) -> Result<Vec<Installed>, NriError> {
    let failed = |source| NriError::ReadPlugins {
        path: directory.to_owned(),
        source,
    };
    let entries = match directory.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let executable = path
            .metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0);
        if !executable {
            continue;
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let usable = Name::of_file(&file).and_then(|name| Ok((config(configs, &name)?, name)));
        match usable {
            Ok((config, name)) => found.push(Installed { name, path, config }),
            Err(refusal) => tracing::error!(
                path = %path.display(),
                error = chain(&refusal),
                "an NRI plugin is not started"
            ),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The configuration of a plugin: that of its name with the index, or else that of its name. Empty without one.
fn config(directory: &Path, name: &Name) -> Result<String, Refusal> {
    for file in [format!("{name}.conf"), format!("{}.conf", name.base)] {
        let path = directory.join(file);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file,
        };
        let mut config = String::new();
        let read = file.and_then(|file| file.take(MAX_CONFIG + 1).read_to_string(&mut config));
        let outcome = match read {
            Ok(length) if u64::try_from(length).unwrap_or(u64::MAX) > MAX_CONFIG => {
                Err(io::ErrorKind::FileTooLarge.into())
            }
            read => read,
        };
        return match outcome {
            Ok(_) => Ok(config),
            Err(source) => Err(Refusal::Config { path, source }),
        };
    }
    Ok(String::new())
}

/// The process of a plugin. Killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    /// Also the id of its session and of its process group.
    pid: Pid,
    pidfd: OwnedFd,
    /// Logs what the process prints.
    output: JoinHandle<()>,
    reaped: bool,
}

impl Process {
    /// Starts a plugin. Returns our end of the connection, too.
    pub(crate) async fn launch(plugin: &Installed) -> Result<(Self, UnixStream), Refusal> {
        let failed = |operation| move |source| Refusal::Launch { operation, source };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed("socketpair(2)"))?;
        ours.set_nonblocking(true).map_err(failed("socketpair(2)"))?;
        let ours = UnixStream::from_std(ours).map_err(failed("socketpair(2)"))?;
        let (reader, writer) = io::pipe().map_err(failed("pipe(2)"))?;
        let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(failed("pipe(2)"))?;
        let null = File::open("/dev/null").map_err(failed("open(/dev/null)"))?;
        let descriptors = [null.as_raw_fd(), writer.as_raw_fd(), theirs.as_raw_fd()];
        let mut tries = 0;
        let pid = loop {
            match spawn(plugin, descriptors) {
                Err(nix::errno::Errno::ETXTBSY) if tries < BUSY_RETRIES => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(50) * tries).await;
                }
                outcome => break outcome.map_err(|errno| failed("posix_spawn(3)")(errno.into()))?,
            }
        };
        let pid =
            Pid::from_raw(pid).ok_or_else(|| failed("posix_spawn(3)")(io::ErrorKind::InvalidData.into()))?;
        // The process is not reaped before this value is dropped, so that its number means this process.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| {
            kill_process_group(pid, Signal::KILL).ok();
            failed("pidfd_open(2)")(errno.into())
        })?;
        let process = Self {
            pid,
            pidfd,
            output: tokio::spawn(log(reader, plugin.name.to_string())),
            reaped: false,
        };
        Ok((process, ours))
    }

    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Ends the process and its group: by SIGTERM if it has time to end by itself, and in any case by SIGKILL.
    pub(crate) async fn end(mut self, time: Duration) {
        if !time.is_zero() && pidfd_send_signal(&self.pidfd, Signal::TERM).is_ok() {
            // Left as a zombie, so that its group's number stays its own.
            drop(timeout(time, self.wait(WaitIdOptions::NOWAIT)).await);
        }
        kill_process_group(self.pid, Signal::KILL).ok();
        self.reaped = self.wait(WaitIdOptions::empty()).await.is_ok();
        drop(timeout(DRAIN, &mut self.output).await);
    }

    async fn wait(&self, options: WaitIdOptions) -> io::Result<()> {
        let pidfd = self.pidfd.try_clone()?;
        let wait = move || waitid(WaitId::PidFd(pidfd.as_fd()), options | WaitIdOptions::EXITED);
        tokio::task::spawn_blocking(wait).await??;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.output.abort();
        if !self.reaped {
            // ESRCH means that there is nothing to kill.
            kill_process_group(self.pid, Signal::KILL).ok();
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            waitid(WaitId::PidFd(self.pidfd.as_fd()), options).ok();
        }
    }
}

fn spawn(plugin: &Installed, [input, output, socket]: [i32; 3]) -> nix::Result<i32> {
    let text = |text: &[u8]| CString::new(text).map_err(|_| nix::errno::Errno::EINVAL);
    let path = text(plugin.path.as_os_str().as_bytes())?;
    let environment = [
        text(format!("NRI_PLUGIN_NAME={}", plugin.name.base).as_bytes())?,
        text(format!("NRI_PLUGIN_IDX={}", plugin.name.index).as_bytes())?,
        text(b"NRI_PLUGIN_SOCKET=3")?,
    ];
    let mut actions = PosixSpawnFileActions::init()?;
    actions.add_dup2(input, 0)?;
    actions.add_dup2(output, 1)?;
    actions.add_dup2(output, 2)?;
    // Last, because `input` or `output` may be 3. If `socket` is 3, this takes away its close-on-exec; all other
    // descriptors have it.
    actions.add_dup2(socket, 3)?;
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID.into())
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
    )?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::from(NixSignal::SIGPIPE))?;
    posix_spawn(path.as_c_str(), &actions, &attributes, &[&path], &environment).map(nix::unistd::Pid::as_raw)
}

/// Logs what a plugin prints until its end.
async fn log(output: pipe::Receiver, plugin: String) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut output).take(MAX_LINE).read_until(b'\n', &mut line).await {
        let text = clean(String::from_utf8_lossy(&line).trim_end());
        tracing::info!(plugin, output = text, "an NRI plugin prints");
        line.clear();
    }
}

#[cfg(test)]
mod tests;
