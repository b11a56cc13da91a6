//! The uncompressed bytes of a layer in large pieces, between the decoder and the archive reader.
//!
//! A separate thread decompresses and digests ahead, in parallel with the system calls of the writer; a few buffers
//! circulate between the two. Invariant: every piece but the last is full, and its
//! length is a multiple of tar's block size, so a header never straddles two pieces.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender};

use sha2::{Digest, Sha256};

use crate::compression::Decoder;
use crate::error::{EntryPath, Limit};
use crate::tar_split::TarSplitWriter;
use crate::{Compression, Error, Limits};

/// Tar's block size.
pub(crate) const BLOCK: usize = 512;
const _: () = assert!(Piece::SIZE.is_multiple_of(BLOCK));

/// One buffer; shorter than its capacity only at the end of the stream.
pub(crate) struct Piece {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Piece {
    const SIZE: usize = 256 << 10;

    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; Self::SIZE].into_boxed_slice(),
            filled: 0,
        }
    }

    fn is_last(&self) -> bool {
        self.filled < self.bytes.len()
    }
}

/// A source of pieces.
pub(crate) trait Source {
    /// Exchanges a spent piece for the next one.
    fn exchange(&mut self, spent: Piece) -> Result<Piece, Error>;
}

/// Decompresses and digests.
pub(crate) struct Producer<R: Read> {
    decoder: Decoder<R>,
    digest: Sha256,
    offset: u64,
}

impl<R: Read> Producer<R> {
    pub(crate) fn new(source: R, compression: Compression, limits: &Limits) -> Result<Self, Error> {
        Ok(Self {
            decoder: Decoder::new(source, compression, limits)?,
            digest: Sha256::new(),
            offset: 0,
        })
    }

    /// Runs until the stream ends or the other side is dropped; returns the digest of everything read.
    pub(crate) fn run(
        mut self,
        full: &SyncSender<Result<Piece, Error>>,
        spent: &Receiver<Piece>,
    ) -> [u8; 32] {
        while let Ok(piece) = spent.recv() {
            let next = self.exchange(piece);
            let last = next.as_ref().map_or(true, Piece::is_last);
            if full.send(next).is_err() || last {
                break;
            }
        }
        self.digest.finalize().into()
    }
}

impl<R: Read> Producer<R> {
    /// The digest of everything exchanged.
    pub(crate) fn digest(self) -> [u8; 32] {
        self.digest.finalize().into()
    }
}

impl<R: Read> Source for Producer<R> {
    fn exchange(&mut self, mut spent: Piece) -> Result<Piece, Error> {
        spent.filled = self.decoder.fill(&mut spent.bytes, self.offset)?;
        self.digest.update(&spent.bytes[..spent.filled]);
        self.offset += spent.filled as u64;
        Ok(spent)
    }
}

/// The writer's end of a [`Producer`] that runs in another thread.
pub(crate) struct Remote {
    pub(crate) full: Receiver<Result<Piece, Error>>,
    pub(crate) spent: SyncSender<Piece>,
}

impl Source for Remote {
    fn exchange(&mut self, spent: Piece) -> Result<Piece, Error> {
        // The producer stops receiving once the end is in the channel, and the buffer is not needed.
        drop(self.spent.send(spent));
        self.full.recv().unwrap_or_else(|_| Ok(Piece::new()))
    }
}

/// A cursor over the pieces. Knows the current entry only for errors.
pub(crate) struct Stream<S> {
    source: S,
    piece: Option<Piece>,
    at: usize,
    offset: u64,
    allowed: u64,
    pub(crate) entry: Vec<u8>,
    /// Records everything consumed.
    pub(crate) tar_split: Option<TarSplitWriter>,
}

impl<S: Source> Stream<S> {
    pub(crate) fn new(source: S, limits: &Limits) -> Self {
        Self {
            source,
            piece: None,
            at: 0,
            offset: 0,
            allowed: limits.archive_bytes,
            entry: Vec::new(),
            tar_split: None,
        }
    }

    /// Bytes consumed so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The buffered bytes that are not yet consumed; empty only at the end of the stream.
    pub(crate) fn available(&mut self) -> Result<&[u8], Error> {
        let spent = match self.piece.take() {
            Some(piece) if self.at < piece.filled || piece.is_last() => piece,
            spent => {
                self.at = 0;
                let piece = self.source.exchange(spent.unwrap_or_else(Piece::new))?;
                if self.offset + piece.filled as u64 > self.allowed {
                    return Err(Error::limit(Limit::ArchiveBytes, self.allowed, &self.entry));
                }
                piece
            }
        };
        let piece = self.piece.insert(spent);
        Ok(&piece.bytes[self.at..piece.filled])
    }

    /// Marks the first `length` available bytes as used.
    pub(crate) fn consume(&mut self, length: usize) {
        if let (Some(tar_split), Some(piece)) = (&mut self.tar_split, &self.piece) {
            tar_split.record(&piece.bytes[self.at..self.at + length]);
        }
        self.at += length;
        self.offset += length as u64;
    }

    /// The next block, or `None` at the end of the stream.
    pub(crate) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let available = self.available()?;
        if available.is_empty() {
            return Ok(None);
        }
        let Some(block) = available.first_chunk::<BLOCK>().copied() else {
            return Err(self.truncated());
        };
        self.consume(BLOCK);
        Ok(Some(block))
    }

    /// Skips exactly `length` bytes.
    pub(crate) fn skip(&mut self, mut length: u64) -> Result<(), Error> {
        while length > 0 {
            let available = self.available()?.len();
            if available == 0 {
                return Err(self.truncated());
            }
            let step = usize::try_from(length).unwrap_or(usize::MAX).min(available);
            self.consume(step);
            length -= step as u64;
        }
        Ok(())
    }

    /// Reads to the end of the stream, because the digest covers whatever follows the archive.
    pub(crate) fn drain(&mut self) -> Result<(), Error> {
        loop {
            let available = self.available()?.len();
            if available == 0 {
                return Ok(());
            }
            self.consume(available);
        }
    }

    pub(crate) fn into_source(self) -> S {
        self.source
    }

    pub(crate) fn truncated(&self) -> Error {
        Error::Truncated {
            offset: self.offset,
            path: EntryPath::new(self.entry.as_slice()),
        }
    }

    pub(crate) fn fault(&self, fault: &'static str) -> Error {
        Error::Header {
            offset: self.offset.saturating_sub(BLOCK as u64),
            path: EntryPath::new(self.entry.as_slice()),
            fault,
        }
    }
}
