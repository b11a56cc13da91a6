use proptest::prelude::*;

use super::*;
use crate::Encoder;

fn id(value: u32) -> StreamId {
    StreamId::new(value).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, DecodeError> {
    Decoder::new(Limits::default()).decode(&mut BytesMut::from(bytes))
}

fn connection_violation(bytes: &[u8]) -> Violation {
    match decode(bytes) {
        Err(DecodeError::Connection(violation)) => violation,
        other => panic!("{other:?}"),
    }
}

/// Made by another zlib (Python's, level 9, 32 KiB window, sync flush) from the headers `streamtype: error`, `port: 8080`.
const RECORDED: [u8; 57] = [
    0x80, 0x03, 0x00, 0x01, 0x00, 0x00, 0x00, 0x31, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2, 0x02, 0xe5, 0x0e, 0x70, 0x3a, 0x2b, 0x29, 0x4a, 0x4d, 0xcc,
    0x85, 0x16, 0x25, 0xac, 0xa9, 0xa0, 0x80, 0x86, 0x14, 0xcb, 0x45, 0xe0, 0x1c, 0x60, 0x61, 0x60, 0x61,
    0x00, 0x00, 0x00, 0x00, 0xff, 0xff,
];

#[test]
fn a_recorded_syn_stream_is_read() {
    let Ok(Some(Frame::SynStream {
        stream,
        fin,
        unidirectional,
        priority,
        associated,
        headers,
    })) = decode(&RECORDED)
    else {
        panic!("not a SYN_STREAM");
    };
    assert_eq!(
        (stream, fin, unidirectional, priority, associated),
        (id(1), false, false, 0, 0)
    );
    assert_eq!(headers.get("streamType"), Some("error"));
    assert_eq!(headers.get("port"), Some("8080"));
    assert_eq!(headers.len(), 2);
}

#[test]
fn unknown_control_frames_are_skipped_by_length() {
    let mut bytes = vec![0x80, 3, 0, 10, 0, 0, 0, 5, 1, 2, 3, 4, 5];
    bytes.extend([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
    assert_eq!(decode(&bytes), Ok(Some(Frame::Ping { id: 1 })));
}

#[test]
fn lengths_that_do_not_fit_end_the_connection() {
    let cases: [(u16, u32); 8] = [(1, 9), (2, 3), (3, 9), (4, 8), (6, 5), (7, 4), (8, 0), (9, 7)];
    for (frame, length) in cases {
        let mut bytes = vec![0x80, 3, 0, frame.to_le_bytes()[0]];
        bytes.extend(length.to_be_bytes());
        assert_eq!(
            connection_violation(&bytes),
            Violation::FrameLength { frame, length }
        );
    }
    // Says two pairs, has one.
    let settings = [0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 7, 0, 1, 0, 0];
    assert_eq!(
        connection_violation(&settings),
        Violation::FrameLength { frame: 4, length: 12 }
    );
}

#[test]
fn a_control_frame_beyond_the_limit_is_refused_by_its_head() {
    let violation = connection_violation(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]);
    assert!(matches!(
        violation,
        Violation::ControlFrameTooLarge {
            frame: 1,
            length: 0xff_ffff,
            ..
        }
    ));
}

#[test]
fn other_versions_and_stream_zero_end_the_connection() {
    assert_eq!(
        connection_violation(&[0x80, 2, 0, 1, 0, 0, 0, 10]),
        Violation::Version { version: 2 }
    );
    assert_eq!(
        connection_violation(&[0, 0, 0, 0, 0, 0, 0, 1]),
        Violation::ZeroId { frame: 0 }
    );
    let rst = [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(connection_violation(&rst), Violation::ZeroId { frame: 3 });
}

#[test]
fn a_failed_decoder_stays_failed() {
    let mut decoder = Decoder::new(Limits::default());
    let mut input = BytesMut::from(&[0x80, 2, 0, 1, 0, 0, 0, 10, 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1][..]);
    let first = decoder.decode(&mut input);
    assert!(first.is_err());
    assert_eq!(decoder.decode(&mut input), first);
}

/// A frame whose (well-compressed) header block is `block`.
fn reply_with(block: &[u8]) -> Vec<u8> {
    let mut compressed = BytesMut::new();
    crate::compress::Deflater::default().block(block, &mut compressed);
    let mut bytes = vec![0x80, 3, 0, 2];
    bytes.extend(u32::try_from(compressed.len() + 4).unwrap().to_be_bytes());
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(&compressed);
    bytes
}

fn block(count: u32, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = count.to_be_bytes().to_vec();
    for text in fields.iter().flat_map(|(name, value)| [name, value]) {
        block.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        block.extend(*text);
    }
    block
}

#[test]
fn bad_header_blocks_cost_only_their_stream() {
    let trailing = [block(1, &[(b"a", b"")]), vec![0]].concat();
    let cases = [
        (block(1, &[(b"A", b"x")]), Violation::HeaderName),
        (block(1, &[(b"", b"x")]), Violation::HeaderName),
        (block(1, &[(b"a b", b"x")]), Violation::HeaderName),
        (block(1, &[("ä".as_bytes(), b"x")]), Violation::HeaderName),
        (block(1, &[(&[0xff], b"x")]), Violation::HeaderName),
        (
            block(2, &[(b"a", b"x"), (b"a", b"y")]),
            Violation::DuplicateHeader,
        ),
        (block(2, &[(b"a", b"x")]), Violation::HeaderBlock),
        (vec![], Violation::HeaderBlock),
        (vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], Violation::HeaderBlock),
        (trailing, Violation::HeaderBlock),
        (
            block(u32::MAX, &[]),
            Violation::TooManyHeaders {
                count: u32::MAX,
                limit: 32,
            },
        ),
    ];
    for (block, violation) in cases {
        let mut decoder = Decoder::new(Limits::default());
        let mut input = BytesMut::from(&reply_with(&block)[..]);
        input.extend_from_slice(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
        let refused = decoder.decode(&mut input);
        assert_eq!(
            refused,
            Err(DecodeError::Stream {
                stream: id(1),
                violation
            }),
            "{block:?}"
        );
        assert_eq!(decoder.decode(&mut input), Ok(Some(Frame::Ping { id: 1 })));
    }
}

#[test]
fn data_is_passed_on_in_pieces_and_shares_memory() {
    let mut decoder = Decoder::new(Limits::default());
    let mut input = BytesMut::from(&[0, 0, 0, 1, 1, 0, 0, 5, b'a', b'b'][..]);
    let data = Bytes::from_static(b"ab");
    assert_eq!(
        decoder.decode(&mut input),
        Ok(Some(Frame::Data {
            stream: id(1),
            fin: false,
            data
        }))
    );
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(!decoder.is_between_frames());
    input.extend_from_slice(b"cde");
    let data = Bytes::from_static(b"cde");
    assert_eq!(
        decoder.decode(&mut input),
        Ok(Some(Frame::Data {
            stream: id(1),
            fin: true,
            data
        }))
    );
    assert!(decoder.is_between_frames());
}

#[test]
fn values_keep_what_separates_them() {
    let mut input = BytesMut::from(&reply_with(&block(1, &[(b"a", b"x\0y")]))[..]);
    let Ok(Some(Frame::SynReply { headers, .. })) = Decoder::new(Limits::default()).decode(&mut input) else {
        panic!("no reply");
    };
    assert_eq!(headers.get("a"), Some("x"));
    assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", &b"x\0y"[..])]);
}

pub(crate) fn any_frame() -> impl Strategy<Value = Frame> {
    let stream = || (1..=StreamId::MAX).prop_map(id);
    let headers = || {
        prop::collection::vec(("[a-z:-]{1,12}", "[ -~]{0,40}"), 0..8)
            .prop_map(|fields| fields.into_iter().collect())
    };
    prop_oneof![
        (
            stream(),
            0..=StreamId::MAX,
            0..8_u8,
            any::<bool>(),
            any::<bool>(),
            headers()
        )
            .prop_map(|(stream, associated, priority, fin, unidirectional, headers)| {
                Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional,
                    headers,
                }
            }),
        (stream(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynReply {
            stream,
            fin,
            headers
        }),
        (stream(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::Headers {
            stream,
            fin,
            headers
        }),
        (stream(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream {
            stream,
            status: RstStatus::from_wire(status)
        }),
        (
            any::<bool>(),
            prop::collection::vec((any::<u8>(), 0..=0xff_ffff_u32, any::<u32>()), 0..5)
        )
            .prop_map(|(clear, settings)| {
                let settings = settings
                    .into_iter()
                    .map(|(flags, id, value)| Setting { flags, id, value });
                Frame::Settings {
                    clear,
                    settings: settings.collect(),
                }
            }),
        any::<u32>().prop_map(|id| Frame::Ping { id }),
        (0..=StreamId::MAX, 0..5_u32).prop_map(|(last_good, status)| Frame::GoAway {
            last_good,
            status: GoAwayStatus::from_wire(status)
        }),
        (prop::option::of(stream()), 0..=StreamId::MAX)
            .prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        (
            stream(),
            any::<bool>(),
            prop::collection::vec(any::<u8>(), 0..200)
        )
            .prop_map(|(stream, fin, data)| Frame::Data {
                stream,
                fin,
                data: data.into()
            }),
    ]
}

/// Decodes pieces, with neighbouring pieces of DATA put together again.
fn decode_pieces(pieces: &[&[u8]]) -> (Vec<Frame>, Option<DecodeError>) {
    let (mut decoder, mut input, mut frames) = (Decoder::new(Limits::default()), BytesMut::new(), Vec::new());
    let mut partial: Option<(StreamId, Vec<u8>)> = None;
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(Frame::Data { stream, fin, data })) => {
                    let (_, gathered) = partial.get_or_insert_with(|| (stream, Vec::new()));
                    gathered.extend_from_slice(&data);
                    if decoder.is_between_frames() {
                        let (_, data) = partial.take().unwrap();
                        frames.push(Frame::Data {
                            stream,
                            fin,
                            data: data.into(),
                        });
                    }
                }
                Ok(Some(frame)) => frames.push(frame),
                Err(DecodeError::Stream { stream, .. }) => {
                    frames.push(Frame::RstStream {
                        stream,
                        status: RstStatus::ProtocolError,
                    });
                }
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for cut in cuts {
        let (piece, other) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = other;
    }
    pieces.push(rest);
    pieces
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_however_it_is_cut(
        frames in prop::collection::vec(any_frame(), 0..12),
        cuts in prop::collection::vec(0_usize..60, 0..60),
    ) {
        let (mut encoder, mut wire) = (Encoder::default(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut wire).unwrap();
        }
        let (decoded, error) = decode_pieces(&cut(&wire, &cuts));
        prop_assert_eq!(error, None);
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn rubbish_neither_panics_nor_depends_on_how_it_is_cut(
        frames in prop::collection::vec(any_frame(), 0..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..64),
        cuts in prop::collection::vec(0_usize..60, 0..40),
    ) {
        let (mut encoder, mut wire) = (Encoder::default(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut wire).unwrap();
        }
        wire.extend_from_slice(&tail);
        for (index, byte) in damage {
            if !wire.is_empty() {
                let at = index.index(wire.len());
                wire[at] = byte;
            }
        }
        prop_assert_eq!(decode_pieces(&[&wire[..]]), decode_pieces(&cut(&wire, &cuts)));
    }
}
