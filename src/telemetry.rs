//! What the daemon reports about itself: the log on stderr, the steps of operations, metrics, and traces.
//!
//! Must never: see a secret (messages with credentials hide them in their `Debug`, see `proto`), or decide anything.
//! Log lines go to stderr only: the service manager decides where they are stored.

use std::io::IsTerminal;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::config::{Log, LogFormat, Tracing};

pub(crate) mod metrics;
mod steps;
pub(crate) mod traces;

pub(crate) use steps::{Doing, Steps, StepsWatch};
use traces::Traces;

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("the log level {level:?} is neither a level nor a list of target=level directives")]
    Level {
        level: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("cannot change the level of the log")]
    Reload {
        #[source]
        source: reload::Error,
    },
    /// Traces cannot be sent.
    #[error("cannot send traces to {endpoint}; correct tracing.endpoint in the configuration")]
    Traces {
        endpoint: String,
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// The process has a log already.
    #[error("the log of this process is set up already")]
    Twice {
        #[source]
        source: tracing_subscriber::util::TryInitError,
    },
}

/// Sends the log events of this process to stderr, filtered and formatted as `log` says, and traces to a collector if there is
/// one. To be called where tokio runs.
///
/// Under journald (`JOURNAL_STREAM` is set) text lines have no time: journald adds its own.
pub(crate) fn init(log: &Log, tracing: &Tracing) -> Result<Option<Traces>, TelemetryError> {
    let filter = filter(&log.level)?;
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
        LogFormat::Text if journal => lines.without_time().with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Text => lines
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter)
            .boxed(),
    };
    let traces = match tracing.endpoint.as_str() {
        "" => None,
        endpoint => Some(Traces::begin(tracing).map_err(|source| TelemetryError::Traces {
            endpoint: endpoint.to_owned(),
            source,
        })?),
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(traces.as_ref().map(Traces::layer))
        .try_init()
        .map_err(|source| TelemetryError::Twice { source })?;
    let text = Mutex::new(log.level.clone());
    // There is no second one: the log was set up once.
    LEVEL.set(Level { handle, text }).ok();
    Ok(traces)
}

/// What the log of this process has.
static LEVEL: OnceLock<Level> = OnceLock::new();

struct Level {
    handle: reload::Handle<Targets, Registry>,
    text: Mutex<String>,
}

/// The level or the directives in force; none if this process has no log.
pub(crate) fn log_level() -> Option<String> {
    LEVEL.get().map(|level| level.text.lock().clone())
}

/// Has the log of this process filtered as `level` says from now on.
pub(crate) fn set_log_level(level: &str) -> Result<(), TelemetryError> {
    let filter = filter(level)?;
    if let Some(log) = LEVEL.get() {
        let mut text = log.text.lock();
        log.handle
            .reload(filter)
            .map_err(|source| TelemetryError::Reload { source })?;
        level.clone_into(&mut text);
    }
    Ok(())
}

fn filter(level: &str) -> Result<Targets, TelemetryError> {
    let parsed = directives(level).parse();
    parsed.map_err(|source| TelemetryError::Level {
        level: level.to_owned(),
        source,
    })
}

/// A level alone applies to pausa. Libraries stay at warnings: what they log below is for their own developers, and a lot
/// (every HTTP/2 frame, at debug).
fn directives(level: &str) -> String {
    if level.parse::<tracing::Level>().is_ok() {
        format!("warn,pausa={level}")
    } else {
        level.to_owned()
    }
}

#[cfg(test)]
mod tests;
