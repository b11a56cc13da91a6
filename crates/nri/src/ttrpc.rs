//! ttrpc: calls over a byte stream, in place of gRPC. Bytes to messages, however the bytes are cut, without I/O.
//!
//! ```text
//!   0        4        8      9      10
//!   ┌────────┬────────┬──────┬───────┬───────────┐
//!   │ length │ stream │ kind │ flags │ payload … │    big-endian
//!   └────────┴────────┴──────┴───────┴───────────┘
//! ```
//!
//! A call is a request and a response on one stream, whose number is odd and larger than that of the caller's call
//! before. NRI has no other calls: what streams of messages need (kind data, all flags) is never sent.
//!
//! It must never hold more than one message of at most [`MAX_MESSAGE`] bytes and one piece of input.
//!
//! See <https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md>.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::Violation;

/// Largest payload, in bytes.
pub const MAX_MESSAGE: usize = 4 << 20;
/// Bytes in front of the payload.
pub(crate) const HEADER: usize = 10;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Begins a call.
    Request,
    /// Ends a call.
    Response,
    /// Something between, in a call with a stream of messages.
    Data,
    /// A kind of a later version of the protocol, to be ignored.
    Unknown(u8),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The call that it belongs to.
    pub stream: u32,
    /// Its purpose.
    pub kind: Kind,
    /// Bits whose meaning depends on the kind.
    pub flags: u8,
    /// A protobuf message.
    pub payload: Bytes,
}

impl Message {
    pub(crate) const fn request(stream: u32, payload: Bytes) -> Self {
        let (kind, flags) = (Kind::Request, 0);
        Self {
            stream,
            kind,
            flags,
            payload,
        }
    }

    pub(crate) const fn response(stream: u32, payload: Bytes) -> Self {
        let (kind, flags) = (Kind::Response, 0);
        Self {
            stream,
            kind,
            flags,
            payload,
        }
    }

    /// The bytes in front of a payload of `length` bytes.
    pub(crate) fn header(&self, length: u32) -> [u8; HEADER] {
        let kind = match self.kind {
            Kind::Request => 1,
            Kind::Response => 2,
            Kind::Data => 3,
            Kind::Unknown(kind) => kind,
        };
        let ([a, b, c, d], [e, f, g, h]) = (length.to_be_bytes(), self.stream.to_be_bytes());
        [a, b, c, d, e, f, g, h, kind, self.flags]
    }
}

/// Takes the next message from the front of `input`; `None` when it needs more bytes.
///
/// # Errors
/// The message is larger than [`MAX_MESSAGE`]. Nothing behind it can be read, every further call fails again.
pub fn decode(input: &mut BytesMut) -> Result<Option<Message>, Violation> {
    let Some([a, b, c, d, e, f, g, h, kind, flags]) = input.first_chunk::<HEADER>().copied() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let payload = usize::try_from(length).unwrap_or(usize::MAX);
    if payload > MAX_MESSAGE {
        return Err(Violation::MessageLength { length });
    }
    if input.len() < HEADER + payload {
        return Ok(None);
    }
    input.advance(HEADER);
    Ok(Some(Message {
        stream: u32::from_be_bytes([e, f, g, h]),
        kind: match kind {
            1 => Kind::Request,
            2 => Kind::Response,
            3 => Kind::Data,
            kind => Kind::Unknown(kind),
        },
        flags,
        payload: input.split_to(payload).freeze(),
    }))
}

#[cfg(test)]
pub(crate) mod tests;
