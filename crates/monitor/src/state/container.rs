//! A container as its monitor knows it.
//!
//! ```text
//!   (Start) ──▶ Running ──(first process reaped)──▶ Draining ──(output read, or time is up;
//!                                                      │        record on file)──▶ Exited ──▶ (Forget)
//!                                                      └ what is left in its cgroup is killed
//! ```

use std::os::fd::OwnedFd;
use std::time::Instant;

use pausa_monitor_protocol::{ContainerReport, ExitStatus, ProcessState};

use crate::cgroup::Cgroup;
use crate::log::{Stream, Writer};
use crate::oom::OomWatch;

/// How far a container is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    /// Its first process runs.
    Running,
    /// Its first process has ended; its last words are being read.
    Draining {
        /// How it ended; `oom_killed` is not known yet.
        exit: ExitStatus,
        /// When reading ends, whoever still holds the other end.
        until: Instant,
    },
    /// All is told.
    Exited(ExitStatus),
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: String,
    /// Its first process.
    pub(crate) pid: i32,
    /// When it was started, nanoseconds since the epoch.
    pub(crate) started_at: i64,
    /// How far it is.
    pub(crate) stage: Stage,
    /// What it holds; none once it has exited.
    pub(crate) live: Option<Live>,
}

/// What a container holds in the monitor until all is told about its exit.
#[derive(Debug)]
pub(crate) struct Live {
    /// Its first process.
    pub(crate) pidfd: OwnedFd,
    /// Where its processes are.
    pub(crate) cgroup: Cgroup,
    /// Where the kernel counts OOM kills.
    pub(crate) oom: Option<OomWatch>,
    /// Its output.
    pub(crate) streams: Vec<OpenStream>,
    /// Its input: held open as long as the container runs, or its reader would see an end.
    #[expect(dead_code, reason = "held open, and nobody can attach yet")]
    pub(crate) stdin: Option<OwnedFd>,
    /// Its log; none if its output is not wanted.
    pub(crate) writer: Option<Writer>,
    /// When a [`pausa_monitor_protocol::Event::LogDropped`] was last sent.
    pub(crate) drop_told: Option<Instant>,
}

/// A stream that has not ended.
#[derive(Debug)]
pub(crate) struct OpenStream {
    /// Its number in the poll.
    pub(crate) number: u64,
    /// The stream.
    pub(crate) stream: Stream,
    /// A terminal nobody has open at the moment: when to look again. Its container may open it again.
    pub(crate) parked: Option<Instant>,
    /// It is a terminal.
    pub(crate) terminal: bool,
}

impl Container {
    /// What a daemon is told of it.
    pub(crate) fn report(&self) -> ContainerReport {
        ContainerReport {
            container: self.id.clone(),
            pid: self.pid,
            started_at: self.started_at,
            state: match self.stage {
                // Still running to the outside until all is told: its log is not complete.
                Stage::Running | Stage::Draining { .. } => ProcessState::Running,
                Stage::Exited(exit) => ProcessState::Exited(exit),
            },
        }
    }
}

/// A process run in a container beside its first.
#[derive(Debug)]
pub(crate) struct Exec {
    /// Its id.
    pub(crate) id: String,
    /// Its container's id.
    pub(crate) container: String,
    /// Its process id.
    pub(crate) pid: i32,
    /// Its pidfd.
    pub(crate) pidfd: OwnedFd,
}
