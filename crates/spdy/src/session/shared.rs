//! The state that the driver and the halves of streams share, under one lock.
//!
//! A [`Slot`] is not a second protocol state: the [`Connection`] forgets a stream as soon as both directions have ended, but the
//! application may still have bytes to read, and the end or the reset behind them.
//!
//! ```text
//!   Running ──start_closing──▶ Closing ──▶ Ended
//!      └──────── failure, end of the byte stream, session dropped ────▲
//! ```

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::chunks::Chunks;
use crate::{Connection, Error, Event, GoAwayStatus, Headers, RstStatus, StreamId};

/// Our PINGs that may wait for an answer at once; older ones fail.
const PINGS: usize = 16;

/// The phase of a session.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Running,
    Closing,
    /// With the reason: `Ok` for GOAWAY, a clean end of the byte stream or `close`.
    Ended(Result<(), Error>),
}

/// The lock, and the notification for tasks that wait for the session rather than for a stream.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Notify,
}

impl Shared {
    pub(super) fn new(connection: Connection, waiting_headers_max: usize) -> Self {
        let state = State {
            connection,
            slots: HashMap::new(),
            incoming: VecDeque::new(),
            waiting_headers: 0,
            waiting_headers_max,
            pings: VecDeque::new(),
            phase: Phase::Running,
            went_away: None,
            driver: None,
            last_activity: Instant::now(),
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Ends everything; only the first end counts.
    pub(super) fn end(&self, result: Result<(), Error>) {
        let wakers = self.lock().set_end(result);
        wakers.into_iter().for_each(Waker::wake);
        self.changed.notify_waiters();
    }
}

/// The state under the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) connection: Connection,
    pub(super) slots: HashMap<StreamId, Slot>,
    /// Opened by the peer, not yet accepted.
    incoming: VecDeque<StreamId>,
    /// Bytes of their header blocks.
    waiting_headers: usize,
    waiting_headers_max: usize,
    pings: VecDeque<(u32, oneshot::Sender<()>)>,
    pub(super) phase: Phase,
    /// The status of the peer's GOAWAY.
    pub(super) went_away: Option<GoAwayStatus>,
    driver: Option<Waker>,
    pub(super) last_activity: Instant,
}

impl State {
    pub(super) fn register_driver(&mut self, cx: &Context<'_>) {
        register(&mut self.driver, cx);
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// How the session ended, if it has.
    pub(super) fn end(&self) -> Option<&Result<(), Error>> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            Phase::Running | Phase::Closing => None,
        }
    }

    /// Makes the driver look at the changed state. Waking only schedules its task, so it does not need the lock now.
    pub(super) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    pub(super) fn start_closing(&mut self) {
        if self.is_running() {
            self.phase = Phase::Closing;
            self.wake_driver();
        }
    }

    pub(super) fn open(&mut self, headers: Headers) -> Result<StreamId, Error> {
        if !self.is_running() {
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
        if let Phase::Ended(end) = &self.phase {
            return Poll::Ready(Err(end.clone().err().unwrap_or(Error::Closed)));
        }
        register(&mut slot.reader, cx);
        Poll::Pending
    }

    pub(super) fn ping(&mut self) -> Result<oneshot::Receiver<()>, Error> {
        if !self.is_running() {
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
        let headers = std::mem::take(&mut slot.headers);
        self.waiting_headers -= headers.block_len();
        Some((id, headers))
    }

    /// The error for a half of a stream, if the stream or the session has failed.
    pub(super) fn failure(&self, id: StreamId) -> Option<Error> {
        if let Some(status) = self.slots.get(&id).and_then(|slot| slot.reset) {
            return Some(Error::Reset { stream: id, status });
        }
        match &self.phase {
            Phase::Running => None,
            Phase::Closing | Phase::Ended(Ok(())) => Some(Error::Closed),
            Phase::Ended(Err(error)) => Some(error.clone()),
        }
    }

    /// Gives the peer credit; wakes the driver if it can act on that.
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

    /// The reading half was dropped.
    pub(super) fn drop_reader(&mut self, id: StreamId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.has_reader = false;
            let unread = slot.unread.clear();
            self.release(id, unread);
            self.forget(id);
        }
    }

    /// The writing half was dropped.
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

    /// Passes an event to its stream and adds the tasks to wake to `wakers`. True if the event concerns tasks that wait for the
    /// session.
    pub(super) fn dispatch(&mut self, event: Event, wakers: &mut Vec<Waker>) -> bool {
        match event {
            Event::Opened { stream, headers, .. }
                if self.waiting_headers + headers.block_len() > self.waiting_headers_max =>
            {
                self.connection.reset(stream, RstStatus::RefusedStream);
            }
            Event::Opened { stream, headers, fin } => {
                self.waiting_headers += headers.block_len();
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
                    // The asking task may have stopped waiting.
                    sender.send(()).ok();
                }
            }
            Event::GoAway { status } => {
                self.went_away = Some(status);
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
                self.waiting_headers -= slot.headers.block_len();
                self.connection.release(stream, slot.unread.clear());
            }
        } else if let Some(slot) = self.slots.get_mut(&stream) {
            slot.reset.get_or_insert(status);
            wakers.extend(slot.reader.take());
            wakers.extend(slot.writer.take());
        }
    }

    fn set_end(&mut self, result: Result<(), Error>) -> Vec<Waker> {
        if self.end().is_some() {
            return Vec::new();
        }
        self.phase = Phase::Ended(result);
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

/// Smaller pieces are copied out of the read buffer, because a piece keeps the whole buffer alive.
const SHARE_FROM: usize = super::driver::LARGEST_READ / 4;

/// A stream as its halves see it.
#[derive(Debug)]
pub(super) struct Slot {
    /// Of SYN_STREAM or SYN_REPLY, until they are taken.
    pub(super) headers: Headers,
    pub(super) replied: bool,
    /// Received bytes that have not been read.
    pub(super) unread: Chunks,
    /// FIN was received.
    pub(super) ended: bool,
    /// RST_STREAM was received or sent.
    pub(super) reset: Option<RstStatus>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) has_reader: bool,
    pub(super) has_writer: bool,
}

impl Slot {
    pub(super) fn new(headers: Headers) -> Self {
        Self {
            headers,
            replied: false,
            unread: Chunks::new(SHARE_FROM),
            ended: false,
            reset: None,
            reader: None,
            writer: None,
            has_reader: true,
            has_writer: true,
        }
    }
}

/// Stores the waker of the task that waits now.
pub(super) fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}
