//! The steps of one operation: what it is doing, since when, and how long each step took.
//!
//! The operation owns [`Steps`] and calls [`Steps::enter`], which ends the step before. A [`StepsWatch`] tells which step the
//! operation is in, for deadline errors and `pausa top`, and keeps nothing of an operation that has ended. Dropping [`Steps`]
//! ends the last step and logs all of them in one line, at `debug`. Each step is also counted in the metric
//! `pausa_step_duration_seconds`.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A longer step is logged as a warning.
const SLOW: Duration = Duration::from_secs(5);
/// Further steps are summed up in the last one: a loop that enters steps must not grow memory.
const MAX_STEPS: usize = 64;

/// Records the steps of one operation.
#[derive(Debug)]
pub(crate) struct Steps {
    shared: Arc<Shared>,
}

/// Shows what an operation that runs elsewhere is doing.
#[derive(Debug, Clone)]
pub(crate) struct StepsWatch {
    shared: Weak<Shared>,
}

/// What an operation is doing at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Doing {
    pub(crate) operation: &'static str,
    object: String,
    pub(crate) started: Instant,
    /// The step and when it began; none before the first.
    pub(crate) step: Option<(&'static str, Instant)>,
}

#[derive(Debug)]
struct Shared {
    operation: &'static str,
    object: String,
    started: Instant,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// None before the first and after the last.
    current: Option<Current>,
    done: Vec<(&'static str, Duration)>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    step: &'static str,
    since: Instant,
    /// Whether it lasts as long as others like.
    unhurried: bool,
}

impl Steps {
    /// Begins to record `operation` (such as `RunPodSandbox`) on `object` (an id or a name).
    pub(crate) fn new(operation: &'static str, object: impl Into<String>) -> Self {
        Self {
            shared: Arc::new(Shared {
                operation,
                object: object.into(),
                started: Instant::now(),
                progress: Mutex::default(),
            }),
        }
    }

    /// Ends the current step, if there is one, and begins `step` (such as `network`). Whoever enters the current step again
    /// stays in it.
    pub(crate) fn enter(&self, step: &'static str) {
        self.shared.next(Some((step, false)));
    }

    /// The same for a step that lasts as long as others like, such as a grace period. It is never slow.
    pub(crate) fn enter_unhurried(&self, step: &'static str) {
        self.shared.next(Some((step, true)));
    }

    pub(crate) fn watch(&self) -> StepsWatch {
        StepsWatch {
            shared: Arc::downgrade(&self.shared),
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.shared.next(None);
        let shared = &self.shared;
        tracing::debug!(
            operation = shared.operation,
            object = shared.object,
            took = ?shared.started.elapsed(),
            steps = %table(&shared.progress.lock().done),
            "operation ended"
        );
    }
}

impl StepsWatch {
    /// None once the operation has ended.
    pub(crate) fn doing(&self) -> Option<Doing> {
        let shared = self.shared.upgrade()?;
        let current = shared.progress.lock().current;
        Some(Doing {
            operation: shared.operation,
            object: shared.object.clone(),
            started: shared.started,
            step: current.map(|current| (current.step, current.since)),
        })
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.shared.strong_count() == 0
    }
}

/// For a deadline error: `RunPodSandbox of web-0 has been in step network for 2.100 s (2.350 s in total)`.
impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operation, object) = (self.operation, &self.object);
        let total = self.started.elapsed().as_secs_f64();
        match self.step {
            Some((step, since)) => write!(
                f,
                "{operation} of {object} has been in step {step} for {:.3} s ({total:.3} s in total)",
                since.elapsed().as_secs_f64()
            ),
            None => write!(
                f,
                "{operation} of {object} has not begun its first step ({total:.3} s in total)"
            ),
        }
    }
}

impl Shared {
    fn next(&self, next: Option<(&'static str, bool)>) {
        let now = Instant::now();
        let mut progress = self.progress.lock();
        let current = progress.current;
        let step = |current: Current| current.step;
        if current.is_some() && current.map(step) == next.map(|(step, _)| step) {
            return;
        }
        progress.current = next.map(|(step, unhurried)| Current {
            step,
            since: now,
            unhurried,
        });
        let Some(Current {
            step,
            since,
            unhurried,
        }) = current
        else {
            return;
        };
        let took = now.saturating_duration_since(since);
        progress.record(step, took);
        drop(progress);
        super::metrics::step(self.operation, step, took);
        if took > SLOW && !unhurried {
            tracing::warn!(
                operation = self.operation,
                object = self.object,
                step,
                ?took,
                "a step took longer than {} s",
                SLOW.as_secs()
            );
        }
    }
}

impl Progress {
    fn record(&mut self, step: &'static str, took: Duration) {
        if self.done.len() < MAX_STEPS {
            self.done.push((step, took));
        } else if let Some(last) = self.done.last_mut() {
            *last = ("further", last.1 + took);
        }
    }
}

/// `netns 0.210 ms, network 3.100 ms`.
fn table(done: &[(&'static str, Duration)]) -> String {
    let mut line = String::new();
    for (step, took) in done {
        let comma = if line.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        _ = write!(line, "{comma}{step} {:.3} ms", took.as_secs_f64() * 1000.0);
    }
    line
}

#[cfg(test)]
mod tests;
