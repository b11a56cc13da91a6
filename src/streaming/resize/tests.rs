use proptest::prelude::*;

use super::*;

const fn size(width: u16, height: u16) -> TerminalSize {
    TerminalSize { width, height }
}

fn all(parser: &mut Parser) -> Vec<TerminalSize> {
    std::iter::from_fn(|| parser.next().unwrap()).collect()
}

#[test]
fn sizes_come_in_any_pieces() {
    let text = br#"{"Width":80,"Height":24}
{"Width":0,"Height":24}{"width":132,"height":50}
"#;
    for at in 0..text.len() {
        let mut parser = Parser::default();
        parser.feed(&text[..at]);
        let mut sizes = all(&mut parser);
        parser.feed(&text[at..]);
        sizes.extend(all(&mut parser));
        assert_eq!(sizes, [size(80, 24), size(132, 50)], "cut at {at}");
    }
}

#[test]
fn what_is_no_size_ends_it() {
    for text in [&b"80x24"[..], br#"{"Width":70000,"Height":1}"#, br#"{"Width":"#] {
        let mut parser = Parser::default();
        parser.feed(text);
        parser.feed(&[b' '; UNPARSED_MAX]);
        parser.feed(b" ");
        assert_eq!(parser.next(), Err(NotSizes));
    }
}

/// A megabyte of the smallest messages: each must not cost the whole.
#[test]
fn many_at_once_are_parsed_in_one_pass() {
    let mut parser = Parser::default();
    parser.feed(&b"{}".repeat(2 << 20));
    parser.feed(br#"{"Width":80,"Height":24}"#);
    assert_eq!(all(&mut parser), [size(80, 24)]);
    assert!(parser.bytes.capacity() <= UNPARSED_MAX);
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(pieces: Vec<Vec<u8>>) {
        let mut parser = Parser::default();
        for piece in pieces {
            parser.feed(&piece);
            while let Ok(Some(_)) = parser.next() {}
        }
    }
}
