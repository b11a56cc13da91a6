//! One end of a connection as a state machine: no sockets, no clocks, no tasks.
//!
//! [`Connection::receive`] turns bytes from the peer into [`Event`]s. What the application does
//! (open, reply, write, finish, reset, release) becomes bytes that [`Connection::take_output`] returns. The driver owns
//! the byte stream and the time.
//!
//! A stream, as this end sees it; each direction ends by itself, and RST_STREAM from either side ends both:
//!
//! ```text
//!    peer's SYN_STREAM              our SYN_STREAM (open)
//!          │                               │
//!     ┌────▼─────┐                    ┌────▼────┐
//!     │ incoming │ nothing may be     │ opening │ may send already
//!     └────┬─────┘ sent yet           └────┬────┘
//!          │ reply: SYN_REPLY              │ SYN_REPLY
//!          └──────────────┬────────────────┘
//!                     ┌───▼──┐
//!         FIN comes   │ open │   finish, queue sent: FIN goes
//!        ┌────────────┤      ├────────────┐
//!   ┌────▼────────┐   └───┬──┘   ┌────────▼───┐
//!   │ half-closed │       │      │ half-closed│     RST_STREAM sent or received, violation,
//!   │ by the peer │       │      │ by us      │     GOAWAY that names a lower stream: from
//!   └────┬────────┘       │      └────────┬───┘     every state straight to gone
//!        └───────────▶  gone  ◀───────────┘
//! ```
//!
//! The connection: open, then `GOAWAY` received (the peer opens nothing more, nor do we), sent (what the peer still opens
//! is ignored), or failed (a [`Violation`]; GOAWAY is in the output, nothing more is read).
//!
//! Invariants: we never overrun a window if the peer uses flow control; a stream's memory is freed with the stream; the
//! received bytes we hold are bounded by [`Config::session_window`] plus one call's input, and the answers we queue by a
//! constant, as long as the driver reads only when the connection [wants input](Connection::wants_input).

mod output;
mod receive;
mod send;
mod stream;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::config::DEFAULT_WINDOW;
use crate::frame::{SETTING_INITIAL_WINDOW, SETTING_MAX_STREAMS};
use crate::window::{RecvWindow, SendWindow};
use crate::{
    Config, Decoder, Encoder, Error, FlowControl, Frame, GoAwayStatus, Headers, Role, RstStatus, Setting,
    StreamId, Violation,
};
pub use output::Output;
use stream::{Sending, StreamState};

/// Answers (PING, RST_STREAM, WINDOW_UPDATE) waiting to be sent, beyond which nothing more is read.
const ANSWERS_LIMIT: usize = 64 * 1024;

/// An action of the peer. With `fin` the peer sends nothing more on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what the fields are")]
#[non_exhaustive]
pub enum Event {
    /// It opened a stream: reply to it or reset it.
    Opened {
        stream: StreamId,
        headers: Headers,
        fin: bool,
    },
    /// SYN_REPLY: it accepted a stream of ours.
    Replied {
        stream: StreamId,
        headers: Headers,
        fin: bool,
    },
    /// HEADERS, on a stream that is open already.
    Headers {
        stream: StreamId,
        headers: Headers,
        fin: bool,
    },
    /// It sent bytes. They count until [`Connection::release`].
    Data {
        stream: StreamId,
        data: Bytes,
        fin: bool,
    },
    /// The stream has ended: the peer reset it, or broke the protocol on it, for which we reset it.
    Reset { stream: StreamId, status: RstStatus },
    /// It answered our PING.
    Pong { id: u32 },
    /// It opens and accepts no more streams. Streams of ours that it never processed have been reset before.
    GoAway { status: GoAwayStatus },
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Config,
    decoder: Decoder,
    encoder: Encoder,
    /// Control frames to be sent before any data.
    output: Output,
    streams: HashMap<StreamId, StreamState>,
    peer_streams: u32,
    /// Streams with something to send, the next one first.
    ready: VecDeque<StreamId>,
    /// Streams whose queue the last `take_output` made shorter.
    drained: Vec<StreamId>,
    /// Events found while something else was reported.
    events: VecDeque<Event>,
    next_id: u32,
    last_peer_id: u32,
    next_ping: u32,
    send_window: SendWindow,
    recv_window: RecvWindow,
    unread: usize,
    peer_initial_window: u32,
    peer_max_streams: u32,
    streams_take_part: bool,
    session_takes_part: bool,
    /// The peer has overrun a window.
    overruns: bool,
    failed: Option<Violation>,
    sent_go_away: bool,
    received_go_away: bool,
}

impl Connection {
    /// A connection that has just been upgraded to SPDY/3.1. SETTINGS and the session's window are in the output.
    #[must_use]
    pub fn new(role: Role, config: Config) -> Self {
        let enforced = config.flow_control == FlowControl::Enforced;
        let mut connection = Self {
            role,
            decoder: Decoder::new(config.limits),
            encoder: Encoder::default(),
            output: Output::default(),
            streams: HashMap::new(),
            peer_streams: 0,
            ready: VecDeque::new(),
            drained: Vec::new(),
            events: VecDeque::new(),
            next_id: role.first_id(),
            last_peer_id: 0,
            next_ping: role.first_id(),
            send_window: SendWindow::new(DEFAULT_WINDOW),
            recv_window: RecvWindow::new(config.announced_session_window()),
            unread: 0,
            peer_initial_window: DEFAULT_WINDOW,
            peer_max_streams: u32::MAX,
            streams_take_part: enforced,
            session_takes_part: enforced,
            overruns: false,
            failed: None,
            sent_go_away: false,
            received_go_away: false,
            config,
        };
        connection.announce();
        connection
    }

    fn announce(&mut self) {
        let pairs = [
            (SETTING_MAX_STREAMS, self.config.max_streams),
            (SETTING_INITIAL_WINDOW, self.config.announced_stream_window()),
        ];
        let settings = pairs.map(|(id, value)| Setting { flags: 0, id, value }).to_vec();
        self.put(&Frame::Settings {
            clear: false,
            settings,
        });
        let more = self.config.announced_session_window() - DEFAULT_WINDOW;
        if more > 0 {
            self.put(&Frame::WindowUpdate {
                stream: None,
                delta: more,
            });
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// If the connection or the peer accepts no more streams, or the headers are too large.
    pub fn open(&mut self, headers: Headers) -> Result<StreamId, Error> {
        if self.sent_go_away || self.received_go_away {
            return Err(Error::Closed);
        }
        let ours = self.streams.len() - self.peer_streams as usize;
        if ours >= self.peer_max_streams as usize {
            return Err(Error::TooManyStreams {
                limit: self.peer_max_streams,
            });
        }
        self.check(&headers)?;
        let stream = StreamId::new(self.next_id).ok_or(Error::IdsUsedUp)?;
        self.next_id += 2;
        let state = StreamState::new(self.peer_initial_window, self.config.announced_stream_window());
        self.streams.insert(stream, state);
        self.put(&Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers,
        });
        Ok(stream)
    }

    /// Accepts a stream of the peer.
    ///
    /// # Errors
    /// It is gone, has a reply already or is ours, or the headers are too large.
    pub fn reply(&mut self, stream: StreamId, headers: Headers) -> Result<(), Error> {
        self.check(&headers)?;
        match self.streams.get_mut(&stream) {
            Some(state) if !state.replied && !self.role.owns(stream.value()) => state.replied = true,
            _ => return Err(Error::NotOpen { stream }),
        }
        self.put(&Frame::SynReply {
            stream,
            fin: false,
            headers,
        });
        Ok(())
    }

    /// Ends a stream at once and discards its unsent bytes. Does nothing if the stream has ended.
    pub fn reset(&mut self, stream: StreamId, status: RstStatus) {
        if self.remove(stream) {
            self.put(&Frame::RstStream { stream, status });
        }
    }

    /// Sends a PING and returns the id of its answer.
    pub fn ping(&mut self) -> u32 {
        let id = self.next_ping;
        self.next_ping = if id > StreamId::MAX - 2 {
            self.role.first_id()
        } else {
            id + 2
        };
        self.put(&Frame::Ping { id });
        id
    }

    /// Sends GOAWAY: we accept no new streams. It is sent before queued data, and spdystream stops reading at GOAWAY, so call
    /// it when [`Self::is_flushed`].
    pub fn go_away(&mut self, status: GoAwayStatus) {
        if !self.sent_go_away {
            self.sent_go_away = true;
            self.put(&Frame::GoAway {
                last_good: self.last_peer_id,
                status,
            });
        }
    }

    /// Streams open now, in any state.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether the peer has sent GOAWAY.
    #[must_use]
    pub const fn is_going_away(&self) -> bool {
        self.received_go_away
    }

    /// Whether more bytes should be read from the byte stream: not while too many answers are queued, and not while the peer
    /// has overrun the session's window.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        let held_back = self.unread > self.config.announced_session_window() as usize;
        !held_back && self.output.len() < ANSWERS_LIMIT
    }

    /// Whether control frames are queued.
    #[must_use]
    pub const fn has_answers(&self) -> bool {
        !self.output.is_empty()
    }

    /// Bytes received and not yet released.
    #[must_use]
    pub const fn unread(&self) -> usize {
        self.unread
    }

    /// Whether the input so far ends at the end of a frame.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        self.decoder.is_between_frames()
    }

    fn check(&self, headers: &Headers) -> Result<(), Error> {
        let (length, limit) = (headers.block_len(), self.config.limits.header_block);
        if length > limit {
            Err(Error::HeadersTooLarge { length, limit })
        } else {
            Ok(())
        }
    }

    fn remove(&mut self, stream: StreamId) -> bool {
        let known = self.streams.remove(&stream).is_some();
        if known && !self.role.owns(stream.value()) {
            self.peer_streams -= 1;
        }
        known
    }

    fn remove_if_over(&mut self, stream: StreamId) {
        if self.streams.get(&stream).is_some_and(StreamState::is_over) {
            self.remove(stream);
        }
    }

    fn put(&mut self, frame: &Frame) {
        let encoder = &mut self.encoder;
        self.output
            .write(|out| encoder.encode(frame, out))
            .expect("headers were checked, other control frames have a fixed size");
    }
}

#[cfg(test)]
mod tests;
