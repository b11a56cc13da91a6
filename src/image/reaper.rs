//! Deletes trees: one thread, in the order asked, so that a caller can wait until what it gave up is gone.
//!
//! A layer is moved out of `layers/` first; from then on the same layer may be fetched again. Nobody can be told of a failure
//! here, so it is logged; what remains in `staging/` goes at the next start.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{oneshot, watch};

use super::error::{ImageError, io_error};
use super::failpoint::failpoint;
use super::files;
use super::layers::Entry;
use super::layout::Layout;
use crate::error::chain;

/// Layers by the hex digits of their diff id.
pub(super) type Table = Arc<Mutex<HashMap<String, Entry>>>;

/// Work for the thread.
pub(super) enum Job {
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
pub(super) fn start(layout: Layout, table: Table) -> Result<Sender<Job>, ImageError> {
    let (sender, jobs) = channel();
    let base = layout.base().to_owned();
    std::thread::Builder::new()
        .name("image-reaper".to_owned())
        .spawn(move || run(&layout, &table, &jobs))
        .map_err(io_error("start the thread that removes layers of", &base))?;
    Ok(sender)
}

fn run(layout: &Layout, table: &Table, jobs: &Receiver<Job>) {
    for job in jobs {
        match job {
            Job::Layer { hex, gone } => {
                let trash = layout.staging().join(files::unique("trash"));
                let from = layout.layer(&hex);
                let moved = std::fs::rename(&from, &trash).map_err(io_error("rename", &from));
                table.lock().unwrap_or_else(PoisonError::into_inner).remove(&hex);
                drop(gone);
                failpoint("layer-moved-away");
                report(moved.and_then(|()| remove(&trash)));
            }
            Job::Tree(path) => report(remove(&path)),
            // The asker may have gone away.
            Job::Flush(done) => drop(done.send(())),
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
pub(super) fn remove(path: &std::path::Path) -> Result<(), ImageError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let dir = files::open_dir(parent)?;
    pausa_layer::remove_tree(std::os::fd::AsFd::as_fd(&dir), name).map_err(|source| ImageError::Unpack {
        diff_id: path.display().to_string(),
        source: Box::new(source),
    })
}
