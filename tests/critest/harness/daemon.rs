//! One `pausa serve` in directories of its own: start, SIGTERM, `kill -9`, start again on the same directories.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::registry::{HOST, Registry};
use super::slot::{Slot, has_slices};

/// A daemon and how to start it.
#[derive(Debug)]
pub(crate) struct Daemon {
    dir: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Writes the configuration below `dir` and starts the daemon.
    pub(crate) fn start(dir: &Path, slot: &Slot, registry: &Registry, log_level: &str) -> Self {
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("a file in a directory")).expect("a directory");
            std::fs::write(path, text).expect("a configuration file");
        };
        // Not the machine's own.
        write("registries.conf", String::new());
        let text = format!(
            "registries_conf = \"{}\"\n[cni]\ncache_dir = \"{}\"\n[network]\nmode = \"bridge\"\n[network.bridge]\nname = \"{}\"\nsubnet = \"{}/24\"\n[log]\nlevel = \"{log_level}\"\n",
            dir.join("registries.conf").display(),
            dir.join("cni").display(),
            slot.bridge(),
            slot.subnet()
        );
        write("config.toml", text);
        write(
            &format!("hosts/{HOST}/hosts.toml"),
            format!("server = \"http://{}\"\n", registry.address),
        );
        let mut daemon = Self {
            dir: dir.to_owned(),
            child: None,
        };
        daemon.restart();
        daemon
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("s/pausa.sock")
    }

    /// Everything it has said so far; the end of it where that is much.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.join("daemon.log")).unwrap_or_default();
        let from = bytes.len().saturating_sub(24 * 1024);
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    /// Starts it; it must not be running. Returns before it answers.
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// As [`restart`](Self::restart), with more variables in its environment, for this time.
    pub(crate) fn restart_with(&mut self, variables: &[(&str, &str)]) {
        self.start_as(Command::new("setpriv"), Stdio::null(), variables);
    }

    /// As [`restart`](Self::restart), with a socket that somebody else listens on, as systemd passes it.
    pub(crate) fn restart_on(&mut self, listener: OwnedFd) {
        let mut command = Command::new("sh");
        let script = "exec 3<&0 < /dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec setpriv \"$@\"";
        command.args(["-c", script, "sh"]);
        self.start_as(command, listener.into(), &[]);
    }

    fn start_as(&mut self, mut command: Command, stdin: Stdio, variables: &[(&str, &str)]) {
        assert!(self.child.is_none(), "the daemon is running already");
        let said = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("daemon.log"));
        let child = command
            .args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_pausa"), "serve"])
            .args(self.flags())
            .envs(variables.iter().copied())
            // Ctrl-C is for the client, which needs the daemon to remove what it made.
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(said.expect("the daemon's log file"))
            .spawn();
        self.child = Some(child.expect("the daemon starts"));
    }

    /// What distinguishes it from the daemon of the node.
    pub(crate) fn flags(&self) -> Vec<String> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let driver = if has_slices() { "systemd" } else { "cgroupfs" };
        let flags = [
            ("--config", path("config.toml")),
            ("--listen", format!("unix://{}", self.socket().display())),
            ("--root", path("r")),
            ("--state", path("s")),
            ("--cgroup-driver", driver.to_owned()),
            ("--registry-config-dir", path("hosts")),
        ];
        flags
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        let child = self.child.as_ref().expect("the daemon runs");
        i32::try_from(child.id()).expect("a process id")
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    /// Takes note of an end that was seen ([`ended`](Self::ended)), so that it can be started again.
    pub(crate) fn forget(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.wait().ok();
        }
    }

    /// `kill -9`, no chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// SIGTERM, as a service manager stops it.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM).unwrap_or_default()
    }

    fn signal(&mut self, signal: Signal) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).ok();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().ok();
        child.wait().ok();
        panic!("the daemon did not end within {PATIENCE:?} of {signal:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
