use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ttrpc::tests::any_message;

/// The lengths of the frames.
fn frames(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        lengths.push(usize::try_from(length).unwrap());
        bytes = &rest[*lengths.last().unwrap()..];
    }
    lengths
}

fn message(length: usize) -> Message {
    Message::request(1, vec![7; length].into())
}

#[test]
fn a_message_is_cut_where_plugins_in_go_can_read_it() {
    let cases = [
        (0, vec![10]),
        (4086, vec![4096]),
        (4087, vec![4096, 1]),
        (MAX_MESSAGE, vec![4096, MAX_MESSAGE - 4086]),
    ];
    for (length, expected) in cases {
        let bytes = encode(RUNTIME, &message(length)).unwrap();
        assert_eq!(frames(&bytes), expected);
        assert_eq!(bytes[..8], [0, 0, 0, 2, 0, 0, bytes[6], bytes[7]]);
    }
    let length = MAX_MESSAGE + 1;
    assert_eq!(encode(PLUGIN, &message(length)), Err(Oversized { length }));
}

#[test]
fn a_frame_beyond_the_limit_is_refused_by_its_header_and_for_good() {
    let length = u32::try_from(MAX_FRAME).unwrap() + 1;
    let mut input = BytesMut::from(&[0, 0, 0, 1][..]);
    input.extend_from_slice(&length.to_be_bytes());
    let mut decoder = Decoder::default();
    for _ in 0..2 {
        assert_eq!(decoder.decode(&mut input), Err(Violation::FrameLength { length }));
    }
}

#[test]
fn empty_frames_say_nothing() {
    let mut input = BytesMut::from(&[0, 0, 0, 1, 0, 0, 0, 0].repeat(1000)[..]);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(input.is_empty());
    assert!(decoder.is_between_frames());
}

#[test]
fn a_frame_is_passed_on_in_the_pieces_it_comes_in() {
    let mut decoder = Decoder::default();
    let mut input = BytesMut::from(&[0, 0, 0, 9, 0, 0, 0, 3, b'a'][..]);
    let piece = |data| Piece {
        connection: 9,
        data: Bytes::from_static(data),
    };
    assert_eq!(decoder.decode(&mut input), Ok(Some(piece(b"a"))));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(!decoder.is_between_frames());
    input.extend_from_slice(b"bc");
    assert_eq!(decoder.decode(&mut input), Ok(Some(piece(b"bc"))));
    assert!(decoder.is_between_frames());
}

proptest! {
    #[test]
    fn what_is_sent_on_connections_arrives_there_however_it_is_cut(
        messages in prop::collection::vec((1..4_u32, any_message()), 0..6),
        cut in 1..5000_usize,
    ) {
        let bytes: Vec<u8> = messages
            .iter()
            .flat_map(|(connection, message)| encode(*connection, message).unwrap())
            .collect();
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
        let (mut streams, mut read) = (BTreeMap::<u32, BytesMut>::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            input.extend_from_slice(piece);
            while let Some(Piece { connection, data }) = decoder.decode(&mut input).unwrap() {
                let stream = streams.entry(connection).or_default();
                stream.extend_from_slice(&data);
                while let Some(message) = ttrpc::decode(stream).unwrap() {
                    read.push((connection, message));
                }
            }
        }
        prop_assert_eq!(read, messages);
        prop_assert!(decoder.is_between_frames());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut decoder, mut input) = (Decoder::default(), BytesMut::from(&bytes[..]));
        while let Ok(Some(_)) = decoder.decode(&mut input) {}
    }
}
