//! The plugins in process against the binaries of the same types: what one of the two adds is the same as what the other
//! adds, and each checks and deletes what the other has added.
//!
//! `PAUSA_CNI_PLUGINS` names the directories of the binaries, separated by colons; `/usr/lib/cni` if it is not set.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod chained;
mod interfaces;
mod node;
mod snapshot;
