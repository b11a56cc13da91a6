//! What the daemon reports about itself: the log on stderr, the steps of operations, and metrics.
//!
//! Must never: see a secret (messages with credentials hide them in their `Debug`, see `proto`), or decide anything.
//! Log lines go to stderr only: the service manager decides where they are stored.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

pub(crate) mod metrics;
mod steps;

pub(crate) use steps::{Doing, Steps, StepsWatch};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("the log level {level:?} is neither a level nor a list of target=level directives")]
    Level {
        level: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a log already.
    #[error("the log of this process is set up already")]
    Twice {
        #[source]
        source: tracing_subscriber::util::TryInitError,
    },
}

/// Sends the log events of this process to stderr, filtered and formatted as `log` says.
///
/// Under journald (`JOURNAL_STREAM` is set) text lines have no time: journald adds its own.
pub(crate) fn init(log: &Log) -> Result<(), TelemetryError> {
    let filter: Targets = directives(&log.level)
        .parse()
        .map_err(|source| TelemetryError::Level {
            level: log.level.clone(),
            source,
        })?;
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let done = match log.format {
        LogFormat::Json => registry.with(lines.json()).try_init(),
        LogFormat::Text if journal => registry.with(lines.without_time().with_ansi(false)).try_init(),
        LogFormat::Text => registry
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
    };
    done.map_err(|source| TelemetryError::Twice { source })
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
