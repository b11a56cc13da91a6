//! What the driver and the streams' halves share, under one lock.
//!
//! ```text
//!   Running ──start_closing──▶ Closing ──▶ Ended
//!      └──────── failure, end of the byte stream, session dropped ────▲
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::slot::{Slot, register};
use crate::{Connection, Error, Event, GoAwayStatus, Headers, RstStatus, StreamId};

/// PINGs of ours that may wait for answers at once; older ones are given up.
const PINGS: usize = 16;

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    Closing,
    Ended,
}

/// The lock, and the bell for who waits for the session rather than for a stream.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Notify,
}

impl Shared {
    pub(super) fn new(connection: Connection) -> Self {
        let state = State {
            connection,
            slots: HashMap::new(),
            incoming: VecDeque::new(),
            pings: VecDeque::new(),
            phase: Phase::Running,
            end: None,
            went: None,
            driver: None,
            last_activity: Instant::now(),
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends everything; only the first end counts.
    pub(super) fn end(&self, result: Result<(), Error>) {
        let wakers = self.lock().end(result);
        wakers.into_iter().for_each(Waker::wake);
        self.changed.notify_waiters();
    }
}

/// What is under the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) connection: Connection,
    pub(super) slots: HashMap<StreamId, Slot>,
    /// Opened by the peer, not yet accepted.
    incoming: VecDeque<StreamId>,
    pings: VecDeque<(u32, oneshot::Sender<()>)>,
    pub(super) phase: Phase,
    /// How the session ended.
    pub(super) end: Option<Result<(), Error>>,
    /// What the peer said with GOAWAY.
    pub(super) went: Option<GoAwayStatus>,
    driver: Option<Waker>,
    pub(super) last_activity: Instant,
}

impl State {
    /// Keeps the driver's waker.
    pub(super) fn register_driver(&mut self, cx: &Context<'_>) {
        register(&mut self.driver, cx);
    }

    /// Lets the driver look at what has changed. Waking only marks its task; it cannot run into the lock held here.
    pub(super) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    pub(super) fn start_closing(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Closing;
            self.wake_driver();
        }
    }

    pub(super) fn open(&mut self, headers: Headers) -> Result<StreamId, Error> {
        if self.phase != Phase::Running {
            return Err(Error::Closed);
        }
        let id = self.connection.open(headers)?;
        self.slots.insert(id, Slot::new(Headers::new()));
        self.last_activity = Instant::now();
        self.wake_driver();
        Ok(id)
    }

    pub(super) fn poll_reply(&mut self, id: StreamId, cx: &Context<'_>) -> Poll<Result<Headers, Error>> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Poll::Ready(Err(Error::Closed));
        };
        if slot.replied {
            return Poll::Ready(Ok(std::mem::take(&mut slot.headers)));
        }
        if let Some(status) = slot.reset {
            return Poll::Ready(Err(Error::Reset { stream: id, status }));
        }
        if let Some(end) = &self.end {
            return Poll::Ready(Err(end.clone().err().unwrap_or(Error::Closed)));
        }
        register(&mut slot.reader, cx);
        Poll::Pending
    }

    pub(super) fn ping(&mut self) -> Result<oneshot::Receiver<()>, Error> {
        if self.phase != Phase::Running {
            return Err(Error::Closed);
        }
        let (sender, receiver) = oneshot::channel();
        if self.pings.len() >= PINGS {
            self.pings.pop_front();
        }
        self.pings.push_back((self.connection.ping(), sender));
        self.wake_driver();
        Ok(receiver)
    }

    pub(super) fn next_incoming(&mut self) -> Option<(StreamId, Headers)> {
        let id = self.incoming.pop_front()?;
        let slot = self.slots.get_mut(&id)?;
        Some((id, std::mem::take(&mut slot.headers)))
    }

    /// What a failed half answers.
    pub(super) fn failure(&self, id: StreamId) -> Option<Error> {
        if let Some(status) = self.slots.get(&id).and_then(|slot| slot.reset) {
            return Some(Error::Reset { stream: id, status });
        }
        (self.phase != Phase::Running)
            .then(|| self.end.clone().and_then(Result::err).unwrap_or(Error::Closed))
    }

    /// Credit for the peer; wakes the driver if it can do something now.
    pub(super) fn release(&mut self, id: StreamId, bytes: usize) {
        let held_back = !self.connection.wants_input();
        self.connection.release(id, bytes);
        if self.connection.has_answers() || held_back {
            self.wake_driver();
        }
    }

    /// Resets a stream; its halves fail from now on.
    pub(super) fn reset(&mut self, id: StreamId, status: RstStatus) {
        self.connection.reset(id, status);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.reset.get_or_insert(status);
            let wakers = [slot.reader.take(), slot.writer.take()];
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
        self.wake_driver();
    }

    /// Nobody reads the stream any more.
    pub(super) fn drop_reader(&mut self, id: StreamId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.has_reader = false;
            let unread = slot.unread.clear();
            self.release(id, unread);
            self.forget(id);
        }
    }

    /// Nobody writes to the stream any more.
    pub(super) fn drop_writer(&mut self, id: StreamId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.has_writer = false;
            self.forget(id);
        }
    }

    fn forget(&mut self, id: StreamId) {
        if self
            .slots
            .get(&id)
            .is_some_and(|slot| !slot.has_reader && !slot.has_writer)
        {
            self.slots.remove(&id);
            self.connection.abandon(id);
            self.wake_driver();
        }
    }

    /// Brings an event to its stream; who is to be woken goes to `wakers`. True if somebody waiting for the session
    /// should look.
    pub(super) fn dispatch(&mut self, event: Event, wakers: &mut Vec<Waker>) -> bool {
        match event {
            Event::Opened { stream, headers, fin } => {
                let mut slot = Slot::new(headers);
                slot.ended = fin;
                self.slots.insert(stream, slot);
                self.incoming.push_back(stream);
                return true;
            }
            Event::Replied { stream, headers, fin } => {
                if let Some(slot) = self.slots.get_mut(&stream) {
                    slot.headers = headers;
                    slot.replied = true;
                    slot.ended |= fin;
                    wakers.extend(slot.reader.take());
                }
            }
            Event::Headers { stream, fin, .. } => self.received(stream, Bytes::new(), fin, wakers),
            Event::Data { stream, data, fin } => self.received(stream, data, fin, wakers),
            Event::Reset { stream, status } => self.was_reset(stream, status, wakers),
            Event::Pong { id } => {
                if let Some(at) = self.pings.iter().position(|(asked, _)| *asked == id)
                    && let Some((_, sender)) = self.pings.remove(at)
                {
                    // Who asked may have stopped waiting.
                    sender.send(()).ok();
                }
            }
            Event::GoAway { status } => {
                self.went = Some(status);
                return true;
            }
        }
        false
    }

    fn received(&mut self, stream: StreamId, data: Bytes, fin: bool, wakers: &mut Vec<Waker>) {
        match self.slots.get_mut(&stream) {
            Some(slot) if slot.has_reader => {
                if !data.is_empty() {
                    slot.unread.push(data);
                }
                slot.ended |= fin;
                wakers.extend(slot.reader.take());
            }
            slot => {
                if let Some(slot) = slot {
                    slot.ended |= fin;
                }
                self.connection.release(stream, data.len());
            }
        }
    }

    fn was_reset(&mut self, stream: StreamId, status: RstStatus, wakers: &mut Vec<Waker>) {
        if let Some(at) = self.incoming.iter().position(|id| *id == stream) {
            self.incoming.remove(at);
            if let Some(mut slot) = self.slots.remove(&stream) {
                self.connection.release(stream, slot.unread.clear());
            }
        } else if let Some(slot) = self.slots.get_mut(&stream) {
            slot.reset.get_or_insert(status);
            wakers.extend(slot.reader.take());
            wakers.extend(slot.writer.take());
        }
    }

    fn end(&mut self, result: Result<(), Error>) -> Vec<Waker> {
        if self.end.is_some() {
            return Vec::new();
        }
        self.phase = Phase::Ended;
        self.end = Some(result);
        self.pings.clear();
        for id in std::mem::take(&mut self.incoming) {
            self.slots.remove(&id);
        }
        let mut wakers = Vec::from_iter(self.driver.take());
        for slot in self.slots.values_mut() {
            wakers.extend(slot.reader.take());
            wakers.extend(slot.writer.take());
        }
        wakers
    }
}
