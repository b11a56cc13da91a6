//! `Content-Range` of an answer.

use reqwest::header::{CONTENT_RANGE, HeaderMap};

/// The part of a blob in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) total: Option<u64>,
}

impl ContentRange {
    /// The byte after the last.
    pub(super) fn end(self) -> u64 {
        self.last.saturating_add(1)
    }

    /// Whether it is exactly the part from `first` to before `end` of a blob of `size` bytes.
    pub(super) fn is(self, first: u64, end: u64, size: u64) -> bool {
        self.first == first && self.end() == end && self.total.is_none_or(|total| total == size)
    }
}

/// `bytes 10-99/100` (RFC 9110, section 14.4); the total may be `*`.
pub(super) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = if total == "*" {
        None
    } else {
        Some(total.trim().parse().ok()?)
    };
    (first <= last).then_some(ContentRange { first, last, total })
}
