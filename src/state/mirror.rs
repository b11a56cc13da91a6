//! Copies records to where they survive a reboot, off everybody's path.
//!
//! One thread; what is saved twice within a moment is written once. A failing write is logged and the next
//! record tried: the copy below `<state>` is the one that counts until the reboot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pausa_sys::Durability;

use super::record::{make_private_dir, replace};

/// How long news are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);

/// Handle of the copying thread, which ends with it, after everything is written.
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
    /// The file being written right now; nobody may remove its directory meanwhile.
    writing: Option<PathBuf>,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }
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

    /// Queues one file.
    pub(super) fn copy(&self, path: PathBuf, bytes: Vec<u8>) {
        self.shared.lock().pending.insert(path, bytes);
        self.shared.changed.notify_all();
    }

    /// Drops what is queued below a directory, and waits for what is being written there.
    pub(super) fn cancel(&self, dir: &Path) {
        let mut queue = self.shared.lock();
        queue.pending.retain(|path, _| !path.starts_with(dir));
        while queue.writing.as_deref().is_some_and(|path| path.starts_with(dir)) {
            queue = self.shared.wait(queue);
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn run(shared: &Shared) {
    let mut queue = shared.lock();
    loop {
        while queue.pending.is_empty() {
            if queue.ended {
                return;
            }
            queue = shared.wait(queue);
        }
        if !queue.ended {
            // Woken early by more records or the end: both are fine.
            drop(queue);
            std::thread::sleep(GATHER);
            queue = shared.lock();
        }
        while let Some((path, bytes)) = queue.pending.pop_first() {
            queue.writing = Some(path.clone());
            drop(queue);
            if let Err(error) = write(&path, &bytes) {
                tracing::warn!(
                    error = crate::error::chain(&error),
                    "cannot keep a record beyond the next reboot"
                );
            }
            queue = shared.lock();
            queue.writing = None;
            shared.changed.notify_all();
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), super::StateError> {
    let Some(dir) = path.parent() else { return Ok(()) };
    make_private_dir(dir)?;
    replace(path, bytes, Durability::PowerCut)
}
