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
/// Most buffers that are kept for later entries.
const SPARES: usize = 4;
/// A read of this size shows that the writer is faster than the reader.
const FULL_PIPE: usize = 64 * 1024;

/// The state of a stream after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// There may be more to read.
    More,
    /// There is nothing to read now.
    Quiet,
    /// Nothing should be read before the log has room.
    Blocked,
    /// No writer is left.
    Ended,
}

/// Buffers for input and log entries, shared by all streams of a pod.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    input: Vec<u8>,
    pub(crate) spares: Spares,
}

/// Buffers for log entries that have none.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    list: Vec<Vec<u8>>,
    large: bool,
}

impl Buffers {
    /// Returns large buffers to the kernel.
    pub(crate) fn release(&mut self) {
        if self.spares.large {
            *self = Self::default();
        }
    }

    const fn read_size(&self) -> usize {
        if self.spares.large { LARGE } else { SMALL }
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

impl Spares {
    pub(super) fn take(&mut self) -> Vec<u8> {
        let spare = self.list.pop().unwrap_or_default();
        if self.large && spare.capacity() < LARGE {
            return Vec::with_capacity(2 * LARGE + HEAD_LEN);
        }
        spare
    }

    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let fits = self.large || buffer.capacity() <= 2 * SMALL;
        if fits && buffer.capacity() > 0 && self.list.len() < SPARES {
            buffer.clear();
            self.list.push(buffer);
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
    /// Most bytes to read at once.
    limit: usize,
    /// Bytes that will still be read.
    left: usize,
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
            limit: LARGE,
            left: usize::MAX,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) const fn source(&self) -> Source {
        self.source
    }

    /// Ends the stream after what can be read now.
    pub(crate) fn limit_to_available(&mut self) {
        // Fails for no pipe and no terminal.
        let available = rustix::io::ioctl_fionread(&self.fd).unwrap_or(0);
        self.left = usize::try_from(available).unwrap_or(usize::MAX);
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
            if let Some(writer) = &mut writer
                && !writer.has_room(&mut buffers.spares)
            {
                break Flow::Blocked;
            }
            let wanted = buffers.read_size().min(self.limit).min(self.left);
            if wanted == 0 {
                break Flow::Ended;
            }
            buffers.reserve(kept);
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
            self.left -= read;
            if read < wanted && read < FULL_PIPE {
                break Flow::Quiet;
            }
            buffers.spares.large = true;
            self.widen(read);
            if left == 0 {
                break Flow::More;
            }
        };
        self.keep(&buffers.input[..kept]);
        flow
    }

    /// Logs the unfinished line at the end of the stream.
    pub(crate) fn finish(&mut self, buffers: &mut Buffers, writer: Option<&mut Writer>) {
        let rest = std::mem::take(&mut self.unfinished);
        if let Some(writer) = writer {
            let heads = Heads::new(clock::now(), self.source);
            writer.append(&mut buffers.spares, |out| {
                format::last_entries(&rest, &heads, self.max, out);
            });
        }
    }

    /// Logs the finished lines of the first `len` bytes of input and moves the rest to the front. Returns its length.
    fn log(&mut self, buffers: &mut Buffers, len: usize, writer: Option<&mut Writer>) -> usize {
        let Some(writer) = writer else {
            return 0;
        };
        let Buffers { input, spares } = buffers;
        let heads = Heads::new(clock::now(), self.source);
        let (done, size) = writer.append(spares, |out| {
            let before = out.len();
            let done = format::entries(&input[..len], &heads, self.max, out);
            (done, out.len() - before)
        });
        // Short lines have long entries.
        if size > 2 * LARGE {
            self.limit = (self.limit / 2).max(SMALL);
        } else if size < LARGE / 2 {
            self.limit = (self.limit * 2).min(LARGE);
        }
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
