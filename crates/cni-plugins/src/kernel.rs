//! What the plugins know of rules in the kernel's tables: their numbers.
//!
//! The numbers are hints. Whoever uses one compares the rule that has the number with what is meant.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use parking_lot::Mutex;
use pausa_netfilter::{Error, ErrorKind, Family};

/// How often an operation begins again because somebody else changed the rules meanwhile.
pub(crate) const RETRIES: u32 = 64;
/// More rules than a node has; when there are more, all hints are forgotten.
const MOST_HINTS: usize = 1 << 16;
/// More rules than a container has in a chain.
const MOST_OF_A_HINT: usize = 256;

/// The numbers of rules by what is hashed in [`hint`].
static HINTS: LazyLock<Mutex<HashMap<u64, Vec<u64>>>> = LazyLock::new(Mutex::default);

/// Repeats `work` as long as the rules change under its hands.
pub(crate) fn retry<T>(mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..RETRIES {
        match work() {
            Err(error) if error.kind() == ErrorKind::Changed => {}
            outcome => return outcome,
        }
    }
    work()
}

/// What a rule's number is remembered by: the chain it is in, and its text or the container's chain that it leads to.
pub(crate) fn hint(family: Family, table: &str, chain: &str, identity: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (family, table, chain, identity).hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn remember(rules: impl Iterator<Item = (u64, u64)>) {
    let mut hints = HINTS.lock();
    if hints.len() > MOST_HINTS {
        hints.clear();
    }
    let mut by_hint: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (hint, handle) in rules {
        by_hint.entry(hint).or_default().push(handle);
    }
    for (hint, handles) in by_hint {
        match hints.entry(hint) {
            Entry::Vacant(entry) => {
                entry.insert(handles);
            }
            // Once there were too many, nothing is known until all are forgotten.
            Entry::Occupied(entry) if entry.get().is_empty() => {}
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                for handle in handles {
                    if !known.contains(&handle) {
                        known.push(handle);
                    }
                }
                if entry.get().len() > MOST_OF_A_HINT {
                    entry.insert(Vec::new());
                }
            }
        }
    }
}

/// The numbers that are remembered for each, with its place.
pub(crate) fn hinted(hashes: impl Iterator<Item = u64>) -> Vec<(usize, u64)> {
    let hints = HINTS.lock();
    let of = |(at, hash)| {
        hints
            .get(&hash)
            .into_iter()
            .flatten()
            .map(move |handle| (at, *handle))
    };
    hashes.enumerate().flat_map(of).collect()
}

pub(crate) fn forget(hashes: impl Iterator<Item = u64>) {
    let mut hints = HINTS.lock();
    for hash in hashes {
        hints.remove(&hash);
    }
}
