//! Failures of commands and their exit codes.
//!
//! | code | meaning | name in sysexits.h |
//! |---:|---|---|
//! | 0 | success | `EX_OK` |
//! | 1 | failure; the text says why | |
//! | 2 | something could not be checked (`doctor`, `network check`) | |
//! | 64 | wrong usage or configuration | `EX_USAGE` |
//! | 65 | stored data is damaged (`image verify`) | `EX_DATAERR` |
//! | 66 | no such image, pod or container | `EX_NOINPUT` |
//! | 69 | the daemon is not running, or too old for the command | `EX_UNAVAILABLE` |
//! | 125 | `exec`, `attach` or `debug` failed before there was an exit code of the container's | as docker |
//!
//! A reader that closes the pipe early is not a failure.

use std::error::Error as _;
use std::path::PathBuf;
use std::process::ExitCode;

use tonic::{Code, Status};

use crate::config::ConfigError;
use crate::error::chain;

const EXIT_NOT_CHECKED: u8 = 2;
pub(super) const EXIT_USAGE: u8 = 64;
const EXIT_DAMAGED: u8 = 65;
const EXIT_NOT_FOUND: u8 = 66;
const EXIT_UNAVAILABLE: u8 = 69;
pub(super) const EXIT_NOT_RUN: u8 = 125;

/// A command failed for a reason other than the configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error(
        "cannot connect to the daemon at {}; is `pausa serve` running, and is this its --address?",
        socket.display()
    )]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: tonic::transport::Error,
    },
    /// The connection ended during a call.
    #[error(
        "the daemon at {} went away during {doing}: {reason}; run the command again to join or repeat its work",
        socket.display()
    )]
    Gone {
        socket: PathBuf,
        doing: &'static str,
        reason: String,
    },
    /// A stream of events ended.
    #[error(
        "the daemon at {} sends no more events: {reason}; what happens before `pausa events` runs again is not shown",
        socket.display()
    )]
    NoMoreEvents { socket: PathBuf, reason: String },
    /// The daemon does not have the call.
    #[error(
        "the daemon at {} does not know {doing}: it is older than this program (pausa {}); restart it to upgrade it",
        socket.display(),
        env!("CARGO_PKG_VERSION")
    )]
    TooOld { socket: PathBuf, doing: &'static str },
    /// The daemon answered with an error.
    #[error("{message}")]
    Refused { code: Code, message: String },
    #[error("no image {} in the store; `pausa image ls` lists the images", .names.join(", "))]
    NoImage { names: Vec<String> },
    #[error(
        "{images} images are damaged or incomplete; `pausa image verify --repair` fetches the damaged parts again"
    )]
    Damaged { images: usize },
    /// The daemon answered that an image does not exist.
    #[error("{message}")]
    ImageNotFound { message: String },
    /// Some of several tasks failed. Each failure has been printed.
    #[error("{failed} of {all} failed")]
    Some { failed: usize, all: usize },
    /// A pod's network could not be checked.
    #[error("{message}")]
    NotChecked { message: String },
    #[error("something is wrong with the networks of {pods} pods")]
    WrongNetworks { pods: usize },
    #[error("{problems} problems with this node")]
    WrongNode { problems: usize },
    #[error("{0}")]
    Usage(String),
    /// No pod or container has this name or id.
    #[error("no {what} has the name {given:?}, or an id that begins with it; `{list}` lists what there is")]
    NoObject {
        given: String,
        what: &'static str,
        list: &'static str,
    },
    /// Several pods or containers have this name, or ids that begin so.
    #[error("{given:?} may be {}; give more of the name or id", .candidates.join(", "))]
    Ambiguous { given: String, candidates: Vec<String> },
    /// The errors have been printed.
    #[error("the configuration is invalid; errors: {errors}")]
    InvalidConfig { errors: usize },
}

impl CommandError {
    /// The failure of a call. `doing` completes "does not know …".
    pub(super) fn from_status(socket: PathBuf, doing: &'static str, status: &Status) -> Self {
        // Only a status that was created on this side of the connection has a source.
        if let Some(source) = status.source() {
            let reason = chain(source);
            return Self::Gone {
                socket,
                doing,
                reason,
            };
        }
        match status.code() {
            // tonic answers an unknown method without a text, Go's gRPC an unknown service with this one; pausa's own answers have
            // another.
            Code::Unimplemented
                if status.message().is_empty() || status.message().starts_with("unknown ") =>
            {
                Self::TooOld { socket, doing }
            }
            code => Self::Refused {
                code,
                message: status.message().to_owned(),
            },
        }
    }

    /// For calls about images in the store, where NotFound means the image.
    pub(super) fn for_stored_image(self) -> Self {
        match self {
            Self::Refused {
                code: Code::NotFound,
                message,
            } => Self::ImageNotFound { message },
            other => other,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable { .. }
            | Self::Gone { .. }
            | Self::NoMoreEvents { .. }
            | Self::TooOld { .. } => EXIT_UNAVAILABLE,
            Self::NoImage { .. } | Self::ImageNotFound { .. } | Self::NoObject { .. } => EXIT_NOT_FOUND,
            Self::Damaged { .. } => EXIT_DAMAGED,
            Self::Usage(_) | Self::Ambiguous { .. } | Self::InvalidConfig { .. } => EXIT_USAGE,
            Self::NotChecked { .. } => EXIT_NOT_CHECKED,
            Self::Refused { .. }
            | Self::Some { .. }
            | Self::WrongNetworks { .. }
            | Self::WrongNode { .. } => 1,
        }
    }
}

/// The exit code for `error`; `None` if it is not a failure.
pub(super) fn exit_code(error: &anyhow::Error) -> Option<ExitCode> {
    if error.is::<ConfigError>() {
        return Some(ExitCode::from(EXIT_USAGE));
    }
    if let Some(error) = error.downcast_ref::<CommandError>() {
        return Some(ExitCode::from(error.exit_code()));
    }
    let closed = |error: &(dyn std::error::Error + 'static)| error.downcast_ref::<ClosedPipe>().is_some();
    if error.chain().any(closed) {
        return None;
    }
    Some(ExitCode::FAILURE)
}

/// The reader of the output has closed the pipe, as in `pausa image ls | head -1`.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has closed the pipe")]
pub(super) struct ClosedPipe;

#[cfg(test)]
mod tests;
