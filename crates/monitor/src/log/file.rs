//! A log file and the thread that writes it, which may stall.
//!
//! ```text
//!   Unwritten ──first entries──▶ Thread: batches of entries ──stalled while closing──▶ Abandoned
//! ```
//!
//! The monitor calls write(2) for a log itself only if it cannot start a thread, for example because the pod has as many
//! tasks as it may have: a log that could stall is better than one with a gap then.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pausa_sys::FileWriter;
use rustix::event::EventfdFlags;
use rustix::io::Errno;

use super::backlog::{Backlog, Dropped};
use super::stream::Spares;

/// Bytes of entries that wait for a stalled write before output is no longer read.
pub(super) const BACKLOG_MAX: usize = 64 * 1024;
/// How long a write may take before the file is closed without it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// What the log files of a pod share.
#[derive(Debug)]
pub(crate) struct LogThreads {
    /// An eventfd: threads signal here.
    signal: OwnedFd,
    /// Threads with writes that were given up.
    abandoned: RefCell<Vec<FileWriter>>,
}

impl LogThreads {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            signal: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            abandoned: RefCell::default(),
        })
    }

    /// Readable when a thread has signalled.
    pub(crate) fn signal(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }

    /// Clears the signal, and ends threads whose writes were given up and have ended.
    pub(crate) fn serve_signal(&self) {
        // EAGAIN: there was none.
        rustix::io::read(&self.signal, &mut [0; 8]).ok();
        self.abandoned.borrow_mut().retain_mut(will_signal);
    }
}

/// Takes all writes that are over. Whether there will be a signal, since there are others.
fn will_signal(writer: &mut FileWriter) -> bool {
    loop {
        while writer.take().is_some() {}
        if writer.is_idle() || writer.signal_end() {
            return !writer.is_idle();
        }
    }
}

#[derive(Debug)]
enum Sink {
    /// There is no thread yet.
    Unwritten(OwnedFd),
    Thread(FileWriter),
    Abandoned,
}

/// What a [`LogFile`] works with.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) threads: &'a LogThreads,
    pub(super) spares: &'a mut Spares,
    pub(super) dropped: &'a mut Dropped,
}

#[derive(Debug)]
pub(super) struct LogFile {
    sink: Sink,
    backlog: Backlog,
    /// Of the batch that the thread writes: how long the rest of a torn entry at its begin is, and since when it is written.
    torn: usize,
    since: Option<Instant>,
    /// No more entries come.
    closing: bool,
    /// The rest of a torn entry was tried once more.
    last_try: bool,
}

impl LogFile {
    pub(super) const fn new(file: OwnedFd) -> Self {
        Self {
            sink: Sink::Unwritten(file),
            backlog: Backlog::new(),
            torn: 0,
            since: None,
            closing: false,
            last_try: false,
        }
    }

    /// Where to append whole entries.
    pub(super) fn entries(&mut self, spares: &mut Spares) -> &mut Vec<u8> {
        let entries = self.backlog.entries();
        if entries.capacity() == 0 {
            *entries = spares.take();
        }
        entries
    }

    /// Returns the buffer if nothing was appended.
    pub(super) fn return_unused(&mut self, spares: &mut Spares) {
        if self.backlog.is_empty() {
            spares.give(std::mem::take(self.backlog.entries()));
        }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.backlog.len() >= BACKLOG_MAX
    }

    /// Since when the thread writes the same batch.
    pub(super) const fn busy_since(&self) -> Option<Instant> {
        self.since
    }

    pub(super) const fn close(&mut self) {
        self.closing = true;
    }

    /// Whether everything is written or dropped.
    pub(super) const fn is_complete(&self) -> bool {
        self.since.is_none() && self.backlog.is_empty()
    }

    /// When a closing file is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since = self.since.filter(|_| self.closing);
        since.map(|since| since + CLOSE_PATIENCE)
    }

    /// Writes on, as far as the thread is ready.
    pub(super) fn advance(&mut self, context: &mut Context<'_>) {
        self.collect(context);
        while self.write(context) {}
    }

    /// As [`Self::advance`]. If anything waits for the thread then, it will signal. Gives up a closing file that stalls.
    pub(super) fn advance_and_wait(&mut self, context: &mut Context<'_>) {
        loop {
            self.advance(context);
            let is_awaited = self.closing || !self.backlog.is_empty();
            match &self.sink {
                // If a write is over by now, there is something to collect.
                Sink::Thread(writer) if is_awaited && !writer.is_idle() && !writer.signal_end() => {}
                _ => break,
            }
        }
        if self.deadline().is_some_and(|at| at <= Instant::now()) {
            self.abandon(context);
        }
    }

    /// Takes back what the thread has done.
    fn collect(&mut self, context: &mut Context<'_>) {
        let Sink::Thread(writer) = &mut self.sink else {
            return;
        };
        while let Some(written) = writer.take() {
            let errno = written.refused.unwrap_or(Errno::IO);
            let torn = std::mem::take(&mut self.torn);
            if errno == Errno::CANCELED {
                self.backlog.put_back(&written.bytes);
            } else {
                let (bytes, dropped) = (&written.bytes, &mut *context.dropped);
                self.backlog.settle(bytes, torn, written.written, errno, dropped);
            }
            context.spares.give(written.bytes);
            self.since = Some(Instant::now()).filter(|_| !writer.is_idle());
        }
    }

    /// Begins to write what there is. Returns false if there is nothing to do or the thread is busy.
    fn write(&mut self, context: &mut Context<'_>) -> bool {
        if let Sink::Thread(writer) = &self.sink
            && !writer.has_room()
        {
            return false;
        }
        if self.backlog.has_no_whole_entry() {
            // The rest of a torn entry waits for the next entry, or for the end.
            if self.backlog.is_empty() || !self.closing || self.since.is_some() {
                return false;
            }
            if self.last_try {
                self.backlog.drop_all(None, context.dropped);
                return false;
            }
            self.last_try = true;
        }
        let batch = self.backlog.take();
        let mut writer = match std::mem::replace(&mut self.sink, Sink::Abandoned) {
            Sink::Thread(writer) => writer,
            Sink::Unwritten(file) => match FileWriter::start(file, context.threads.signal()) {
                Ok(writer) => writer,
                Err((file, _)) => {
                    let (written, errno) = write_without_thread(&file, &batch.bytes, context.threads);
                    let (bytes, dropped) = (&batch.bytes, &mut *context.dropped);
                    self.backlog.settle(bytes, batch.torn, written, errno, dropped);
                    context.spares.give(batch.bytes);
                    self.sink = Sink::Unwritten(file);
                    return true;
                }
            },
            Sink::Abandoned => {
                context.dropped.add(batch.bytes.len(), Errno::TIMEDOUT);
                return false;
            }
        };
        if writer.is_idle() {
            self.torn = batch.torn;
            self.since = Some(Instant::now());
        }
        // Never refused: there is room.
        writer.write(batch.bytes).ok();
        self.sink = Sink::Thread(writer);
        true
    }

    /// Gives up a stalled write. It may still come to its end, but counts as dropped.
    fn abandon(&mut self, context: &mut Context<'_>) {
        self.since = None;
        if let Sink::Thread(mut writer) = std::mem::replace(&mut self.sink, Sink::Abandoned) {
            context.dropped.add(writer.bytes_under_way(), Errno::TIMEDOUT);
            if will_signal(&mut writer) {
                context.threads.abandoned.borrow_mut().push(writer);
            }
        }
        self.backlog.drop_all(Some(Errno::TIMEDOUT), context.dropped);
    }
}

/// Writes until the file refuses. Returns the number of bytes written and why the rest was refused. Refuses everything if
/// a write was given up: another one would stall the monitor.
fn write_without_thread(file: &OwnedFd, bytes: &[u8], threads: &LogThreads) -> (usize, Errno) {
    if !threads.abandoned.borrow().is_empty() {
        return (0, Errno::TIMEDOUT);
    }
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::write(file, &bytes[done..]) {
            Ok(0) => return (done, Errno::NOSPC),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(errno) => return (done, errno),
        }
    }
    (done, Errno::IO)
}
