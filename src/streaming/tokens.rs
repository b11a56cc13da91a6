//! Single-use tokens, the last part of a URL.
//!
//! ```text
//!   issue ──▶ outstanding ─┬─ redeem ───▶ used
//!                          └─ a minute ─▶ expired
//! ```
//!
//! A token is the only credential of a URL: it is random, works once and expires.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::Instant;

use crate::error::{ErrorKind, Kinded};
use crate::telemetry::metrics;

/// How long a token is valid; kubelet uses it at once.
const LIFETIME: Duration = Duration::from_secs(60);
/// How many unused tokens there may be: more belong to a client that never connects.
pub(super) const OUTSTANDING_MAX: usize = 1000;
/// Random bytes of a token.
const LENGTH: usize = 24;

/// Too many tokens are unused.
#[derive(Debug, thiserror::Error)]
#[error(
    "there are {OUTSTANDING_MAX} unused URLs for exec, attach and port-forward; the oldest expires within {} s",
    LIFETIME.as_secs()
)]
pub(super) struct TooMany;

impl Kinded for TooMany {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ResourceExhausted
    }
}

#[derive(Debug)]
pub(super) struct Tokens<T>(Mutex<Outstanding<T>>);

#[derive(Debug)]
struct Outstanding<T> {
    meanings: HashMap<String, T>,
    /// In the order of expiry. Used tokens stay in it for a while.
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
    /// Issues a token for `meaning`.
    pub(super) fn issue(&self, meaning: T) -> Result<String, TooMany> {
        let token = random();
        let now = Instant::now();
        let mut outstanding = self.0.lock();
        outstanding.expire(now);
        if outstanding.meanings.len() >= OUTSTANDING_MAX {
            metrics::session_refused("tickets");
            return Err(TooMany);
        }
        outstanding.meanings.insert(token.clone(), meaning);
        outstanding.expiries.push_back((now + LIFETIME, token.clone()));
        Ok(token)
    }

    /// How many are neither used nor expired.
    pub(super) fn outstanding(&self) -> usize {
        let mut outstanding = self.0.lock();
        outstanding.expire(Instant::now());
        outstanding.meanings.len()
    }

    /// The meaning of a token, once and before it expires.
    pub(super) fn redeem(&self, token: &str) -> Option<T> {
        let mut outstanding = self.0.lock();
        outstanding.expire(Instant::now());
        outstanding.meanings.remove(token)
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
