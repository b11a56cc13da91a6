//! A line of a log in CRI's format, and how a terminal shows its text.
//!
//! The format: `TIME STREAM TAGS TEXT`, with a time in RFC 3339, `stdout` or `stderr`, and tags that are separated by `:`, of which the
//! first is `F` for a whole line and `P` for one that goes on (CRI's log format, kubernetes/design-proposals).

use clap::ValueEnum;
use jiff::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) time: Timestamp,
    pub(super) time_text: &'a [u8],
    pub(super) stream: Stream,
    /// Whether a newline follows the text.
    pub(super) is_whole: bool,
    pub(super) text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// None if the line has another format.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time_text = parts.next()?;
        let time = std::str::from_utf8(time_text).ok()?.parse().ok()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let is_whole = match parts.next()?.split(|byte| *byte == b':').next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        // An empty line may have no space behind its tags.
        let text = parts.next().unwrap_or_default();
        Some(Self {
            time,
            time_text,
            stream,
            is_whole,
            text,
        })
    }
}

/// Appends a text as a terminal may have it: tabs and colours (SGR, ECMA-48 8.3.117) stay, other control characters and bytes that
/// are no UTF-8 are shown as escapes. Colours end with the text.
pub(super) fn push_visible(text: &[u8], to: &mut Vec<u8>) {
    // Of terminals, where lines end with both.
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let mut is_coloured = false;
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(c) = rest.chars().next() {
            if let Some(colour) = colour(rest) {
                is_coloured = true;
                to.extend_from_slice(colour.as_bytes());
                rest = &rest[colour.len()..];
                continue;
            }
            match c.is_control() && c != '\t' {
                true => to.extend(c.escape_default().map(|c| u8::try_from(c).unwrap_or(b'?'))),
                false => to.extend_from_slice(&rest.as_bytes()[..c.len_utf8()]),
            }
            rest = &rest[c.len_utf8()..];
        }
        for byte in chunk.invalid() {
            to.extend(byte.escape_ascii());
        }
    }
    if is_coloured {
        to.extend_from_slice(b"\x1b[0m");
    }
}

/// The sequence for a colour that a text begins with.
fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let length = parameters
        .bytes()
        .take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'))
        .count();
    (parameters.as_bytes().get(length) == Some(&b'm')).then(|| &text[..length + 3])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_those_of_cri() {
        let line = b"2026-11-30T12:00:00.123456789+01:00 stderr P:x two  words\n";
        let entry = Entry::parse(line).unwrap();
        assert_eq!(entry.time, "2026-11-30T11:00:00.123456789Z".parse().unwrap());
        assert_eq!((entry.stream, entry.is_whole), (Stream::Stderr, false));
        assert_eq!(entry.text, b"two  words");
        let empty = Entry::parse(b"2026-11-30T12:00:00Z stdout F").unwrap();
        assert!(empty.is_whole && empty.text.is_empty());
        for wrong in [
            "",
            "x",
            "2026-11-30T12:00:00Z stdout",
            "2026-11-30T12:00:00Z stdin F x",
            "now stdout F x",
        ] {
            assert_eq!(Entry::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    fn visible(text: &[u8]) -> String {
        let mut to = Vec::new();
        push_visible(text, &mut to);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_terminal_gets_colours_and_nothing_else_that_it_obeys() {
        for (text, shown) in [
            (&b"plain \xc3\xa4 \t tab"[..], "plain ä \t tab"),
            (b"line\r", "line"),
            (b"over\rwritten", "over\\rwritten"),
            (b"\x1b[1;31mred\x1b[m", "\x1b[1;31mred\x1b[m\x1b[0m"),
            (b"\x1b[2J", "\\u{1b}[2J"),
            (b"\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            (b"\x1b[31", "\\u{1b}[31"),
            (b"\xc2\x9b31m", "\\u{9b}31m"),
            (b"\xff\xfe", "\\xff\\xfe"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_controls_a_terminal(text: Vec<u8>) {
            let shown = visible(&text);
            let mut rest = shown.as_str();
            while let Some(c) = rest.chars().next() {
                let length = colour(rest).map_or_else(|| c.len_utf8(), str::len);
                prop_assert!(length > 1 || !c.is_control() || c == '\t', "{shown:?}");
                prop_assert!(colour(rest).is_some() || !c.is_control() || c == '\t', "{shown:?}");
                rest = &rest[length..];
            }
        }
    }
}
