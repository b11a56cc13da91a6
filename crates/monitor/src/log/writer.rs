//! A container's log: the file that new entries go to, and files before it that are not complete.
//!
//! A slow file slows the container down, as its output is not read while too much waits for the file. A stalled one does
//! not: after a while, what comes in addition is dropped, until the write that stalls has ended.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::backlog::Dropped;
use super::file::{Context, LogFile, LogThreads};
use super::stream::Spares;

/// How long output waits for a write. A snapshot of the disk, for which its file system is frozen, should be over by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same, when the container's first process has ended.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Writer {
    threads: Rc<LogThreads>,
    current: LogFile,
    /// Closing.
    replaced: Vec<LogFile>,
    patience: Duration,
    dropped: Dropped,
}

impl Writer {
    /// Takes a file that is open for appending.
    pub(crate) const fn new(file: OwnedFd, threads: Rc<LogThreads>) -> Self {
        Self {
            threads,
            current: LogFile::new(file),
            replaced: Vec::new(),
            patience: PATIENCE,
            dropped: Dropped { bytes: 0, errno: 0 },
        }
    }

    /// Logs the whole entries that `format` appends.
    pub(super) fn append<T>(&mut self, spares: &mut Spares, format: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.current.is_full() && self.is_stalled() {
            let mut refused = spares.take();
            let result = format(&mut refused);
            self.dropped.add(refused.len(), Errno::TIMEDOUT);
            spares.give(refused);
            return result;
        }
        let result = format(self.current.entries(spares));
        self.current.return_unused(spares);
        self.advance_current(spares);
        result
    }

    /// Whether output should be read: it will be written or dropped.
    pub(super) fn has_room(&mut self, spares: &mut Spares) -> bool {
        if self.current.is_full() {
            self.advance_current(spares);
        }
        self.can_read()
    }

    /// As [`Self::has_room`] was last.
    pub(crate) fn can_read(&self) -> bool {
        !self.current.is_full() || self.is_stalled()
    }

    /// Continues in another file.
    pub(crate) fn replace(&mut self, file: OwnedFd, spares: &mut Spares) {
        let mut old = std::mem::replace(&mut self.current, LogFile::new(file));
        old.close();
        self.replaced.push(old);
        self.advance(spares);
    }

    /// Whether a file before this one is neither complete nor given up.
    pub(crate) const fn has_replaced(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// The container's first process has ended: do not wait long any more.
    pub(crate) const fn hurry(&mut self) {
        self.patience = LAST_PATIENCE;
    }

    /// There are no more entries.
    pub(crate) const fn close(&mut self) {
        self.current.close();
    }

    /// After [`Self::close`]: whether all files are complete, or stall and were given up.
    pub(crate) fn is_complete(&self) -> bool {
        self.replaced.is_empty() && self.current.is_complete()
    }

    /// Goes on after a signal or at the deadline. Called at the end of each turn of the event loop: if anything waits for a
    /// thread then, it will signal.
    pub(crate) fn advance(&mut self, spares: &mut Spares) {
        let mut context = Context {
            threads: &self.threads,
            spares,
            dropped: &mut self.dropped,
        };
        self.current.advance_and_wait(&mut context);
        self.replaced.retain_mut(|file| {
            file.advance_and_wait(&mut context);
            !file.is_complete()
        });
    }

    /// When [`Self::advance`] must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let patience = self.current.busy_since().map(|since| since + self.patience);
        // Once that is over, nothing waits.
        let patience = patience.filter(|at| self.current.is_full() && *at > Instant::now());
        let closing = self.replaced.iter().chain([&self.current]);
        closing.filter_map(LogFile::deadline).chain(patience).min()
    }

    /// Whether anything was dropped since the last [`Self::take_dropped`].
    pub(crate) const fn has_dropped(&self) -> bool {
        self.dropped.bytes > 0
    }

    /// What was dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> Option<Dropped> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped.bytes > 0).then_some(dropped)
    }

    fn is_stalled(&self) -> bool {
        self.current
            .busy_since()
            .is_some_and(|since| since.elapsed() >= self.patience)
    }

    fn advance_current(&mut self, spares: &mut Spares) {
        let mut context = Context {
            threads: &self.threads,
            spares,
            dropped: &mut self.dropped,
        };
        self.current.advance(&mut context);
    }
}
