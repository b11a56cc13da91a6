//! Byte-level tests; `cri/tests/authority.rs` has a real server behind it.

use loona_hpack::{Decoder, Encoder};
use proptest::prelude::*;

use super::*;

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

fn fields(authority: &str, path: &str) -> Fields {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .iter()
    .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
    .collect()
}

fn encode(encoder: &mut Encoder<'_>, fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    encoder.encode(fields.iter().map(|(n, v)| (n.as_slice(), v.as_slice())))
}

/// The opening of every connection.
fn hello() -> Vec<u8> {
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// Runs `input` through in pieces of `size` bytes.
fn run(input: &[u8], size: usize) -> (Rewriter, Vec<u8>) {
    let mut rewriter = Rewriter::default();
    let mut out = Vec::new();
    for piece in input.chunks(size) {
        rewriter.push(piece, &mut out);
    }
    (rewriter, out)
}

/// Reads frames as h2 would: `(kind, stream, flags, payload)`, header blocks joined and decoded.
fn read(mut bytes: &[u8]) -> Vec<(u8, u32, Fields)> {
    bytes = bytes.strip_prefix(PREFACE).expect("the preface");
    let mut decoder = Decoder::new();
    let mut block = Vec::new();
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        assert!(length <= MAX_FRAME);
        let (kind, flags) = (bytes[3], bytes[4]);
        let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
        let payload = &bytes[9..9 + length];
        bytes = &bytes[9 + length..];
        if kind == HEADERS || kind == CONTINUATION {
            block.extend_from_slice(payload);
            if flags & END_HEADERS != 0 {
                let fields = decoder
                    .decode(&std::mem::take(&mut block))
                    .expect("a header block");
                seen.push((HEADERS, stream, fields));
            }
        } else {
            seen.push((kind, stream, vec![(payload.to_vec(), Vec::new())]));
        }
    }
    seen
}

#[test]
fn a_valid_authority_makes_the_connection_transparent() {
    for authority in ["localhost", "localhost:80", "[::1]:80", "node.example"] {
        let mut input = hello();
        let block = encode(&mut Encoder::new(), &fields(authority, "/a"));
        input.extend(frame(HEADERS, END_HEADERS, 1, &block));
        input.extend(frame(DATA, END_STREAM, 1, b"body"));
        let (rewriter, out) = run(&input, 7);
        assert!(rewriter.is_transparent());
        assert_eq!(out, input);
    }
}

#[test]
fn refused_authorities_become_localhost_and_nothing_else_changes() {
    for authority in [
        "/run/pausa/pausa.sock",
        "run/pausa/pausa.sock",
        "%2Frun%2Fpausa.sock",
        "unix:/x",
        "",
    ] {
        let mut encoder = Encoder::new();
        let mut input = hello();
        // The second and third request reuse what the first put into the dynamic table.
        for stream in [1, 3, 5] {
            let block = encode(&mut encoder, &fields(authority, "/a"));
            input.extend(frame(HEADERS, END_HEADERS, stream, &block));
            input.extend(frame(DATA, END_STREAM, stream, b"body"));
        }
        for size in [1, 8, input.len()] {
            let (rewriter, out) = run(&input, size);
            assert!(!rewriter.is_transparent());
            let mut expected = vec![(SETTINGS, 0, vec![(Vec::new(), Vec::new())])];
            for stream in [1, 3, 5] {
                expected.push((HEADERS, stream, fields("localhost", "/a")));
                expected.push((DATA, stream, vec![(b"body".to_vec(), Vec::new())]));
            }
            assert_eq!(read(&out), expected, "{authority:?} in pieces of {size}");
        }
    }
}

#[test]
fn padding_priority_and_continuation_are_understood() {
    let block = encode(&mut Encoder::new(), &fields("/x.sock", "/a"));
    let (first, rest) = block.split_at(5);
    let (second, third) = rest.split_at(4);
    let payload = [&[3][..], &[0, 0, 0, 0, 16], first, &[0, 0, 0]].concat();
    let mut input = hello();
    input.extend(frame(HEADERS, PADDED | PRIORITY | END_STREAM, 1, &payload));
    input.extend(frame(CONTINUATION, 0, 1, second));
    input.extend(frame(CONTINUATION, 0, 1, &[]));
    input.extend(frame(CONTINUATION, END_HEADERS, 1, third));
    let (_, out) = run(&input, 3);
    let seen = read(&out);
    assert_eq!(seen[1], (HEADERS, 1, fields("localhost", "/a")));
    let flags = out[hello().len() + 4];
    assert_eq!(flags, END_STREAM | END_HEADERS, "the stream still ends here");
}

#[test]
fn long_blocks_leave_in_several_frames() {
    let mut all = fields("/x.sock", "/a");
    for n in 0..12 {
        // The client may use Huffman codes and indexes; literals are longer.
        all.push((format!("x-{n}").into_bytes(), vec![b'e'; 3000]));
    }
    let block = encode(&mut Encoder::new(), &all);
    let mut input = hello();
    let mut pieces = block.chunks(MAX_FRAME).peekable();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        input.extend(frame(kind, end, 1, piece));
        kind = CONTINUATION;
    }
    let (_, out) = run(&input, 1000);
    REPLACEMENT.clone_into(&mut all[3].1);
    assert_eq!(read(&out)[1], (HEADERS, 1, all));
}

#[test]
fn trailers_get_no_authority() {
    let mut encoder = Encoder::new();
    let mut input = hello();
    let block = encode(&mut encoder, &fields("/x.sock", "/a"));
    input.extend(frame(HEADERS, END_HEADERS, 1, &block));
    let trailers = vec![(b"x-check".to_vec(), b"1".to_vec())];
    let block = encode(&mut encoder, &trailers);
    input.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
    let (_, out) = run(&input, 64);
    assert_eq!(read(&out)[2], (HEADERS, 1, trailers));
}

#[test]
fn what_is_no_http2_is_left_alone() {
    for input in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/1.1\r\n\r\n", b"\0"] {
        let (rewriter, out) = run(input, 2);
        assert!(rewriter.is_transparent());
        assert_eq!(out, input);
    }
}

#[test]
fn malformed_and_oversized_blocks_go_on_unchanged() {
    let block = encode(&mut Encoder::new(), &fields("/x.sock", "/a"));
    let endless: Vec<u8> = (0..10)
        .flat_map(|_| frame(CONTINUATION, 0, 1, &[0; MAX_FRAME]))
        .collect();
    let cases = [
        // An index that is not in the table.
        frame(HEADERS, END_HEADERS, 1, &[0xff, 0x40]),
        // More padding than payload.
        frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 1, 2]),
        // Another frame inside a block.
        [frame(HEADERS, 0, 1, &block), frame(DATA, 0, 1, b"x")].concat(),
        // A continuation of another stream.
        [
            frame(HEADERS, 0, 1, &block),
            frame(CONTINUATION, END_HEADERS, 3, b""),
        ]
        .concat(),
        // A table larger than the server allows.
        frame(
            HEADERS,
            END_HEADERS,
            1,
            &[&[0x3f, 0xe1, 0x5f][..], &block].concat(),
        ),
        // A frame larger than the server allows.
        frame(HEADERS, END_HEADERS, 1, &[0; MAX_FRAME + 1]),
        // A block without end.
        [frame(HEADERS, 0, 1, &block), endless].concat(),
    ];
    for case in cases {
        let input = [hello(), case].concat();
        let (rewriter, out) = run(&input, 4096);
        assert!(rewriter.is_transparent(), "{rewriter:?}");
        assert_eq!(out, input);
    }
}

#[test]
fn a_block_of_references_to_a_large_entry_is_bounded() {
    // One entry of 4000 bytes, then one byte for each repetition of it.
    let mut encoder = Encoder::new();
    let mut all = fields("/x.sock", "/a");
    all.push((b"x".to_vec(), vec![b'y'; 3000]));
    let first = encode(&mut encoder, &all);
    let mut input = hello();
    input.extend(frame(HEADERS, END_HEADERS, 1, &first));
    let bomb = frame(HEADERS, END_HEADERS, 3, &[0x80 | 62; 1000]);
    input.extend(&bomb);
    let (rewriter, out) = run(&input, 4096);
    assert!(rewriter.is_transparent());
    assert!(out.ends_with(&bomb));
}

#[test]
fn an_early_end_loses_nothing() {
    let block = encode(&mut Encoder::new(), &fields("/x.sock", "/a"));
    let whole = [hello(), frame(HEADERS, END_HEADERS, 1, &block)].concat();
    let cut = &whole[..whole.len() - 3];
    let (mut rewriter, mut out) = run(cut, 16);
    rewriter.finish(&mut out);
    assert_eq!(out, cut);
}

proptest! {
    /// Whatever comes, however it is cut: no panic, and the cut makes no difference.
    #[test]
    fn any_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        shape in prop::collection::vec((0_u8..12, any::<u8>(), 0_u32..6, 0_usize..40), 0..12),
        size in 1_usize..50,
    ) {
        let mut input = hello();
        let mut rest = bytes.as_slice();
        for (kind, flags, stream, length) in shape {
            let (payload, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            input.extend(frame(kind, flags, stream, payload));
        }
        input.extend(rest);
        let (mut whole, mut at_once) = run(&input, input.len());
        let (mut cut, mut pieces) = run(&input, size);
        whole.finish(&mut at_once);
        cut.finish(&mut pieces);
        prop_assert_eq!(at_once, pieces);
    }

    /// Any requests: the server reads the same fields, but for the authority.
    #[test]
    fn requests_mean_the_same(
        requests in prop::collection::vec(
            prop::collection::vec(("[a-z][a-z0-9-]{0,20}", "[ -~]{0,60}"), 0..8), 1..6),
        authority in "[/%][a-z/%.]{0,30}",
        split in 1_usize..60,
        size in 1_usize..200,
    ) {
        let mut encoder = Encoder::new();
        let mut input = hello();
        let mut expected = Vec::new();
        for (n, extra) in requests.into_iter().enumerate() {
            let stream = u32::try_from(2 * n + 1).unwrap();
            let extra = extra.into_iter().map(|(n, v)| (n.into_bytes(), v.into_bytes()));
            let mut all = fields(&authority, "/a");
            all.extend(extra);
            let block = encode(&mut encoder, &all);
            let (head, tail) = block.split_at(split.min(block.len()));
            input.extend(frame(HEADERS, 0, stream, head));
            input.extend(frame(CONTINUATION, END_HEADERS, stream, tail));
            REPLACEMENT.clone_into(&mut all[3].1);
            expected.push((HEADERS, stream, all));
        }
        let (_, out) = run(&input, size);
        prop_assert_eq!(&read(&out)[1..], expected);
    }
}
