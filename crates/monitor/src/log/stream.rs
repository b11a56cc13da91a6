//! An output stream of a container: its reading end and the unfinished line.
//!
//! Reads are bounded per turn, so that a container that writes without pause delays neither other containers nor requests.
//! All streams share one pair of buffers, which is small while little is written, large during a burst, and returned to the
//! kernel afterwards.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::format::{self, HEAD_LEN, Heads, Source};
use super::writer::Writer;
use crate::clock;

/// Bytes read at once while little is written.
const SMALL: usize = 4 * 1024;
/// Bytes read at once during a burst. Input, output and pipe together fit into a core's private cache. Twice this size is a
/// quarter slower.
const LARGE: usize = 128 * 1024;
/// Most bytes read from a stream before other descriptors are served.
const BYTES_PER_TURN: usize = 1024 * 1024;
/// Size of a pipe that its writer has filled once. The kernel's default is 64 KiB. See [`LARGE`].
const WIDE_PIPE: usize = 256 * 1024;
/// A read of this size shows that the writer is faster than the reader.
const FULL_PIPE: usize = 64 * 1024;

/// The state of a stream after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// There may be more to read.
    More,
    /// There is nothing to read now.
    Quiet,
    /// No writer is left.
    Ended,
}

/// Buffers for input and log entries, shared by all streams of a pod.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    input: Vec<u8>,
    output: Vec<u8>,
    large: bool,
}

impl Buffers {
    /// Returns large buffers to the kernel.
    pub(crate) fn release(&mut self) {
        if self.large {
            *self = Self::default();
        }
    }

    pub(crate) const fn are_large(&self) -> bool {
        self.large
    }

    const fn read_size(&self) -> usize {
        if self.large { LARGE } else { SMALL }
    }

    /// Makes room for a read after the first `kept` bytes.
    fn reserve(&mut self, kept: usize) {
        let needed = kept + self.read_size();
        if self.input.len() < needed {
            // Not resized in place: the untouched pages of a new large allocation use no memory.
            let mut larger = vec![0; needed];
            larger[..kept].copy_from_slice(&self.input[..kept]);
            self.input = larger;
        }
    }
}

/// The reading end of a pipe, or the master of a terminal.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: OwnedFd,
    source: Source,
    unfinished: Vec<u8>,
    max: usize,
    wide: bool,
}

impl Stream {
    /// Takes a non-blocking descriptor. Lines longer than `max` bytes are split.
    pub(crate) fn new(fd: OwnedFd, source: Source, max: usize) -> Self {
        Self {
            fd,
            source,
            unfinished: Vec::new(),
            max: max.max(1),
            wide: false,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) const fn source(&self) -> Source {
        self.source
    }

    /// Reads at most a turn's worth of output, logs it, and passes it to `copy`. Without a writer it is not logged.
    pub(crate) fn pump(
        &mut self,
        buffers: &mut Buffers,
        mut writer: Option<&mut Writer>,
        mut copy: impl FnMut(&[u8]),
    ) -> Flow {
        let mut kept = self.unfinished.len();
        if buffers.input.len() < kept {
            buffers.input = self.unfinished.clone();
        } else {
            buffers.input[..kept].copy_from_slice(&self.unfinished);
        }
        let mut left = BYTES_PER_TURN;
        let flow = loop {
            buffers.reserve(kept);
            let wanted = buffers.read_size();
            let read = match rustix::io::read(&self.fd, &mut buffers.input[kept..kept + wanted]) {
                Ok(0) => break Flow::Ended,
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break Flow::Quiet,
                // EIO: no process has the terminal open. Other errors are permanent, too.
                Err(_) => break Flow::Ended,
            };
            copy(&buffers.input[kept..kept + read]);
            kept = self.log(buffers, kept + read, writer.as_deref_mut());
            left = left.saturating_sub(read);
            if read < wanted && read < FULL_PIPE {
                break Flow::Quiet;
            }
            buffers.large = true;
            self.widen(read);
            if left == 0 {
                break Flow::More;
            }
        };
        self.keep(&buffers.input[..kept]);
        flow
    }

    /// Logs the unfinished line at the end of the stream.
    pub(crate) fn finish(&mut self, writer: Option<&mut Writer>) {
        let rest = std::mem::take(&mut self.unfinished);
        if let Some(writer) = writer {
            let mut out = Vec::new();
            format::last_entries(&rest, &Heads::new(clock::now(), self.source), self.max, &mut out);
            writer.write(&out);
        }
    }

    /// Logs the finished lines of the first `len` bytes of input and moves the rest to the front. Returns its length.
    fn log(&self, buffers: &mut Buffers, len: usize, writer: Option<&mut Writer>) -> usize {
        let Some(writer) = writer else {
            return 0;
        };
        let Buffers { input, output, large } = buffers;
        if *large && output.capacity() < LARGE {
            *output = Vec::with_capacity(2 * LARGE + HEAD_LEN);
        }
        output.clear();
        let heads = Heads::new(clock::now(), self.source);
        let done = format::entries(&input[..len], &heads, self.max, output);
        writer.write(output);
        input.copy_within(done..len, 0);
        len - done
    }

    /// Keeps an unfinished line in an allocation of its size.
    fn keep(&mut self, rest: &[u8]) {
        if self.unfinished.as_slice() != rest {
            self.unfinished = rest.to_vec();
        }
    }

    /// Enlarges a pipe whose writer is faster than its reader, so that the writer waits less.
    fn widen(&mut self, read: usize) {
        if !self.wide && read >= FULL_PIPE {
            self.wide = true;
            // Fails for terminals, and if the user has too many large pipes. Then the pipe keeps its size.
            rustix::pipe::fcntl_setpipe_size(&self.fd, WIDE_PIPE).ok();
        }
    }
}

#[cfg(test)]
mod tests;
