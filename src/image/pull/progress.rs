//! Progress of pulls and imports, for `pausa image pulls`, progress bars and the log.
//!
//! Pulls update counters. Readers take a copy and delay no pull.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A pull or an import in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PullProgress {
    /// Host, name, and tag or digest. For an import a description.
    pub(crate) reference: String,
    pub(crate) step: PullStep,
    /// When it began, in nanoseconds since the epoch.
    pub(crate) started: i64,
    /// When the step began, in nanoseconds since the epoch.
    pub(crate) step_since: i64,
    /// Requests that wait for it. Without any, the pull continues all the same.
    pub(crate) waiting: u64,
    /// Lowest first. Empty until the manifest is known.
    pub(crate) layers: Vec<LayerProgress>,
}

/// The current step of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullStep {
    /// Resolving the name at the registry, or reading an archive's index.
    Resolving,
    /// Fetching the image config.
    Config,
    /// Fetching and unpacking layers.
    Layers,
    /// Making layers durable.
    Syncing,
    /// Writing the image's record.
    Recording,
}

/// One layer of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerProgress {
    /// Digest of the blob, or the diff id if the blob has no digest.
    pub(crate) digest: String,
    /// `sha256:` and 64 hex digits.
    pub(crate) diff_id: String,
    pub(crate) state: LayerState,
    /// When the state began, in nanoseconds since the epoch.
    pub(crate) since: i64,
    /// Compressed bytes received.
    pub(crate) bytes_done: u64,
    /// All compressed bytes.
    pub(crate) bytes_total: u64,
}

/// The state of a layer in a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerState {
    /// Waiting for a free slot.
    Queued,
    /// Being fetched by another pull, or being verified.
    Joined,
    /// Being fetched and unpacked.
    Fetching,
    /// Fetched and verified.
    Done,
    /// In the store already.
    Present,
}

/// All pulls and imports in progress. Clones share the same state.
#[derive(Debug, Clone, Default)]
pub(crate) struct PullTracker {
    entries: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    running: BTreeMap<u64, Arc<Progress>>,
}

/// A pull that is listed until this is dropped.
#[derive(Debug)]
pub(crate) struct TrackedPull {
    tracker: PullTracker,
    at: u64,
    progress: Arc<Progress>,
}

/// The counters of a pull.
#[derive(Debug)]
pub(crate) struct Progress {
    reference: String,
    started: i64,
    waiting: AtomicU64,
    step: Mutex<(PullStep, i64)>,
    layers: Mutex<Vec<Arc<LayerTracker>>>,
}

/// The counters of a layer.
#[derive(Debug)]
pub(crate) struct LayerTracker {
    digest: String,
    diff_id: String,
    total: u64,
    done: AtomicU64,
    state: Mutex<(LayerState, i64)>,
}

/// A request that waits for a pull.
#[derive(Debug)]
pub(crate) struct Waiter(Arc<Progress>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PullTracker {
    /// Pulls and imports in progress, oldest first.
    pub(crate) fn list(&self) -> Vec<PullProgress> {
        let running: Vec<_> = self.entries.lock().running.values().cloned().collect();
        running.iter().map(|progress| progress.snapshot()).collect()
    }

    pub(crate) fn add(&self, reference: String) -> TrackedPull {
        let now = crate::state::now();
        let progress = Arc::new(Progress {
            reference,
            started: now,
            waiting: AtomicU64::new(0),
            step: Mutex::new((PullStep::Resolving, now)),
            layers: Mutex::default(),
        });
        let mut entries = self.entries.lock();
        let at = entries.next;
        entries.next += 1;
        entries.running.insert(at, Arc::clone(&progress));
        TrackedPull {
            tracker: self.clone(),
            at,
            progress,
        }
    }
}

impl Drop for TrackedPull {
    fn drop(&mut self) {
        self.tracker.entries.lock().running.remove(&self.at);
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
        *self.step.lock() = (step, crate::state::now());
    }

    /// Counts a request as waiting until the returned value is dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Waiter {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiter(Arc::clone(self))
    }

    pub(crate) fn add_layer(&self, digest: String, diff_id: &str, total: u64) -> Arc<LayerTracker> {
        let track = Arc::new(LayerTracker {
            digest,
            diff_id: format!("sha256:{diff_id}"),
            total,
            done: AtomicU64::new(0),
            state: Mutex::new((LayerState::Queued, crate::state::now())),
        });
        self.layers.lock().push(Arc::clone(&track));
        track
    }

    fn snapshot(&self) -> PullProgress {
        let (step, step_since) = *self.step.lock();
        PullProgress {
            reference: self.reference.clone(),
            step,
            started: self.started,
            step_since,
            waiting: self.waiting.load(Ordering::Relaxed),
            layers: self.layers.lock().iter().map(|track| track.snapshot()).collect(),
        }
    }

    /// Logs a pull that takes long.
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
        *self.state.lock() = (state, crate::state::now());
    }

    /// All compressed bytes.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Sets the bytes that an earlier pull has received.
    pub(crate) fn resume(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.done
            .fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
    }

    fn snapshot(&self) -> LayerProgress {
        let (state, since) = *self.state.lock();
        LayerProgress {
            digest: self.digest.clone(),
            diff_id: self.diff_id.clone(),
            state,
            since,
            // A server may send more than it announced, until the pull fails for that.
            bytes_done: self.done.load(Ordering::Relaxed).min(self.total),
            bytes_total: self.total,
        }
    }
}
