//! Bytes to frames, however the bytes are cut.
//!
//! ```text
//!            8 bytes            known control frame           all its bytes
//!   ┌──────┐ control  ┌──────┐──────────────────▶┌─────────┐───────────────▶ frame, back to Head
//!   │ Head ├─────────▶│ type │                   │ Control │
//!   └──┬───┘          └──┬───┘ unknown           └─────────┘
//!      │ data            └──────────▶ Skip: drops as many bytes as announced, back to Head
//!      └──▶ Data: returns available bytes, back to Head after all announced bytes
//! ```
//!
//! A control frame is gathered up to [`Limits::control_frame`]; DATA is never gathered. After a [`DecodeError::Stream`]
//! the next call goes on behind the frame; after [`DecodeError::Connection`] every call fails again.

use bytes::{Buf, Bytes, BytesMut};

use crate::compress::Inflater;
use crate::frame::{FLAG_CLEAR, FLAG_FIN, FLAG_UNIDIRECTIONAL, HEAD, VERSION, kind};
use crate::{Frame, GoAwayStatus, Headers, Limits, RstStatus, Setting, StreamId, Violation};

/// An error in the bytes, and whether it concerns a stream or the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The rest of the connection can be read, but this stream must be reset.
    #[error("stream {stream} broke the protocol")]
    Stream {
        /// The stream to reset.
        stream: StreamId,
        /// What the peer did wrong.
        #[source]
        violation: Violation,
    },
    /// Nothing more can be read.
    #[error("the connection broke the protocol")]
    Connection(#[source] Violation),
}

/// One direction's decoder.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    inflater: Inflater,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Control {
        frame: u16,
        flags: u8,
        length: usize,
    },
    Data {
        stream: StreamId,
        fin: bool,
        left: usize,
    },
    Skip {
        left: usize,
    },
    Failed(Violation),
}

impl Decoder {
    /// A decoder at the beginning of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            inflater: Inflater::default(),
            state: State::Head,
        }
    }

    /// Takes the next frame from the front of `input`; `None` when it needs more bytes. DATA shares the memory of
    /// `input`.
    ///
    /// # Errors
    /// The bytes are not SPDY/3, or go beyond the limits.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        let result = self.step(input);
        if let Err(DecodeError::Connection(violation)) = result {
            self.state = State::Failed(violation);
        }
        result
    }

    /// Whether the bytes so far end with a frame.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Head)
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        loop {
            match self.state {
                State::Failed(violation) => return Err(DecodeError::Connection(violation)),
                State::Head => {
                    let Some(head) = input.first_chunk::<HEAD>().copied() else {
                        return Ok(None);
                    };
                    input.advance(HEAD);
                    self.state = self.head(head).map_err(DecodeError::Connection)?;
                }
                State::Skip { left } => {
                    let some = left.min(input.len());
                    input.advance(some);
                    if some < left {
                        self.state = State::Skip { left: left - some };
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
                State::Data { stream, fin, left } => return Ok(self.data(stream, fin, left, input)),
                State::Control { frame, flags, length } => {
                    if input.len() < length {
                        return Ok(None);
                    }
                    self.state = State::Head;
                    let payload = input.split_to(length).freeze();
                    return self.control(frame, flags, payload).map(Some);
                }
            }
        }
    }

    fn head(&self, head: [u8; HEAD]) -> Result<State, Violation> {
        let [a, b, c, d, flags, x, y, z] = head;
        let length = u32::from_be_bytes([0, x, y, z]);
        let left = usize::try_from(length).unwrap_or(usize::MAX);
        if a & 0x80 == 0 {
            let stream = stream_id(u32::from_be_bytes([a, b, c, d]), 0)?;
            return Ok(State::Data {
                stream,
                fin: flags & FLAG_FIN != 0,
                left,
            });
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != VERSION {
            return Err(Violation::Version { version });
        }
        let frame = u16::from_be_bytes([c, d]);
        let fits = match frame {
            kind::SYN_STREAM => length >= 10,
            kind::SYN_REPLY | kind::HEADERS => length >= 4,
            kind::RST_STREAM | kind::GOAWAY | kind::WINDOW_UPDATE => length == 8,
            kind::PING => length == 4,
            kind::SETTINGS => length >= 4 && length % 8 == 4,
            _ => return Ok(State::Skip { left }),
        };
        if !fits {
            return Err(Violation::FrameLength { frame, length });
        }
        let limit = self.limits.control_frame;
        if length > limit {
            return Err(Violation::ControlFrameTooLarge { frame, length, limit });
        }
        Ok(State::Control {
            frame,
            flags,
            length: left,
        })
    }

    fn data(&mut self, stream: StreamId, fin: bool, left: usize, input: &mut BytesMut) -> Option<Frame> {
        let some = left.min(input.len());
        if some == 0 && left > 0 {
            return None;
        }
        let done = some == left;
        self.state = if done {
            State::Head
        } else {
            State::Data {
                stream,
                fin,
                left: left - some,
            }
        };
        Some(Frame::Data {
            stream,
            fin: fin && done,
            data: input.split_to(some).freeze(),
        })
    }

    fn control(&mut self, frame: u16, flags: u8, mut payload: Bytes) -> Result<Frame, DecodeError> {
        let fin = flags & FLAG_FIN != 0;
        if frame == kind::SETTINGS {
            return settings(flags, payload).map_err(DecodeError::Connection);
        }
        let first = payload.get_u32();
        if frame == kind::PING {
            return Ok(Frame::Ping { id: first });
        }
        if frame == kind::GOAWAY {
            let status = GoAwayStatus::from_wire(payload.get_u32());
            return Ok(Frame::GoAway {
                last_good: first & StreamId::MAX,
                status,
            });
        }
        if frame == kind::WINDOW_UPDATE {
            let stream = StreamId::new(first & StreamId::MAX);
            return Ok(Frame::WindowUpdate {
                stream,
                delta: payload.get_u32() & StreamId::MAX,
            });
        }
        let stream = stream_id(first, frame).map_err(DecodeError::Connection)?;
        match frame {
            kind::RST_STREAM => Ok(Frame::RstStream {
                stream,
                status: RstStatus::from_wire(payload.get_u32()),
            }),
            kind::SYN_STREAM => {
                let associated = payload.get_u32() & StreamId::MAX;
                let priority = payload.get_u8() >> 5;
                payload.advance(1);
                let unidirectional = flags & FLAG_UNIDIRECTIONAL != 0;
                let headers = self.headers(stream, &payload)?;
                Ok(Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional,
                    headers,
                })
            }
            kind::SYN_REPLY => Ok(Frame::SynReply {
                stream,
                fin,
                headers: self.headers(stream, &payload)?,
            }),
            _ => Ok(Frame::Headers {
                stream,
                fin,
                headers: self.headers(stream, &payload)?,
            }),
        }
    }

    fn headers(&mut self, stream: StreamId, compressed: &[u8]) -> Result<Headers, DecodeError> {
        let block = self
            .inflater
            .block(compressed, self.limits.header_block)
            .map_err(DecodeError::Connection)?;
        // The zlib stream is whole: only the stream these headers belong to suffers.
        Headers::parse_block(block, &self.limits)
            .map_err(|violation| DecodeError::Stream { stream, violation })
    }
}

fn settings(flags: u8, mut payload: Bytes) -> Result<Frame, Violation> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let count = payload.get_u32();
    if u64::from(count) * 8 + 4 != u64::from(length) {
        return Err(Violation::FrameLength {
            frame: kind::SETTINGS,
            length,
        });
    }
    let mut settings = Vec::new();
    while payload.has_remaining() {
        let word = payload.get_u32();
        let [flags, ..] = word.to_be_bytes();
        settings.push(Setting {
            flags,
            id: word & 0xff_ffff,
            value: payload.get_u32(),
        });
    }
    Ok(Frame::Settings {
        clear: flags & FLAG_CLEAR != 0,
        settings,
    })
}

fn stream_id(word: u32, frame: u16) -> Result<StreamId, Violation> {
    StreamId::new(word & StreamId::MAX).ok_or(Violation::ZeroId { frame })
}

#[cfg(test)]
pub(crate) mod tests;
