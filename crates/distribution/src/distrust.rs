//! Which servers delivered damaged blobs: a mirror with a bad disk must not fail every try of a pull.
//!
//! Remembered for a while only, because mirrors are repaired, and bounded. Distrusted servers are asked last, never left out:
//! they may be the only ones.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::digest::Digest;

/// How long a server is asked last for a blob.
const MEMORY: Duration = Duration::from_secs(600);
const MAX_ENTRIES: usize = 1024;

/// By blob and base of the endpoint.
#[derive(Debug, Default)]
pub(crate) struct Distrust(Mutex<HashMap<(Digest, String), Instant>>);

impl Distrust {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Digest, String), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, digest: &Digest, servers: &[String]) {
        let mut entries = self.lock();
        entries.retain(|_, since| since.elapsed() < MEMORY);
        for server in servers {
            if entries.len() < MAX_ENTRIES {
                entries.insert((digest.clone(), server.clone()), Instant::now());
            }
        }
    }

    pub(crate) fn has(&self, digest: &Digest, server: &str) -> bool {
        let entries = self.lock();
        let since = entries.get(&(digest.clone(), server.to_owned()));
        since.is_some_and(|since| since.elapsed() < MEMORY)
    }
}
