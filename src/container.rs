//! What a container is: its record, its states and how they read in CRI.
//!
//! ```text
//!            create                start                   its process ends
//!   (nothing) ─────▶ CREATED ─────────────▶ RUNNING ─────────────────────────▶ EXITED ──▶ (removed)
//!                      │  │                    │                                 ▲  ▲
//!                      │  └─ start fails ──────┼──── 128, StartError ────────────┘  │
//!                      │                       └─ monitor lost: 255, Unknown ───────┘
//!                      └────────────────────────────── remove ────────────────────▶ (removed)
//! ```
//!
//! Everything here is a value or a pure function. Who moves a container along is its pod's actor, in
//! `sandbox`; what a process looks like is decided in `oci`. Sources: CRI v1 `ContainerStatus`; the exit
//! codes and reasons are those that kubelet's users know from the peers.

mod record;
mod status;

pub use record::{ContainerRecord, ExitInfo, ImageIdentity, Reason, RunState};
pub use status::{list_item, status};

#[cfg(test)]
mod tests;
