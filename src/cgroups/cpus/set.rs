//! A set of CPUs or of memory nodes, in the form of the kernel's lists.
//!
//! ```text
//!   LIST    [RANGE{,RANGE}]      0-3,8,10-11
//!   RANGE   FIRST[-LAST]
//! ```
//!
//! Blanks around a range and empty ranges are read as the kernel reads them. Strides (`0-31:2/4`), `N` and `all`, which
//! it takes too, are refused: it writes none of them, and systemd and other runtimes do not take them.
//!
//! Texts come from requests. A number beyond what Linux can have is refused before anything is allocated for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// More CPUs and more memory nodes than Linux can have.
const MOST: usize = 8192;

/// As much of a wrong text as an error repeats.
const SHOWN: usize = 100;

const BITS: usize = u64::BITS as usize;

/// A set of CPUs or of memory nodes.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet {
    /// The lowest numbers first. The last word is not zero, so equal sets have equal words.
    words: Vec<u64>,
}

/// A text that is no list of numbers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuSetError {
    #[error("{part:?} is neither a number nor a range such as 0-3")]
    Form { part: String },
    #[error("{part:?} ends before it begins: write the lower number first")]
    Backwards { part: String },
    #[error("{part:?} goes beyond {}, the highest number of Linux", MOST - 1)]
    TooHigh { part: String },
}

impl CpuSet {
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn contains(&self, number: usize) -> bool {
        self.words
            .get(number / BITS)
            .is_some_and(|word| word >> (number % BITS) & 1 == 1)
    }

    /// Adds a number that is known to be one of the kernel's.
    pub fn insert(&mut self, number: usize) {
        self.insert_range(number, number);
    }

    fn insert_range(&mut self, first: usize, last: usize) {
        if self.words.len() <= last / BITS {
            self.words.resize(last / BITS + 1, 0);
        }
        for index in first / BITS..=last / BITS {
            let mut mask = u64::MAX;
            if index == first / BITS {
                mask &= u64::MAX << (first % BITS);
            }
            if index == last / BITS {
                mask &= u64::MAX >> (BITS - 1 - last % BITS);
            }
            self.words[index] |= mask;
        }
    }

    /// The numbers, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(index * BITS + bit)
            })
        })
    }

    pub fn lowest(&self) -> Option<usize> {
        self.iter().next()
    }

    /// The lowest `count` numbers, or all if there are fewer.
    pub fn first(&self, count: usize) -> Self {
        self.iter().take(count).collect()
    }

    pub fn union(&self, other: &Self) -> Self {
        let (long, short) = match self.words.len() < other.words.len() {
            true => (other, self),
            false => (self, other),
        };
        let mut union = long.clone();
        for (word, more) in union.words.iter_mut().zip(&short.words) {
            *word |= more;
        }
        union
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let both = self.words.iter().zip(&other.words);
        Self::trimmed(both.map(|(one, other)| one & other).collect())
    }

    /// The numbers that `other` does not have.
    pub fn difference(&self, other: &Self) -> Self {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        let words = self.words.iter().zip(others);
        Self::trimmed(words.map(|(word, other)| word & !other).collect())
    }

    /// How many numbers both have: the length of the intersection, without making it.
    pub fn overlap(&self, other: &Self) -> usize {
        let both = self.words.iter().zip(&other.words);
        both.map(|(one, other)| (one & other).count_ones() as usize).sum()
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.overlap(other) == self.len()
    }

    /// The set as bits, the lowest number first, without zeros at the end.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(
            bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1),
        );
        bytes
    }

    fn trimmed(mut words: Vec<u64>) -> Self {
        words.truncate(
            words
                .iter()
                .rposition(|word| *word != 0)
                .map_or(0, |last| last + 1),
        );
        Self { words }
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut set = Self::default();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let mut set = Self::default();
        for part in text.trim_ascii().split(',').map(|part| part.trim_matches(' ')) {
            if part.is_empty() {
                continue;
            }
            let shown = || part.chars().take(SHOWN).collect();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(first) || !digits(last) {
                return Err(CpuSetError::Form { part: shown() });
            }
            // Digits that are no number are too many.
            let (Ok(first), Ok(last)) = (first.parse(), last.parse()) else {
                return Err(CpuSetError::TooHigh { part: shown() });
            };
            if first > last {
                return Err(CpuSetError::Backwards { part: shown() });
            }
            if last >= MOST {
                return Err(CpuSetError::TooHigh { part: shown() });
            }
            set.insert_range(first, last);
        }
        Ok(set)
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

/// As the list: words say nothing to a reader.
impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuSet({self})")
    }
}

impl TryFrom<String> for CpuSet {
    type Error = CpuSetError;

    fn try_from(text: String) -> Result<Self, CpuSetError> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests;
