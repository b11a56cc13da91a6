use proptest::prelude::*;

use super::*;

pub(crate) fn any_message() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![
        Just(Kind::Request),
        Just(Kind::Response),
        Just(Kind::Data),
        (4..=u8::MAX).prop_map(Kind::Unknown),
    ];
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        // Around the size at which a message becomes two frames of the multiplexer.
        prop::collection::vec(any::<u8>(), 4080..4100),
        prop::collection::vec(any::<u8>(), 9000..9010),
    ];
    (any::<u32>(), kind, any::<u8>(), payload).prop_map(|(stream, kind, flags, payload)| Message {
        stream,
        kind,
        flags,
        payload: payload.into(),
    })
}

fn encode(message: &Message) -> Vec<u8> {
    let length = u32::try_from(message.payload.len()).unwrap();
    [&message.header(length)[..], &message.payload].concat()
}

#[test]
fn a_request_is_read() {
    // Written by hand: the method M of the service s, with nothing to say.
    let mut input = BytesMut::from(&[0, 0, 0, 6, 0, 0, 0, 3, 1, 0, 0x0a, 1, b's', 0x12, 1, b'M'][..]);
    let message = decode(&mut input).unwrap().unwrap();
    assert_eq!(
        (message.stream, message.kind, message.flags),
        (3, Kind::Request, 0)
    );
    assert_eq!(message.payload, &b"\x0a\x01s\x12\x01M"[..]);
    assert_eq!(decode(&mut input), Ok(None));
}

#[test]
fn a_message_beyond_the_limit_is_refused_by_its_header_and_for_good() {
    let length = u32::try_from(MAX_MESSAGE).unwrap() + 1;
    let mut input = BytesMut::from(&length.to_be_bytes()[..]);
    input.extend_from_slice(&[0, 0, 0, 1, 1, 0]);
    for _ in 0..2 {
        assert_eq!(decode(&mut input), Err(Violation::MessageLength { length }));
    }
    let mut input = BytesMut::from(&(length - 1).to_be_bytes()[..]);
    input.extend_from_slice(&[0, 0, 0, 1, 1, 0]);
    assert_eq!(decode(&mut input), Ok(None));
    assert!(input.capacity() < 1024, "an announcement alone takes no memory");
}

proptest! {
    #[test]
    fn messages_are_read_however_they_are_cut(
        messages in prop::collection::vec(any_message(), 0..5),
        cut in 1..5000_usize,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(encode).collect();
        let (mut input, mut read) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            input.extend_from_slice(piece);
            while let Some(message) = decode(&mut input).unwrap() {
                read.push(message);
            }
        }
        prop_assert_eq!(read, messages);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode(&mut input) {}
    }
}
