//! Connections that are kept for the next caller.
//!
//! When a connection is closed, the kernel waits until what was deleted before is out of use, which takes milliseconds,
//! and no transaction of anybody can begin meanwhile.

use parking_lot::Mutex;
use rustix::fs::stat;

use crate::error::Error;
use crate::socket::Netfilter;

/// Calls that run at once wait for each other in the kernel anyway.
const MOST: usize = 4;

/// Connections that nobody uses, each with its network namespace.
static KEPT: Mutex<Vec<((u64, u64), Netfilter)>> = Mutex::new(Vec::new());

impl Netfilter {
    /// Does `work` with a connection to the calling thread's network namespace, and keeps it for the next caller.
    ///
    /// # Errors
    /// Those of [`Self::open`] and of `work`.
    pub fn with<T>(work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        // A namespace keeps its number as long as a connection to it is open.
        let namespace = stat("/proc/thread-self/ns/net")
            .ok()
            .map(|stat| (stat.st_dev, stat.st_ino));
        let known = namespace.and_then(|namespace| {
            let mut kept = KEPT.lock();
            let at = kept.iter().position(|(of, _)| *of == namespace)?;
            Some(kept.swap_remove(at).1)
        });
        let mut netfilter = known.map_or_else(Self::open, Ok)?;
        let outcome = work(&mut netfilter);
        // Only after a complete answer is nothing left that would be taken for the next one.
        if let (Some(namespace), Ok(_) | Err(Error::Refused { .. })) = (namespace, &outcome) {
            let mut kept = KEPT.lock();
            if kept.len() < MOST {
                kept.push((namespace, netfilter));
                return outcome;
            }
            // Closing is a system call.
            drop(kept);
            drop(netfilter);
        }
        outcome
    }
}
