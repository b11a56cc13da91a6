//! Lets clients in whose `:authority` is a socket path.
//!
//! gRPC says nothing about `:authority` on unix sockets. Older kubelet, crictl and k3s builds, grpcurl and
//! grpc-java send the path (`/run/x.sock`, `run/x.sock`, `%2Frun%2Fx.sock`) or nothing. The `http` crate
//! refuses that and h2 resets the stream with PROTOCOL_ERROR before tonic sees it, so it is mended below
//! tonic, between the socket and h2.
//!
//! ```text
//!            first header block names
//!  Probing ──a valid authority, none───────▶ Transparent   bytes are no longer looked at
//!     │  └──malformed, too large───────────▶ Transparent   what was held back goes on unchanged: h2 answers
//!     └─────an authority `http` refuses────▶ Rewriting     every header block is decoded and sent on with
//!                                               │          `localhost`, stateless
//!                                               └─malformed, too large─▶ Transparent
//! ```
//!
//! HPACK has state: had we changed only the one field, the dynamic tables of client and h2 would differ in
//! size and evict at different times. So in Rewriting this side is the decoder for the client's table, and
//! everything goes on as literals without indexing: the table in h2 stays empty. A client's table may be as
//! large as SETTINGS_HEADER_TABLE_SIZE of the server allows; hyper sends none, so it is the default of 4096
//! bytes (RFC 9113 6.5.2), and a larger size update is an error here as it is in h2. Size updates are not
//! sent on.
//!
//! Must never: change DATA, wait for more than the frame at hand, or end a connection; judging malformed
//! input is left to h2.
//!
//! Links: RFC 9113 (frames), RFC 7541 (HPACK).

use loona_hpack::Decoder;
use tonic::codegen::http::uri::Authority;

use frame::{FRAME_HEADER, FrameHead, Kind};

mod frame;
mod io;

pub(super) use io::LenientAuthority;

/// What a client says first (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest frame h2 takes by default, and the largest we send on.
const MAX_FRAME: usize = 16_384;
/// Largest encoded header block that is looked at; real ones have a few hundred bytes.
const MAX_BLOCK: usize = 64 * 1024;
/// Largest decoded header block: a dynamic table lets few bytes mean many.
const MAX_DECODED: usize = 256 * 1024;
/// The dynamic table a client may use, as SETTINGS_HEADER_TABLE_SIZE defaults.
const TABLE_SIZE: usize = 4096;
/// What a refused authority becomes; the same word current Kubernetes clients send.
const REPLACEMENT: &[u8] = b"localhost";

/// The state of one connection's inbound bytes.
pub(super) struct Rewriter {
    state: State,
    /// Bytes held back: part of the preface, or the frames of one unfinished header block.
    held: Vec<u8>,
}

enum State {
    Preface,
    Frames(Box<Frames>),
    Transparent,
}

struct Frames {
    decoder: Decoder<'static>,
    rewriting: bool,
    /// Bytes left of a frame that goes on untouched.
    skip: usize,
    /// The header block being collected.
    block: Option<Block>,
}

/// A header block that is still incomplete. Its frames' bytes stay in `held` until it is whole.
struct Block {
    stream: [u8; 4],
    end_stream: bool,
    fragment: Vec<u8>,
    /// How much of `held` its frames take so far.
    taken: usize,
}

/// What to do after a step over `held`.
enum Step {
    /// More bytes are needed.
    Starved,
    /// There was progress.
    On,
    /// Nothing more to do on this connection.
    Stop,
}

impl std::fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Preface => "preface",
            State::Frames(frames) if frames.rewriting => "rewriting",
            State::Frames(_) => "probing",
            State::Transparent => "transparent",
        };
        f.debug_struct("Rewriter")
            .field("state", &state)
            .field("held", &self.held.len())
            .finish()
    }
}

impl Default for Rewriter {
    fn default() -> Self {
        Self {
            state: State::Preface,
            held: Vec::new(),
        }
    }
}

impl Rewriter {
    /// Whether input equals output from here on.
    pub(super) fn is_transparent(&self) -> bool {
        matches!(self.state, State::Transparent)
    }

    /// Takes what the client sent and appends to `out` what h2 is to read.
    pub(super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(input);
        let stop = loop {
            let step = match &mut self.state {
                State::Preface => self.preface(out),
                State::Frames(frames) => frames.step(&mut self.held, out),
                State::Transparent => Step::Stop,
            };
            match step {
                Step::On => {}
                Step::Starved => break false,
                Step::Stop => break true,
            }
        };
        if stop {
            self.state = State::Transparent;
            out.append(&mut self.held);
            self.held = Vec::new();
        }
    }

    /// The client is done: what is held back goes on as it is.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.state = State::Transparent;
        out.append(&mut self.held);
    }

    fn preface(&mut self, out: &mut Vec<u8>) -> Step {
        let seen = self.held.len().min(PREFACE.len());
        if self.held[..seen] != PREFACE[..seen] {
            return Step::Stop;
        }
        if seen < PREFACE.len() {
            return Step::Starved;
        }
        out.extend(self.held.drain(..seen));
        let mut decoder = Decoder::new();
        decoder.set_max_allowed_table_size(TABLE_SIZE);
        self.state = State::Frames(Box::new(Frames {
            decoder,
            rewriting: false,
            skip: 0,
            block: None,
        }));
        Step::On
    }
}

impl Frames {
    fn step(&mut self, held: &mut Vec<u8>, out: &mut Vec<u8>) -> Step {
        if self.skip > 0 {
            return self.skip(held, out);
        }
        let from = self.block.as_ref().map_or(0, |block| block.taken);
        let Some(head) = held.get(from..).and_then(FrameHead::parse) else {
            return Step::Starved;
        };
        let header_frame = match (&self.block, head.kind) {
            (None, Kind::Headers) => true,
            // Nothing may come between the frames of a block.
            (Some(block), Kind::Continuation) if block.stream == head.stream => true,
            (Some(_), _) => return Step::Stop,
            (None, _) => false,
        };
        if !header_frame {
            self.skip = FRAME_HEADER + head.length;
            return Step::On;
        }
        if head.length > MAX_FRAME {
            return Step::Stop;
        }
        let end = from + FRAME_HEADER + head.length;
        let Some(payload) = held.get(from + FRAME_HEADER..end) else {
            return Step::Starved;
        };
        let Some(fragment) = head.fragment(payload) else {
            return Step::Stop;
        };
        let block = self.block.get_or_insert_with(|| Block {
            stream: head.stream,
            end_stream: head.end_stream(),
            fragment: Vec::new(),
            taken: 0,
        });
        block.fragment.extend_from_slice(fragment);
        block.taken = end;
        // `taken` counts empty CONTINUATION frames too, of which there could be any number.
        if block.taken > MAX_BLOCK {
            return Step::Stop;
        }
        if head.end_headers() {
            return self.finish_block(held, out);
        }
        Step::On
    }

    /// Sends on the bytes of a frame that is none of our business.
    fn skip(&mut self, held: &mut Vec<u8>, out: &mut Vec<u8>) -> Step {
        if held.is_empty() {
            return Step::Starved;
        }
        let now = self.skip.min(held.len());
        out.extend(held.drain(..now));
        self.skip -= now;
        Step::On
    }

    /// Decides about, or rewrites, the block that has just become whole.
    fn finish_block(&mut self, held: &mut Vec<u8>, out: &mut Vec<u8>) -> Step {
        let Some(block) = self.block.take() else {
            return Step::Stop;
        };
        let Some(mut fields) = decode(&mut self.decoder, &block.fragment) else {
            return Step::Stop;
        };
        let mut refused = false;
        for (name, value) in &mut fields {
            if name == b":authority" && Authority::try_from(value.as_slice()).is_err() {
                REPLACEMENT.clone_into(value);
                refused = true;
            }
        }
        if !self.rewriting && !refused {
            return Step::Stop;
        }
        self.rewriting = true;
        held.drain(..block.taken);
        frame::write_block(block.stream, block.end_stream, &fields, out);
        Step::On
    }
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Decodes a block; `None` when it is malformed or larger than [`MAX_DECODED`].
fn decode(decoder: &mut Decoder<'static>, fragment: &[u8]) -> Option<Fields> {
    let mut fields = Fields::new();
    let mut size = 0_usize;
    decoder
        .decode_with_cb(fragment, |name, value| {
            size = size.saturating_add(name.len() + value.len());
            if size <= MAX_DECODED {
                fields.push((name.into_owned(), value.into_owned()));
            }
        })
        .ok()?;
    (size <= MAX_DECODED).then_some(fields)
}

#[cfg(test)]
mod tests;
