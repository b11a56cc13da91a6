//! Accepting connections: what every listener of the daemon does when accept(2) fails.
//!
//! Must never: return an error. A listener that stopped accepting would look healthy to the service manager and serve
//! nobody.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::chain;

/// Pause after a failure of this process or the node, most often a lack of descriptors or memory: accept(2) would fail again
/// at once and turn the loop into a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

static FAILURES: AtomicU64 = AtomicU64::new(0);

/// How often accept(2) has failed for another reason than the client.
pub(crate) fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// The next connection of a TCP or unix listener: `next` calls its `accept`. `listener` names it in the log.
///
/// Cancel-safe if `next` is, as tokio's listeners are.
pub(crate) async fn accept<S, Peer, F>(listener: &str, next: impl Fn() -> F) -> S
where
    F: Future<Output = io::Result<(S, Peer)>>,
{
    loop {
        match next().await {
            Ok((socket, _)) => return socket,
            // The client gave up while its connection was in the queue. Linux reports that here (accept(2), "Error handling").
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
                ) =>
            {
                tracing::debug!(
                    listener,
                    error = chain(&error),
                    "a connection ended before it was accepted"
                );
            }
            Err(error) => {
                FAILURES.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    listener,
                    error = chain(&error),
                    "cannot accept connections; new clients wait until this succeeds again"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use rustix::io::Errno;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_are_survived() {
        let failures = [Errno::MFILE, Errno::CONNABORTED, Errno::NOBUFS];
        let calls = AtomicUsize::new(0);
        let before = super::failures();
        let socket = accept("a test", || {
            let outcome = match failures.get(calls.fetch_add(1, Ordering::Relaxed)) {
                Some(errno) => Err(io::Error::from(*errno)),
                None => Ok(("the socket", "its peer")),
            };
            async { outcome }
        })
        .await;
        assert_eq!(socket, "the socket");
        assert_eq!(calls.into_inner(), failures.len() + 1);
        // The client's own end of it is none. Other tests have listeners, too.
        assert!(super::failures() - before >= 2);
    }
}
