//! Real monitor processes, driven over the protocol, with plain processes as containers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod builtin;
mod containers;
mod daemons;
mod kills;
mod logs;
mod pods;
mod rig;
