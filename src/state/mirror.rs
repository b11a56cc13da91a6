//! Copies records to the persistent tree in the background.
//!
//! There is one thread. A record that is saved several times within [`GATHER`] is written once, and one that is there already
//! is not written: a daemon that starts hands over all records, because an earlier one may have been killed before it had
//! copied them. A failed write is logged: until the next reboot the record below `<state>` is the one that counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pausa_sys::Durability;

use super::record::{make_private_dir, replace};
use crate::telemetry::metrics;

/// How long records are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);

/// The handle of the thread. Dropping it waits until everything is written.
#[derive(Debug)]
pub(super) struct Mirror {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    pending: BTreeMap<PathBuf, Vec<u8>>,
    /// The file that is being written; its directory must not be removed meanwhile.
    writing: Option<PathBuf>,
    /// Somebody waits until everything is written: nothing is gathered.
    flushing: bool,
    ended: bool,
}

impl Mirror {
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("state-mirror".into())
            .spawn(move || run(&for_thread))
            .ok();
        Self { shared, thread }
    }

    pub(super) fn copy(&self, path: PathBuf, bytes: Vec<u8>) {
        self.shared.queue.lock().pending.insert(path, bytes);
        self.shared.changed.notify_all();
    }

    pub(super) fn waiting(&self) -> usize {
        self.shared.queue.lock().pending.len()
    }

    /// Waits until everything is written.
    pub(super) fn flush(&self) {
        let Some(thread) = &self.thread else { return };
        let mut queue = self.shared.queue.lock();
        queue.flushing = true;
        self.shared.changed.notify_all();
        // It would end early by a panic only.
        while (!queue.pending.is_empty() || queue.writing.is_some()) && !thread.is_finished() {
            self.shared.changed.wait_for(&mut queue, GATHER);
        }
        queue.flushing = false;
    }

    /// Drops queued files below a directory, and waits if one is being written there.
    pub(super) fn cancel(&self, dir: &Path) {
        let mut queue = self.shared.queue.lock();
        queue.pending.retain(|path, _| !path.starts_with(dir));
        while queue.writing.as_deref().is_some_and(|path| path.starts_with(dir)) {
            self.shared.changed.wait(&mut queue);
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.queue.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn run(shared: &Shared) {
    let mut queue = shared.queue.lock();
    loop {
        while queue.pending.is_empty() {
            if queue.ended {
                return;
            }
            shared.changed.wait(&mut queue);
        }
        let until = Instant::now() + GATHER;
        while !queue.ended && !queue.flushing && !shared.changed.wait_until(&mut queue, until).timed_out() {}
        while let Some((path, bytes)) = queue.pending.pop_first() {
            queue.writing = Some(path.clone());
            drop(queue);
            if let Err(error) = write(&path, &bytes) {
                metrics::record_not_written("root");
                tracing::warn!(
                    error = crate::error::chain(&error),
                    "cannot keep a record beyond the next reboot"
                );
            }
            queue = shared.queue.lock();
            queue.writing = None;
            shared.changed.notify_all();
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), super::StateError> {
    if std::fs::read(path).is_ok_and(|kept| kept == bytes) {
        return Ok(());
    }
    let Some(dir) = path.parent() else { return Ok(()) };
    make_private_dir(dir)?;
    replace(path, bytes, Durability::PowerCut)
}
