//! Runs a program of the node with its input on stdin, for a limited time, and keeps its stderr for the error: firewalls
//! take their rules in this way, `apparmor_parser` its profiles.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;

const LIMIT: Duration = Duration::from_secs(15);
const MAX_STDERR: u64 = 4096;
/// Searched as well, because the daemon's PATH may lack them.
const MORE_DIRS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// Why a program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    /// It could not be run, or did not end in time.
    #[error("cannot run {}", tool.display())]
    Run {
        tool: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It refused its input.
    #[error("{} refused its input ({status}): {stderr}", tool.display())]
    Refused {
        tool: PathBuf,
        status: ExitStatus,
        stderr: String,
    },
}

/// Finds a program in PATH and the usual places.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    let runs = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    dirs.chain(MORE_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(runs)
}

/// Runs a program with `input` on its stdin.
pub(crate) fn run(tool: &Path, arguments: &[&str], input: &str) -> Result<(), ToolError> {
    execute(tool, arguments, input, Stdio::null())
}

/// Runs a program and returns the first `most` bytes of its stdout.
pub(crate) fn output(tool: &Path, arguments: &[&str], most: u64) -> Result<Vec<u8>, ToolError> {
    let failed = |source| ToolError::Run {
        tool: tool.to_path_buf(),
        source,
    };
    // A file takes all of it, however slowly it is read.
    let file = memfd_create("output", MemfdFlags::CLOEXEC);
    let mut file = File::from(file.map_err(|errno| failed(errno.into()))?);
    execute(tool, arguments, "", file.try_clone().map_err(failed)?.into())?;
    let mut bytes = Vec::new();
    file.rewind().map_err(failed)?;
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn execute(tool: &Path, arguments: &[&str], input: &str, stdout: Stdio) -> Result<(), ToolError> {
    let failed = |source| ToolError::Run {
        tool: tool.to_path_buf(),
        source,
    };
    let mut child = Command::new(tool)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let outcome = talk(&mut child, input);
    if outcome.is_err() {
        // It may have ended already.
        child.kill().ok();
        child.wait().map_err(failed)?;
    }
    let (status, stderr) = outcome.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    Err(ToolError::Refused {
        tool: tool.to_path_buf(),
        status,
        stderr,
    })
}

fn talk(child: &mut Child, input: &str) -> io::Result<(ExitStatus, String)> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It ended before it read everything: its status says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            outcome => outcome?,
        }
    }
    wait(child)?;
    let status = child.wait()?;
    let mut stderr = Vec::new();
    if let Some(stream) = child.stderr.take() {
        stream.take(MAX_STDERR).read_to_end(&mut stderr)?;
    }
    Ok((status, String::from_utf8_lossy(&stderr).trim().to_owned()))
}

/// Waits for the end of the program, at most [`LIMIT`].
fn wait(child: &Child) -> io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec::try_from(LIMIT).map_err(io::Error::other)?;
    loop {
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            outcome => return outcome.map(drop).map_err(io::Error::from),
        }
    }
}
