//! The steps of one operation: what it is doing, since when, and how long each step took.
//!
//! The operation owns [`Steps`] and calls [`Steps::enter`], which ends the step before. A [`StepsWatch`] tells which step the
//! operation is in, for deadline errors and `pausa top`, and keeps nothing of an operation that has ended. Dropping [`Steps`]
//! ends the last step and logs all of them in one line, at `debug`. Each step is also counted in the metric
//! `pausa_step_duration_seconds`, and the whole as a [`metrics::Operation`].

use std::fmt::{self, Write as _};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{Instrument as _, Span};

use super::metrics;
use crate::error::ErrorKind;

/// A longer step is logged as a warning.
const SLOW: Duration = Duration::from_secs(5);
/// Further steps are summed up in the last one: a loop that enters steps must not grow memory.
const MAX_STEPS: usize = 64;

/// Records the steps of one operation.
#[derive(Debug)]
pub(crate) struct Steps {
    shared: Arc<Shared>,
    /// For traces; the steps are in it. Not among what is shared: it ends with the operation.
    span: Span,
    counted: metrics::Operation,
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

#[derive(Debug)]
struct Current {
    step: &'static str,
    since: Instant,
    /// Whether it lasts as long as others like.
    unhurried: bool,
    /// Ends with the step.
    _span: Span,
}

impl Steps {
    /// Begins to record `operation` (such as `RunPodSandbox`) on `object` (an id or a name).
    pub(crate) fn new(operation: &'static str, object: impl Into<String>) -> Self {
        let object = object.into();
        Self {
            span: tracing::trace_span!("operation", otel.name = operation, object),
            shared: Arc::new(Shared {
                operation,
                object,
                started: Instant::now(),
                progress: Mutex::default(),
            }),
            counted: metrics::Operation::begin(operation),
        }
    }

    /// Ends the current step, if there is one, and begins `step` (such as `network`). Whoever enters the current step again
    /// stays in it.
    pub(crate) fn enter(&self, step: &'static str) {
        self.begin(step, false);
    }

    /// The same for a step that lasts as long as others like, such as a grace period. It is never slow.
    pub(crate) fn enter_unhurried(&self, step: &'static str) {
        self.begin(step, true);
    }

    fn begin(&self, step: &'static str, unhurried: bool) {
        let is_in = |current: &Current| current.step == step;
        if !self.shared.progress.lock().current.as_ref().is_some_and(is_in) {
            self.shared.next(Some(Current {
                step,
                since: Instant::now(),
                unhurried,
                _span: tracing::trace_span!(parent: &self.span, "step", otel.name = step),
            }));
        }
    }

    /// Does the work of the operation in its span, and counts how it ends.
    pub(crate) async fn run<T, E>(
        self,
        kind: fn(&E) -> ErrorKind,
        work: impl AsyncFnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let span = self.span.clone();
        let outcome = work(&self).instrument(span).await;
        self.end(outcome.as_ref().err().map(kind));
        outcome
    }

    /// The operation has ended: well, or with a failure of this kind. One that does not end so was given up.
    pub(crate) fn end(mut self, failure: Option<ErrorKind>) {
        self.counted.ended(failure);
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
        let progress = shared.progress.lock();
        Some(Doing {
            operation: shared.operation,
            object: shared.object.clone(),
            started: shared.started,
            step: progress
                .current
                .as_ref()
                .map(|current| (current.step, current.since)),
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
    fn next(&self, next: Option<Current>) {
        let now = Instant::now();
        let mut progress = self.progress.lock();
        let Some(ended) = std::mem::replace(&mut progress.current, next) else {
            return;
        };
        let (step, took) = (ended.step, now.saturating_duration_since(ended.since));
        progress.record(step, took);
        drop(progress);
        metrics::step(self.operation, step, took);
        if took > SLOW && !ended.unhurried {
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
