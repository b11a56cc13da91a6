//! How a command fails, and with which exit code.
//!
//! | code | means | name in sysexits.h |
//! |---:|---|---|
//! | 0 | done | `EX_OK` |
//! | 1 | failed; the text says why | |
//! | 64 | wrong usage or configuration | `EX_USAGE` |
//! | 65 | what is stored is damaged (`image verify`) | `EX_DATAERR` |
//! | 66 | no such image | `EX_NOINPUT` |
//! | 69 | the daemon is not there, or too old for the command | `EX_UNAVAILABLE` |
//!
//! A reader that closes the pipe early is no failure.

use std::error::Error as _;
use std::path::PathBuf;
use std::process::ExitCode;

use tonic::{Code, Status};

use crate::config::ConfigError;
use crate::error::chain;

/// Wrong usage or configuration.
pub(super) const EXIT_USAGE: u8 = 64;
const EXIT_DAMAGED: u8 = 65;
const EXIT_NO_IMAGE: u8 = 66;
const EXIT_UNAVAILABLE: u8 = 69;

/// A command that talked to the daemon, or tried to, and failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// Nobody answers on the socket.
    #[error(
        "cannot reach the daemon at {}; is `pausa serve` running, and is this its --address?",
        socket.display()
    )]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: tonic::transport::Error,
    },
    /// The connection ended in the middle of a call.
    #[error(
        "the daemon at {} went away during {doing}: {reason}; what it had begun, the same command joins or repeats",
        socket.display()
    )]
    Gone {
        socket: PathBuf,
        doing: &'static str,
        reason: String,
    },
    /// The daemon is of a version that has no such call.
    #[error(
        "the daemon at {} does not know {doing}: it is older than this program (pausa {}); restart it after the upgrade",
        socket.display(),
        env!("CARGO_PKG_VERSION")
    )]
    TooOld { socket: PathBuf, doing: &'static str },
    /// The daemon says no.
    #[error("{message}")]
    Refused { code: Code, message: String },
    /// Images that are not there.
    #[error("no image {} in the store; `pausa image ls` shows what there is", .names.join(", "))]
    NoImage { names: Vec<String> },
    /// Images that are not on the disk as they came.
    #[error("{images} images are damaged; `pausa image verify --repair` fetches what is missing")]
    Damaged { images: usize },
    /// The daemon says that an image is not there.
    #[error("{message}")]
    NotThere { message: String },
    /// More than one thing was to be done, and each failure has been told.
    #[error("{failed} of {all} failed")]
    Some { failed: usize, all: usize },
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl CommandError {
    /// The failure that `status` is, of a call that was `doing` something (the end of "does not know …").
    pub(super) fn from_status(socket: PathBuf, doing: &'static str, status: &Status) -> Self {
        // Only a status that was made on this side of the wire has a source.
        if let Some(source) = status.source() {
            let reason = chain(source);
            return Self::Gone {
                socket,
                doing,
                reason,
            };
        }
        match status.code() {
            // A method the server lacks has no text; what pausa itself does not do has one.
            Code::Unimplemented if status.message().is_empty() => Self::TooOld { socket, doing },
            code => Self::Refused {
                code,
                message: status.message().to_owned(),
            },
        }
    }

    /// As [`from_status`](Self::from_status), of a call about images in the store: NotFound is about these.
    pub(super) fn of_stored(self) -> Self {
        match self {
            Self::Refused {
                code: Code::NotFound,
                message,
            } => Self::NotThere { message },
            other => other,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable { .. } | Self::Gone { .. } | Self::TooOld { .. } => EXIT_UNAVAILABLE,
            Self::NoImage { .. } | Self::NotThere { .. } => EXIT_NO_IMAGE,
            Self::Damaged { .. } => EXIT_DAMAGED,
            Self::Usage(_) => EXIT_USAGE,
            Self::Refused { .. } | Self::Some { .. } => 1,
        }
    }
}

/// What the process ends with because of `error`; `None` where that is no failure at all.
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

/// Nobody reads our output any more, as in `pausa image ls | head -1`.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub(super) struct ClosedPipe;

#[cfg(test)]
mod tests;
