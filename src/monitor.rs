//! The daemon's end of the pod monitors: their program, starting one, and talking to it.
//!
//! A monitor (`crates/monitor`) is the process that owns a pod. This module carries messages and does not know what they
//! mean for a pod: it decides nothing, retries nothing and keeps no state but the requests under way. The daemon is the
//! monitors' parent only until it dies; only reaping relies on that.
//!
//! ```text
//!   MonitorBinary::prepare ─ once ─▶ spawn ──────────▶ Monitor ──request──▶ reply
//!   (sealed memfd)                   connect(pod dir) ▶ Events: what happens; ends when the monitor does
//! ```

mod binary;
mod client;
mod error;

pub use binary::{MonitorBinary, exited};
pub use client::{Events, Monitor, connect};
pub use error::MonitorError;

#[cfg(test)]
mod tests;
