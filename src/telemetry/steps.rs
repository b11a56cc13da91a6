//! The steps of one operation: what it is doing, since when, and how long each step took.
//!
//! The operation owns [`Steps`] and calls [`Steps::enter`]; whoever has to say why it is not done yet (a
//! deadline error, `pausa top`) holds a [`StepsWatch`] and asks. Entering a step ends the one before;
//! dropping [`Steps`] ends the last and logs one line with all of them.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A step that takes longer is worth a warning of its own.
const SLOW: Duration = Duration::from_secs(5);
/// More steps are counted together: a loop that enters steps must not grow memory.
const MAX_STEPS: usize = 64;

/// Records the steps of one operation.
#[derive(Debug)]
pub struct Steps {
    shared: Arc<Shared>,
}

/// Reads the steps of a running operation from elsewhere.
#[derive(Debug, Clone)]
pub struct StepsWatch {
    shared: Arc<Shared>,
}

/// What an operation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentStep {
    /// Name of the step, such as `cni.add`.
    pub name: &'static str,
    /// For how long already.
    pub age: Duration,
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
    current: Option<(&'static str, Instant)>,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// Begins to record `operation` (such as `RunPodSandbox`) on `object` (an id or a name).
    pub fn new(operation: &'static str, object: impl Into<String>) -> Self {
        Self {
            shared: Arc::new(Shared {
                operation,
                object: object.into(),
                started: Instant::now(),
                progress: Mutex::default(),
            }),
        }
    }

    /// Ends the current step, if there is one, and begins `step`.
    pub fn enter(&self, step: &'static str) {
        self.shared.next(Some(step));
    }

    /// A handle to ask for the current step with.
    pub fn watch(&self) -> StepsWatch {
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
            steps = %table(&shared.lock().done),
            "operation ended"
        );
    }
}

impl StepsWatch {
    /// The step the operation is in; `None` before the first and after the last.
    pub fn current(&self) -> Option<CurrentStep> {
        let (name, since) = self.shared.lock().current?;
        Some(CurrentStep {
            name,
            age: since.elapsed(),
        })
    }

    /// How long the operation has been running.
    pub fn age(&self) -> Duration {
        self.shared.started.elapsed()
    }
}

/// For a deadline error: `RunPodSandbox of web-0 is in step cni.add since 2.100 s (2.350 s in all)`.
impl fmt::Display for StepsWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared {
            operation, object, ..
        } = &*self.shared;
        let all = self.age().as_secs_f64();
        match self.current() {
            Some(CurrentStep { name, age }) => write!(
                f,
                "{operation} of {object} is in step {name} since {:.3} s ({all:.3} s in all)",
                age.as_secs_f64()
            ),
            None => write!(f, "{operation} of {object} is between steps ({all:.3} s in all)"),
        }
    }
}

impl Shared {
    fn next(&self, step: Option<&'static str>) {
        let now = Instant::now();
        let ended = {
            let mut progress = self.lock();
            let ended = progress
                .current
                .take()
                .map(|(name, since)| (name, now.saturating_duration_since(since)));
            if let Some(done) = ended {
                progress.record(done);
            }
            progress.current = step.map(|name| (name, now));
            ended
        };
        if let Some((name, took)) = ended {
            super::metrics::step(self.operation, name, took);
        }
        if let Some((name, took)) = ended.filter(|(_, took)| *took > SLOW) {
            tracing::warn!(
                operation = self.operation,
                object = self.object,
                step = name,
                ?took,
                "a step was slow"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // Every state in between is a valid one, so a panic elsewhere spoils nothing.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn record(&mut self, (name, took): (&'static str, Duration)) {
        if self.done.len() < MAX_STEPS {
            self.done.push((name, took));
        } else if let Some(last) = self.done.last_mut() {
            *last = ("further", last.1 + took);
        }
    }
}

/// `netns 0.210 ms, cni.add 3.100 ms`.
fn table(done: &[(&'static str, Duration)]) -> String {
    let mut line = String::new();
    for (name, took) in done {
        let comma = if line.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        _ = write!(line, "{comma}{name} {:.3} ms", millis(*took));
    }
    line
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests;
