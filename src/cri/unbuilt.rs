//! RPCs of CRI that pausa does not serve yet. Clients see UNIMPLEMENTED, as from a runtime that is older
//! than the call, and fall back where they can.

use crate::error::{ErrorKind, Failure};

/// The answer to `rpc`, whatever it asks.
pub(super) async fn answer<T>(rpc: &'static str) -> Result<T, Failure> {
    Err(Failure::new(
        ErrorKind::Unimplemented,
        format!("pausa {} does not serve {rpc} yet", env!("CARGO_PKG_VERSION")),
    ))
}
