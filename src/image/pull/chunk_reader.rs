//! From an asynchronous source to a thread that reads: a bounded channel with an explicit end.
//!
//! A source that vanishes without a word has been given up; that is never taken for the end of its bytes.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

/// Chunks on their way. A fast registry's are 400 KiB each, as much as the HTTP client reads at once, and every layer that is
/// fetched has as many.
const CHUNKS: usize = 4;

/// What goes through.
pub(crate) enum Message<E> {
    Bytes(Bytes),
    End,
    Failed(E),
}

/// A new channel.
pub(crate) fn chunk_channel<E>() -> (mpsc::Sender<Message<E>>, ChunkReader<E>) {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let chunks = ChunkReader {
        receiver,
        current: Bytes::new(),
        ended: false,
        failure: None,
    };
    (sender, chunks)
}

/// The blocking end of the channel.
pub(crate) struct ChunkReader<E> {
    receiver: mpsc::Receiver<Message<E>>,
    current: Bytes,
    ended: bool,
    /// Why the source failed, when reading has.
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
