//! The few forms in which the kernel writes numbers.

/// `max` and v1's near-endless number are no limit.
pub(super) fn limit(text: &str) -> Option<u64> {
    // v1 says "no limit" by i64::MAX rounded down to pages.
    text.parse().ok().filter(|limit| *limit < 1 << 62)
}

/// The `key value` lines of a file, split once: `memory.stat` has some 50, of which a dozen are asked for.
#[derive(Debug)]
pub(super) struct Keyed<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Keyed<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.split_once(' ')).collect())
    }

    /// The value of a key.
    pub(super) fn found(&self, key: &str) -> Option<u64> {
        let (_, value) = self.0.iter().find(|(name, _)| *name == key)?;
        number(value)
    }

    /// The value of a key; 0 without one.
    pub(super) fn count(&self, key: &str) -> u64 {
        self.found(key).unwrap_or(0)
    }
}

/// A number, blanks around it ignored.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}
