//! The connections of daemons and tools.
//!
//! Sending never blocks. Messages that a socket does not accept wait here, up to a limit. A peer that lets more pile up is
//! disconnected, and learns from the reply to its next `Hello` what it has missed.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use pausa_monitor_protocol::socket::{self, SocketError};
use pausa_monitor_protocol::{Event, Failure, FromMonitor, Reply, ToMonitor};

use crate::poll::{Poll, Token};

/// Most messages that wait for room in a socket.
const WAITING_MAX: usize = 1024;

/// The request that a reply is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) connection: u64,
    pub(crate) request: u64,
}

#[derive(Debug)]
pub(crate) enum Received {
    Request(ToMonitor, Vec<OwnedFd>),
    /// A request of this id that this version does not know.
    Unknown(u64),
}

/// The peer has closed the connection, or must be disconnected.
#[derive(Debug)]
struct Closed;

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// The version that both sides speak; none until `Hello`.
    version: Option<u32>,
    waiting: VecDeque<(FromMonitor, Vec<OwnedFd>)>,
}

impl Connection {
    fn receive(&self) -> Result<Option<Received>, Closed> {
        match socket::receive(self.socket.as_fd()) {
            Ok((message, fds)) => Ok(Some(Received::Request(message, fds))),
            Err(error) if error.would_block() => Ok(None),
            // A message without an id cannot be answered.
            Err(SocketError::Unknown { head, .. }) => ToMonitor::id_of(&head)
                .map(Received::Unknown)
                .map(Some)
                .ok_or(Closed),
            Err(_) => Err(Closed),
        }
    }

    /// Sends waiting messages. Returns true if some still wait.
    fn flush(&mut self) -> Result<bool, Closed> {
        while let Some((message, fds)) = self.waiting.front() {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(OwnedFd::as_fd).collect();
            match socket::send(self.socket.as_fd(), message, &fds) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(error) if error.would_block() => return Ok(true),
                Err(_) => return Err(Closed),
            }
        }
        Ok(false)
    }
}

/// All connections, by number. Numbers are never reused.
#[derive(Debug)]
pub(crate) struct Connections {
    poll: Rc<Poll>,
    connections: BTreeMap<u64, Connection>,
}

impl Connections {
    pub(crate) const fn new(poll: Rc<Poll>) -> Self {
        Self {
            poll,
            connections: BTreeMap::new(),
        }
    }

    /// Adds a connection on a non-blocking socket, which is closed if it cannot be registered.
    pub(crate) fn add(&mut self, socket: OwnedFd) {
        let number = self.poll.next_number();
        if self.poll.add(socket.as_fd(), Token::Connection(number)).is_ok() {
            let connection = Connection {
                socket,
                version: None,
                waiting: VecDeque::new(),
            };
            self.connections.insert(number, connection);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.connections.contains_key(&number)
    }

    /// The version that the peer and this monitor speak; none before `Hello`.
    pub(crate) fn version(&self, number: u64) -> Option<u32> {
        self.connections.get(&number)?.version
    }

    pub(crate) fn set_version(&mut self, number: u64, version: u32) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.version = Some(version);
        }
    }

    /// The next message of a connection. Disconnects a peer that is gone or sends no valid packets.
    pub(crate) fn receive(&mut self, number: u64) -> Option<Received> {
        let received = self.connections.get(&number)?.receive();
        received.unwrap_or_else(|Closed| {
            self.disconnect(number);
            None
        })
    }

    /// Sends the messages that wait on a connection.
    pub(crate) fn flush(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let flushed = connection.flush().and_then(|waiting| {
            let token = Token::Connection(number);
            let registered = self.poll.set_writing(connection.socket.as_fd(), token, waiting);
            registered.map_err(|_| Closed)
        });
        if flushed.is_err() {
            self.disconnect(number);
        }
    }

    /// Disconnects the latest connection. The earlier ones include the daemon's.
    pub(crate) fn disconnect_latest(&mut self) {
        if let Some(latest) = self.connections.keys().next_back().copied() {
            self.disconnect(latest);
        }
    }

    fn disconnect(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            self.poll.remove(connection.socket.as_fd());
        }
    }

    /// Answers a request. The reply is dropped if its connection is gone.
    pub(crate) fn reply(&mut self, to: ReplyTo, result: Result<Reply, Failure>, fds: Vec<OwnedFd>) {
        let id = to.request;
        self.send(to.connection, FromMonitor::Reply { id, result }, fds);
    }

    /// Sends an event to every connection that has said `Hello`.
    pub(crate) fn broadcast(&mut self, event: &Event) {
        // No connection has this number.
        self.broadcast_except(u64::MAX, event);
    }

    /// Sends an event to every connection that has said `Hello`, except for one.
    pub(crate) fn broadcast_except(&mut self, except: u64, event: &Event) {
        let listening: Vec<u64> = self
            .connections
            .iter()
            .filter(|(number, connection)| **number != except && connection.version.is_some())
            .map(|(number, _)| *number)
            .collect();
        for number in listening {
            self.send_event(number, event.clone());
        }
    }

    pub(crate) fn send_event(&mut self, number: u64, event: Event) {
        self.send(number, FromMonitor::Event(event), Vec::new());
    }

    fn send(&mut self, number: u64, message: FromMonitor, fds: Vec<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if connection.waiting.len() >= WAITING_MAX {
            return self.disconnect(number);
        }
        connection.waiting.push_back((message, fds));
        let sent = connection.flush().and_then(|waiting| match waiting {
            false => Ok(()),
            true => {
                let token = Token::Connection(number);
                let registered = self.poll.set_writing(connection.socket.as_fd(), token, true);
                registered.map_err(|_| Closed)
            }
        });
        if sent.is_err() {
            self.disconnect(number);
        }
    }
}
