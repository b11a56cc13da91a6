//! Requests, replies and events: the frozen part of the protocol.
//!
//! What is here never changes its encoding, because every daemon has to understand every monitor: a
//! variant is only ever appended to its enum, and no field is added to, taken from or changed in a variant
//! or struct that is there. Only what the plans hold ([`crate::plan`]) may differ between versions. Tests
//! pin the bytes.

use serde::{Deserialize, Serialize};

use crate::plan::{AttachPlan, ContainerPlan, ExecPlan, PodPlan};

/// A packet to the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToMonitor {
    /// Chosen by the daemon, unique among the requests under way on its connection.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// A packet from the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromMonitor {
    /// The answer to the request of the same id.
    Reply {
        /// The request's id.
        id: u64,
        /// What came of it.
        result: Result<Reply, Failure>,
    },
    /// Something happened in the pod.
    Event(Event),
}

/// What a daemon may ask.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// First on every connection. Answered by [`Reply::Hello`].
    Hello {
        /// The daemon's [`crate::PROTOCOL_VERSION`].
        version: u32,
    },
    /// Makes the pod: namespaces, hostname, sysctls, loopback, listening socket, pause process. Once only.
    /// Carries the pod's directory, then on cgroup v1 the `tasks` files of the cgroup that the monitor is to
    /// join, open for writing. Answered by [`Reply::Done`].
    Setup(PodPlan),
    /// Makes and starts a container. Descriptors as [`ContainerPlan::fds`] says. Answered when `execve` has
    /// succeeded, by [`Reply::Started`], or when something before it has failed, by a [`Failure`] of kind
    /// `Start` with nothing left behind.
    Start(Box<ContainerPlan>),
    /// Runs one more process in a running container. Descriptors as [`ExecPlan::fds`] says. Answered as
    /// `Start`; where the process has a terminal, its master comes along. Its end is told by
    /// [`Event::ExecExited`].
    Exec(Box<ExecPlan>),
    /// Sends a signal to a container's first process. Done also if the container has just exited. One that
    /// is still being started is ended, whatever the signal: there is no command yet that could take it.
    Signal {
        /// Container id.
        container: String,
        /// Signal number.
        signal: i32,
    },
    /// Kills every process of a container, whoever its parent is, by the kernel's own list of them
    /// (`cgroup.kill`, or the cgroup's process list until it stays empty).
    KillAll {
        /// Container id.
        container: String,
    },
    /// Kills an exec'd process and all that came of it (its session and its descendants).
    KillExec {
        /// Exec id.
        exec: String,
    },
    /// Goes on writing the container's log to the descriptor that comes along; answered after the last
    /// line for the old file is in it.
    ReopenLog {
        /// Container id.
        container: String,
    },
    /// Forgets an exited container and deletes its exit record.
    Forget {
        /// Container id.
        container: String,
    },
    /// Kills what is still running, waits for it, and leaves. Answered before leaving.
    Shutdown,
    /// Lets go of an exec's output: the monitor's copies of its streams or of its terminal are closed. Where
    /// the daemon has closed its own, the process meets EPIPE, and one of a terminal is hung up on (SIGHUP).
    /// Done also if the exec has just ended. Since version 2.
    HangUp {
        /// Exec id.
        exec: String,
    },
    /// Attaches to a running container: its output from now on is also written to the pipes that come along,
    /// and what can be read from the one for its input is given to it. Descriptors as [`AttachPlan::fds`]
    /// says. Answered by [`Reply::Done`]; where the container has a terminal, its master comes along, to type
    /// into and to resize. [`Event::Detached`] tells the end. Since version 2.
    Attach(Box<AttachPlan>),
    /// Ends an attach of this connection. Done also if it has just ended. Since version 2.
    Detach {
        /// Attach id.
        attach: String,
    },
}

/// Answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Who the monitor is and what it holds.
    Hello {
        /// The monitor's [`crate::PROTOCOL_VERSION`].
        version: u32,
        /// Its process id, as the monitor sees it in the host's PID namespace.
        pid: i32,
        /// The pause process, where the pod shares a PID namespace.
        pause: Option<i32>,
        /// All containers started and not forgotten.
        containers: Vec<ContainerReport>,
    },
    /// Done; there is nothing to tell.
    Done,
    /// A process runs: `execve` has succeeded.
    Started {
        /// Its id in the host's PID namespace.
        pid: i32,
        /// When, in nanoseconds since the epoch.
        at: i64,
    },
}

/// What happens without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A container's first process has ended, its log is complete and its exit record is on file.
    Exited {
        /// Container id.
        container: String,
        /// How.
        exit: ExitStatus,
    },
    /// An exec'd process has ended.
    ExecExited {
        /// Exec id.
        exec: String,
        /// How. `oom_killed` is never set here.
        exit: ExitStatus,
    },
    /// The pause process has ended: the pod's shared PID namespace is gone and with it all that ran there.
    PauseExited,
    /// Log bytes could not be written (a full disk, say) and were dropped, so that the container goes on.
    LogDropped {
        /// Container id.
        container: String,
        /// Bytes dropped since the last such event.
        bytes: u64,
        /// errno of the last failing write.
        errno: i32,
    },
    /// A container that was being started runs. Told to everyone but the asker, who gets its reply: so a daemon
    /// that has found it in the middle of its start learns what became of it. Since version 2.
    Started {
        /// Container id.
        container: String,
        /// Process id of its first process.
        pid: i32,
        /// When, in nanoseconds since the epoch.
        at: i64,
    },
    /// As `Started`, but it has failed: nothing is left of the container. Since version 2.
    StartFailed {
        /// Container id.
        container: String,
        /// Why.
        failure: Failure,
    },
    /// An attach has ended; its descriptors are closed. Told to the connection that attached. Since version 2.
    Detached {
        /// Attach id.
        attach: String,
        /// Why.
        why: Detachment,
    },
}

/// Why an attach has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detachment {
    /// The container has exited, and all of its output is in the pipes.
    Exited(ExitStatus),
    /// The reader did not keep up and a pipe was full: rather than to make the container wait, or to leave
    /// something out unseen, the attach ends.
    TooSlow,
    /// Nobody holds the other ends any more, or it was asked for.
    Left,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// What it returned, or 128 + signal.
    pub code: i32,
    /// The signal that ended it, 0 if none.
    pub signal: i32,
    /// The kernel's OOM killer struck in the container's cgroup while it lived.
    pub oom_killed: bool,
    /// Nanoseconds since the epoch.
    pub at: i64,
}

/// One container in [`Reply::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Container id.
    pub container: String,
    /// Process id of its first process.
    pub pid: i32,
    /// When it was started, nanoseconds since the epoch; while it is being started, when that began.
    pub started_at: i64,
    /// Whether it still runs.
    pub state: ProcessState,
}

/// Whether a process still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessState {
    /// It does.
    Running,
    /// It does not.
    Exited(ExitStatus),
    /// Its process has not reached `execve` yet. Since version 2.
    Starting,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The step and its object with the system call and its arguments, e.g.
    /// `mount /proc: fsmount(proc, nosuid,nodev,noexec)`.
    pub step: String,
    /// errno, where a system call failed; 0 where none did.
    pub errno: i32,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// No such container or exec.
    NotFound,
    /// It is there already, or in a state that forbids this.
    State,
    /// The container's own fault or its plan's: command not found, bad mount, unknown directory.
    Start,
    /// The request cannot be understood: unknown to this version, of another form, descriptors missing.
    Protocol,
    /// The monitor's or the kernel's fault.
    Internal,
}

impl ToMonitor {
    /// The id of a request whose rest cannot be understood, from its first bytes: it can still be answered.
    pub fn id_of(head: &[u8]) -> Option<u64> {
        postcard::take_from_bytes(head).ok().map(|(id, _)| id)
    }
}

impl FromMonitor {
    /// The id of a reply whose rest cannot be understood, from its first bytes. None for an event, which
    /// can be passed over.
    pub fn id_of(head: &[u8]) -> Option<u64> {
        match postcard::take_from_bytes::<u32>(head) {
            Ok((0, rest)) => postcard::take_from_bytes(rest).ok().map(|(id, _)| id),
            _ => None,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.step)?;
        if self.errno != 0 {
            write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests;
