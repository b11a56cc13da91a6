//! What a URL stands for, and what the sandbox gives when its client has come.
//!
//! Data travel through descriptors only: pipes, a terminal, connected sockets. The streaming server owns them once it
//! has them, makes them non-blocking and closes them; the sandbox keeps nothing that would hold a stream open.
//!
//! ```text
//!   CRI call ──ticket, URL──▶ client comes ──begin──▶ Session ──▶ streams copied ──┬─▶ exit: its code
//!                                                                                  └─▶ client gone: dropped
//! ```
//!
//! Dropping a [`Session`] at any time is how a client leaves: its ends of the streams are closed. That ends nothing
//! else: a command goes on without them (and mostly ends because of that), a container goes on in any case.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

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

/// Begins a session; called once, when the client has come. An exec with a terminal gets the terminal's size, if the
/// client has sent it in time.
///
/// The future may be dropped at any time, when the client goes. Nothing may be left of it then, except that a command
/// that runs already goes on without its streams.
pub type Begin = Box<dyn FnOnce(Option<TerminalSize>) -> BoxFuture<'static, Result<Session, Failure>> + Send>;

/// Connects to a TCP port of a pod. May be called for many connections at the same time.
pub type Connect = Arc<dyn Fn(u16) -> BoxFuture<'static, Result<OwnedFd, Failure>> + Send + Sync>;

/// What a URL stands for.
pub enum Ticket {
    /// Run a command in a container.
    Exec(SessionTicket),
    /// Join the streams of a container's first process.
    Attach(SessionTicket),
    /// Forward ports of a pod.
    PortForward {
        /// The pod.
        pod: Id,
        /// The ports of the request: a WebSocket has its channels for these. SPDY clients name theirs with each stream.
        ports: Vec<u16>,
        /// Makes a connection.
        connect: Connect,
    },
}

/// An exec or an attach.
pub struct SessionTicket {
    /// The container.
    pub container: Id,
    /// The streams that the client opens.
    pub streams: Streams,
    /// Whether the client has a terminal.
    pub tty: bool,
    /// Makes the session.
    pub begin: Begin,
}

impl Ticket {
    /// The first part of the URL's path.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward { .. } => "portforward",
        }
    }

    /// The container or pod.
    pub(super) fn id(&self) -> &Id {
        match self {
            Self::Exec(ticket) | Self::Attach(ticket) => &ticket.container,
            Self::PortForward { pod, .. } => pod,
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(self.kind()).field(self.id()).finish()
    }
}

impl fmt::Debug for SessionTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionTicket").field(&self.container).finish()
    }
}
