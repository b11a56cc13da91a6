//! The netlink socket: send requests, collect their answers.
//!
//! The kernel handles requests while they are being sent, in the sender's context: when `send` returns, the answers
//! are queued. A receive timeout turns a lost answer into an error instead of a hang.
//!
//! A transaction is one datagram: begin, changes, end. The last change asks for an acknowledgement, which comes behind
//! the errors of the others and the new rules; an error of the transaction as a whole has the number of its begin.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force, set_socket_timeout,
};

use crate::Chain;
use crate::change::{
    Change, Element, GET_CHAIN, GET_ELEMENT, GET_GENERATION, GET_RULE, NEW_ELEMENT, NEW_GENERATION, NEW_RULE,
    SUBSYSTEM, Set,
};
use crate::error::{Error, ErrorKind};
use crate::message::{ACK, DUMP, Header, Messages};
use crate::reply::{Attributes, FAMILY_HEADER, Message, MessagesOf, Rule, data_of_element, number};

/// The kernel's limit for one part of an answer.
const BUFFER: usize = 32 << 10;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a listing is repeated if it changed while it was read.
const RETRIES: u32 = 16;
/// What every socket may send at once; the kernel counts its own overhead too.
const USUAL_DATAGRAM: usize = 64 << 10;

/// How many rules are asked for at once: the answers wait in the socket, which has a limit.
const QUESTIONS: usize = 32;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 16;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`, `NFNL_BATCH_GENID`
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_GENERATION: u16 = 1;

/// A connection to the netfilter of one network namespace, that of the thread which opened it.
pub struct Netfilter {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Netfilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netfilter")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// What [`Netfilter::look_up`] found, in the order of the questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The number of the last transaction in the namespace. A commit that is given it fails if there was another since.
    pub generation: u32,
    /// Whether the chains exist.
    pub chains: Vec<bool>,
    /// The rules that exist.
    pub rules: Vec<Option<Rule>>,
}

impl Netfilter {
    /// Opens a connection to the calling thread's network namespace.
    ///
    /// # Errors
    /// If the socket cannot be created.
    pub fn open() -> Result<Self, Error> {
        let failed = |operation| move |source| Error::Socket { operation, source };
        let mut socket =
            Socket::new(NETLINK_NETFILTER).map_err(failed("socket(AF_NETLINK, NETLINK_NETFILTER)"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(failed("connect to the kernel"))?;
        // Acknowledgements need not repeat the request.
        socket
            .set_cap_ack(true)
            .map_err(failed("setsockopt(NETLINK_CAP_ACK)"))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT)).map_err(|errno| Error::Socket {
            operation: "setsockopt(SO_RCVTIMEO)",
            source: errno.into(),
        })?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Makes all changes in one transaction, or none, and returns the handles of the new rules that are to be
    /// echoed, in their order. With a `generation`, only if nothing has changed since then.
    ///
    /// # Errors
    /// The error of the first refused change; [`ErrorKind::Changed`] if the generation is another.
    pub fn commit(&mut self, changes: &[Change<'_>], generation: Option<u32>) -> Result<Vec<u64>, Error> {
        let Some((last, before)) = changes.split_last() else {
            return Ok(Vec::new());
        };
        let begin = self.next();
        let around = |kind, sequence| Header {
            kind,
            flags: 0,
            sequence,
            family: 0,
            resource: SUBSYSTEM,
        };
        let mut messages = Messages::default();
        messages.push(around(BATCH_BEGIN, begin), |messages| {
            if let Some(generation) = generation {
                messages.number(BATCH_GENERATION, generation);
            }
        });
        for change in before {
            change.write(self.next(), 0, &mut messages);
        }
        let end = self.next();
        last.write(end, ACK, &mut messages);
        messages.push(around(BATCH_END, self.next()), |_| {});
        self.send(messages, || last.to_string())?;

        let (mut done, mut outcome, mut handles) = (false, Ok(()), Vec::new());
        while !done {
            self.receive(&|| last.to_string(), |answer| {
                let at = answer.sequence.wrapping_sub(begin);
                let index = usize::try_from(at).unwrap_or(usize::MAX).wrapping_sub(1);
                let request = || {
                    changes
                        .get(index)
                        .map_or_else(|| "change rules".to_owned(), ToString::to_string)
                };
                if at > end.wrapping_sub(begin) {
                    return Ok(());
                }
                match answer.kind {
                    NLMSG_ERROR => {
                        done |= at == 0 || answer.sequence == end;
                        let refused = refusal(answer.payload, request);
                        if outcome.is_ok() {
                            outcome = refused;
                        }
                    }
                    NEW_RULE => handles.extend(Rule::parse(answer.payload).map(|rule| rule.handle)),
                    _ => {}
                }
                Ok(())
            })?;
        }
        outcome.map(|()| handles)
    }

    /// Which of these chains and rules exist, in one request, or in a few if there are many.
    ///
    /// # Errors
    /// If the kernel does not answer, or refuses for another reason than that something does not exist.
    pub fn look_up(&mut self, chains: &[Chain<'_>], rules: &[(Chain<'_>, u64)]) -> Result<Found, Error> {
        let (now, later) = rules.split_at(rules.len().min(QUESTIONS));
        let mut found = self.look_up_some(chains, now)?;
        for some in later.chunks(QUESTIONS) {
            found.rules.extend(self.look_up_some(&[], some)?.rules);
        }
        Ok(found)
    }

    fn look_up_some(&mut self, chains: &[Chain<'_>], rules: &[(Chain<'_>, u64)]) -> Result<Found, Error> {
        let request = || "look up chains and rules".to_owned();
        let mut messages = Messages::default();
        let first = self.next();
        let query = |kind, sequence, family| Header {
            kind,
            flags: 0,
            sequence,
            family,
            resource: 0,
        };
        messages.push(query(GET_GENERATION, first, 0), |_| {});
        for chain in chains {
            messages.push(query(GET_CHAIN, self.next(), chain.family.number()), |messages| {
                messages.text(1, chain.table);
                messages.text(3, chain.name);
            });
        }
        for (chain, handle) in rules {
            messages.push(query(GET_RULE, self.next(), chain.family.number()), |messages| {
                messages.text(1, chain.table);
                messages.text(2, chain.name);
                messages.bytes(3, &handle.to_be_bytes());
            });
        }
        let mut missing = chains.len().saturating_add(rules.len()).saturating_add(1);
        self.send(messages, request)?;
        let mut generation = None;
        let mut found = Found {
            generation: 0,
            chains: vec![false; chains.len()],
            rules: vec![None; rules.len()],
        };
        while missing > 0 {
            self.receive(&request, |answer| {
                let at = usize::try_from(answer.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if at > chains.len().saturating_add(rules.len()) {
                    return Ok(());
                }
                missing = missing.saturating_sub(1);
                if answer.kind == NLMSG_ERROR {
                    return match refusal(answer.payload, request) {
                        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                        _ => Ok(()),
                    };
                }
                let at = at.wrapping_sub(1);
                if answer.kind == NEW_GENERATION {
                    generation = generation_of(answer.payload);
                } else if let Some(chain) = found.chains.get_mut(at) {
                    *chain = true;
                } else if let Some(rule) = found.rules.get_mut(at.wrapping_sub(chains.len())) {
                    *rule = Rule::parse(answer.payload);
                }
                Ok(())
            })?;
        }
        found.generation = generation.ok_or_else(|| Error::Malformed { request: request() })?;
        Ok(found)
    }

    /// The rules of a chain, in order; none if there is no such chain.
    ///
    /// # Errors
    /// If the kernel does not answer, or the rules change again and again while they are read.
    pub fn rules(&mut self, chain: Chain<'_>) -> Result<Vec<Rule>, Error> {
        let query = |messages: &mut Messages| {
            messages.text(1, chain.table);
            messages.text(2, chain.name);
        };
        let request = || format!("list the rules of chain {chain}");
        self.dump(
            (GET_RULE, chain.family.number()),
            NEW_RULE,
            &request,
            query,
            Rule::parse,
        )
    }

    /// What a map has for a key, empty for a set; none if there is no such element, set or table.
    ///
    /// # Errors
    /// If the kernel does not answer, or refuses for another reason.
    pub fn element(&mut self, set: Set<'_>, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let request = || format!("look up an element of set {set}");
        let sequence = self.next();
        let mut messages = Messages::default();
        let header = Header {
            kind: GET_ELEMENT,
            flags: 0,
            sequence,
            family: set.family.number(),
            resource: 0,
        };
        let element = Element {
            key,
            key_end: None,
            data: None,
        };
        messages.push(header, |messages| element.write(&set, messages));
        self.send(messages, request)?;
        let (mut answered, mut found) = (false, None);
        while !answered {
            self.receive(&request, |answer| {
                if answer.sequence != sequence {
                    return Ok(());
                }
                answered = true;
                match answer.kind {
                    NLMSG_ERROR => match refusal(answer.payload, request) {
                        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                        _ => Ok(()),
                    },
                    NEW_ELEMENT => {
                        found = Some(data_of_element(answer.payload).unwrap_or_default());
                        Ok(())
                    }
                    _ => Err(Error::Malformed { request: request() }),
                }
            })?;
        }
        Ok(found)
    }

    pub(crate) fn dump<T>(
        &mut self,
        (kind, family): (u16, u8),
        answer_kind: u16,
        request: &dyn Fn() -> String,
        query: impl Fn(&mut Messages),
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..RETRIES {
            let sequence = self.next();
            let mut messages = Messages::default();
            let header = Header {
                kind,
                flags: DUMP,
                sequence,
                family,
                resource: 0,
            };
            messages.push(header, &query);
            self.send(messages, request)?;
            let (mut found, mut done, mut changed) = (Vec::new(), false, false);
            while !done {
                self.receive(request, |answer| {
                    if answer.sequence != sequence {
                        return Ok(());
                    }
                    changed |= answer.flags & NLM_F_DUMP_INTR != 0;
                    done |= answer.kind == NLMSG_DONE || answer.kind == NLMSG_ERROR;
                    if answer.kind == NLMSG_ERROR {
                        return match refusal(answer.payload, request) {
                            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                            outcome => outcome,
                        };
                    }
                    if answer.kind == answer_kind {
                        found.extend(parse(answer.payload));
                    }
                    Ok(())
                })?;
            }
            if !changed {
                return Ok(found);
            }
        }
        Err(Error::NoAnswer { request: request() })
    }

    /// One request that is answered by an acknowledgement.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        family: u8,
        request: &dyn Fn() -> String,
        attributes: impl FnOnce(&mut Messages),
    ) -> Result<(), Error> {
        let sequence = self.next();
        let mut messages = Messages::default();
        let header = Header {
            kind,
            flags: ACK,
            sequence,
            family,
            resource: 0,
        };
        messages.push(header, attributes);
        self.send(messages, request)?;
        let mut outcome = None;
        while outcome.is_none() {
            self.receive(request, |answer| {
                if answer.sequence == sequence && answer.kind == NLMSG_ERROR {
                    outcome = Some(refusal(answer.payload, request));
                }
                Ok(())
            })?;
        }
        outcome.unwrap_or(Ok(()))
    }

    const fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, messages: Messages, request: impl Fn() -> String) -> Result<(), Error> {
        let bytes = messages
            .finish()
            .ok_or_else(|| Error::TooLong { request: request() })?;
        if bytes.len() > USUAL_DATAGRAM {
            // The answers may repeat the new rules.
            let size = bytes.len().saturating_mul(4);
            set_socket_send_buffer_size_force(&self.socket, size)
                .and_then(|()| set_socket_recv_buffer_size_force(&self.socket, size))
                .map_err(|errno| Error::Socket {
                    operation: "setsockopt(SO_SNDBUFFORCE, SO_RCVBUFFORCE)",
                    source: errno.into(),
                })?;
        }
        let sent = self.socket.send(&bytes, 0);
        sent.map(drop).map_err(|source| Error::Socket {
            operation: "send",
            source,
        })
    }

    /// Receives one datagram and passes its messages to `take`.
    fn receive(
        &mut self,
        request: &dyn Fn() -> String,
        mut take: impl FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.buffer.clear();
        loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::NoAnswer { request: request() });
                }
                Err(source) => {
                    return Err(Error::Socket {
                        operation: "recv",
                        source,
                    });
                }
            }
        }
        for message in MessagesOf(&self.buffer) {
            take(message.map_err(|()| Error::Malformed { request: request() })?)?;
        }
        Ok(())
    }
}

fn generation_of(payload: &[u8]) -> Option<u32> {
    let (_, id) = Attributes(payload.get(FAMILY_HEADER..)?).find(|(kind, _)| *kind == 1)?;
    number(id)
}

/// Reads `struct nlmsgerr`: zero is an acknowledgement, anything else a negative errno.
fn refusal(payload: &[u8], request: impl FnOnce() -> String) -> Result<(), Error> {
    let code = payload
        .get(..4)
        .and_then(|code| code.try_into().ok())
        .map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Error::Refused {
            request: request(),
            source: io::Error::from_raw_os_error(code.saturating_neg()),
        }),
        None => Err(Error::Malformed { request: request() }),
    }
}
