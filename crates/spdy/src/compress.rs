//! The zlib streams header blocks travel in: one for each direction, for the life of the connection (draft 3,
//! section 2.6.10.1). Every block ends with a sync flush, so that it can be read when it is there.
//!
//! A compressor takes some 200 KiB, and a server for Kubernetes has nothing to compress: it replies with empty blocks only.
//! So empty blocks are stored by hand until the first other one, and a compressor is made only then, with what was stored
//! as a continuation of the dictionary.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::Violation;
use crate::dictionary::{DICTIONARY, DICTIONARY_ID};

/// Holds the dictionary and a little of the previous output.
const SEND_WINDOW_BITS: u8 = 11;
/// The first bytes of a zlib stream (RFC 1950, section 2.2): deflate with that window, a dictionary follows, check bits.
const STREAM_HEAD: [u8; 2] = [(SEND_WINDOW_BITS - 8) << 4 | 8, 0x30];
/// An empty header block: the number of headers.
const EMPTY: [u8; 4] = [0; 4];
/// The empty block as a stored deflate block (RFC 1951, section 3.2.4), and the one that a sync flush ends with.
const EMPTY_STORED: [u8; 14] = [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Our header blocks, on their way out.
#[derive(Debug, Default)]
pub(crate) struct Deflater {
    has_begun: bool,
    /// Empty blocks stored before there was a compressor.
    stored: usize,
    stream: Option<Compress>,
}

impl Deflater {
    /// Compresses one block to the end of `out`.
    pub(crate) fn block(&mut self, block: &[u8], out: &mut BytesMut) {
        if !std::mem::replace(&mut self.has_begun, true) {
            out.put_slice(&STREAM_HEAD);
            out.put_u32(DICTIONARY_ID);
        }
        if self.stream.is_none() && block == EMPTY {
            self.stored = self.stored.saturating_add(1);
            out.put_slice(&EMPTY_STORED);
            return;
        }
        let stored = self.stored;
        let stream = self.stream.get_or_insert_with(|| compressor(stored));
        let mut room = [0; 1024];
        let (start_in, mut done) = (stream.total_in(), 0);
        loop {
            let before = stream.total_out();
            let status = stream
                .compress(&block[done..], &mut room, FlushCompress::Sync)
                .expect("deflate fails only when used after its end");
            done = advanced(start_in, stream.total_in());
            let written = advanced(before, stream.total_out());
            out.extend_from_slice(&room[..written]);
            if written < room.len() || status == Status::BufError {
                return;
            }
        }
    }
}

/// A compressor primed with the dictionary and that many empty blocks, as far as its window reaches.
fn compressor(stored: usize) -> Compress {
    let reach = (1 << SEND_WINDOW_BITS) / EMPTY.len();
    let past = [&DICTIONARY[..], &EMPTY.repeat(stored.min(reach))].concat();
    let mut stream = Compress::new_with_window_bits(Compression::fast(), false, SEND_WINDOW_BITS);
    stream
        .set_dictionary(&past)
        .expect("a fresh stream takes a dictionary");
    stream
}

/// The peer's header blocks, on their way in.
#[derive(Debug, Default)]
pub(crate) struct Inflater {
    stream: Option<Decompress>,
}

impl Inflater {
    /// Decompresses one block, at most `limit` bytes of it.
    pub(crate) fn block(&mut self, mut input: &[u8], limit: usize) -> Result<Bytes, Violation> {
        let stream = self.stream.get_or_insert_with(|| Decompress::new(true));
        let mut out = Vec::new();
        let mut room = [0; 4096];
        loop {
            let (before_in, before_out) = (stream.total_in(), stream.total_out());
            let result = stream.decompress(input, &mut room, FlushDecompress::Sync);
            let consumed = advanced(before_in, stream.total_in());
            let written = advanced(before_out, stream.total_out());
            input = &input[consumed..];
            out.extend_from_slice(&room[..written]);
            if out.len() > limit {
                return Err(Violation::HeaderBlockTooLarge { limit });
            }
            match result {
                Err(error) => give_dictionary(stream, error.needs_dictionary())?,
                Ok(Status::StreamEnd) => return Err(Violation::Compression),
                Ok(_) if written == room.len() => {}
                Ok(_) if input.is_empty() => return Ok(Bytes::from(out)),
                Ok(_) if consumed == 0 && written == 0 => return Err(Violation::Compression),
                Ok(_) => {}
            }
        }
    }
}

fn give_dictionary(stream: &mut Decompress, wanted: Option<u32>) -> Result<(), Violation> {
    match wanted {
        Some(DICTIONARY_ID) => {
            stream
                .set_dictionary(&DICTIONARY)
                .map_err(|_| Violation::Compression)?;
            Ok(())
        }
        _ => Err(Violation::Compression),
    }
}

fn advanced(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("no more than the buffer handed in")
}

#[cfg(test)]
mod tests;
