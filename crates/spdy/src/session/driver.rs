//! The task that owns the byte stream: reads, writes, and checks the timer.
//!
//! Everything it waits for wakes the whole task; then it writes, reads and checks the timer until none of them makes progress.

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
/// And shrink to this, so that an idle connection holds little memory.
const SMALLEST_READ: usize = 4 * 1024;
/// Bytes taken from the queues of streams at once.
const BATCH: usize = 256 * 1024;
/// Pieces for one vectored write.
const SLICES: usize = 64;
/// Rounds before the task yields to others.
const ROUNDS: usize = 32;
/// Bytes of a PING frame.
const PING_FRAME: usize = 12;

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

/// The shared state as [`Driver::look`] saw it.
struct Look {
    ended: bool,
    closing: bool,
    wants_input: bool,
    /// Nothing is left to send, in the queues of streams either.
    flushed: bool,
    /// The peer has sent GOAWAY and all streams have ended.
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
        let running = poll_fn(|cx| self.poll(cx, false)).await;
        let result = match running {
            Ok(()) => self.close().await,
            Err(error) => {
                self.send_last_frames().await;
                Err(error)
            }
        };
        // A clean end of the byte stream is not a failure. (The end of a dropped session is recorded already.)
        let result = if matches!(result, Err(Error::Closed)) {
            Ok(())
        } else {
            result
        };
        let went_away = self.shared.lock().went_away;
        self.shared.end(match went_away {
            Some(status) if status != GoAwayStatus::Ok => Err(Error::GoAway { status }),
            _ => result,
        });
    }

    /// Sends, in this order, the queues, resets, GOAWAY and the end of the byte stream; then reads until the peer ends too. Bounded
    /// in time.
    async fn close(&mut self) -> Result<(), Error> {
        let limit = self.config.close_timeout;
        self.shared.lock().start_closing();
        let orderly = async {
            poll_fn(|cx| self.poll(cx, true)).await?;
            self.reset_and_go_away(GoAwayStatus::Ok);
            // A peer that has closed already does not get it, which is not a failure.
            if poll_fn(|cx| self.poll_rest(cx)).await.is_ok() {
                self.drain().await;
            }
            Ok(())
        };
        tokio::time::timeout(limit, orderly).await.unwrap_or(Ok(()))
    }

    /// Sends resets and GOAWAY after a failure, as far as the byte stream takes them without waiting.
    async fn send_last_frames(&mut self) {
        self.reset_and_go_away(GoAwayStatus::Ok);
        let rest = poll_fn(|cx| Poll::Ready(self.poll_rest(cx)));
        drop(rest.await);
    }

    fn reset_and_go_away(&mut self, status: GoAwayStatus) {
        let mut state = self.shared.lock();
        let open: Vec<_> = state.slots.keys().copied().collect();
        for stream in open {
            state.connection.reset(stream, RstStatus::Cancel);
        }
        state.connection.go_away(status);
    }

    /// Drives the running or the closing phase to its end: `Ok` when the next phase begins.
    fn poll(&mut self, cx: &mut Context<'_>, closing: bool) -> Poll<Result<(), Error>> {
        for _ in 0..ROUNDS {
            let look = self.look(cx);
            if look.ended {
                return Poll::Ready(Err(Error::Closed));
            }
            if look.finished || look.closing != closing {
                return Poll::Ready(Ok(()));
            }
            let wrote = self.poll_write(cx)?;
            if closing && look.flushed && self.is_written() {
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

    /// Takes output, wakes writers that have room again, and reports the state.
    fn look(&mut self, cx: &Context<'_>) -> Look {
        let mut wakers = Vec::new();
        let mut state = self.shared.lock();
        state.register_driver(cx);
        // Output that cannot be written stays in the connection, where it counts and so holds back writers and the peer.
        if self.out.len() < BATCH {
            state.connection.take_output(BATCH, &mut self.out);
        }
        let roomy = (state.connection.share() / 2).max(1);
        for stream in state.connection.take_drained() {
            if state.connection.room(stream).is_ok_and(|room| room >= roomy)
                && let Some(slot) = state.slots.get_mut(&stream)
            {
                wakers.extend(slot.writer.take());
            }
        }
        let connection = &state.connection;
        let look = Look {
            ended: state.end().is_some(),
            closing: matches!(state.phase, Phase::Closing),
            wants_input: connection.wants_input(),
            flushed: matches!(state.phase, Phase::Closing) && connection.is_flushed(),
            finished: connection.is_going_away() && connection.open_streams() == 0,
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        look
    }

    fn is_written(&self) -> bool {
        self.out.is_empty() && self.flat.is_empty()
    }

    /// Writes the taken output. True if something was written.
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

    /// Reads once and handles the input. True if there was some.
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

    /// The error for the end of the byte stream, which is clean between frames.
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

    /// Writes the rest, then ends our side.
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

    /// Reads and discards until the peer ends.
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
    /// Ends the session however the task ends (a panic, the end of the runtime), so that no half waits for ever.
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
