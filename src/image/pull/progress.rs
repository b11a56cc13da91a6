//! What pulls and imports are doing, as data: for `pausa image pulls`, progress bars and the log.
//!
//! Whoever works writes counters; whoever looks takes a copy and makes nobody wait. Nothing here decides anything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::image::Images;

/// A pull or an import in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PullProgress {
    /// Host, name and tag or digest; for an import what it is.
    pub reference: String,
    /// What is being done.
    pub step: PullStep,
    /// When it began, nanoseconds since the epoch.
    pub started: i64,
    /// When the step began, nanoseconds since the epoch.
    pub step_since: i64,
    /// Requests that wait for it. None means that everybody went away; it goes on all the same.
    pub waiting: u64,
    /// Lowest first; empty before the manifest is known.
    pub layers: Vec<LayerProgress>,
}

/// What a pull is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PullStep {
    /// Asking the registry what the name stands for, or reading an archive's index.
    Resolving,
    /// Fetching the image config.
    Config,
    /// Fetching and unpacking layers.
    Layers,
    /// Waiting for the disk.
    Syncing,
    /// Writing the image's record.
    Recording,
}

/// One layer of a pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerProgress {
    /// Digest of the blob that is fetched, or the diff id where there is none.
    pub digest: String,
    /// `sha256:` and 64 hex digits.
    pub diff_id: String,
    /// What becomes of it.
    pub state: LayerState,
    /// When that began, nanoseconds since the epoch.
    pub since: i64,
    /// Compressed bytes taken in.
    pub bytes_done: u64,
    /// Compressed bytes there are.
    pub bytes_total: u64,
}

/// What becomes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerState {
    /// Waits for its turn.
    Queued,
    /// Another pull fetches it, or it is being verified.
    Joined,
    /// Is fetched and unpacked.
    Fetching,
    /// Was fetched and verified.
    Done,
    /// Was there already.
    Present,
}

/// Everything in flight, by the order of beginning.
#[derive(Debug, Clone, Default)]
pub(crate) struct PullTracker {
    entries: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    running: BTreeMap<u64, Arc<Progress>>,
}

/// A pull's place on the board. It is taken off when this is dropped.
#[derive(Debug)]
pub(crate) struct TrackedPull {
    board: PullTracker,
    at: u64,
    progress: Arc<Progress>,
}

/// One pull's counters.
#[derive(Debug)]
pub(crate) struct Progress {
    reference: String,
    started: i64,
    waiting: AtomicU64,
    step: Mutex<(PullStep, i64)>,
    layers: Mutex<Vec<Arc<LayerTracker>>>,
}

/// One layer's counters.
#[derive(Debug)]
pub(crate) struct LayerTracker {
    digest: String,
    diff_id: String,
    total: u64,
    done: AtomicU64,
    state: Mutex<(LayerState, i64)>,
}

/// Somebody who waits for a pull.
#[derive(Debug)]
pub(crate) struct Waiter(Arc<Progress>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PullTracker {
    pub(crate) fn list(&self, reference: String) -> TrackedPull {
        let now = crate::state::now();
        let progress = Arc::new(Progress {
            reference,
            started: now,
            waiting: AtomicU64::new(0),
            step: Mutex::new((PullStep::Resolving, now)),
            layers: Mutex::default(),
        });
        let mut entries = lock(&self.entries);
        let at = entries.next;
        entries.next += 1;
        entries.running.insert(at, Arc::clone(&progress));
        TrackedPull {
            board: self.clone(),
            at,
            progress,
        }
    }
}

impl Drop for TrackedPull {
    fn drop(&mut self) {
        lock(&self.board.entries).running.remove(&self.at);
    }
}

impl std::ops::Deref for TrackedPull {
    type Target = Arc<Progress>;

    fn deref(&self) -> &Self::Target {
        &self.progress
    }
}

impl Progress {
    pub(crate) fn enter(&self, step: PullStep) {
        *lock(&self.step) = (step, crate::state::now());
    }

    /// Counts a request as waiting until the result is dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiter {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiter(Arc::clone(self))
    }

    /// Announces a layer.
    pub(crate) fn layer(&self, digest: String, diff_id: &str, total: u64) -> Arc<LayerTracker> {
        let track = Arc::new(LayerTracker {
            digest,
            diff_id: format!("sha256:{diff_id}"),
            total,
            done: AtomicU64::new(0),
            state: Mutex::new((LayerState::Queued, crate::state::now())),
        });
        lock(&self.layers).push(Arc::clone(&track));
        track
    }

    /// A copy for somebody who looks.
    pub(crate) fn snapshot(&self) -> PullProgress {
        let (step, step_since) = *lock(&self.step);
        PullProgress {
            reference: self.reference.clone(),
            step,
            started: self.started,
            step_since,
            waiting: self.waiting.load(Ordering::Relaxed),
            layers: lock(&self.layers).iter().map(|track| track.snapshot()).collect(),
        }
    }

    /// A line for the log of a pull that takes its time.
    pub(crate) fn report(&self) {
        let now = self.snapshot();
        let sum = |count: fn(&LayerProgress) -> u64| now.layers.iter().map(count).sum::<u64>();
        let done = now
            .layers
            .iter()
            .filter(|layer| matches!(layer.state, LayerState::Done | LayerState::Present));
        tracing::info!(
            image = now.reference,
            step = ?now.step,
            seconds = (crate::state::now() - now.started) / 1_000_000_000,
            layers_done = done.count(),
            layers = now.layers.len(),
            bytes_done = sum(|layer| layer.bytes_done),
            bytes = sum(|layer| layer.bytes_total),
            waiting = now.waiting,
            "still pulling"
        );
    }
}

impl LayerTracker {
    pub(crate) fn enter(&self, state: LayerState) {
        if matches!(state, LayerState::Done | LayerState::Present) {
            self.done.store(self.total, Ordering::Relaxed);
        }
        *lock(&self.state) = (state, crate::state::now());
    }

    /// So many bytes had come in before.
    pub(crate) fn resume(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    /// Bytes came in.
    pub(crate) fn add(&self, bytes: usize) {
        self.done
            .fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    fn snapshot(&self) -> LayerProgress {
        let (state, since) = *lock(&self.state);
        LayerProgress {
            digest: self.digest.clone(),
            diff_id: self.diff_id.clone(),
            state,
            since,
            // A source may send more than it said before it is cut off.
            bytes_done: self.done.load(Ordering::Relaxed).min(self.total),
            bytes_total: self.total,
        }
    }
}

impl Images {
    /// Pulls and imports in flight, the oldest first. Waits for nobody.
    pub fn pulls(&self) -> Vec<PullProgress> {
        let running: Vec<_> = lock(&self.inner.board.entries)
            .running
            .values()
            .cloned()
            .collect();
        running.iter().map(|progress| progress.snapshot()).collect()
    }
}
