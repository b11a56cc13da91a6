//! Real monitor processes, driven over the protocol. Most tests use plain processes as containers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod attach;
mod builtin;
mod containers;
mod daemons;
mod execs;
mod hooks;
mod kills;
mod logs;
mod pods;
mod rig;
mod slow_source;
mod starts;
mod users;
