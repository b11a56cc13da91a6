//! The monitor's program and its processes.
//!
//! The program is part of this one and runs from a sealed memfd: there is no file that an upgrade could
//! take away or a container could write to (CVE-2019-5736), and all monitors share its pages.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use super::client::{self, Events, Monitor};
use super::error::MonitorError;
use crate::async_fd;

/// The monitor, as `build.rs` has built it.
const PROGRAM: &[u8] = include_bytes!(env!("PAUSA_MONITOR"));

/// The monitor's program, ready to be started any number of times.
#[derive(Debug)]
pub struct MonitorBinary {
    file: OwnedFd,
}

impl MonitorBinary {
    /// Puts the program where it can be started from. Once, at the daemon's start.
    ///
    /// # Errors
    /// No memory, no descriptor.
    pub fn prepare() -> Result<Self, MonitorError> {
        let failed = |call| {
            move |errno: Errno| MonitorError::Prepare {
                call,
                source: errno.into(),
            }
        };
        let memfd = executable_memfd().map_err(failed("memfd_create(pausa-monitor, MFD_EXEC)"))?;
        let mut rest = PROGRAM;
        while !rest.is_empty() {
            let written = rustix::io::write(&memfd, rest).map_err(failed("write(memfd)"))?;
            rest = &rest[written..];
        }
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memfd, seals).map_err(failed("fcntl(memfd, F_ADD_SEALS)"))?;
        // A descriptor that could not write even without the seals.
        let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("open(/proc/self/fd/N, O_RDONLY)"))?;
        Ok(Self { file })
    }

    /// Starts the monitor of a pod and greets it. It is our child: a task of its own reaps it.
    ///
    /// The process is made by posix_spawn(3), which does not copy the daemon's memory map; it takes less
    /// than a millisecond, for which the calling thread waits.
    ///
    /// # Errors
    /// [`MonitorError::Start`], or any error of talking to it. Then it ends by itself.
    pub async fn spawn(&self, pod: &str) -> Result<(Monitor, Events), MonitorError> {
        let (monitor, events, pidfd) = self.start(pod).await?;
        let (pod, pid) = (pod.to_owned(), monitor.pid());
        tokio::spawn(async move {
            if let Err(error) = exited(pidfd).await {
                tracing::warn!(pod, pid, %error, "cannot wait for a pod's monitor; it stays a zombie when it ends");
            }
        });
        Ok((monitor, events))
    }

    /// Starts the monitor of a pod and greets it. The descriptor is its process, which has to be reaped with [`exited`].
    pub(super) async fn start(&self, pod: &str) -> Result<(Monitor, Events, OwnedFd), MonitorError> {
        let (ours, pidfd) = self.launch(pod)?;
        let (monitor, events) = client::greet(ours, pidfd.try_clone().ok()).await?;
        Ok((monitor, events, pidfd))
    }

    fn launch(&self, pod: &str) -> Result<(OwnedFd, OwnedFd), MonitorError> {
        let failed = |call| {
            let pod = pod.to_owned();
            move |source: io::Error| MonitorError::Start { pod, call, source }
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(io::Error::from)
            .map_err(failed("socketpair(AF_UNIX, SOCK_SEQPACKET)"))?;
        // Nothing here that std cannot leave to posix_spawn(3): no working directory, no code between.
        let child = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
            .arg0("pausa-monitor")
            .arg(pod)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(failed("posix_spawn(/proc/self/fd/N)"))?;
        let pid = Pid::from_child(&child);
        // Not reaped yet by anyone, so the number is still its own.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(io::Error::from)
            .map_err(failed("pidfd_open(monitor)"))?;
        Ok((ours, pidfd))
    }
}

/// MFD_EXEC is asked for where the kernel knows it (6.3): `vm.memfd_noexec` may forbid it otherwise.
fn executable_memfd() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create("pausa-monitor", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("pausa-monitor", flags),
        result => result,
    }
}

/// Waits for the end of a monitor, and reaps it if it is our child. Its exit status, where that is ours to know.
///
/// # Errors
/// The descriptor cannot be waited for.
pub async fn exited(pidfd: OwnedFd) -> io::Result<Option<i32>> {
    let pidfd = async_fd::register(pidfd)?;
    pidfd.readable().await?.retain_ready();
    match rustix::process::waitid(
        WaitId::PidFd(pidfd.as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    ) {
        Ok(status) => Ok(status.and_then(|status| status.exit_status())),
        // Not our child: a monitor of the daemon before this one, which init reaps.
        Err(Errno::CHILD) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
