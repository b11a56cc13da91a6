//! Speeds from what is told again and again.

use std::collections::HashMap;
use std::time::Duration;

use crate::proto::admin::{LayerState, PullProgress};

/// Over how long a speed is measured: longer is steadier, shorter is truer.
const WINDOW: Duration = Duration::from_secs(3);

/// Bytes by time, of each layer and of all.
#[derive(Debug, Default)]
pub(super) struct Meter {
    layers: HashMap<String, Samples>,
    all: Samples,
}

/// `(when, bytes)` within the window, the oldest first.
#[derive(Debug, Default)]
struct Samples(Vec<(Duration, u64)>);

/// Bytes of a pull that have come over the network, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::image) struct Total {
    /// Layers that are there.
    pub(in crate::cli::image) ready: usize,
    pub(in crate::cli::image) layers: usize,
    /// Of layers that were not there before.
    pub(in crate::cli::image) done: u64,
    pub(in crate::cli::image) total: u64,
}

impl Total {
    pub(in crate::cli::image) fn of(progress: &PullProgress) -> Self {
        let mut sum = Self {
            ready: 0,
            layers: progress.layers.len(),
            done: 0,
            total: 0,
        };
        for layer in &progress.layers {
            if matches!(layer.state(), LayerState::Done | LayerState::Present) {
                sum.ready += 1;
            }
            if layer.state() != LayerState::Present {
                sum.done = sum.done.saturating_add(layer.bytes_done);
                sum.total = sum.total.saturating_add(layer.bytes_total);
            }
        }
        sum
    }
}

impl Meter {
    /// Takes down what was told `elapsed` after the beginning.
    pub(super) fn take(&mut self, progress: &PullProgress, elapsed: Duration) {
        for layer in &progress.layers {
            let samples = self.layers.entry(layer.digest.clone()).or_default();
            samples.push(elapsed, layer.bytes_done);
        }
        self.all.push(elapsed, Total::of(progress).done);
    }

    /// Bytes a second of one layer; 0 while that cannot be said.
    pub(super) fn layer(&self, digest: &str) -> u64 {
        self.layers.get(digest).map_or(0, Samples::speed)
    }

    /// Bytes a second of all layers together.
    pub(super) fn all(&self) -> u64 {
        self.all.speed()
    }
}

impl Samples {
    fn push(&mut self, when: Duration, bytes: u64) {
        // A download that began anew is slower for a moment, never negative.
        if self.0.last().is_some_and(|(_, last)| *last > bytes) {
            self.0.clear();
        }
        let from = when.saturating_sub(WINDOW);
        let stale = self.0.iter().take_while(|(at, _)| *at < from).count();
        // The last stale one is where the window begins.
        self.0.drain(..stale.saturating_sub(1));
        self.0.push((when, bytes));
    }

    fn speed(&self) -> u64 {
        let (Some((began, first)), Some((ended, last))) = (self.0.first(), self.0.last()) else {
            return 0;
        };
        let millis = ended.saturating_sub(*began).as_millis();
        let bytes = u128::from(last.saturating_sub(*first));
        (bytes * 1000)
            .checked_div(millis)
            .map_or(0, |speed| u64::try_from(speed).unwrap_or(u64::MAX))
    }
}
