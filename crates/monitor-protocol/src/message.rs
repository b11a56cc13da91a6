//! Requests, replies and events: the frozen part of the protocol.
//!
//! The encoding of these types never changes, because every daemon must understand every monitor. A variant may be appended
//! to an enum. No field of an existing variant or struct is added, removed or changed. Only the content of the plans
//! ([`crate::plan`]) may differ between versions. Tests compare the bytes.

use serde::{Deserialize, Serialize};

use crate::plan::{AttachPlan, ContainerPlan, ExecPlan, ExtendedPlan, HookPlan, PodNamespaces, PodPlan};

/// A packet to the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToMonitor {
    /// Chosen by the daemon, unique among the requests under way on its connection.
    pub id: u64,
    /// What is wanted.
    pub request: Request,
}

/// A packet from the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromMonitor {
    /// The answer to the request of the same id.
    Reply {
        /// The id of the request that this answers.
        id: u64,
        /// What came of it.
        result: Result<Reply, Failure>,
    },
    /// An event in the pod.
    Event(Event),
}

/// The requests of a daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The first request on every connection. Answered by [`Reply::Hello`].
    Hello {
        /// The daemon's [`crate::PROTOCOL_VERSION`].
        version: u32,
    },
    /// Sets up the pod in the namespaces of [`Self::Unshare`]: hostname, pause process, listening socket. Only once. Descriptors:
    /// the pod's directory; the mount namespace that those of its processes are copies of; then, on cgroup v1 and unless
    /// [`Self::Unshare`] had them, the `tasks` files of the cgroup that the monitor joins, open for writing. Answered by
    /// [`Reply::Done`].
    Setup(PodPlan),
    /// Creates and starts a container. Descriptors as in [`ContainerPlan::fds`]. Answered by [`Reply::Started`] when `execve`
    /// has succeeded, or by a [`Failure`] of kind `Start` when an earlier step has failed. Nothing is left behind then.
    Start(Box<ContainerPlan>),
    /// Starts one more process in a running container. Descriptors as in [`ExecPlan::fds`]. Answered as `Start`, with the
    /// master of the process's terminal if it has one. [`Event::ExecExited`] reports its end.
    Exec(Box<ExecPlan>),
    /// Sends a signal to a container's first process. Succeeds also if the container has exited. Any signal cancels the
    /// start of a container that is still being started, since there is no command yet that could handle it.
    Signal {
        /// Container id.
        container: String,
        /// Number of the signal, sent to the container's first process.
        signal: i32,
    },
    /// Kills every process in a container's cgroup (`cgroup.kill`, or the cgroup's process list until it stays empty).
    KillAll {
        /// Container id.
        container: String,
    },
    /// Kills an exec'd process, its session and its descendants.
    KillExec {
        /// Exec id.
        exec: String,
    },
    /// Continues the container's log in the file whose descriptor is sent. Answered after the last entry for the old file has
    /// been written.
    ReopenLog {
        /// Container id.
        container: String,
    },
    /// Forgets an exited container and deletes its exit record.
    Forget {
        /// Container id.
        container: String,
    },
    /// Kills all processes of the pod, waits for their end, and exits. Answered before the exit.
    Shutdown,
    /// Closes the monitor's copies of an exec's streams or terminal. If the daemon has closed its own, the process gets EPIPE,
    /// or SIGHUP from a terminal. Succeeds also if the exec has ended. Since version 2.
    HangUp {
        /// Exec id.
        exec: String,
    },
    /// Attaches to a running container: from now on its output is also written to the pipes that are sent, and data from the
    /// input pipe is written to its stdin. Descriptors as in [`AttachPlan::fds`]. Answered by [`Reply::Done`], with the
    /// master of the container's terminal if it has one, for input and resizing. [`Event::Detached`] reports the end. Since
    /// version 2.
    Attach(Box<AttachPlan>),
    /// Ends an attach of this connection. Succeeds also if it has ended. Since version 2.
    Detach {
        /// Attach id.
        attach: String,
    },
    /// Makes the pod's namespaces, with loopback up, and joins them, before the pod is set up. Only once. Descriptors, on
    /// cgroup v1: the `tasks` files of the cgroup that the monitor joins before, if that is made already. Answered by
    /// [`Reply::Done`]. Since version 5.
    Unshare(PodNamespaces),
    /// As [`Self::Start`], for a container with hooks or other extensions. It is answered after the hooks of the stage
    /// `poststart`. Since version 6.
    StartExtended(Box<ExtendedPlan>),
    /// Runs the hooks of the stage `poststop` for a container whose monitor has been lost, in a monitor that needs no pod.
    /// Answered by [`Reply::Done`] or by a [`Failure`] that names the hook. Since version 6.
    Poststop {
        /// Container id.
        container: String,
        /// Its hooks.
        hooks: Box<HookPlan>,
    },
}

impl Request {
    /// What is asked for, for traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Setup(_) => "Setup",
            Self::Start(_) => "Start",
            Self::Exec(_) => "Exec",
            Self::Signal { .. } => "Signal",
            Self::KillAll { .. } => "KillAll",
            Self::KillExec { .. } => "KillExec",
            Self::ReopenLog { .. } => "ReopenLog",
            Self::Forget { .. } => "Forget",
            Self::Shutdown => "Shutdown",
            Self::HangUp { .. } => "HangUp",
            Self::Attach(_) => "Attach",
            Self::Detach { .. } => "Detach",
            Self::Unshare(_) => "Unshare",
            Self::StartExtended(_) => "StartExtended",
            Self::Poststop { .. } => "Poststop",
        }
    }
}

/// The replies of a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The monitor's identity and state.
    Hello {
        /// The monitor's [`crate::PROTOCOL_VERSION`].
        version: u32,
        /// Its process id in the host's PID namespace.
        pid: i32,
        /// Process id of the pause process, if the pod shares a PID namespace.
        pause: Option<i32>,
        /// All containers that have been started and not forgotten.
        containers: Vec<ContainerReport>,
    },
    /// Done, without a result.
    Done,
    /// `execve` has succeeded.
    Started {
        /// Process id in the host's PID namespace.
        pid: i32,
        /// Nanoseconds since the epoch.
        at: i64,
    },
}

/// Events, sent to every connection that has said `Hello` unless documented otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A container's first process has ended, its log is complete, and its exit record is written.
    Exited {
        /// Container id.
        container: String,
        /// How its first process ended.
        exit: ExitStatus,
    },
    /// An exec'd process has ended.
    ExecExited {
        /// Exec id.
        exec: String,
        /// How it ended. `oom_killed` is never set.
        exit: ExitStatus,
    },
    /// The pause process has ended, and with it the pod's shared PID namespace and all processes in it.
    PauseExited,
    /// Log bytes could not be written (for example to a full disk) and were dropped, so that the container need not wait.
    LogDropped {
        /// Container id.
        container: String,
        /// Bytes dropped since the previous event of this kind.
        bytes: u64,
        /// errno of the last failed write.
        errno: i32,
    },
    /// A container's start has succeeded. Not sent to the connection that gets the reply. A daemon that has found the
    /// container in the middle of its start learns the outcome by this event. Since version 2.
    Started {
        /// Container id.
        container: String,
        /// Process id of its first process.
        pid: i32,
        /// Nanoseconds since the epoch.
        at: i64,
    },
    /// As `Started`, but the start has failed. Nothing is left of the container. Since version 2.
    StartFailed {
        /// Container id.
        container: String,
        /// The reason.
        failure: Failure,
    },
    /// An attach has ended, and its descriptors are closed. Only sent to the connection that attached. Since version 2.
    Detached {
        /// Attach id.
        attach: String,
        /// The reason.
        why: Detachment,
    },
    /// A hook has failed whose container goes its way all the same. Since version 6.
    HookFailed {
        /// Container id.
        container: String,
        /// The reason, which names the hook.
        failure: Failure,
    },
}

/// Why an attach has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detachment {
    /// The container has exited, and all of its output has been written to the pipes.
    Exited(ExitStatus),
    /// The reader did not keep up, and a pipe was full. The attach ends, rather than the container waiting or output missing
    /// silently.
    TooSlow,
    /// The other ends of the pipes or the connection were closed, or `Detach` was requested.
    Left,
}

/// The end of a process, as wait(2) reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit code, or 128 + signal.
    pub code: i32,
    /// The signal that ended the process, otherwise 0.
    pub signal: i32,
    /// The kernel's OOM killer has killed a process in the container's cgroup.
    pub oom_killed: bool,
    /// Nanoseconds since the epoch.
    pub at: i64,
}

/// A container in [`Reply::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Container id.
    pub container: String,
    /// Process id of its first process.
    pub pid: i32,
    /// When its start has succeeded or, until then, begun: nanoseconds since the epoch.
    pub started_at: i64,
    /// The state of its first process.
    pub state: ProcessState,
}

/// The state of a container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessState {
    /// It runs, or its log is not complete yet.
    Running,
    /// Its first process has ended.
    Exited(ExitStatus),
    /// It has not reached `execve` yet. Since version 2.
    Starting,
}

/// The error of a request, for machines (`kind`) and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Decides about the daemon's reaction and the gRPC code.
    pub kind: FailureKind,
    /// The step and its object with the system call and its arguments, e.g.
    /// `mount /proc: fsmount(proc, nosuid,nodev,noexec)`.
    pub step: String,
    /// errno if a system call failed, otherwise 0.
    pub errno: i32,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// No such container or exec.
    NotFound,
    /// The object already exists, or its state forbids the request.
    State,
    /// The container or its plan is at fault: command not found, bad mount, unknown directory.
    Start,
    /// The request is unknown to this version, malformed, or lacks descriptors.
    Protocol,
    /// The monitor or the kernel is at fault.
    Internal,
}

impl ToMonitor {
    /// The id of an unknown request, from its first bytes, so that it can be answered.
    pub fn id_of(head: &[u8]) -> Option<u64> {
        postcard::take_from_bytes(head).ok().map(|(id, _)| id)
    }
}

impl FromMonitor {
    /// The id of an unknown reply, from its first bytes. None for an event, which can be ignored.
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
