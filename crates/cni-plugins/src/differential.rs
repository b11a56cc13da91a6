//! The plugins in process against the binaries of the same types: what one of the two adds is the same as what the other
//! adds, and each checks and deletes what the other has added.

mod chained;
mod interfaces;
mod node;
mod snapshot;
