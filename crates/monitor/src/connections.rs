//! One daemon or tool at the other end of a socket.
//!
//! Sending never blocks: what the socket does not take waits here, up to a limit; who lets more pile up
//! is cut off, and learns everything it missed from the answer to its next `Hello`.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::socket::{self, SocketError};
use pausa_monitor_protocol::{FromMonitor, ToMonitor};

/// Most messages waiting for room in the socket.
const WAITING_MAX: usize = 1024;

/// The other end is gone, or is to be treated so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// What has come.
#[derive(Debug)]
pub(crate) enum Received {
    /// A request with its descriptors.
    Request(ToMonitor, Vec<OwnedFd>),
    /// A request of this id that is unknown to this version.
    Unknown(u64),
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    /// The version that both speak, once it has said `Hello`.
    pub(crate) version: Option<u32>,
    waiting: VecDeque<(FromMonitor, Vec<OwnedFd>)>,
}

impl Connection {
    /// On this non-blocking socket.
    pub(crate) const fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            version: None,
            waiting: VecDeque::new(),
        }
    }

    /// The socket, to wait for.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next message, if there is one.
    pub(crate) fn receive(&self) -> Result<Option<Received>, Gone> {
        match socket::receive(self.socket.as_fd()) {
            Ok((message, fds)) => Ok(Some(Received::Request(message, fds))),
            Err(error) if error.would_block() => Ok(None),
            // Who sends what has no id cannot be answered.
            Err(SocketError::Unknown { head, .. }) => ToMonitor::id_of(&head)
                .map(Received::Unknown)
                .map(Some)
                .ok_or(Gone),
            Err(_) => Err(Gone),
        }
    }

    /// Sends a message, now or when there is room. True if it has to wait.
    pub(crate) fn post(&mut self, message: FromMonitor, fds: Vec<OwnedFd>) -> Result<bool, Gone> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(Gone);
        }
        self.waiting.push_back((message, fds));
        self.flush()
    }

    /// Sends what waits. True if something still has to.
    pub(crate) fn flush(&mut self) -> Result<bool, Gone> {
        while let Some((message, fds)) = self.waiting.front() {
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(OwnedFd::as_fd).collect();
            match socket::send(self.socket.as_fd(), message, &borrowed) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(error) if error.would_block() => return Ok(true),
                Err(_) => return Err(Gone),
            }
        }
        Ok(false)
    }
}
