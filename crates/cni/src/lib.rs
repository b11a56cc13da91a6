//! Container Network Interface: configuration lists, plugin calls and the result cache.
//!
//! This crate is the runtime's half of CNI: it reads a configuration directory ([`ConfDir`]), runs the chain of
//! plugins for an attachment ([`Runtime`]) and keeps their results where every CNI tool looks for them
//! ([`ResultCache`]). A plugin type resolves to a binary of the plugin directories or to an [`InProcess`]
//! implementation of the caller.
//!
//! It must never trust a plugin's output (its size and time are bounded, its JSON may be anything), never look for
//! a plugin anywhere but in the plugin directories, and never leave a plugin's process behind when a call ends,
//! times out or is cancelled.
//!
//! Specification: <https://www.cni.dev/docs/spec/> (1.1.0; 0.3.0 and later are supported).

mod cache;
mod config;
mod error;
mod plugin;
mod result;
mod runtime;
mod version;

pub use cache::{CachedAttachment, ResultCache};
pub use config::dir::{ConfDir, Loaded};
pub use config::{NetworkConfigList, PluginConfig};
pub use error::{Error, ErrorKind};
pub use plugin::{Call, Command, Delegate, Failure, InProcess, Resolution};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use runtime::{AttachmentId, Observed, Observer, Request, Runtime, Timeouts, Tried};
pub use version::Version;
