//! What the plugins share of the kernel's tables: a connection, and the numbers of rules.
//!
//! A connection is kept for the next call. When one is closed, the kernel waits until what was deleted before is out of
//! use, which takes milliseconds, and no transaction of anybody can begin meanwhile.
//!
//! The numbers of rules are hints. Whoever uses one compares the rule that has the number with what is meant.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use parking_lot::Mutex;
use pausa_netfilter::{Error, ErrorKind, Family, Netfilter};
use rustix::fs::stat;

/// How often an operation begins again because somebody else changed the rules meanwhile.
pub(crate) const RETRIES: u32 = 64;
/// Calls that run at once wait for each other in the kernel anyway.
const MOST_CONNECTIONS: usize = 4;
/// More rules than a node has; when there are more, all hints are forgotten.
const MOST_HINTS: usize = 1 << 16;
/// More rules than a container has in a chain.
const MOST_OF_A_HINT: usize = 256;

/// Connections that nobody uses, each with its network namespace.
static CONNECTIONS: Mutex<Vec<((u64, u64), Netfilter)>> = Mutex::new(Vec::new());
/// The numbers of rules by what is hashed in [`hint`].
static HINTS: LazyLock<Mutex<HashMap<u64, Vec<u64>>>> = LazyLock::new(Mutex::default);

/// Does `work` with a connection to the calling thread's network namespace.
pub(crate) fn with_netfilter<T>(work: impl FnOnce(&mut Netfilter) -> Result<T, Error>) -> Result<T, Error> {
    // A namespace keeps its number as long as a connection to it is open.
    let namespace = stat("/proc/thread-self/ns/net")
        .ok()
        .map(|stat| (stat.st_dev, stat.st_ino));
    let known = namespace.and_then(|namespace| {
        let mut connections = CONNECTIONS.lock();
        let at = connections.iter().position(|(of, _)| *of == namespace)?;
        Some(connections.swap_remove(at).1)
    });
    let mut netfilter = known.map_or_else(Netfilter::open, Ok)?;
    let outcome = work(&mut netfilter);
    // Only after a complete answer is nothing left that would be taken for the next one.
    if let (Some(namespace), Ok(_) | Err(Error::Refused { .. })) = (namespace, &outcome) {
        let mut connections = CONNECTIONS.lock();
        if connections.len() < MOST_CONNECTIONS {
            connections.push((namespace, netfilter));
            return outcome;
        }
        // Closing is a system call.
        drop(connections);
        drop(netfilter);
    }
    outcome
}

/// Repeats `work` as long as the rules change under its hands. It is given a number for its commit.
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
