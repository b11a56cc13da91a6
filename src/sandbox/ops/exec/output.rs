//! The output of a command whose answer is one message.
//!
//! Each stream keeps 16 MiB, as the peers do; what comes after is read and dropped. kubelet takes no message
//! above 16 MiB, though, so of two streams that are more together the longer one loses its end. All commands together
//! have a limit, too: their output is whatever the containers like, and many may run at the same time.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::sandbox::error::PodError;

/// Bytes that are kept of each stream.
const STREAM_MAX: usize = 16 * 1024 * 1024;
/// Kept of both streams together: a message of 16 MiB, less what else is in it.
const ANSWER_MAX: usize = 16 * 1024 * 1024 - 1024;
/// Kept of each stream in any case. Probes write less.
const SMALL: usize = 64 * 1024;
/// Kept of all streams together, beyond what is small.
static ROOM: Semaphore = Semaphore::const_new(256 * 1024 * 1024);
/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

/// What was written to a stream.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    /// How much more there was.
    dropped: usize,
    /// What all streams share.
    room: &'static Semaphore,
    /// What this one has of it.
    held: Option<SemaphorePermit<'static>>,
}

impl Output {
    fn new(room: &'static Semaphore) -> Self {
        Self {
            bytes: Vec::new(),
            dropped: 0,
            room,
            held: None,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        // What comes after a gap is of no use.
        let kept = match self.dropped {
            0 => bytes.len().min(STREAM_MAX - self.bytes.len()),
            _ => 0,
        };
        let kept = if self.hold(self.bytes.len() + kept) {
            kept
        } else {
            0
        };
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.dropped = self.dropped.saturating_add(bytes.len() - kept);
    }

    /// Gets the room for that many bytes, if there is some.
    fn hold(&mut self, length: usize) -> bool {
        let held = self.held.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = length.saturating_sub(SMALL).saturating_sub(held);
        if more == 0 {
            return true;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        match (self.room.try_acquire_many(more), &mut self.held) {
            (Ok(more), Some(held)) => held.merge(more),
            (Ok(more), held) => *held = Some(more),
            (Err(_), _) => return false,
        }
        true
    }

    fn cut(&mut self, length: usize) {
        self.dropped = self
            .dropped
            .saturating_add(self.bytes.len().saturating_sub(length));
        self.bytes.truncate(length);
    }
}

/// Cuts the longer stream, or both to the same length, so that both go into one message. How much was dropped
/// in all.
pub(super) fn fit(stdout: &mut Output, stderr: &mut Output) -> usize {
    if stdout.bytes.len() + stderr.bytes.len() > ANSWER_MAX {
        let (shorter, longer) = match stdout.bytes.len() < stderr.bytes.len() {
            true => (&mut *stdout, &mut *stderr),
            false => (&mut *stderr, &mut *stdout),
        };
        shorter.cut(ANSWER_MAX / 2);
        longer.cut(ANSWER_MAX - shorter.bytes.len());
    }
    stdout.dropped.saturating_add(stderr.dropped)
}

/// One stream of a command, read as it comes.
pub(super) struct Stream {
    kept: Arc<Mutex<Output>>,
    reader: JoinHandle<()>,
}

impl Stream {
    /// The stream and the end of its pipe that the command gets.
    pub(super) fn open() -> Result<(Self, OwnedFd), PodError> {
        let failed = |error: std::io::Error| PodError::io("make a pipe for the command's output", error);
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        rustix::io::ioctl_fionbio(read.as_fd(), true).map_err(|error| failed(error.into()))?;
        let mut pipe = Receiver::from_owned_fd(read).map_err(failed)?;
        let kept = Arc::new(Mutex::new(Output::new(&ROOM)));
        let keep = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; CHUNK];
            while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
                keep.lock().take(&buffer[..read]);
            }
        });
        Ok((Self { kept, reader }, write))
    }

    /// What was written, once the stream ends or `drain` is over.
    pub(super) async fn finish(mut self, drain: Duration) -> Output {
        if tokio::time::timeout(drain, &mut self.reader).await.is_err() {
            self.reader.abort();
        }
        std::mem::replace(&mut *self.kept.lock(), Output::new(&ROOM))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[cfg(test)]
mod tests;
