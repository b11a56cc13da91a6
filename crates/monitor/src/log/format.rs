//! Turns lines into log entries. Pure functions.
//!
//! A line of at most `max` bytes becomes one `F` entry. A longer line is split into `P` entries of exactly `max` bytes and
//! a last `F` entry that is not empty. `\r\n` ends a line as `\n` does. An unfinished line at the end of the output is
//! written as `P`, so that readers do not add a newline.

use crate::clock::{self, RFC3339_LEN};

/// Number of bytes before an entry's content: time, stream name, tag and three spaces.
pub(crate) const HEAD_LEN: usize = RFC3339_LEN + 10;

/// The stream of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Also the output of a terminal.
    Stdout,
    Stderr,
}

/// The parts before the content of entries from one read: of `F` and of `P` entries.
#[derive(Debug)]
pub(crate) struct Heads {
    full: [u8; HEAD_LEN],
    partial: [u8; HEAD_LEN],
}

impl Heads {
    /// For entries of a stream that were read at a time, in nanoseconds since the epoch.
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

/// Appends the entries of all finished lines in `input`, and the `P` entries of an unfinished line that is already too
/// long. Returns the number of bytes consumed; at most `max` + 1 bytes are left.
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

/// Appends the entries of an unfinished line at the end of the output.
pub(crate) fn last_entries(rest: &[u8], heads: &Heads, max: usize, out: &mut Vec<u8>) {
    for piece in rest.chunks(max) {
        entry(&heads.partial, piece, out);
    }
}

/// Appends the entries of one line, which includes its end.
fn line(line: &[u8], heads: &Heads, max: usize, out: &mut Vec<u8>) {
    let mut content = &line[..line.len() - 1];
    if let [before @ .., b'\r'] = content {
        content = before;
    } else if content.len() <= max {
        // The common case, with one copy less.
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

/// Whether an unfinished line certainly has more than `max` bytes of content. A `\r` at its end may be part of the line's
/// end.
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
