//! Node Resource Interface: the runtime's side of its plugins.
//!
//! Plugins are programs of the node's administrator. They connect to a socket of the runtime, or the runtime starts
//! them. They see what happens to pods and containers, and change how containers are made.
//!
//! ```text
//!   Plugins     the set of plugins: who is in it, events for it, in one order          needs tokio
//!   Connection  one plugin: calls in both directions over one socket                   needs tokio
//!   ttrpc, mux  bytes and their meaning                                                no I/O
//!   proto       the messages
//! ```
//!
//! Plugins run as root and are trusted with containers, but not with the runtime: one that hangs, floods, dies or
//! breaks the protocol costs an event at most the time limit of a request, and then is no longer in the set. This crate
//! knows nothing of CRI; what it needs of the runtime is the trait [`Runtime`].
//!
//! The specification: <https://github.com/containerd/nri>, version [`VERSION`].

mod connection;
pub mod creation;
mod error;
mod launch;
pub mod mux;
mod name;
pub mod owners;
mod plugin;
mod plugins;
pub mod proto;
pub mod spec;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod ttrpc;
pub mod update;
pub mod validator;

pub use error::{NriError, Violation};
pub use plugins::{Operation, Origin, PluginStatus, Plugins, Runtime, Settings};

/// The version of NRI that plugins are told.
pub const VERSION: &str = "v0.12.0";
