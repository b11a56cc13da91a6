//! CPU used per time: `usage_nano_cores`, from the counter and when it was read.
//!
//! The value is the mean since the sample before:
//!
//! * the first sample has none;
//! * a sample within [`SHORTEST`] of the remembered one keeps its value: several clients that ask at the same time do not
//!   spoil each other's interval;
//! * after [`LONGEST`] without a sample there is none again: it would tell of the past and not of now;
//! * a counter that went back (a sum over fewer containers) starts over.

use std::time::{Duration, Instant};

use super::counters::Counters;

/// Shortest time that a mean is made of.
const SHORTEST: Duration = Duration::from_millis(500);
/// Longest time that a mean is made of.
const LONGEST: Duration = Duration::from_secs(120);

/// The counter at the end of the time that a mean is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Reading {
    at: Instant,
    /// CPU time in nanoseconds.
    usage: u64,
    /// Nanoseconds of CPU time per second, up to this reading.
    pub(in crate::sandbox) rate: Option<u64>,
}

impl Reading {
    /// What is remembered after one more sample. One without a CPU counter is not remembered.
    pub(super) fn after(last: Option<Self>, counters: Option<&Counters>) -> Option<Self> {
        let counters = counters?;
        let usage = counters.stats.cpu.as_ref()?.usage_ns;
        Some(next(last, counters.instant, usage))
    }
}

fn next(last: Option<Reading>, at: Instant, usage: u64) -> Reading {
    let Some(last) = last else {
        return Reading {
            at,
            usage,
            rate: None,
        };
    };
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
