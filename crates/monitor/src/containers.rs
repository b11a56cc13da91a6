//! A container as its monitor knows it.
//!
//! ```text
//!   (Start) ─▶ Starting ──execve──▶ Running ──(first process reaped)──▶ Draining ──(output read, or time is
//!                 │                                                        │        up; record on file)─▶ Exited
//!                 └ fails: gone, as if never asked for                     │                          (Forget) ┘
//!                                                                          └ what is left is killed
//! ```

use std::os::fd::OwnedFd;
use std::time::Instant;

use pausa_monitor_protocol::{ContainerReport, Detachment, ExitStatus, ProcessState};
use rustix::process::Signal;

use crate::cgroup::Cgroup;
use crate::log::{Stream, Writer};
use crate::oom::OomWatch;

/// How far a container is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    /// Its first process has not reached `execve` yet.
    Starting,
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
    /// It got a SIGKILL from here, which is not the OOM killer's.
    pub(crate) told_to_die: bool,
    /// Its output.
    pub(crate) streams: Vec<OpenStream>,
    /// Its input, where it is a pipe that somebody may still write to. Held open as long as the container
    /// runs, or its reader would see an end.
    pub(crate) input: Option<Input>,
    /// The input ends when the first who was attached to it leaves.
    pub(crate) input_once: bool,
    /// Who is attached.
    pub(crate) attached: Vec<Attached>,
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

impl Live {
    /// Whether the OOM killer ended it, as far as is known when its first process has just ended.
    pub(crate) fn is_oom_killed(&self, exit: ExitStatus) -> bool {
        let unknown_killer = exit.signal == Signal::KILL.as_raw() && !self.told_to_die;
        self.oom.as_ref().is_some_and(|oom| match unknown_killer {
            true => oom.killed(),
            false => oom.struck(),
        })
    }
}

impl Container {
    /// What a daemon is told of it.
    pub(crate) fn report(&self) -> ContainerReport {
        ContainerReport {
            container: self.id.clone(),
            pid: self.pid,
            started_at: self.started_at,
            state: match self.stage {
                Stage::Starting => ProcessState::Starting,
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
    /// Number of the connection that asked for it; none once that has ended and the outputs are read here.
    pub(crate) asker: Option<u64>,
    /// Reading ends of its streams, or the master of its terminal.
    pub(crate) outputs: Vec<Output>,
}

/// An output of an exec that its daemon reads as long as it lives.
#[derive(Debug)]
pub(crate) struct Output {
    /// Its number in the poll, once it is read here.
    pub(crate) number: u64,
    /// It.
    pub(crate) fd: OwnedFd,
    /// It is a terminal's master.
    pub(crate) terminal: bool,
}

/// The writing end of a container's input.
#[derive(Debug)]
pub(crate) struct Input {
    /// It, non-blocking.
    pub(crate) fd: OwnedFd,
    /// Its number in the poll.
    pub(crate) number: u64,
    /// It was full: the poll tells when there is room.
    pub(crate) full: bool,
}

/// A client of a container's streams.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Its id.
    pub(crate) id: String,
    /// Number of the connection that asked for it.
    pub(crate) asker: u64,
    /// What the client types.
    pub(crate) typed: Option<Typed>,
    /// It has had the input: when it leaves, that may be over.
    pub(crate) types: bool,
    /// Where standard output goes, or the terminal's.
    pub(crate) stdout: Option<OwnedFd>,
    /// Where standard error goes.
    pub(crate) stderr: Option<OwnedFd>,
    /// It is over.
    pub(crate) over: Option<Detachment>,
}

/// A pipe in which a client's input comes.
#[derive(Debug)]
pub(crate) struct Typed {
    /// Its number in the poll.
    pub(crate) number: u64,
    /// It, non-blocking.
    pub(crate) fd: OwnedFd,
    /// What the container has not taken yet. While there is some, nothing more is read.
    pub(crate) rest: Vec<u8>,
}
