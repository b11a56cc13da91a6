//! A pod's monitor as the pod's actor has it: the connection, and the process itself.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use pausa_monitor_protocol::{Event, Reply, Request};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::monitor::{self, Events, Monitor, MonitorBinary, MonitorError};

/// What is heard from a monitor.
#[derive(Debug)]
pub(super) enum News {
    /// It tells something.
    Event(Event),
    /// The connection has ended: it is gone.
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    monitor: Monitor,
    /// None where the process was gone before it could be held.
    process: Option<OwnedFd>,
}

impl Link {
    /// Starts a monitor.
    pub(super) async fn spawn(program: &MonitorBinary, pod: &str) -> Result<(Self, Events), MonitorError> {
        let started = program.spawn(pod).await?;
        let link = Self {
            monitor: started.monitor,
            process: started.pidfd.try_clone().ok(),
        };
        // It is our child: somebody has to reap it, whatever becomes of the link.
        tokio::spawn(async move {
            if let Err(error) = monitor::exited(started.pidfd).await {
                tracing::warn!(%error, "cannot wait for a monitor");
            }
        });
        Ok((link, started.events))
    }

    /// Connects to the monitor of a pod of the daemon before this one.
    pub(super) async fn connect(dir: &Path) -> Result<(Self, Events), MonitorError> {
        let (monitor, events) = monitor::connect(dir).await?;
        let pid = Pid::from_raw(monitor.pid());
        let process = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok((Self { monitor, process }, events))
    }

    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    pub(super) fn pid(&self) -> i32 {
        self.monitor.pid()
    }

    pub(super) async fn request(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Reply, MonitorError> {
        self.monitor.request(request, fds).await
    }

    /// As [`Self::request`], with the terminal that comes along with the answer, where one does.
    pub(super) async fn request_fds(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<OwnedFd>, MonitorError> {
        let (_, fds) = self.monitor.request_fds(request, fds).await?;
        Ok(fds.into_iter().next())
    }

    /// Kills the monitor. Its containers are not killed by that.
    pub(super) fn kill(&self) {
        let killed = self
            .process
            .as_ref()
            .map(|process| rustix::process::pidfd_send_signal(process, Signal::KILL));
        if let Some(Err(errno)) = killed.filter(|result| *result != Err(rustix::io::Errno::SRCH)) {
            tracing::error!(pid = self.pid(), %errno, "cannot kill a monitor");
        }
    }

    /// Waits until the monitor's process has ended.
    pub(super) async fn exited(&self) -> io::Result<()> {
        match &self.process {
            Some(process) => monitor::exited(process.try_clone()?).await.map(drop),
            None => Ok(()),
        }
    }
}
