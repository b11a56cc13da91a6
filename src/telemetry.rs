//! What the daemon says about itself: the log on stderr, the steps of operations, and metrics.
//!
//! Must never: see a secret (messages with credentials hide them themselves, see `proto`), or decide
//! anything. Lines go to stderr only; where they end up is the service manager's business.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

pub mod metrics;
mod steps;

pub use steps::{Steps, StepsWatch};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The level is not one.
    #[error("the log level {level:?} is neither a level nor a list of target=level directives")]
    Level {
        /// As configured.
        level: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else did it first.
    #[error("the log of this process is set up already")]
    Twice {
        /// As the library says it.
        #[source]
        source: tracing_subscriber::util::TryInitError,
    },
}

/// Sends events of this process to stderr, as `log` wants them.
///
/// Under journald (`JOURNAL_STREAM` is set) lines of text carry no time: journald has its own.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(log: &Log) -> Result<(), TelemetryError> {
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

/// A level alone is about pausa: what libraries have to say below a warning is for their own developers,
/// and it is a lot (every HTTP/2 frame, at debug).
fn directives(level: &str) -> String {
    if level.parse::<tracing::Level>().is_ok() {
        format!("warn,pausa={level}")
    } else {
        level.to_owned()
    }
}

#[cfg(test)]
mod tests;
