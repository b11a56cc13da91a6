//! One connection of a plugin: a task that owns the socket, and the calls in both directions over it.
//!
//! ```text
//!                    ┌────────┐ reads, decodes ───▶ answers of the plugin ───▶ the calls that wait
//!   plugin ◀─socket─▶│  task  │                ───▶ calls of the plugin   ───▶ Incoming, a bounded queue
//!                    └────────┘ writes ◀─────────── bounded queue ◀── Connection::call, Connection::answer
//! ```
//!
//! The task also waits for the first deadline of the calls. What it finds first ends the connection for good: every
//! call that waits, and every later one, fails with that [`End`].
//!
//! It must never hold more than [`MAX_QUEUED`] messages or [`MAX_QUEUED_BYTES`] for the plugin, two messages that the
//! plugin has begun to send, and [`MAX_INCOMING`] whole ones; wait for an answer without a limit; or let one that
//! nobody waits for any more keep the connection from noticing that the plugin hangs.

mod receive;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::WriteHalf;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::error::{CallError, End, Violation, clean};
use crate::mux::{self, Oversized};
use crate::proto::ttrpc::{Request, Response, Status};
use crate::proto::{RegisterPluginRequest, UpdateContainersRequest};
use crate::ttrpc::{MAX_MESSAGE, Message};

/// Messages that wait for the plugin to read them.
const MAX_QUEUED: usize = 1024;
/// Their bytes. Two messages fit: one call, and one answer.
const MAX_QUEUED_BYTES: usize = 2 * (MAX_MESSAGE + 64);
/// Calls of the plugin that wait to be handled.
pub(crate) const MAX_INCOMING: usize = 8;

/// The service on [`mux::PLUGIN`].
const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";

/// Codes of gRPC.
pub(crate) mod code {
    pub(crate) const INVALID_ARGUMENT: i32 = 3;
    pub(crate) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(crate) const FAILED_PRECONDITION: i32 = 9;
    pub(crate) const UNIMPLEMENTED: i32 = 12;
}

/// A call of the plugin, to be answered on its stream.
#[derive(Debug)]
pub(crate) enum Incoming {
    Register {
        stream: u32,
        request: RegisterPluginRequest,
    },
    Update {
        stream: u32,
        request: UpdateContainersRequest,
    },
}

/// A handle to the task.
#[derive(Debug, Clone)]
pub(crate) struct Connection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the writer: there is something to write.
    queued: Notify,
    /// Wakes what waits for deadlines: there is another first one, or the end.
    changed: Notify,
    /// How long calls may take.
    timeout: Duration,
}

#[derive(Debug, Default)]
struct State {
    /// Calls without an answer, by stream.
    calls: BTreeMap<u32, Call>,
    /// How many calls there have been.
    count: u32,
    outgoing: VecDeque<Bytes>,
    /// The bytes in `outgoing`.
    bytes: usize,
    end: Option<Arc<End>>,
}

#[derive(Debug)]
struct Call {
    method: &'static str,
    deadline: Instant,
    limit: Duration,
    /// Whoever waits for it may have gone.
    reply: oneshot::Sender<Response>,
}

impl Connection {
    /// Starts the task. The calls of the plugin come out of the receiver, which ends with the connection.
    pub(crate) fn start(stream: UnixStream, timeout: Duration) -> (Self, mpsc::Receiver<Incoming>) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            queued: Notify::new(),
            changed: Notify::new(),
            timeout,
        });
        let (sender, incoming) = mpsc::channel(MAX_INCOMING);
        tokio::spawn(Arc::clone(&shared).run(stream, sender));
        (Self(shared), incoming)
    }

    /// Calls a method of the plugin. If the answer is late, the connection ends, even if this future is dropped before.
    pub(crate) async fn call<A: prost::Message + Default>(
        &self,
        method: &'static str,
        request: &impl prost::Message,
    ) -> Result<A, CallError> {
        self.call_within(self.0.timeout, method, request).await
    }

    /// As [`Self::call`], with a time limit of its own.
    pub(crate) async fn call_within<A: prost::Message + Default>(
        &self,
        limit: Duration,
        method: &'static str,
        request: &impl prost::Message,
    ) -> Result<A, CallError> {
        let (reply, answer) = oneshot::channel();
        self.begin(limit, method, request.encode_to_vec().into(), reply)?;
        let Ok(response) = answer.await else {
            return Err(self.lost());
        };
        if let Some(Status { code, message }) = response.status
            && code != 0
        {
            let message = clean(&message);
            return Err(CallError::Status { code, message });
        }
        A::decode(response.payload).map_err(|source| {
            self.end(End::Protocol(Violation::Undecodable { what: method, source }));
            self.lost()
        })
    }

    fn begin(
        &self,
        limit: Duration,
        method: &'static str,
        payload: Bytes,
        reply: oneshot::Sender<Response>,
    ) -> Result<(), CallError> {
        let request = Request {
            service: PLUGIN_SERVICE.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX),
        };
        let payload = request.encode_to_vec().into();
        // Numbers have to ascend on the wire: one is taken and queued under the same lock.
        let mut state = self.0.state.lock();
        let outcome = match state.count.checked_mul(2) {
            // A call after the end is forgotten, and thereby failed.
            _ if state.end.is_some() => Ok(()),
            None => Err(End::Exhausted),
            Some(twice) => {
                let stream = twice + 1;
                let message = mux::encode(mux::PLUGIN, &Message::request(stream, payload))
                    .map_err(|Oversized { length }| CallError::TooLarge { length })?;
                state.count += 1;
                let deadline = Instant::now() + limit;
                state.calls.insert(
                    stream,
                    Call {
                        method,
                        deadline,
                        limit,
                        reply,
                    },
                );
                state.push(message)
            }
        };
        drop(state);
        self.0.pushed(outcome);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Answers a call of the plugin.
    pub(crate) fn answer(&self, stream: u32, answer: &impl prost::Message) {
        let payload = answer.encode_to_vec().into();
        self.0.respond(
            stream,
            &Response {
                status: None,
                payload,
            },
        );
    }

    /// Answers a call of the plugin with an error.
    pub(crate) fn refuse(&self, stream: u32, code: i32, message: String) {
        self.0.refuse(stream, code, message);
    }

    /// Ends the connection, unless it has ended before. What is queued is still sent, as far as the socket takes it.
    pub(crate) fn end(&self, end: End) {
        self.0.end(end);
    }

    /// Why the connection has ended.
    pub(crate) fn reason(&self) -> Arc<End> {
        let end = self.0.state.lock().end.clone();
        end.unwrap_or_else(|| Arc::new(End::Stopped))
    }

    fn lost(&self) -> CallError {
        CallError::Lost(self.reason())
    }
}

impl State {
    /// Queues a message for the plugin. There is no use in waiting for a plugin that lets the queue become full.
    fn push(&mut self, message: Bytes) -> Result<(), End> {
        let (messages, bytes) = (self.outgoing.len() + 1, self.bytes + message.len());
        if messages > MAX_QUEUED || bytes > MAX_QUEUED_BYTES {
            return Err(End::SlowReader { messages, bytes });
        }
        self.bytes = bytes;
        self.outgoing.push_back(message);
        Ok(())
    }
}

impl Shared {
    async fn run(self: Arc<Self>, mut stream: UnixStream, incoming: mpsc::Sender<Incoming>) {
        let ending = Ending(&self);
        let (read, write) = stream.split();
        let end = tokio::select! {
            end = self.read(read, &incoming) => end,
            end = self.write(write) => end,
            end = self.watch() => end,
        };
        ending.0.end(end);
        let rest = std::mem::take(&mut self.state.lock().outgoing);
        for bytes in rest {
            if stream.try_write(&bytes).ok() != Some(bytes.len()) {
                break;
            }
        }
    }

    /// Records the first reason only, and fails the calls.
    fn end(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(Arc::new(end));
        }
        state.calls.clear();
        drop(state);
        self.changed.notify_one();
    }

    fn pushed(&self, outcome: Result<(), End>) {
        match outcome {
            Ok(()) => self.queued.notify_one(),
            Err(end) => self.end(end),
        }
    }

    fn respond(&self, stream: u32, response: &Response) {
        let payload = response.encode_to_vec().into();
        match mux::encode(mux::RUNTIME, &Message::response(stream, payload)) {
            Ok(message) => {
                let outcome = self.state.lock().push(message);
                self.pushed(outcome);
            }
            Err(Oversized { length }) => {
                let message = format!("the answer has {length} bytes, allowed are {MAX_MESSAGE}");
                self.refuse(stream, code::RESOURCE_EXHAUSTED, message);
            }
        }
    }

    fn refuse(&self, stream: u32, code: i32, message: String) {
        let (status, payload) = (Some(Status { code, message }), Bytes::new());
        self.respond(stream, &Response { status, payload });
    }

    async fn write(&self, mut socket: WriteHalf<'_>) -> End {
        loop {
            let Some(first) = self.state.lock().outgoing.front().cloned() else {
                self.queued.notified().await;
                continue;
            };
            match socket.write(&first).await {
                Ok(written) => {
                    let mut state = self.state.lock();
                    state.bytes = state.bytes.saturating_sub(written);
                    if let Some(first) = state.outgoing.front_mut() {
                        first.advance(written);
                        if first.is_empty() {
                            state.outgoing.pop_front();
                        }
                    }
                }
                Err(source) => {
                    let operation = "write to";
                    return End::Io { operation, source };
                }
            }
        }
    }

    /// Waits until a call is late, or the end has been recorded.
    async fn watch(&self) -> End {
        loop {
            let first = {
                let state = self.state.lock();
                if state.end.is_some() {
                    return End::Stopped;
                }
                let first = state.calls.values().min_by_key(|call| call.deadline);
                first.map(|call| (call.deadline, call.method, call.limit))
            };
            let Some((deadline, method, limit)) = first else {
                self.changed.notified().await;
                continue;
            };
            if deadline <= Instant::now() {
                return End::Timeout { method, limit };
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(deadline) => {}
            }
        }
    }
}

/// Fails the calls however the task ends (a panic, the end of the runtime), so that none waits for ever.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end(End::Stopped);
    }
}

#[cfg(test)]
mod tests;
