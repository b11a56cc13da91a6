//! CPU used per time: `usage_nano_cores`, from the counter and when it was read.
//!
//! No collector runs in the background: a call compares with an earlier one. The value is the mean since then:
//!
//! * the first call has none;
//! * a call within [`SHORTEST`] of the remembered one gives the last value again: several clients that ask at the
//!   same time do not spoil each other's interval;
//! * after [`LONGEST`] without a call there is none again: it would tell of the past and not of now;
//! * a counter that went back (a sum over fewer containers) starts over.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::id::Id;

/// Shortest time that a mean is made of.
const SHORTEST: Duration = Duration::from_millis(500);
/// Longest time that a mean is made of.
const LONGEST: Duration = Duration::from_secs(120);

/// The last reading of every pod and container that is asked for.
#[derive(Debug, Default)]
pub(super) struct Rates {
    known: Mutex<HashMap<Id, Reading>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    at: Instant,
    /// CPU time in nanoseconds.
    usage: u64,
    /// Nanoseconds of CPU time per second, up to this reading.
    rate: Option<u64>,
}

impl Rates {
    /// The rate of `id`, whose counter was at `usage` nanoseconds at `at`.
    pub(super) fn rate(&self, id: &Id, at: Instant, usage: u64) -> Option<u64> {
        let mut known = self.known.lock();
        if let Some(reading) = known.get_mut(id) {
            *reading = next(*reading, at, usage);
            return reading.rate;
        }
        // Whoever was not asked for that long has no rate any more, or is gone.
        known.retain(|_, reading| at.saturating_duration_since(reading.at) <= LONGEST);
        let rate = None;
        known.insert(id.clone(), Reading { at, usage, rate });
        None
    }
}

/// What is remembered after one more reading.
fn next(last: Reading, at: Instant, usage: u64) -> Reading {
    let passed = at.saturating_duration_since(last.at);
    if passed < SHORTEST && usage >= last.usage {
        return last;
    }
    let usable = passed >= SHORTEST && passed <= LONGEST;
    let rate = usage
        .checked_sub(last.usage)
        .filter(|_| usable)
        .map(|used| per_second(used, passed));
    Reading { at, usage, rate }
}

fn per_second(used: u64, passed: Duration) -> u64 {
    let second = Duration::from_secs(1).as_nanos();
    let rate = u128::from(used) * second / passed.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
