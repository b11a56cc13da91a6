//! Garbage collection: removes from disk what nothing refers to any more.
//!
//! ```text
//!  released ──▶ image-gc: rename into staging/ ──▶ queue ──▶ image-remover threads: unlink ──▶ gone
//!                 │ the layer may be fetched again                                             │
//!                 └ counted as used until ─────────────────────────────────────────────────────┘
//! ```
//!
//! One thread takes what is released and renames it; it never waits for an unlink. Few threads remove the trees, oldest
//! first, each with threads of its own ([`pausa_layer::remove_tree`]), because unlinking mostly waits for the disk. While
//! nobody waits it is one tree at a time, so that pods notice less of it.
//!
//! No caller can be given an error here, so errors are logged. What remains in `staging/` is removed at the next start.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::files;
use super::layout::Layout;
use crate::error::chain;
use crate::failpoint::{failpoint, hold};
use crate::image::error::{ImageError, io_error, tree_error};

/// Most trees that are removed at the same time, and while nobody waits for it.
const HELPERS: usize = 4;
const UNHURRIED_HELPERS: usize = 1;

type Callback = Box<dyn FnOnce() + Send>;

enum Job {
    Layer {
        hex: String,
        renamed: Callback,
        gone: Callback,
    },
    Tree(PathBuf),
    /// Asks for the number that the next tree gets.
    Flush(oneshot::Sender<u64>),
}

/// The queue of the thread, which ends with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct GarbageCollector {
    jobs: Sender<Job>,
    removals: Arc<Removals>,
    /// How the names of layers in `staging/` begin.
    prefix: Arc<str>,
}

impl GarbageCollector {
    pub(crate) fn start(layout: Layout) -> Result<Self, ImageError> {
        let (sender, jobs) = channel();
        let base = layout.base().to_owned();
        let collector = Self {
            jobs: sender,
            removals: Arc::default(),
            prefix: format!("{}.", files::unique("trash")).into(),
        };
        let (removals, prefix) = (Arc::clone(&collector.removals), Arc::clone(&collector.prefix));
        std::thread::Builder::new()
            .name("image-gc".to_owned())
            .spawn(move || run(&layout, &prefix, &removals, &jobs))
            .map_err(io_error("start the garbage collection thread of", &base))?;
        Ok(collector)
    }

    /// Removes a layer. `renamed` is called as soon as its directory is out of the way, or could not be
    /// renamed; `gone` when it is off the disk, and never if it could not be removed.
    pub(crate) fn remove_layer(
        &self,
        hex: String,
        renamed: impl FnOnce() + Send + 'static,
        gone: impl FnOnce() + Send + 'static,
    ) {
        let (renamed, gone) = (Box::new(renamed), Box::new(gone));
        self.send(Job::Layer { hex, renamed, gone });
    }

    /// Removes a path in `staging/`.
    pub(crate) fn remove_tree(&self, path: PathBuf) {
        self.send(Job::Tree(path));
    }

    /// Whether this name in `staging/` is that of a layer given to [`remove_layer`](Self::remove_layer).
    pub(crate) fn is_layer(&self, name: &str) -> bool {
        name.starts_with(&*self.prefix)
    }

    /// Waits until everything that was released before is off the disk. Hurries as long as it waits.
    pub(crate) async fn flush(&self) {
        let _hurry = Hurry::begin(&self.removals);
        self.settle().await;
    }

    /// As [`flush`](Self::flush), without hurry.
    pub(crate) async fn settle(&self) {
        let (reply, number) = oneshot::channel();
        self.send(Job::Flush(reply));
        // Without an answer the thread has ended, and with it the store.
        let Ok(number) = number.await else { return };
        let mut oldest = self.removals.oldest.subscribe();
        // The sender is in `self`.
        drop(oldest.wait_for(|oldest| *oldest >= number).await);
    }

    /// Whether somebody waits for removals in a hurry.
    #[cfg(test)]
    pub(crate) fn is_awaited(&self) -> bool {
        self.removals.queue.lock().hurried > 0
    }

    fn send(&self, job: Job) {
        // The thread lives as long as this queue, unless it has panicked. The next start removes what it
        // would have removed.
        drop(self.jobs.send(job));
    }
}

fn run(layout: &Layout, prefix: &str, removals: &Arc<Removals>, jobs: &Receiver<Job>) {
    for (at, job) in jobs.iter().enumerate() {
        match job {
            Job::Layer { hex, renamed, gone } => {
                let trash = layout.staging().join(format!("{prefix}{at}"));
                let from = layout.layer(&hex);
                let result = std::fs::rename(&from, &trash).map_err(io_error("rename", &from));
                renamed();
                failpoint("layer-moved-away");
                match result {
                    Ok(()) => removals.add(trash, Some(gone)),
                    Err(error) => report(&from, &error),
                }
            }
            Job::Tree(path) => removals.add(path, None),
            Job::Flush(reply) => {
                // The caller may have gone away.
                reply.send(removals.queue.lock().next).ok();
            }
        }
        removals.advance();
    }
}

/// A tree to be removed.
struct Tree {
    number: u64,
    path: PathBuf,
    gone: Option<Callback>,
}

/// The trees that are to be removed, numbered in their order.
#[derive(Default)]
struct Removals {
    queue: Mutex<Queue>,
    /// The number of the oldest tree that is not removed yet, or of the next one.
    oldest: watch::Sender<u64>,
}

#[derive(Default)]
struct Queue {
    /// Oldest first.
    waiting: VecDeque<Tree>,
    running: BTreeSet<u64>,
    next: u64,
    /// How many wait for removals.
    hurried: usize,
}

impl Queue {
    /// How many more trees may be removed at once.
    fn vacant(&self) -> usize {
        let most = match self.hurried {
            0 => UNHURRIED_HELPERS,
            _ => HELPERS,
        };
        most.saturating_sub(self.running.len()).min(self.waiting.len())
    }
}

impl std::fmt::Debug for Removals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Removals").finish_non_exhaustive()
    }
}

impl Removals {
    fn add(&self, path: PathBuf, gone: Option<Callback>) {
        let mut queue = self.queue.lock();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(Tree { number, path, gone });
    }

    /// Starts as many threads as there may be.
    fn advance(self: &Arc<Self>) {
        let vacant = self.queue.lock().vacant();
        for _ in 0..vacant {
            let removals = Arc::clone(self);
            let helper = std::thread::Builder::new().name("image-remover".to_owned());
            // Without a thread this one does it.
            if helper.spawn(move || removals.help()).is_err() {
                self.help();
            }
        }
    }

    /// Removes trees as long as there are any and this is not one thread too many.
    fn help(self: &Arc<Self>) {
        while let Some(tree) = self.take() {
            let _running = Running {
                removals: self,
                number: tree.number,
            };
            hold(|| tree.path.with_file_name("../hold-removals"));
            match (remove(&tree.path), tree.gone) {
                (Ok(()), Some(gone)) => {
                    failpoint("layer-unlinked");
                    gone();
                }
                (Ok(()), None) => {}
                (Err(error), _) => report(&tree.path, &error),
            }
        }
    }

    fn take(&self) -> Option<Tree> {
        let mut queue = self.queue.lock();
        if queue.vacant() == 0 {
            return None;
        }
        let tree = queue.waiting.pop_front()?;
        queue.running.insert(tree.number);
        Some(tree)
    }
}

/// A tree that is being removed.
struct Running<'a> {
    removals: &'a Arc<Removals>,
    number: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut queue = self.removals.queue.lock();
        queue.running.remove(&self.number);
        let waiting = queue.waiting.front().map(|tree| tree.number);
        let running = queue.running.first().copied();
        let oldest = waiting.into_iter().chain(running).min().unwrap_or(queue.next);
        self.removals.oldest.send_replace(oldest);
        drop(queue);
        if std::thread::panicking() {
            // It was printed to stderr. The next start removes the tree, and another thread the others.
            self.removals.advance();
        }
    }
}

/// Somebody waits for removals.
struct Hurry<'a>(&'a Removals);

impl<'a> Hurry<'a> {
    fn begin(removals: &'a Removals) -> Self {
        removals.queue.lock().hurried += 1;
        Self(removals)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().hurried -= 1;
    }
}

fn report(path: &Path, error: &ImageError) {
    tracing::warn!(
        path = %path.display(),
        error = chain(error),
        "cannot remove unused image data; it occupies space until the daemon restarts"
    );
}

/// Removes a tree of the store now. Blocks. A missing tree counts as removed.
pub(crate) fn remove(path: &Path) -> Result<(), ImageError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let dir = files::open_dir(parent)?;
    pausa_layer::remove_tree(dir.as_fd(), name).map_err(tree_error("remove", path))
}

#[cfg(test)]
mod tests;
