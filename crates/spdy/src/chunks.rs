//! A queue of bytes that shares large pieces and gathers small ones.
//!
//! A shared piece keeps the whole buffer alive that it was cut from, so only pieces that are a large part of such a buffer
//! are shared: the memory of a queue stays within a small multiple of its length, whatever the peer sends.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

#[derive(Debug)]
pub(crate) struct Chunks {
    shared: VecDeque<Bytes>,
    /// Bytes after the last shared piece.
    gathered: BytesMut,
    length: usize,
    share_from: usize,
}

impl Chunks {
    /// A queue that copies pieces smaller than `share_from`.
    pub(crate) fn new(share_from: usize) -> Self {
        Self {
            shared: VecDeque::new(),
            gathered: BytesMut::new(),
            length: 0,
            share_from,
        }
    }

    /// Bytes in the queue.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Whether the queue is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.len() < self.share_from {
            self.push_slice(&piece);
            return;
        }
        if !self.gathered.is_empty() {
            self.shared.push_back(self.gathered.split().freeze());
        }
        self.length += piece.len();
        self.shared.push_back(piece);
    }

    /// Appends a copy.
    pub(crate) fn push_slice(&mut self, piece: &[u8]) {
        self.length += piece.len();
        self.gathered.extend_from_slice(piece);
    }

    /// Takes at most `max` bytes from the front; `None` if the queue is empty or `max` is 0.
    pub(crate) fn pop(&mut self, max: usize) -> Option<Bytes> {
        if max == 0 || self.length == 0 {
            return None;
        }
        let piece = match self.shared.front_mut() {
            Some(front) if front.len() > max => front.split_to(max),
            Some(_) => self.shared.pop_front()?,
            None => self.gathered.split_to(max.min(self.gathered.len())).freeze(),
        };
        self.length -= piece.len();
        Some(piece)
    }

    /// Discards everything and returns how many bytes that was.
    pub(crate) fn clear(&mut self) -> usize {
        self.shared.clear();
        self.gathered = BytesMut::new();
        std::mem::take(&mut self.length)
    }
}

#[cfg(test)]
mod tests;
