//! The operation of a URL, and the streams that the sandbox provides for it.
//!
//! Data travel through descriptors only: pipes, a terminal, connected sockets. The streaming server owns them, makes them
//! non-blocking and closes them; the sandbox keeps no duplicate that would hold a stream open.
//!
//! ```text
//!   CRI call ──ticket, URL──▶ client comes ──begin──▶ Session ──▶ streams copied ──┬─▶ exit: its code
//!                                                                                  └─▶ client gone: dropped
//! ```
//!
//! When a client disconnects, its [`Session`] is dropped and its ends of the streams are closed. Nothing else ends: the
//! command and the container continue without them (most commands end because of that).

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::Failure;
use crate::id::Id;

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// A choice of streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// The connection to a running process.
///
/// | | exec | exec with terminal | attach | attach, container with terminal |
/// |---|---|---|---|---|
/// | `stdin` | write end of a pipe | the terminal | write end of a pipe | a writable descriptor |
/// | `stdout` | read end of a pipe | the terminal | read end of a pipe | read end of a pipe |
/// | `stderr` | read end of a pipe | none | read end of a pipe | none |
/// | `terminal` | none | the master | none | the master |
///
/// Descriptors may be duplicates of each other (the master of a terminal). A read that ends with 0 or EIO is
/// the end of a stream.
pub struct Session {
    /// The client's input; closed when the client half-closes. None if it is not wanted or the container has none.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// The master of the terminal, for TIOCSWINSZ. It stays open until the session ends.
    pub terminal: Option<OwnedFd>,
    /// Completes with the exit code (128 + signal) when the process has ended; for attach, when the container has. Fails
    /// if the exit code will never be known. Does not wait until the streams are read.
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

/// Begins a session; called once, when the client has connected. An exec with a terminal gets the terminal's size, if the
/// client has sent it in time.
///
/// The future is dropped when the client disconnects, and then leaves nothing behind, except that a running command
/// continues without its streams.
pub type Begin = Box<dyn FnOnce(Option<TerminalSize>) -> BoxFuture<'static, Result<Session, Failure>> + Send>;

/// Connects to a TCP port of a pod. May be called for many connections at the same time.
pub type Connect = Arc<dyn Fn(u16) -> BoxFuture<'static, Result<OwnedFd, Failure>> + Send + Sync>;

/// The operation of a URL.
pub enum Ticket {
    /// Run a command in a container.
    Exec(SessionTicket),
    /// Attach to the streams of a container's first process.
    Attach(SessionTicket),
    /// Forward ports of a pod.
    PortForward {
        pod: Id,
        /// The ports of the request: a WebSocket has its channels for these. SPDY clients name theirs with each stream.
        ports: Vec<u16>,
        connect: Connect,
    },
}

/// An exec or an attach.
pub struct SessionTicket {
    pub pod: Id,
    pub container: Id,
    /// The streams that the client opens.
    pub streams: Streams,
    /// Whether the client has a terminal.
    pub tty: bool,
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

    /// The pod that the session is with.
    pub(super) fn pod(&self) -> &Id {
        match self {
            Self::Exec(ticket) | Self::Attach(ticket) => &ticket.pod,
            Self::PortForward { pod, .. } => pod,
        }
    }

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
