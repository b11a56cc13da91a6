use proptest::prelude::*;

use super::{Heads, Source, entries, last_entries};

const HEAD: &str = "2026-08-22T17:21:51.123456789Z stdout ";

/// The log of these reads, one after another.
fn log(reads: &[&[u8]], max: usize) -> Vec<u8> {
    let heads = Heads::new(1_787_419_311_123_456_789, Source::Stdout);
    let (mut kept, mut out) = (Vec::new(), Vec::new());
    for read in reads {
        kept.extend_from_slice(read);
        let done = entries(&kept, &heads, max, &mut out);
        kept.drain(..done);
        assert!(kept.len() <= max + 1);
    }
    last_entries(&kept, &heads, max, &mut out);
    out
}

/// Tag and content of every entry.
fn parsed(log: &[u8]) -> Vec<(char, String)> {
    let text = String::from_utf8(log.to_vec()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| {
            let rest = line.strip_prefix(HEAD).unwrap();
            let (tag, content) = rest.split_once(' ').unwrap();
            (tag.chars().next().unwrap(), content.to_owned())
        })
        .collect()
}

fn of(text: &[u8], max: usize) -> Vec<(char, String)> {
    parsed(&log(&[text], max))
}

fn expected(entries: &[(char, &str)]) -> Vec<(char, String)> {
    entries
        .iter()
        .map(|(tag, text)| (*tag, (*text).to_owned()))
        .collect()
}

#[test]
fn a_line_is_one_full_entry() {
    assert_eq!(
        log(&[b"hello world\n"], 16384),
        format!("{HEAD}F hello world\n").into_bytes()
    );
}

#[test]
fn a_line_in_two_reads_is_one_entry() {
    assert_eq!(
        parsed(&log(&[b"hel", b"lo\n"], 16384)),
        expected(&[('F', "hello")])
    );
}

#[test]
fn a_line_of_exactly_the_limit_is_not_split() {
    assert_eq!(of(b"12345\n", 5), expected(&[('F', "12345")]));
    assert_eq!(of(b"123456\n", 5), expected(&[('P', "12345"), ('F', "6")]));
    assert_eq!(
        of(b"1234567890\n", 5),
        expected(&[('P', "12345"), ('F', "67890")])
    );
}

#[test]
fn empty_lines_are_empty_entries() {
    assert_eq!(of(b"\n\na\n", 5), expected(&[('F', ""), ('F', ""), ('F', "a")]));
}

#[test]
fn a_carriage_return_before_the_line_end_belongs_to_it() {
    assert_eq!(of(b"ab\r\n", 5), expected(&[('F', "ab")]));
    assert_eq!(of(b"12345\r\n", 5), expected(&[('F', "12345")]));
    assert_eq!(of(b"\r\n", 5), expected(&[('F', "")]));
}

#[test]
fn the_last_line_without_an_end_is_partial() {
    assert_eq!(of(b"a\nend", 5), expected(&[('F', "a"), ('P', "end")]));
    assert_eq!(of(b"1234567", 5), expected(&[('P', "12345"), ('P', "67")]));
    assert_eq!(of(b"", 5), expected(&[]));
}

/// What containerd and the format's readers agree on, without any cleverness.
fn simple(text: &[u8], max: usize) -> Vec<(char, Vec<u8>)> {
    let mut result = Vec::new();
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut pieces: Vec<&[u8]> = line.chunks(max).collect();
        let end = pieces.pop().unwrap_or_default();
        result.extend(pieces.iter().map(|piece| ('P', piece.to_vec())));
        result.push(('F', end.to_vec()));
    }
    result.extend(last.chunks(max).map(|piece| ('P', piece.to_vec())));
    result
}

fn simple_log(text: &[u8], max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, content) in simple(text, max) {
        out.extend_from_slice(format!("{HEAD}{tag} ").as_bytes());
        out.extend_from_slice(&content);
        out.push(b'\n');
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_cutting_into_reads_gives_the_same_log(
        text in proptest::collection::vec(prop_oneof![4 => Just(b'x'), 1 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()], 0..200),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
        max in 1_usize..20,
    ) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        places.sort_unstable();
        let (mut reads, mut from) = (Vec::new(), 0);
        for place in places {
            reads.push(&text[from..place]);
            from = place;
        }
        reads.push(&text[from..]);
        prop_assert_eq!(log(&reads, max), simple_log(&text, max));
    }
}
