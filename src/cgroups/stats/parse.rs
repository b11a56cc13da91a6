//! The few forms in which the kernel writes numbers.

/// `max` and v1's near-endless number are no limit.
pub(super) fn limit(text: &str) -> Option<u64> {
    // v1 says "no limit" by i64::MAX rounded down to pages.
    text.parse().ok().filter(|limit| *limit < 1 << 62)
}

/// The value of a `key value` line; 0 without one.
pub(super) fn keyed(text: &str, key: &str) -> u64 {
    found(text, key).unwrap_or(0)
}

/// The value of a `key value` line.
pub(super) fn found(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .and_then(number)
}

/// A number, blanks around it ignored.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}
