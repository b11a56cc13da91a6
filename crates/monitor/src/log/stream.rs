//! One stream of a container: its reading end and the line that is not finished yet.
//!
//! Reads are bounded per turn, so that a container that writes without pause starves neither its
//! neighbours nor the daemon's requests. The buffers are the monitor's, not the stream's: one small pair
//! while little is written, one large pair during a burst, given back to the kernel after it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::format::{self, HEAD_LEN, Heads, Source};
use super::writer::Writer;
use crate::attachments::Tee;
use crate::clock;

/// Read at once while little is written.
const SMALL: usize = 4 * 1024;
/// Read at once during a burst. This, what becomes of it and the pipe together stay in a core's own cache:
/// twice as much is a quarter slower.
const LARGE: usize = 128 * 1024;
/// Read from one stream before the others have their turn.
const TURN: usize = 1024 * 1024;
/// Size of a pipe whose writer has once filled it; the kernel's default is 64 KiB. See [`LARGE`].
const WIDE_PIPE: usize = 256 * 1024;
/// How much in a pipe at once means that its writer is faster than its reader.
const FULL_PIPE: usize = 64 * 1024;

/// How it stands with a stream after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// There may be more.
    More,
    /// Nothing to read now.
    Quiet,
    /// Nothing to read ever again: no writer is left.
    Ended,
}

/// Buffers for reading and formatting, shared by all streams of a pod.
#[derive(Debug, Default)]
pub(crate) struct Work {
    input: Vec<u8>,
    output: Vec<u8>,
    burst: bool,
}

impl Work {
    /// Gives the large buffers back; done when nothing was to read for a while.
    pub(crate) fn rest(&mut self) {
        if self.burst {
            *self = Self::default();
        }
    }

    /// Whether large buffers are held.
    pub(crate) const fn in_burst(&self) -> bool {
        self.burst
    }

    const fn reading(&self) -> usize {
        if self.burst { LARGE } else { SMALL }
    }

    /// Makes room for a read after what is kept of the one before.
    fn reserve(&mut self, kept: usize) {
        let needed = kept + self.reading();
        if self.input.len() < needed {
            // Not resized in place: untouched pages of a new large allocation cost nothing.
            let mut larger = vec![0; needed];
            larger[..kept].copy_from_slice(&self.input[..kept]);
            self.input = larger;
        }
    }
}

/// The reading end of a pipe or a terminal's master.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: OwnedFd,
    source: Source,
    unfinished: Vec<u8>,
    max: usize,
    wide: bool,
}

impl Stream {
    /// Reads from this non-blocking descriptor; lines longer than `max` are split.
    pub(crate) fn new(fd: OwnedFd, source: Source, max: usize) -> Self {
        Self {
            fd,
            source,
            unfinished: Vec::new(),
            max: max.max(1),
            wide: false,
        }
    }

    /// The descriptor, to wait for.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Which stream it is.
    pub(crate) const fn source(&self) -> Source {
        self.source
    }

    /// Reads what is there, but not more than a turn's worth, and logs it; without a writer, drops it. Whoever
    /// is attached gets it as it is.
    pub(crate) fn pump(
        &mut self,
        work: &mut Work,
        mut writer: Option<&mut Writer>,
        tee: &mut Tee<'_>,
    ) -> Flow {
        let mut kept = self.unfinished.len();
        if work.input.len() < kept {
            work.input = self.unfinished.clone();
        } else {
            work.input[..kept].copy_from_slice(&self.unfinished);
        }
        let mut left = TURN;
        let flow = loop {
            work.reserve(kept);
            let wanted = work.reading();
            let read = match rustix::io::read(&self.fd, &mut work.input[kept..kept + wanted]) {
                Ok(0) => break Flow::Ended,
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break Flow::Quiet,
                // EIO: no one has the terminal open any more. Anything else will not get better.
                Err(_) => break Flow::Ended,
            };
            tee.write(&work.input[kept..kept + read]);
            kept = self.log(work, kept + read, writer.as_deref_mut());
            left = left.saturating_sub(read);
            if read < wanted && read < FULL_PIPE {
                break Flow::Quiet;
            }
            work.burst = true;
            self.widen(read);
            if left == 0 {
                break Flow::More;
            }
        };
        self.keep(&work.input[..kept]);
        flow
    }

    /// Logs what is left of the last line, at the stream's end.
    pub(crate) fn finish(&mut self, writer: Option<&mut Writer>) {
        let rest = std::mem::take(&mut self.unfinished);
        if let Some(writer) = writer {
            let mut out = Vec::new();
            format::last_entries(&rest, &Heads::new(clock::now(), self.source), self.max, &mut out);
            writer.write(&out);
        }
    }

    /// Logs the finished lines of the first `len` bytes and moves the rest to the front.
    fn log(&self, work: &mut Work, len: usize, writer: Option<&mut Writer>) -> usize {
        let Some(writer) = writer else {
            return 0;
        };
        let Work { input, output, burst } = work;
        if *burst && output.capacity() < LARGE {
            *output = Vec::with_capacity(2 * LARGE + HEAD_LEN);
        }
        output.clear();
        let heads = Heads::new(clock::now(), self.source);
        let done = format::entries(&input[..len], &heads, self.max, output);
        writer.write(output);
        input.copy_within(done..len, 0);
        len - done
    }

    /// Keeps an unfinished line in no more memory than it needs.
    fn keep(&mut self, rest: &[u8]) {
        if self.unfinished.as_slice() != rest {
            self.unfinished = rest.to_vec();
        }
    }

    /// A wider pipe saves a writer that is faster than its reader most of its waiting.
    fn widen(&mut self, read: usize) {
        if !self.wide && read >= FULL_PIPE {
            self.wide = true;
            // Refused for terminals and where the user has too many wide pipes: it is as good as it was.
            rustix::pipe::fcntl_setpipe_size(&self.fd, WIDE_PIPE).ok();
        }
    }
}

#[cfg(test)]
mod tests;
