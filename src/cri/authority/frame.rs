//! The little of HTTP/2 framing and HPACK encoding that rewriting header blocks takes.
//!
//! Must never keep state: what it writes any decoder can read, whatever came before.

use super::MAX_FRAME;

/// Length of a frame's head.
pub(super) const FRAME_HEADER: usize = 9;

const TYPE_HEADERS: u8 = 0x1;
const TYPE_CONTINUATION: u8 = 0x9;
const FLAG_END_STREAM: u8 = 0x1;
const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// Stream dependency and weight, with the PRIORITY flag.
const PRIORITY_LENGTH: usize = 5;

/// The frame types that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Headers,
    Continuation,
    Other,
}

/// A frame's head (RFC 9113 4.1).
#[derive(Debug)]
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: Kind,
    flags: u8,
    pub(super) stream: [u8; 4],
}

impl FrameHead {
    /// Reads the head of the frame at the beginning of `bytes`; `None` when there is not enough.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; FRAME_HEADER] = bytes.first_chunk()?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *head;
        Some(Self {
            length: usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2),
            kind: match kind {
                TYPE_HEADERS => Kind::Headers,
                TYPE_CONTINUATION => Kind::Continuation,
                _ => Kind::Other,
            },
            flags,
            // The first bit is reserved and ignored.
            stream: [s0 & 0x7f, s1, s2, s3],
        })
    }

    pub(super) fn end_stream(&self) -> bool {
        self.flags & FLAG_END_STREAM != 0
    }

    pub(super) fn end_headers(&self) -> bool {
        self.flags & FLAG_END_HEADERS != 0
    }

    /// The piece of header block in this frame's payload, without padding and priority; `None` when
    /// they do not fit in it.
    pub(super) fn fragment<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        if self.kind == Kind::Continuation {
            return Some(payload);
        }
        let mut rest = payload;
        let mut padding = 0;
        if self.flags & FLAG_PADDED != 0 {
            let (first, after) = rest.split_first()?;
            padding = usize::from(*first);
            rest = after;
        }
        if self.flags & FLAG_PRIORITY != 0 {
            rest = rest.get(PRIORITY_LENGTH..)?;
        }
        rest.get(..rest.len().checked_sub(padding)?)
    }
}

/// Writes `fields` as HEADERS and as many CONTINUATION frames as it takes.
pub(super) fn write_block(
    stream: [u8; 4],
    end_stream: bool,
    fields: &[(Vec<u8>, Vec<u8>)],
    out: &mut Vec<u8>,
) {
    let mut block = Vec::new();
    for (name, value) in fields {
        // Literal without indexing, new name (RFC 7541 6.2.2).
        block.push(0);
        write_string(name, &mut block);
        write_string(value, &mut block);
    }
    let mut kind = TYPE_HEADERS;
    let mut flags = if end_stream { FLAG_END_STREAM } else { 0 };
    let mut rest = block.as_slice();
    loop {
        let (piece, after) = rest.split_at(rest.len().min(MAX_FRAME));
        rest = after;
        if rest.is_empty() {
            flags |= FLAG_END_HEADERS;
        }
        let length = u32::try_from(piece.len()).expect("a piece is at most MAX_FRAME");
        out.extend_from_slice(&length.to_be_bytes()[1..]);
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&stream);
        out.extend_from_slice(piece);
        if rest.is_empty() {
            return;
        }
        kind = TYPE_CONTINUATION;
        flags = 0;
    }
}

/// A string literal without Huffman coding (RFC 7541 5.1, 5.2).
fn write_string(text: &[u8], out: &mut Vec<u8>) {
    const PREFIX_FULL: usize = 127;
    let low = |n: usize| u8::try_from(n & 0x7f).expect("seven bits");
    if text.len() < PREFIX_FULL {
        out.push(low(text.len()));
    } else {
        out.push(0x7f);
        let mut rest = text.len() - PREFIX_FULL;
        while rest >= 128 {
            out.push(low(rest) | 0x80);
            rest >>= 7;
        }
        out.push(low(rest));
    }
    out.extend_from_slice(text);
}
