//! Single-use tokens: what a URL's last part stands for.
//!
//! ```text
//!   issue ──▶ outstanding ─┬─ redeem ──▶ used up
//!                          └─ a minute later ──▶ as if it had never been
//! ```
//!
//! A token is the only credential of a URL: it is random, it works once, and not for long.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::Instant;

/// How long a token can be used; kubelet uses it at once.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);
/// How many unused tokens there may be: more is somebody who asks and never comes.
pub(super) const OUTSTANDING_MAX: usize = 1000;
/// Random bytes of a token.
const LENGTH: usize = 24;

/// No more tokens for now.
#[derive(Debug)]
pub(super) struct TooMany;

/// See the module.
#[derive(Debug)]
pub(super) struct Tokens<T>(Mutex<Outstanding<T>>);

#[derive(Debug)]
struct Outstanding<T> {
    meanings: HashMap<String, T>,
    /// In the order they expire. Has used ones too, for a while.
    expiries: VecDeque<(Instant, String)>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self(Mutex::new(Outstanding {
            meanings: HashMap::new(),
            expiries: VecDeque::new(),
        }))
    }
}

impl<T> Tokens<T> {
    /// A token that stands for `meaning`.
    pub(super) fn issue(&self, meaning: T) -> Result<String, TooMany> {
        let token = random();
        let now = Instant::now();
        let mut outstanding = self.outstanding();
        outstanding.expire(now);
        if outstanding.meanings.len() >= OUTSTANDING_MAX {
            return Err(TooMany);
        }
        outstanding.meanings.insert(token.clone(), meaning);
        outstanding.expiries.push_back((now + LIFETIME, token.clone()));
        Ok(token)
    }

    /// What a token stands for, the first time it is shown in its life.
    pub(super) fn redeem(&self, token: &str) -> Option<T> {
        let mut outstanding = self.outstanding();
        outstanding.expire(Instant::now());
        outstanding.meanings.remove(token)
    }

    /// Nothing that could panic happens under the lock, so a poisoned one is as good.
    fn outstanding(&self) -> MutexGuard<'_, Outstanding<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Outstanding<T> {
    fn expire(&mut self, now: Instant) {
        while self.expiries.front().is_some_and(|(expiry, _)| *expiry <= now) {
            if let Some((_, token)) = self.expiries.pop_front() {
                self.meanings.remove(&token);
            }
        }
        if self.expiries.len() > 2 * OUTSTANDING_MAX {
            let meanings = &self.meanings;
            self.expiries.retain(|(_, token)| meanings.contains_key(token));
        }
    }
}

fn random() -> String {
    let mut bytes = [0_u8; LENGTH];
    let mut filled = 0;
    while filled < bytes.len() {
        // Fails only when a signal comes before the kernel's pool is ready.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests;
