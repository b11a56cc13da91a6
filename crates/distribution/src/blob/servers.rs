//! Who delivered a blob.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The servers whose bytes a stream has handed out so far. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Servers(Arc<Mutex<BTreeSet<String>>>);

impl Servers {
    /// The bases of their endpoints.
    pub fn list(&self) -> Vec<String> {
        let servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.iter().cloned().collect()
    }

    pub(super) fn add(&self, base: &str) {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.insert(base.to_owned());
    }
}
