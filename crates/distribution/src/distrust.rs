//! The servers that delivered damaged blobs: a mirror with a bad disk must not fail every try of a pull.
//!
//! Entries expire, because mirrors are repaired, and their number is bounded. Distrusted servers are asked last, never left out:
//! they may be the only ones.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::digest::Digest;

/// How long a server is asked last for a blob after it delivered damaged data.
const MEMORY: Duration = Duration::from_secs(600);
const MAX_ENTRIES: usize = 1024;

/// By blob and base of the endpoint.
#[derive(Debug, Default)]
pub(crate) struct Distrust(Mutex<HashMap<(Digest, String), Instant>>);

impl Distrust {
    pub(crate) fn add(&self, digest: &Digest, servers: &[String]) {
        let mut entries = self.0.lock();
        entries.retain(|_, since| since.elapsed() < MEMORY);
        for server in servers {
            if entries.len() < MAX_ENTRIES {
                entries.insert((digest.clone(), server.clone()), Instant::now());
            }
        }
    }

    pub(crate) fn has(&self, digest: &Digest, server: &str) -> bool {
        let entries = self.0.lock();
        let since = entries.get(&(digest.clone(), server.to_owned()));
        since.is_some_and(|since| since.elapsed() < MEMORY)
    }
}
