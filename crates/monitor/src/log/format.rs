//! Lines to log entries; pure.
//!
//! A line of at most `max` bytes is one `F` entry. A longer one is cut into `P` entries of exactly `max`
//! bytes and a last `F` entry that is never empty. `\r\n` ends a line as `\n` does. What has no line end
//! when the output ends is written as `P`, so that readers add no newline of their own.

use crate::clock::{self, RFC3339_LEN};

/// Bytes before an entry's content: time, stream name, tag and three spaces.
pub(crate) const HEAD_LEN: usize = RFC3339_LEN + 10;

/// Which stream an entry is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The two beginnings an entry can have at one moment.
#[derive(Debug)]
pub(crate) struct Heads {
    full: [u8; HEAD_LEN],
    partial: [u8; HEAD_LEN],
}

impl Heads {
    /// For entries of this stream read at this time (nanoseconds since the epoch).
    pub(crate) fn new(at: i64, source: Source) -> Self {
        let mut full = [b' '; HEAD_LEN];
        full[..RFC3339_LEN].copy_from_slice(&clock::rfc3339(at));
        full[RFC3339_LEN + 1..RFC3339_LEN + 7].copy_from_slice(match source {
            Source::Stdout => b"stdout",
            Source::Stderr => b"stderr",
        });
        full[HEAD_LEN - 2] = b'F';
        let mut partial = full;
        partial[HEAD_LEN - 2] = b'P';
        Self { full, partial }
    }
}

/// Appends the entries of all lines that end in `input`, and the `P` entries of an unfinished one that is
/// already too long. Returns how many bytes of `input` are dealt with; at most `max` + 1 are left.
pub(crate) fn entries(input: &[u8], heads: &Heads, max: usize, out: &mut Vec<u8>) -> usize {
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', input) {
        line(&input[start..=end], heads, max, out);
        start = end + 1;
    }
    while exceeds(&input[start..], max) {
        entry(&heads.partial, &input[start..start + max], out);
        start += max;
    }
    start
}

/// Appends what is left when the output has ended.
pub(crate) fn last_entries(rest: &[u8], heads: &Heads, max: usize, out: &mut Vec<u8>) {
    for piece in rest.chunks(max) {
        entry(&heads.partial, piece, out);
    }
}

/// One line with its end.
fn line(line: &[u8], heads: &Heads, max: usize, out: &mut Vec<u8>) {
    let mut content = &line[..line.len() - 1];
    if let [before @ .., b'\r'] = content {
        content = before;
    } else if content.len() <= max {
        // The common case needs one copy less.
        out.extend_from_slice(&heads.full);
        out.extend_from_slice(line);
        return;
    }
    while content.len() > max {
        let (piece, rest) = content.split_at(max);
        entry(&heads.partial, piece, out);
        content = rest;
    }
    entry(&heads.full, content, out);
}

/// Whether an unfinished line has more than `max` bytes of content whatever comes next: a `\r` at its end
/// may yet turn out to be part of the line's end.
fn exceeds(unfinished: &[u8], max: usize) -> bool {
    match unfinished.len().saturating_sub(max) {
        0 => false,
        1 => unfinished.last() != Some(&b'\r'),
        _ => true,
    }
}

fn entry(head: &[u8; HEAD_LEN], content: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(head);
    out.extend_from_slice(content);
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
