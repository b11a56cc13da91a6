//! What containers have written: measured by walking their writable layers, hence not at every call.
//!
//! ```text
//!   (unknown) ── asked for ──▶ being measured ──▶ known ── asked for after 10 s ──▶ known, being measured ──▶ known
//! ```
//!
//! Whoever asks gets what is known, with the time at which it was measured; asking for what is older than
//! [`FRESH`] starts another measurement on the blocking pool. [`Wait`] says who waits for it, and never
//! longer than [`PATIENCE`]. A tree that changes under the walk is tried again, then keeps its last value.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pausa_layer::Usage;
use rustix::fs::{Mode, OFlags};

use crate::id::Id;

/// How long a measurement is as good as new.
const FRESH: Duration = Duration::from_secs(10);
/// How long an answer may wait for measurements.
const PATIENCE: Duration = Duration::from_millis(250);
/// After this time nobody asks for a layer any more: its container is gone.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// How often a tree that changes is walked.
const ATTEMPTS: usize = 3;

/// A writable layer's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Measured {
    /// Nanoseconds since the epoch.
    pub(in crate::sandbox) at: i64,
    pub(in crate::sandbox) usage: Usage,
    /// Its own limit in bytes, where the kernel counts it and it has one.
    pub(in crate::sandbox) limit: Option<u64>,
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Wait {
    /// Only layers that were never measured: kubelet's lists, every few seconds.
    First,
    /// All that is too old: somebody looks at one container.
    Current,
}

/// What is known of writable layers.
#[derive(Debug, Default)]
pub(super) struct Layers {
    known: Mutex<HashMap<Id, Layer>>,
}

#[derive(Debug)]
struct Layer {
    measured: Option<Measured>,
    /// When it was last measured, or first asked for.
    since: Instant,
    busy: bool,
}

/// The layers that are to be measured now.
#[derive(Debug, Default)]
struct Due {
    ids: Vec<Id>,
    /// One of them was never measured.
    first: bool,
}

impl Layers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Layer>> {
        self.known.lock()
    }

    /// Chooses what to measure; nobody else measures it until [`Self::done`].
    fn due<'a>(&self, wanted: impl IntoIterator<Item = &'a Id>, now: Instant) -> Due {
        let mut known = self.lock();
        let mut due = Due::default();
        for id in wanted {
            if !known.contains_key(id) {
                let age = |layer: &Layer| now.saturating_duration_since(layer.since);
                known.retain(|_, layer| layer.busy || age(layer) < FORGOTTEN);
            }
            let layer = known.entry(id.clone()).or_insert(Layer {
                measured: None,
                since: now,
                busy: false,
            });
            let old = now.saturating_duration_since(layer.since) >= FRESH;
            if !layer.busy && (old || layer.measured.is_none()) {
                layer.busy = true;
                due.first |= layer.measured.is_none();
                due.ids.push(id.clone());
            }
        }
        due
    }

    /// Takes the outcome of a measurement; none: it could not be measured, and the last one stays.
    fn done(&self, id: &Id, outcome: Option<Measured>, now: Instant) {
        if let Some(layer) = self.lock().get_mut(id) {
            layer.measured = outcome.or(layer.measured);
            layer.since = now;
            layer.busy = false;
        }
    }

    fn known<'a>(&self, wanted: impl IntoIterator<Item = &'a Id>) -> HashMap<Id, Measured> {
        let known = self.lock();
        let measured = |id: &Id| Some((id.clone(), known.get(id)?.measured?));
        wanted.into_iter().filter_map(measured).collect()
    }
}

/// What these layers take, as far as it is known in time.
pub(super) async fn measured(
    layers: &Arc<Layers>,
    trees: Vec<(Id, PathBuf)>,
    wait: Wait,
) -> HashMap<Id, Measured> {
    let due = layers.due(trees.iter().map(|(id, _)| id), Instant::now());
    if !due.ids.is_empty() {
        let ids: std::collections::HashSet<&Id> = due.ids.iter().collect();
        let chosen = trees.iter().filter(|(id, _)| ids.contains(id)).cloned();
        let round = Round {
            layers: Arc::clone(layers),
            left: chosen.collect(),
        };
        let work = tokio::task::spawn_blocking(move || round.run());
        if due.first || wait == Wait::Current {
            // Too late, or failed: what is known is the answer. The work goes on, or has logged its failure.
            drop(tokio::time::timeout(PATIENCE, work).await);
        }
    }
    layers.known(trees.iter().map(|(id, _)| id))
}

/// Measurements under way. However it ends, every layer of it may be measured again.
#[derive(Debug)]
struct Round {
    layers: Arc<Layers>,
    left: Vec<(Id, PathBuf)>,
}

impl Round {
    fn run(mut self) {
        while let Some((id, tree)) = self.left.last() {
            let outcome = measure(tree);
            self.layers.done(id, outcome, Instant::now());
            self.left.pop();
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        for (id, _) in &self.left {
            self.layers.done(id, None, Instant::now());
        }
    }
}

/// Walks a layer; none if it is gone or does not hold still.
fn measure(tree: &Path) -> Option<Measured> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = rustix::fs::open(tree, flags, Mode::empty()).ok()?;
    let mut problem = None;
    for _ in 0..ATTEMPTS {
        match pausa_layer::usage(directory.as_fd()) {
            Ok(usage) => {
                let at = crate::state::now();
                let limit = None;
                return Some(Measured { at, usage, limit });
            }
            Err(error) => problem = Some(error),
        }
    }
    let error = problem.map(|error| crate::error::chain(&error));
    tracing::debug!(tree = %tree.display(), error, "cannot measure a writable layer; the last measurement stays");
    None
}

#[cfg(test)]
mod tests;
