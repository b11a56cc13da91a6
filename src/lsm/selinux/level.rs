//! Levels of contexts, and the pairs of categories that keep pods apart.
//!
//! ```text
//!   level       RANGE or LOW-HIGH         s0:c1,c2      s0-s0:c0.c1023
//!   LOW, HIGH   SENSITIVITY[:CATEGORIES]
//! ```
//!
//! Only the raw form that the kernel takes; translations (mcstransd) are a matter of programs.
//!
//! A process may touch a file only if its categories include the file's. Two pods that have different pairs and the same
//! type are therefore strangers to each other.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

/// Categories are c0 to c1023 in every policy in use.
const CATEGORIES: u16 = 1024;

/// A level in its right form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Level(String);

/// A text that is no level.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a level such as s0:c1,c2 or s0-s0:c0.c1023")]
pub struct LevelError(String);

impl Level {
    /// The level of a pair, with a sensitivity.
    pub(super) fn of(sensitivity: &str, pair: Pair) -> Self {
        Self(format!("{sensitivity}:{pair}"))
    }

    /// The lower end of a range: the level of what a process with this level makes.
    pub(super) fn low(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(low, _)| low)
    }

    pub(super) fn sensitivity(&self) -> &str {
        let low = self.low();
        low.split_once(':').map_or(low, |(sensitivity, _)| sensitivity)
    }

    /// Its categories, if there are just two.
    pub(super) fn pair(&self) -> Option<Pair> {
        let (_, categories) = self.0.split_once(':').filter(|_| !self.0.contains('-'))?;
        let (one, other) = categories.split_once(',')?;
        Pair::new(category(one)?, category(other)?)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        if text.splitn(2, '-').all(is_level) {
            Ok(Self(text.to_owned()))
        } else {
            Err(LevelError(text.chars().take(100).collect()))
        }
    }
}

impl TryFrom<String> for Level {
    type Error = LevelError;

    fn try_from(text: String) -> Result<Self, LevelError> {
        text.parse()
    }
}

impl From<Level> for String {
    fn from(level: Level) -> Self {
        level.0
    }
}

/// `SENSITIVITY[:CATEGORIES]`.
fn is_level(text: &str) -> bool {
    let (sensitivity, categories) = match text.split_once(':') {
        Some((sensitivity, categories)) => (sensitivity, Some(categories)),
        None => (text, None),
    };
    let is_item = |item: &str| match item.split_once('.') {
        Some((first, last)) => {
            matches!((category(first), category(last)), (Some(first), Some(last)) if first < last)
        }
        None => category(item).is_some(),
    };
    number(sensitivity, 's').is_some() && categories.is_none_or(|list| list.split(',').all(is_item))
}

fn category(text: &str) -> Option<u16> {
    number(text, 'c').filter(|number| *number < CATEGORIES)
}

/// A number after a letter, without leading zeros: the kernel compares names.
fn number(text: &str, letter: char) -> Option<u16> {
    let digits = text.strip_prefix(letter)?;
    let plain =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    plain.then(|| digits.parse().ok()).flatten()
}

/// Two different categories, the lower one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    low: u16,
    high: u16,
}

impl Pair {
    fn new(one: u16, other: u16) -> Option<Self> {
        let (low, high) = (one.min(other), one.max(other));
        (low < high && high < CATEGORIES).then_some(Self { low, high })
    }

    /// The next one in an order of all, which goes round.
    fn next(self) -> Self {
        let Self { low, high } = self;
        match (low + 1 < high, high + 1 < CATEGORIES) {
            (true, _) => Self { low: low + 1, high },
            (false, true) => Self {
                low: 0,
                high: high + 1,
            },
            (false, false) => Self { low: 0, high: 1 },
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{},c{}", self.low, self.high)
    }
}

/// The pairs in use, with the number of their holders: pods that ask for a level may share one.
#[derive(Debug, Clone, Default)]
pub(super) struct Pairs {
    held: Arc<Mutex<BTreeMap<Pair, u32>>>,
}

/// A pair in use, until it is dropped.
#[derive(Debug)]
pub struct HeldPair {
    pair: Pair,
    of: Pairs,
}

impl HeldPair {
    pub(super) fn pair(&self) -> Pair {
        self.pair
    }
}

impl Pairs {
    /// A pair that nobody has; none if all are taken.
    pub(super) fn take(&self) -> Option<HeldPair> {
        self.take_from(random())
    }

    /// The first pair from `start` on that nobody has.
    pub(super) fn take_from(&self, start: Pair) -> Option<HeldPair> {
        let mut held = self.held.lock();
        let mut pair = start;
        while held.contains_key(&pair) {
            pair = pair.next();
            if pair == start {
                return None;
            }
        }
        held.insert(pair, 1);
        Some(HeldPair {
            pair,
            of: self.clone(),
        })
    }

    /// A certain pair, whoever else has it.
    pub(super) fn hold(&self, pair: Pair) -> HeldPair {
        *self.held.lock().entry(pair).or_default() += 1;
        HeldPair {
            pair,
            of: self.clone(),
        }
    }
}

impl Drop for HeldPair {
    fn drop(&mut self) {
        let mut held = self.of.held.lock();
        match held.get_mut(&self.pair) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&self.pair)),
        }
    }
}

/// Any pair. Random, so that what a removed pod has left on a volume is not open to the next one by habit.
fn random() -> Pair {
    loop {
        let mut bytes = [0_u8; 4];
        // Fails only on a kernel without getrandom(2), or when a signal comes before the pool is ready.
        if getrandom(&mut bytes, GetRandomFlags::empty()) != Ok(bytes.len()) {
            continue;
        }
        let [a, b, c, d] = bytes;
        let category = |bytes| u16::from_ne_bytes(bytes) % CATEGORIES;
        if let Some(pair) = Pair::new(category([a, b]), category([c, d])) {
            return pair;
        }
    }
}

#[cfg(test)]
mod tests;
