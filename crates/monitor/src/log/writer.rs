//! Whole entries into a file that may refuse them.
//!
//! ```text
//!   Clean ──(a write stops inside an entry)──▶ Owing ──(its rest is written)──▶ Clean
//!     │                                          │
//!     └── entries the file refuses are counted and dropped ──┘
//! ```
//!
//! A full disk can take half an entry. Its other half is kept and written before anything else, so that
//! no line is torn or written twice; everything whole that was refused is dropped. Must never wait and
//! never fail: the container's output has to flow whatever the disk does.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Where a log goes. Files, and what tests put in their place.
pub(crate) trait Sink {
    /// Appends some of these bytes and says how many.
    fn append(&mut self, bytes: &[u8]) -> Result<usize, Errno>;
}

impl Sink for OwnedFd {
    fn append(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        rustix::io::write(self, bytes)
    }
}

/// Bytes that could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// How many, heads of entries included.
    pub(crate) bytes: u64,
    /// What the last failing write said.
    pub(crate) errno: i32,
}

/// Writes entries to a log file.
#[derive(Debug)]
pub(crate) struct Writer<S = OwnedFd> {
    sink: S,
    owed: Vec<u8>,
    dropped: u64,
    errno: i32,
}

impl<S: Sink> Writer<S> {
    /// Appends to this file, which must be open for appending.
    pub(crate) const fn new(sink: S) -> Self {
        Self {
            sink,
            owed: Vec::new(),
            dropped: 0,
            errno: 0,
        }
    }

    /// Writes a batch of whole entries, or as many of them as the file takes.
    pub(crate) fn write(&mut self, entries: &[u8]) {
        if !self.settle() {
            self.count(entries.len());
            return;
        }
        let written = self.put(entries);
        let (done, refused) = entries.split_at(written);
        if refused.is_empty() {
            return;
        }
        let torn = match done.last() {
            None | Some(b'\n') => 0,
            Some(_) => memchr::memchr(b'\n', refused).map_or(refused.len(), |end| end + 1),
        };
        self.owed = refused[..torn].to_vec();
        self.count(refused.len() - torn);
    }

    /// Goes on in another file. An entry torn in the old one is completed there or given up.
    pub(crate) fn replace(&mut self, sink: S) {
        self.settle();
        let lost = std::mem::take(&mut self.owed).len();
        self.count(lost);
        self.sink = sink;
    }

    /// Completes a torn entry; true if nothing is owed any more.
    pub(crate) fn settle(&mut self) -> bool {
        if !self.owed.is_empty() {
            let owed = std::mem::take(&mut self.owed);
            let written = self.put(&owed);
            self.owed = owed[written..].to_vec();
        }
        self.owed.is_empty()
    }

    /// Whether anything was dropped since the last [`Self::take_dropped`].
    pub(crate) const fn has_dropped(&self) -> bool {
        self.dropped > 0
    }

    /// What was dropped, counted from now on anew.
    pub(crate) fn take_dropped(&mut self) -> Option<Dropped> {
        let bytes = std::mem::take(&mut self.dropped);
        (bytes > 0).then_some(Dropped {
            bytes,
            errno: self.errno,
        })
    }

    fn count(&mut self, bytes: usize) {
        self.dropped = self.dropped.saturating_add(bytes as u64);
    }

    /// Writes until all is written or the file refuses; returns how many bytes were written.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            match self.sink.append(&bytes[done..]) {
                Ok(0) => {
                    self.errno = Errno::NOSPC.raw_os_error();
                    break;
                }
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    self.errno = errno.raw_os_error();
                    break;
                }
            }
        }
        done
    }
}

#[cfg(test)]
mod tests;
