//! From an asynchronous source to a blocking reader: a bounded channel with an explicit end.
//!
//! If the sender is dropped without an end, the source was abandoned. The reader then fails and never takes
//! that for the end.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

/// Most chunks in the channel. A fast registry's chunks have 400 KiB, as much as the HTTP client reads at
/// once, and every layer that is being fetched holds as many.
const CHUNKS: usize = 4;

pub(crate) enum Message<E> {
    Bytes(Bytes),
    End,
    Failed(E),
}

pub(crate) fn chunk_channel<E>() -> (mpsc::Sender<Message<E>>, ChunkReader<E>) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let reader = ChunkReader {
        receiver,
        current: Bytes::new(),
        ended: false,
        failure: None,
    };
    (sender, reader)
}

/// The blocking end of the channel.
pub(crate) struct ChunkReader<E> {
    receiver: mpsc::Receiver<Message<E>>,
    current: Bytes,
    ended: bool,
    /// Why the source failed. Set when reading has failed for that reason.
    pub(crate) failure: Option<E>,
}

impl<E> Read for ChunkReader<E> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Message::Bytes(chunk)) => self.current = chunk,
                Some(Message::End) => self.ended = true,
                Some(Message::Failed(error)) => {
                    self.failure = Some(error);
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let length = self.current.len().min(into.len());
        self.current.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
