//! The steps of one operation: what it is doing, since when, and how long each step took.
//!
//! The operation owns [`Steps`] and calls [`Steps::enter`], which ends the step before. A [`StepsWatch`] tells which step the
//! operation is in: deadline errors contain it. Dropping [`Steps`] ends the last step and logs all of them in one line, at
//! `debug`. Each step is also counted in the metric `pausa_step_duration_seconds`, and the whole as a
//! [`metrics::Operation`].

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::Span;

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

/// Shows the current step of an operation that runs elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct StepsWatch {
    shared: Arc<Shared>,
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
    /// The step and when it began; `None` before the first and after the last.
    current: Option<Step>,
    done: Vec<(&'static str, Duration)>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    since: Instant,
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

    /// Ends the current step, if there is one, and begins `step` (such as `network`).
    pub(crate) fn enter(&self, step: &'static str) {
        let span = tracing::trace_span!(parent: &self.span, "step", otel.name = step);
        self.shared.next(Some((step, span)));
    }

    /// The span of the operation, for the task that does it.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The operation has ended: well, or with a failure of this kind. One that does not end so was given up.
    pub(crate) fn end(mut self, failure: Option<ErrorKind>) {
        self.counted.ended(failure);
    }

    pub(crate) fn watch(&self) -> StepsWatch {
        StepsWatch {
            shared: Arc::clone(&self.shared),
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
    /// The current step; `None` before the first and after the last.
    pub(crate) fn current(&self) -> Option<&'static str> {
        self.shared.progress.lock().current.as_ref().map(|step| step.name)
    }
}

/// For a deadline error: `RunPodSandbox of web-0 has been in step network for 2.100 s (2.350 s in total)`.
impl fmt::Display for StepsWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.shared;
        let (operation, object) = (shared.operation, &shared.object);
        let total = shared.started.elapsed().as_secs_f64();
        let progress = shared.progress.lock();
        let current = progress.current.as_ref().map(|step| (step.name, step.since));
        drop(progress);
        match current {
            Some((step, since)) => write!(
                f,
                "{operation} of {object} has been in step {step} for {:.3} s ({total:.3} s in total)",
                since.elapsed().as_secs_f64()
            ),
            None => write!(
                f,
                "{operation} of {object} is between two steps ({total:.3} s in total)"
            ),
        }
    }
}

impl Shared {
    fn next(&self, step: Option<(&'static str, Span)>) {
        let now = Instant::now();
        let mut progress = self.progress.lock();
        let ended = progress.current.take();
        progress.current = step.map(|(name, span)| Step {
            name,
            since: now,
            _span: span,
        });
        let Some(ended) = ended else {
            return;
        };
        let (step, took) = (ended.name, now.saturating_duration_since(ended.since));
        progress.record(step, took);
        drop(progress);
        drop(ended);
        metrics::step(self.operation, step, took);
        if took > SLOW {
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
