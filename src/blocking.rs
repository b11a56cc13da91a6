//! Work that may block runs on the threads that tokio keeps for it.

use std::panic::resume_unwind;

/// Runs `work` on a blocking thread and waits for it. A panic in it goes on in the caller, as if it had run there.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Cancelled: the runtime is shutting down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
