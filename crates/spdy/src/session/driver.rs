//! The task that owns the byte stream: reads, writes, and watches the clock.
//!
//! Everything it waits for wakes it as a whole; then it writes, reads and looks at the clock until none of these goes on.

mod clock;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use super::shared::{Phase, Shared, State};
use crate::connection::Output;
use crate::{Config, Error, GoAwayStatus, RstStatus};
use clock::Clock;

/// Reads grow to this while they fill their buffer, so that bulk data costs few system calls.
pub(super) const LARGEST_READ: usize = 128 * 1024;
/// And shrink to this, so that an idle connection holds little.
const SMALLEST_READ: usize = 4 * 1024;
/// What is taken from the streams' queues at once.
const BATCH: usize = 256 * 1024;
/// Pieces for one vectored write.
const SLICES: usize = 64;
/// Rounds before other tasks get their turn.
const ROUNDS: usize = 32;
/// Bytes of a PING frame.
const PING_FRAME: usize = 12;

/// The task.
#[derive(Debug)]
pub(super) struct Driver<T> {
    io: T,
    shared: Arc<Shared>,
    config: Config,
    clock: Clock,
    input: BytesMut,
    read_size: usize,
    out: Output,
    /// For a byte stream without vectored writes.
    flat: BytesMut,
    unflushed: bool,
}

/// What a look at the shared state told.
struct Look {
    phase: Phase,
    wants_input: bool,
    /// Nothing is left to be sent, in the streams' queues either.
    flushed: bool,
    /// The peer has said GOAWAY and all streams are gone.
    finished: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(super) fn new(io: T, shared: Arc<Shared>, config: Config) -> Self {
        Self {
            io,
            shared,
            clock: Clock::new(config.keepalive, config.idle_timeout),
            config,
            input: BytesMut::new(),
            read_size: SMALLEST_READ,
            out: Output::default(),
            flat: BytesMut::new(),
            unflushed: false,
        }
    }

    /// Drives the connection to its end.
    pub(super) async fn run(mut self) {
        let running = poll_fn(|cx| self.poll(cx, Phase::Running)).await;
        let result = match running {
            Ok(()) => self.close().await,
            Err(error) => {
                self.last_words().await;
                Err(error)
            }
        };
        // A clean end of the byte stream is no failure. (The end of a dropped session is noted already.)
        let result = if matches!(result, Err(Error::Closed)) {
            Ok(())
        } else {
            result
        };
        let went = self.shared.lock().went;
        self.shared.end(match went {
            Some(status) if status != GoAwayStatus::Ok => Err(Error::GoAway { status }),
            _ => result,
        });
    }

    /// In order: what is queued, resets, GOAWAY, the end; then listens until the peer ends too. Bounded in time.
    async fn close(&mut self) -> Result<(), Error> {
        let limit = self.config.close_timeout;
        self.shared.lock().start_closing();
        let orderly = async {
            poll_fn(|cx| self.poll(cx, Phase::Closing)).await?;
            self.say_goodbye(GoAwayStatus::Ok);
            // A peer that has gone already does not hear it, which is no failure.
            if poll_fn(|cx| self.poll_rest(cx)).await.is_ok() {
                self.drain().await;
            }
            Ok(())
        };
        // Whoever does not take our last words in time goes without them.
        tokio::time::timeout(limit, orderly).await.unwrap_or(Ok(()))
    }

    /// After a failure: the GOAWAY that says so, if the peer takes it at once.
    async fn last_words(&mut self) {
        self.say_goodbye(GoAwayStatus::Ok);
        let rest = poll_fn(|cx| Poll::Ready(self.poll_rest(cx)));
        drop(rest.await);
    }

    fn say_goodbye(&mut self, status: GoAwayStatus) {
        let mut state = self.shared.lock();
        let open: Vec<_> = state.slots.keys().copied().collect();
        for stream in open {
            state.connection.reset(stream, RstStatus::Cancel);
        }
        state.connection.go_away(status);
    }

    /// Until `phase` is over: `Ok` when the next one is to begin.
    fn poll(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<Result<(), Error>> {
        for _ in 0..ROUNDS {
            let look = self.look(cx);
            if look.phase == Phase::Ended {
                return Poll::Ready(Err(Error::Closed));
            }
            if look.finished || look.phase != phase {
                return Poll::Ready(Ok(()));
            }
            let wrote = self.poll_write(cx)?;
            if phase == Phase::Closing && look.flushed && self.is_written() {
                return Poll::Ready(Ok(()));
            }
            let read = look.wants_input && self.poll_read(cx)?;
            if !wrote && !read {
                return self.poll_clock(cx, look.wants_input);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes output, wakes writers that have room again, and sees what is to be done.
    fn look(&mut self, cx: &Context<'_>) -> Look {
        let mut wakers = Vec::new();
        let mut state = self.shared.lock();
        state.register_driver(cx);
        // What cannot be written is left where it is counted: there it holds back writers, and the peer.
        if self.out.len() < BATCH {
            state.connection.take_output(BATCH, &mut self.out);
        }
        for stream in state.connection.take_drained() {
            let roomy = self.config.send_buffer / 2;
            if state.connection.room(stream).is_ok_and(|room| room >= roomy)
                && let Some(slot) = state.slots.get_mut(&stream)
            {
                wakers.extend(slot.writer.take());
            }
        }
        let connection = &state.connection;
        let look = Look {
            phase: state.phase,
            wants_input: connection.wants_input(),
            flushed: state.phase == Phase::Closing && connection.is_flushed(),
            finished: connection.is_going_away() && connection.open_streams() == 0,
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        look
    }

    fn is_written(&self) -> bool {
        self.out.is_empty() && self.flat.is_empty()
    }

    /// Writes what was taken. True if something was written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut progress = false;
        while !self.is_written() {
            match self.poll_write_some(cx) {
                Poll::Pending => return Ok(progress),
                Poll::Ready(Ok(0)) => return Err(failed("write", io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(_)) => progress = true,
                Poll::Ready(Err(error)) => return Err(failed("write", error)),
            }
            self.unflushed = true;
        }
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(failed("write", error)),
            }
        }
        Ok(progress)
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        if io.is_write_vectored() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.out.slices(&mut slices);
            let written = std::task::ready!(io.poll_write_vectored(cx, &slices[..used]))?;
            self.out.advance(written);
            return Poll::Ready(Ok(written));
        }
        if self.flat.is_empty() {
            self.out.copy_to(&mut self.flat, LARGEST_READ);
        }
        let written = std::task::ready!(io.poll_write(cx, &self.flat))?;
        self.flat.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Reads once and handles what came. True if something came.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        if self.input.capacity() - self.input.len() < self.read_size / 2 {
            self.input.reserve(self.read_size);
        }
        let room = self.input.capacity() - self.input.len();
        let came = match pin!(self.io.read_buf(&mut self.input)).poll(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(error)) => return Err(failed("read", error)),
            Poll::Ready(Ok(came)) => came,
        };
        if came == 0 {
            return Err(self.end_of_input());
        }
        if came >= room {
            self.read_size = (self.read_size * 2).min(LARGEST_READ);
        } else if came < self.read_size / 8 {
            self.read_size = (self.read_size / 2).max(SMALLEST_READ);
        }
        self.handle_input().map(|()| true)
    }

    fn handle_input(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let (mut wakers, mut changed, mut pongs) = (Vec::new(), false, 0);
        let before = self.input.len();
        let result = {
            let mut state = self.shared.lock();
            loop {
                match state.connection.receive(&mut self.input) {
                    Ok(Some(event)) => {
                        pongs += usize::from(matches!(event, crate::Event::Pong { .. }));
                        changed |= state.dispatch(event, &mut wakers);
                    }
                    Ok(None) => break Ok(()),
                    Err(violation) => break Err(Error::Protocol(violation)),
                }
            }
            .inspect(|()| note_activity(&mut state, now, before - self.input.len() > pongs * PING_FRAME))
        };
        self.clock.received(now);
        wakers.into_iter().for_each(Waker::wake);
        if changed {
            self.shared.changed.notify_waiters();
        }
        result
    }

    /// The end of the byte stream: clean between frames. Either way nothing can be sent any more that would be answered.
    fn end_of_input(&self) -> Error {
        let whole = self.input.is_empty() && self.shared.lock().connection.is_between_frames();
        if whole { Error::Closed } else { Error::Truncated }
    }

    fn poll_clock(&mut self, cx: &mut Context<'_>, reading: bool) -> Poll<Result<(), Error>> {
        let shared = &self.shared;
        let last_activity = || shared.lock().last_activity;
        match self.clock.poll(cx, reading, last_activity) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                self.shared.lock().connection.ping();
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Writes what is left, then ends our side.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.lock().connection.take_output(BATCH, &mut self.out);
        self.poll_write(cx)?;
        if !self.is_written() || self.unflushed {
            return Poll::Pending;
        }
        Pin::new(&mut self.io)
            .poll_shutdown(cx)
            .map_err(|error| failed("shut down", error))
    }

    /// Reads and drops until the peer ends.
    async fn drain(&mut self) {
        loop {
            self.input.clear();
            if !matches!(self.io.read_buf(&mut self.input).await, Ok(1..)) {
                return;
            }
        }
    }
}

impl<T> Drop for Driver<T> {
    /// Whatever ends the task (a panic, the end of the runtime): nobody waits for ever.
    fn drop(&mut self) {
        self.shared.end(Err(Error::Closed));
    }
}

fn note_activity(state: &mut State, now: Instant, counts: bool) {
    if counts {
        state.last_activity = now;
    }
}

fn failed(operation: &'static str, error: io::Error) -> Error {
    Error::Io {
        operation,
        source: Arc::new(error),
    }
}
