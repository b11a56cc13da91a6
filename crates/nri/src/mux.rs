//! NRI's multiplexer: several byte streams, called connections, over one. Bytes to frames, however the bytes are cut,
//! without I/O.
//!
//! ```text
//!   0            4        8
//!   ┌────────────┬────────┬───────────┐
//!   │ connection │ length │ payload … │    big-endian
//!   └────────────┴────────┴───────────┘
//! ```
//!
//! A connection has no beginning and no end of its own: both sides know that [`PLUGIN`] carries the runtime's calls of
//! the plugin, and [`RUNTIME`] the plugin's calls of the runtime. 0 is reserved.
//!
//! It must never hold more of a frame than a piece of input has.
//!
//! See <https://github.com/containerd/nri/tree/main/pkg/net/multiplex>.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::Violation;
use crate::ttrpc::{self, MAX_MESSAGE, Message};

/// The connection on which the runtime calls the plugin.
pub const PLUGIN: u32 = 1;
/// The connection on which the plugin calls the runtime.
pub const RUNTIME: u32 = 2;

const HEADER: usize = 8;
/// Largest payload of a frame, in bytes: a whole message of ttrpc.
const MAX_FRAME: usize = ttrpc::HEADER + MAX_MESSAGE;
/// Largest payload of the frame in which a message begins. Plugins in Go read the beginning of a message into a buffer
/// of this size, and fail when a frame does not fit. The rest of the message they read into one of its size. They queue
/// 256 frames, so that the rest must be one frame.
const FIRST_FRAME: usize = 4096;

/// A piece of the payload of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The connection that the bytes belong to. Those of one that is not known are to be dropped.
    pub connection: u32,
    /// The bytes, which share the memory of the input.
    pub data: Bytes,
}

/// The decoder of one direction.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The connection of the current frame.
    connection: u32,
    /// How much of the current frame is to come; 0 between frames.
    left: usize,
}

impl Decoder {
    /// Takes the next piece from the front of `input`; `None` when it needs more bytes.
    ///
    /// # Errors
    /// A frame is larger than any message. Nothing behind it can be read, every further call fails again.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Violation> {
        while self.left == 0 {
            let Some([a, b, c, d, e, f, g, h]) = input.first_chunk::<HEADER>().copied() else {
                return Ok(None);
            };
            let length = u32::from_be_bytes([e, f, g, h]);
            let left = usize::try_from(length).unwrap_or(usize::MAX);
            if left > MAX_FRAME {
                return Err(Violation::FrameLength { length });
            }
            input.advance(HEADER);
            (self.connection, self.left) = (u32::from_be_bytes([a, b, c, d]), left);
        }
        let data = input.split_to(self.left.min(input.len())).freeze();
        self.left -= data.len();
        let connection = self.connection;
        Ok((!data.is_empty()).then_some(Piece { connection, data }))
    }

    /// Whether the bytes so far end with a frame.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        self.left == 0
    }
}

/// A payload that is larger than [`MAX_MESSAGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oversized {
    pub(crate) length: usize,
}

/// A message as one or two frames of a connection.
pub(crate) fn encode(connection: u32, message: &Message) -> Result<Bytes, Oversized> {
    let payload = &message.payload[..];
    let length = payload.len();
    let oversized = Oversized { length };
    if length > MAX_MESSAGE {
        return Err(oversized);
    }
    let word = |length: usize| u32::try_from(length).map_err(|_| oversized);
    let (first, rest) = payload.split_at(length.min(FIRST_FRAME - ttrpc::HEADER));
    let mut frames = BytesMut::with_capacity(2 * HEADER + ttrpc::HEADER + length);
    frames.put_u32(connection);
    frames.put_u32(word(ttrpc::HEADER + first.len())?);
    frames.put_slice(&message.header(word(length)?));
    frames.put_slice(first);
    if !rest.is_empty() {
        frames.put_u32(connection);
        frames.put_u32(word(rest.len())?);
        frames.put_slice(rest);
    }
    Ok(frames.freeze())
}

#[cfg(test)]
mod tests;
