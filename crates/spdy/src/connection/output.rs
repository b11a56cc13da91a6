//! Bytes to be written to the peer, as pieces for a vectored write.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Payloads up to here are copied behind their frame's head: cheaper than a piece of their own.
const COPY_UP_TO: usize = 512;

/// Frames in the order they must be sent.
#[derive(Debug, Default)]
pub struct Output {
    pieces: VecDeque<Bytes>,
    /// Bytes after the last piece.
    tail: BytesMut,
    length: usize,
}

impl Output {
    /// Bytes not yet taken.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is to be sent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where whole small frames are written.
    pub(super) fn write<R>(&mut self, write: impl FnOnce(&mut BytesMut) -> R) -> R {
        let before = self.tail.len();
        let result = write(&mut self.tail);
        self.length += self.tail.len() - before;
        result
    }

    pub(super) fn data(&mut self, head: [u8; 8], payload: Bytes) {
        self.length += head.len() + payload.len();
        self.tail.extend_from_slice(&head);
        if payload.len() <= COPY_UP_TO {
            self.tail.extend_from_slice(&payload);
        } else {
            self.seal();
            self.pieces.push_back(payload);
        }
    }

    /// Moves everything to the end of `other`.
    pub fn append_to(&mut self, other: &mut Self) {
        self.seal();
        other.seal();
        other.pieces.append(&mut self.pieces);
        other.length += std::mem::take(&mut self.length);
    }

    /// Points `slices` at the front; how many were used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = Some(self.tail.as_ref()).filter(|tail| !tail.is_empty());
        let pieces = self.pieces.iter().map(Bytes::as_ref).chain(tail);
        let mut used = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces) {
            *slot = IoSlice::new(piece);
            used += 1;
        }
        used
    }

    /// Copies from the front into `buffer` until it has `max` bytes, for a byte stream without vectored writes.
    pub fn copy_to(&mut self, buffer: &mut BytesMut, max: usize) {
        self.seal();
        while let Some(front) = self.pieces.front_mut() {
            let some = front.len().min(max.saturating_sub(buffer.len()));
            if some == 0 {
                return;
            }
            buffer.extend_from_slice(&front[..some]);
            self.advance(some);
        }
    }

    /// So many bytes from the front have been sent.
    pub fn advance(&mut self, mut bytes: usize) {
        self.length -= bytes;
        while bytes > 0 {
            let Some(front) = self.pieces.front_mut() else {
                self.tail.advance(bytes);
                return;
            };
            if front.len() > bytes {
                front.advance(bytes);
                return;
            }
            bytes -= front.len();
            self.pieces.pop_front();
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}
