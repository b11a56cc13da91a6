use bytes::Bytes;

use super::*;
use crate::{GoAwayStatus, RstStatus, Setting};

fn wire(frame: &Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    Encoder::default().encode(frame, &mut out).unwrap();
    out.to_vec()
}

fn id(value: u32) -> StreamId {
    StreamId::new(value).unwrap()
}

#[test]
fn frames_of_fixed_size_are_as_the_draft_draws_them() {
    let rst = Frame::RstStream {
        stream: id(5),
        status: RstStatus::Cancel,
    };
    assert_eq!(wire(&rst), [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 5]);
    assert_eq!(
        wire(&Frame::Ping { id: 7 }),
        [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]
    );
    let go = Frame::GoAway {
        last_good: 9,
        status: GoAwayStatus::ProtocolError,
    };
    assert_eq!(wire(&go), [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 1]);
    let update = Frame::WindowUpdate {
        stream: None,
        delta: 0x0102_0304,
    };
    assert_eq!(wire(&update), [0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0, 1, 2, 3, 4]);
    let settings = Frame::Settings {
        clear: true,
        settings: vec![Setting {
            flags: 1,
            id: 7,
            value: 65_536,
        }],
    };
    let expected = [0x80, 3, 0, 4, 1, 0, 0, 12, 0, 0, 0, 1, 1, 0, 0, 7, 0, 1, 0, 0];
    assert_eq!(wire(&settings), expected);
}

#[test]
fn data_has_no_control_bit_and_its_length_in_24_bits() {
    let data = Frame::Data {
        stream: id(1),
        fin: true,
        data: Bytes::from_static(b"abc"),
    };
    assert_eq!(wire(&data), [0, 0, 0, 1, 1, 0, 0, 3, b'a', b'b', b'c']);
    assert_eq!(
        data_head(id(0x7fff_ffff), false, 0x01_0203),
        [0x7f, 0xff, 0xff, 0xff, 0, 1, 2, 3]
    );
}

#[test]
fn syn_stream_has_its_length_filled_in_behind_the_compression() {
    let headers = Headers::from_iter([("streamType", "error")]);
    let frame = Frame::SynStream {
        stream: id(1),
        associated: 0,
        priority: 3,
        fin: false,
        unidirectional: true,
        headers,
    };
    let wire = wire(&frame);
    assert_eq!(wire[..4], [0x80, 3, 0, 1]);
    assert_eq!(wire[4], 2, "unidirectional");
    let length = usize::from(wire[6]) << 8 | usize::from(wire[7]);
    assert_eq!(length, wire.len() - 8);
    assert_eq!(wire[8..18], [0, 0, 0, 1, 0, 0, 0, 0, 3 << 5, 0]);
}

#[test]
fn headers_no_frame_can_carry_are_refused_and_leave_nothing_behind() {
    let huge = "x".repeat(MAX_LENGTH);
    let headers = Headers::from_iter([("name", huge)]);
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    let refused = encoder.encode(
        &Frame::SynReply {
            stream: id(1),
            fin: false,
            headers,
        },
        &mut out,
    );
    assert!(
        matches!(refused, Err(Error::HeadersTooLarge { .. })),
        "{refused:?}"
    );
    assert!(out.is_empty());
}
