//! The netlink socket: send requests, collect their answers.
//!
//! The kernel handles requests while they are being sent, in the sender's context: when `send` returns, the answers
//! are queued. A receive timeout turns a lost answer into an error instead of a hang.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use netlink_packet_core::NetlinkBuffer;
use netlink_packet_route::AddressFamily;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::error::{Error, ErrorKind};
use crate::message;
use crate::netns::in_netns;
use crate::reply::{Address, KnownRoute, Link, Neighbour};
use crate::request::{Request, TokenBucket};

/// The kernel's limit for one part of an answer.
const BUFFER: usize = 32 << 10;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often [`Netlink::delete_link`] looks whether the link is gone.
const DELETE_POLL: Duration = Duration::from_micros(100);
/// Sending a request and reading its answer needs no more.
const DELETE_STACK: usize = 128 << 10;
/// How often a listing is repeated if it changed while it was read.
const RETRIES: u32 = 8;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 2;
const NLM_F_DUMP_INTR: u16 = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const RTM_NEWQDISC: u16 = 36;

/// A family of internet addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Family {
    V4,
    V6,
}

/// A connection to the routing tables of one network namespace, that of the thread which opened it.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// One message of an answer.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Netlink {
    /// Opens a connection to the calling thread's network namespace.
    ///
    /// # Errors
    /// If the socket cannot be created.
    pub fn open() -> Result<Self, Error> {
        let failed = |operation| move |source| Error::Socket { operation, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("socket(AF_NETLINK, NETLINK_ROUTE)"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(failed("connect to the kernel"))?;
        // Acknowledgements need not repeat the request.
        socket
            .set_cap_ack(true)
            .map_err(failed("setsockopt(NETLINK_CAP_ACK)"))?;
        socket
            .set_netlink_get_strict_chk(true)
            .map_err(failed("setsockopt(NETLINK_GET_STRICT_CHK)"))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT)).map_err(|errno| Error::Socket {
            operation: "setsockopt(SO_RCVTIMEO)",
            source: errno.into(),
        })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Opens a connection to the network namespace `netns`. The calling thread stays where it is.
    ///
    /// # Errors
    /// If the namespace cannot be entered or the socket cannot be created.
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Self, Error> {
        in_netns(netns, Self::open)?
    }

    /// The index of a link, without the rest of what [`Self::link_by_name`] asks for; none if there is no such link.
    ///
    /// # Errors
    /// If the kernel refuses to say.
    pub fn index_of(&self, name: &str) -> Result<Option<u32>, Error> {
        match name_to_index(&self.socket, name) {
            Ok(index) => Ok(Some(index)),
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::Socket {
                operation: "ioctl(SIOCGIFINDEX)",
                source: errno.into(),
            }),
        }
    }

    /// Sends all requests at once. The kernel handles them in order and continues after a refused one.
    ///
    /// # Errors
    /// The error of the first refused request.
    pub fn execute(&mut self, requests: &[Request<'_>]) -> Result<(), Error> {
        let Some(last) = requests.last() else {
            return Ok(());
        };
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend(message::of_request(request, self.sequence));
        }
        self.send(&bytes)?;
        let mut answered = 0;
        let mut outcome = Ok(());
        while answered < requests.len() {
            self.receive(&last.to_string(), |answer| {
                let at = usize::try_from(answer.sequence.wrapping_sub(first)).ok();
                let Some(request) = at.and_then(|at| requests.get(at)) else {
                    return Ok(());
                };
                if answer.kind == NLMSG_ERROR {
                    answered += 1;
                    if outcome.is_ok() {
                        outcome = refusal(answer.payload, || request.to_string());
                    }
                }
                Ok(())
            })?;
        }
        outcome
    }

    /// Deletes a link and returns as soon as it is out of the namespace, with both ends of a veth pair; a missing one is
    /// deleted already. The kernel then waits until nobody looks at it any more, some 20 ms: that is left to a thread.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn delete_link(mut self, name: &str) -> Result<(), Error> {
        let Some(index) = self.index_of(name)? else {
            return Ok(());
        };
        let watched = self
            .socket
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Error::Socket {
                operation: "fcntl(F_DUPFD_CLOEXEC)",
                source,
            })?;
        let (done, outcome) = mpsc::sync_channel(1);
        let of_thread = name.to_owned();
        thread::Builder::new()
            .name("delete-link".to_owned())
            .stack_size(DELETE_STACK)
            .spawn(move || {
                let outcome = match self.execute(&[Request::DeleteLink { name: &of_thread }]) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                    outcome => outcome,
                };
                // Nobody waits any more if the link was gone before.
                drop(done.send(outcome));
            })
            .map_err(|source| Error::Thread { source })?;
        loop {
            match outcome.recv_timeout(DELETE_POLL) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Timeout) if name_to_index(&watched, name) != Ok(index) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::NoAnswer {
                        request: format!("delete link {name}"),
                    });
                }
            }
        }
    }

    /// The link with this name.
    ///
    /// # Errors
    /// If the kernel does not answer. A missing link is `None`.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let query = |sequence| message::link_query(name, sequence);
        self.get(|| format!("look up link {name}"), RTM_NEWLINK, query, Link::parse)
    }

    /// The link with this index.
    ///
    /// # Errors
    /// If the kernel does not answer. A missing link is `None`.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, Error> {
        let query = |sequence| message::link_by_index_query(index, sequence);
        self.get(
            || format!("look up link {index}"),
            RTM_NEWLINK,
            query,
            Link::parse,
        )
    }

    /// The name of the link that packets to an address leave over; none if it cannot be reached.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn link_to(&mut self, address: IpAddr) -> Result<Option<String>, Error> {
        let query = |sequence| message::route_to_query(address, sequence);
        let describe = || format!("look up the route to {address}");
        let route = match self.get(describe, RTM_NEWROUTE, query, KnownRoute::parse) {
            Err(error) if error.kind() == ErrorKind::Unreachable => None,
            outcome => outcome?,
        };
        let Some(index) = route.and_then(|route| route.index) else {
            return Ok(None);
        };
        match index_to_name(&self.socket, index) {
            Ok(name) => Ok(Some(name)),
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::Socket {
                operation: "ioctl(SIOCGIFNAME)",
                source: errno.into(),
            }),
        }
    }

    /// The token bucket filter that limits what a link transmits; none if its root qdisc is of another kind.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn token_bucket(&mut self, index: u32) -> Result<Option<TokenBucket>, Error> {
        let query = |sequence| message::root_query(index, sequence);
        let describe = || format!("look up the root qdisc of link {index}");
        self.get(describe, RTM_NEWQDISC, query, TokenBucket::parse)
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.dump("list links", RTM_NEWLINK, message::links_query, Link::parse)
    }

    /// The addresses of a link.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>, Error> {
        let query = |sequence| message::addresses_query(index, sequence);
        let mut addresses = self.dump("list addresses", RTM_NEWADDR, query, Address::parse)?;
        addresses.retain(|address| address.index == index);
        Ok(addresses)
    }

    /// The routes of a family, of all tables.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn routes(&mut self, family: Family) -> Result<Vec<KnownRoute>, Error> {
        let family = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let query = |sequence| message::routes_query(family, sequence);
        self.dump("list routes", RTM_NEWROUTE, query, KnownRoute::parse)
    }

    /// What the kernel knows of the neighbours on all links. Nobody is asked.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, Error> {
        let query = message::neighbours_query;
        self.dump("list neighbours", RTM_NEWNEIGH, query, Neighbour::parse)
    }

    /// Asks for one object. A missing one is `None`.
    fn get<T>(
        &mut self,
        describe: impl Fn() -> String,
        kind: u16,
        query: impl FnOnce(u32) -> Vec<u8>,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let (sequence, mut found, mut outcome, mut answered) = (self.sequence, None, Ok(()), false);
        self.send(&query(sequence))?;
        while !answered {
            self.receive(&describe(), |answer| {
                if answer.sequence == sequence {
                    answered = true;
                    if answer.kind == NLMSG_ERROR {
                        outcome = refusal(answer.payload, &describe);
                    } else if answer.kind == kind {
                        found = parse(answer.payload);
                    }
                }
                Ok(())
            })?;
        }
        match outcome {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    fn dump<T>(
        &mut self,
        what: &'static str,
        kind: u16,
        query: impl Fn(u32) -> Vec<u8>,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..RETRIES {
            self.sequence = self.sequence.wrapping_add(1);
            let sequence = self.sequence;
            let (mut found, mut done, mut changed) = (Vec::new(), false, false);
            self.send(&query(sequence))?;
            while !done {
                self.receive(what, |answer| {
                    if answer.sequence != sequence {
                        return Ok(());
                    }
                    changed |= answer.flags & NLM_F_DUMP_INTR != 0;
                    done |= answer.kind == NLMSG_DONE || answer.flags & NLM_F_MULTI == 0;
                    if answer.kind == NLMSG_ERROR {
                        return refusal(answer.payload, || what.to_owned());
                    }
                    if answer.kind == kind {
                        found.extend(parse(answer.payload));
                    }
                    Ok(())
                })?;
            }
            if !changed {
                return Ok(found);
            }
        }
        Err(Error::NoAnswer {
            request: what.to_owned(),
        })
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let sent = self.socket.send(bytes, 0);
        sent.map(drop).map_err(|source| Error::Socket {
            operation: "send",
            source,
        })
    }

    /// Receives one datagram and passes its messages to `take`.
    fn receive(
        &self,
        what: &str,
        mut take: impl FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::NoAnswer {
                        request: what.to_owned(),
                    });
                }
                Err(source) => {
                    return Err(Error::Socket {
                        operation: "recv",
                        source,
                    });
                }
            }
        }
        let mut rest: &[u8] = &buffer;
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(|source| Error::Malformed {
                request: what.to_owned(),
                source,
            })?;
            take(Message {
                kind: message.message_type(),
                flags: message.flags(),
                sequence: message.sequence_number(),
                payload: message.payload(),
            })?;
            // Messages are aligned to four bytes; a zero length would loop for ever.
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX).max(16);
            rest = rest.get(length.saturating_add(3) & !3..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Reads `struct nlmsgerr`: zero is an acknowledgement, anything else a negative errno.
fn refusal(payload: &[u8], request: impl FnOnce() -> String) -> Result<(), Error> {
    let code = payload
        .get(..4)
        .and_then(|code| code.try_into().ok())
        .map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let source = io::Error::from_raw_os_error(code.saturating_neg());
            Err(Error::Refused {
                request: request(),
                source,
            })
        }
        None => Err(Error::NoAnswer { request: request() }),
    }
}
