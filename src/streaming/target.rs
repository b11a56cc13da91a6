//! What the streaming room needs of the room that has the containers.
//!
//! The data travel through descriptors only: pipes, a terminal, connected sockets. This room owns them once it
//! has them, makes them non-blocking and closes them; the one who gave them keeps nothing that would hold a
//! stream open.
//!
//! ```text
//!   check ──URL──▶ client comes ──▶ exec / attach ──▶ Session ──▶ streams copied ──┬─▶ exit: its code
//!                                                                                  └─▶ client gone: dropped
//! ```
//!
//! Dropping a [`Session`] at any time is how a client leaves: its ends of the streams are closed. That ends
//! nothing else: a command goes on without them (and mostly ends by that), a container does so in any case.

use std::fmt;
use std::os::fd::OwnedFd;

use futures_util::future::BoxFuture;

use crate::error::Failure;
use crate::id::Id;

/// A size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A command to run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container.
    pub container: Id,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The streams that somebody will read or write; the others are `/dev/null`. With a terminal, stdin says
    /// whether anything will be typed, and stderr is never wanted.
    pub streams: Streams,
    /// Whether the command gets a terminal.
    pub tty: bool,
    /// How large the terminal is when the command begins, if the client has said so in time.
    pub size: Option<TerminalSize>,
}

/// Being attached to a container's first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container.
    pub container: Id,
    /// The streams that are wanted. Of a container with a terminal, stderr is part of stdout.
    pub streams: Streams,
}

/// A choice of streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// Somebody connected with a running process.
///
/// | | exec | exec with terminal | attach | attach, container with terminal |
/// |---|---|---|---|---|
/// | `stdin` | write end of a pipe | the terminal | write end of a pipe | something to type into |
/// | `stdout` | read end of a pipe | the terminal | read end of a pipe | read end of a pipe |
/// | `stderr` | read end of a pipe | none | read end of a pipe | none |
/// | `terminal` | none | the master | none | the master |
///
/// Descriptors may be duplicates of each other (the master of a terminal). A read that ends with 0 or EIO is
/// the end of a stream.
pub struct Session {
    /// What the client types goes here; closed when the client half-closes. None: not wanted, or the container
    /// has none.
    pub stdin: Option<OwnedFd>,
    /// What the process writes.
    pub stdout: Option<OwnedFd>,
    /// What the process writes as errors.
    pub stderr: Option<OwnedFd>,
    /// Master of the terminal, to be resized with TIOCSWINSZ. It is never closed before the session ends.
    pub terminal: Option<OwnedFd>,
    /// Completes when the process has ended, with its exit code (128 + signal); for attach, when the container
    /// has. Fails when that will never be known. Does not wait for anybody to read the streams.
    pub exit: BoxFuture<'static, Result<i32, Failure>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

/// The room that has the containers.
///
/// Futures may be dropped at any time: a client has gone. Then nothing may be left of what they were doing,
/// except that a command that runs already goes on without its streams.
pub trait Target: Send + Sync + 'static {
    /// The running container that `id` or a unique beginning of an id means. Does not wait.
    ///
    /// # Errors
    /// NotFound, or FailedPrecondition for one that does not run.
    fn running_container(&self, id: &str) -> Result<Id, Failure>;

    /// The ready pod that `id` or a unique beginning of an id means. Does not wait.
    ///
    /// # Errors
    /// NotFound, or FailedPrecondition for one that is not ready.
    fn ready_pod(&self, id: &str) -> Result<Id, Failure>;

    /// Starts a command in a container. Answers once its program runs.
    ///
    /// # Errors
    /// When it does not: no such program, container stopped meanwhile …
    fn exec(&self, request: ExecRequest) -> impl Future<Output = Result<Session, Failure>> + Send;

    /// Joins the streams of a container's first process, from now on. Any number of clients may.
    ///
    /// # Errors
    /// When the container does not run any more.
    fn attach(&self, request: AttachRequest) -> impl Future<Output = Result<Session, Failure>> + Send;

    /// A connection to a port of a pod, made inside its network namespace (the node's for a pod on the host
    /// network): to 127.0.0.1, and where nobody listens there, to ::1.
    ///
    /// # Errors
    /// When neither takes it; the text says both reasons.
    fn connect(&self, pod: &Id, port: u16) -> impl Future<Output = Result<OwnedFd, Failure>> + Send;
}
