//! Deletes trees: one thread takes the jobs in the order asked, so that a caller can wait until what it gave up is gone; a few
//! helpers do the deleting, each with threads of its own ([`pausa_layer::remove_tree`]), because unlinking is waiting.
//!
//! A layer is moved out of `layers/` first; from then on the same layer may be fetched again. Nobody can be told of a failure
//! here, so it is logged; what remains in `staging/` goes at the next start.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use crate::error::chain;
use crate::failpoint::failpoint;
use crate::image::error::{ImageError, io_error};
use crate::image::store::files;
use crate::image::store::layers::LayerSlot;
use crate::image::store::layout::Layout;

/// Trees that are deleted at the same time.
const HELPERS: usize = 4;

/// Layers by the hex digits of their diff id.
pub(crate) type Table = Arc<Mutex<HashMap<String, LayerSlot>>>;

/// Work for the thread.
pub(crate) enum GcJob {
    /// A layer nobody holds any more; `gone` is dropped when its name is free again.
    Layer {
        hex: String,
        gone: Option<watch::Sender<()>>,
    },
    /// A path in `staging/`.
    Tree(PathBuf),
    /// Answer when everything asked before is done.
    Flush(oneshot::Sender<()>),
}

/// Starts the thread. It ends when all senders are gone.
pub(crate) fn start(layout: Layout, table: Table) -> Result<Sender<GcJob>, ImageError> {
    let (sender, jobs) = channel();
    let base = layout.base().to_owned();
    std::thread::Builder::new()
        .name("image-reaper".to_owned())
        .spawn(move || run(&layout, &table, &jobs))
        .map_err(io_error("start the thread that removes layers of", &base))?;
    Ok(sender)
}

fn run(layout: &Layout, table: &Table, jobs: &Receiver<GcJob>) {
    let mut helpers = Helpers::default();
    for job in jobs {
        match job {
            GcJob::Layer { hex, gone } => {
                let trash = layout.staging().join(files::unique("trash"));
                let from = layout.layer(&hex);
                let moved = std::fs::rename(&from, &trash).map_err(io_error("rename", &from));
                table.lock().unwrap_or_else(PoisonError::into_inner).remove(&hex);
                drop(gone);
                failpoint("layer-moved-away");
                match moved {
                    Ok(()) => helpers.remove(&trash),
                    failed => report(failed),
                }
            }
            GcJob::Tree(path) => helpers.remove(&path),
            GcJob::Flush(done) => {
                helpers.finish();
                // The asker may have gone away.
                done.send(()).unwrap_or_default();
            }
        }
    }
    helpers.finish();
}

/// Threads that delete one tree each.
#[derive(Default)]
struct Helpers {
    running: VecDeque<JoinHandle<()>>,
}

impl Helpers {
    fn remove(&mut self, tree: &Path) {
        if self.running.len() == HELPERS {
            self.finish_one();
        }
        let path = tree.to_owned();
        let helper = std::thread::Builder::new().name("image-remover".to_owned());
        match helper.spawn(move || report(remove(&path))) {
            Ok(helper) => self.running.push_back(helper),
            // Then it is done here.
            Err(_) => report(remove(tree)),
        }
    }

    fn finish_one(&mut self) {
        // A panic was told on stderr; the tree goes at the next start.
        drop(self.running.pop_front().map(JoinHandle::join));
    }

    fn finish(&mut self) {
        while !self.running.is_empty() {
            self.finish_one();
        }
    }
}

fn report(result: Result<(), ImageError>) {
    if let Err(error) = result {
        tracing::warn!(
            error = chain(&error),
            "what is left of a layer stays until the next start"
        );
    }
}

/// Removes a tree of the store.
pub(crate) fn remove(path: &Path) -> Result<(), ImageError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let dir = files::open_dir(parent)?;
    pausa_layer::remove_tree(std::os::fd::AsFd::as_fd(&dir), name).map_err(|source| ImageError::Unpack {
        diff_id: path.display().to_string(),
        source: Box::new(source),
    })
}
