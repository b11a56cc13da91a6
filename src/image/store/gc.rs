//! Garbage collection: removes from disk what nothing refers to any more.
//!
//! One thread takes the jobs in order, so that a caller can wait until what it has released is gone. A few
//! helper threads remove the trees, each with threads of its own ([`pausa_layer::remove_tree`]), because
//! unlinking mostly waits for the disk.
//!
//! A layer is first renamed into `staging/`; from then on the same layer may be fetched again. No caller can
//! be given an error here, so errors are logged. What remains in `staging/` is removed at the next start.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::files;
use super::layout::Layout;
use crate::error::chain;
use crate::failpoint::failpoint;
use crate::image::error::{ImageError, io_error, tree_error};

/// Most trees that are removed at the same time.
const HELPERS: usize = 4;

enum Job {
    Layer {
        hex: String,
        renamed: Box<dyn FnOnce() + Send>,
    },
    Tree(PathBuf),
    Flush(oneshot::Sender<()>),
}

/// The queue of the thread, which ends with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct GarbageCollector {
    jobs: Sender<Job>,
}

impl GarbageCollector {
    pub(crate) fn start(layout: Layout) -> Result<Self, ImageError> {
        let (sender, jobs) = channel();
        let base = layout.base().to_owned();
        std::thread::Builder::new()
            .name("image-gc".to_owned())
            .spawn(move || run(&layout, &jobs))
            .map_err(io_error("start the garbage collection thread of", &base))?;
        Ok(Self { jobs: sender })
    }

    /// Removes a layer. `renamed` is called as soon as its directory is out of the way, or could not be
    /// renamed.
    pub(crate) fn remove_layer(&self, hex: String, renamed: impl FnOnce() + Send + 'static) {
        let renamed = Box::new(renamed);
        self.send(Job::Layer { hex, renamed });
    }

    /// Removes a path in `staging/`.
    pub(crate) fn remove_tree(&self, path: PathBuf) {
        self.send(Job::Tree(path));
    }

    /// Waits until everything that was released before is off the disk.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        self.send(Job::Flush(done));
        // Without an answer the thread has ended, and with it the store.
        drop(wait.await);
    }

    fn send(&self, job: Job) {
        // The thread lives as long as this queue, unless it has panicked. The next start removes what it
        // would have removed.
        drop(self.jobs.send(job));
    }
}

fn run(layout: &Layout, jobs: &Receiver<Job>) {
    let mut helpers = Helpers::default();
    for job in jobs {
        match job {
            Job::Layer { hex, renamed } => {
                let trash = layout.staging().join(files::unique("trash"));
                let from = layout.layer(&hex);
                let result = std::fs::rename(&from, &trash).map_err(io_error("rename", &from));
                renamed();
                failpoint("layer-moved-away");
                match result {
                    Ok(()) => helpers.remove(&trash),
                    Err(error) => report(&from, &error),
                }
            }
            Job::Tree(path) => helpers.remove(&path),
            Job::Flush(done) => {
                helpers.finish();
                // The caller may have gone away.
                done.send(()).ok();
            }
        }
    }
    helpers.finish();
}

/// Threads that remove one tree each.
#[derive(Default)]
struct Helpers {
    running: VecDeque<JoinHandle<()>>,
}

impl Helpers {
    fn remove(&mut self, tree: &Path) {
        if self.running.len() == HELPERS {
            self.finish_one();
        }
        let remove = |path: &Path| {
            if let Err(error) = remove(path) {
                report(path, &error);
            }
        };
        let path = tree.to_owned();
        let helper = std::thread::Builder::new().name("image-remover".to_owned());
        match helper.spawn(move || remove(&path)) {
            Ok(helper) => self.running.push_back(helper),
            // No thread is available: remove it in this one.
            Err(_) => remove(tree),
        }
    }

    fn finish_one(&mut self) {
        // A panic was printed to stderr; the next start removes the tree.
        drop(self.running.pop_front().map(JoinHandle::join));
    }

    fn finish(&mut self) {
        while !self.running.is_empty() {
            self.finish_one();
        }
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
