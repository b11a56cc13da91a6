//! Errors: what fails an event ([`NriError`]), what ends a connection ([`End`]), why a plugin is not taken
//! ([`Refusal`]), and how the peer can break the protocol ([`Violation`]).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::DecodeError;

use crate::name::MAX_NAME;
use crate::owners::Conflict;
use crate::ttrpc::MAX_MESSAGE;
use crate::validator::Rejection;

/// An error of this crate that its user sees.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum NriError {
    /// The directory of plugins to be launched cannot be read.
    #[error("cannot read the directory of NRI plugins {}", path.display())]
    ReadPlugins {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Plugins cannot connect.
    #[error("cannot {operation} the socket of NRI {}", path.display())]
    Socket {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A plugin answered an event with an error.
    #[error("NRI plugin {plugin} failed {event}: {message} (code {code})")]
    Plugin {
        plugin: String,
        event: &'static str,
        /// A code of gRPC.
        code: i32,
        /// In the plugin's words, without control characters, at most 512 characters.
        message: String,
    },
    /// What plugins want does not go together.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The default validator refuses what plugins want, or the lack of one.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A plugin refuses what others want.
    #[error("NRI plugin {plugin} refuses the adjustments of the container: {reason}")]
    RefusedBy { plugin: String, reason: String },
    /// It could not say whether it does.
    #[error(
        "NRI plugin {plugin}, which validates adjustments of containers, was lost while it was asked: try again"
    )]
    ValidatorLost { plugin: String },
    /// An event is too large for the protocol.
    #[error("{event} has {length} bytes for NRI plugin {plugin}, allowed are {MAX_MESSAGE}")]
    TooLarge {
        plugin: String,
        event: &'static str,
        length: usize,
    },
}

/// How the peer broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Violation {
    /// A frame of the multiplexer that no message needs.
    #[error("a frame of {length} bytes is larger than any message")]
    FrameLength { length: u32 },
    /// A message beyond the limit of ttrpc.
    #[error("a message has {length} bytes, allowed are {MAX_MESSAGE}")]
    MessageLength { length: u32 },
    /// A message that its connection is not for.
    #[error("a message of kind {kind:?} on connection {connection}")]
    Unexpected {
        connection: u32,
        kind: crate::ttrpc::Kind,
    },
    /// An answer to no call.
    #[error("a response on stream {stream}, on which there is no call")]
    UnknownStream { stream: u32 },
    /// A call on a stream that the peer cannot open.
    #[error("a call on stream {stream}, which is even or not above that of the call before")]
    StreamId { stream: u32 },
    /// Bytes that are not the protobuf message they should be.
    #[error("{what} cannot be decoded")]
    Undecodable {
        what: &'static str,
        #[source]
        source: DecodeError,
    },
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the plugin closed the connection")]
    Closed,
    #[error("cannot {operation} the connection")]
    Io {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the plugin does not keep to the protocol")]
    Protocol(#[source] Violation),
    #[error("the plugin did not answer {method} within {limit:?}")]
    Timeout { method: &'static str, limit: Duration },
    #[error("the plugin does not read: {messages} messages of {bytes} bytes wait for it")]
    SlowReader { messages: usize, bytes: usize },
    #[error("all numbers of calls are used up")]
    Exhausted,
    #[error("the runtime closed the connection")]
    Stopped,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the plugin answered: {message} (code {code})")]
    Status { code: i32, message: String },
    #[error("the request has {length} bytes, allowed are {MAX_MESSAGE}")]
    TooLarge { length: usize },
    #[error("the connection has ended")]
    Lost(#[source] Arc<End>),
}

/// Why a plugin is not taken into the set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("cannot read its configuration {}", path.display())]
    Config {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start it: {operation}")]
    Launch {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the user of the process is {uid}, allowed is {allowed}")]
    User { uid: u32, allowed: u32 },
    #[error("cannot {operation} the connection")]
    Connection {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("it did not register within {0:?}")]
    RegistrationTimeout(Duration),
    #[error("its first call was not to register")]
    NotRegistered,
    #[error("the index {0:?} is not two digits")]
    Index(String),
    #[error("the name {0:?} is not 1 to {MAX_NAME} characters of A-Z, a-z, 0-9, -, _, . and +")]
    Name(String),
    #[error("{method} failed")]
    Call {
        method: &'static str,
        #[source]
        source: CallError,
    },
    #[error("it subscribes to events that do not exist: {0:#x}")]
    Events(i32),
    #[error(
        "operations on pods and containers did not let it be synchronized within {0:?}; it may connect again"
    )]
    Busy(Duration),
    #[error(
        "it cannot be synchronized in parts, and the pods and containers of this node do not fit in one message"
    )]
    Parts,
    #[error("its connection has ended")]
    Lost(#[source] Arc<End>),
    #[error("the runtime stops")]
    Stopping,
}

/// At most 512 characters of a foreign text, without control characters.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(512)
        .collect()
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
