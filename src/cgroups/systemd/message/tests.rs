use proptest::prelude::*;

use super::*;

const CALL: Call<'static> = Call {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "StopUnit",
};

/// A message as systemd sends it.
fn message(kind: u8, fields: impl FnOnce(&mut Vec<u8>), body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![ORDER, kind, 1, 1];
    put(&mut bytes, u32::try_from(body.len()).unwrap());
    put(&mut bytes, 77);
    array(&mut bytes, 8, fields);
    align(&mut bytes, 8);
    bytes.extend(body);
    bytes
}

fn field(bytes: &mut Vec<u8>, code: u8, signature: u8) {
    align(bytes, 8);
    bytes.extend([code, 1, signature, 0]);
}

fn answers(bytes: &mut Vec<u8>, serial: u32) {
    field(bytes, 5, b'u');
    put(bytes, serial);
}

#[test]
fn a_call_is_as_the_specification_says() {
    let body = Body::default().text("a.scope").text("replace");
    let bytes = encode(3, &CALL, &body);
    assert_eq!(bytes[..4], [ORDER, 1, 0, 1]);
    let number = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    // 4 + 7 + 1, and as much again.
    assert_eq!((number(4), number(8)), (24, 3));
    let fields = usize::try_from(number(12)).unwrap();
    assert_eq!(bytes.len(), (16 + fields).next_multiple_of(8) + 24);
    let start: [u8; START] = bytes[..START].try_into().unwrap();
    assert_eq!(rest(start), Ok(bytes.len() - START));
    // Path: code, signature "o", its length, itself.
    assert_eq!(bytes[16..20], [1, 1, b'o', 0]);
    assert_eq!(&bytes[24..49], CALL.path.as_bytes());
    // It reads itself, as a call by somebody.
    assert_eq!(decode(&bytes), Ok(Answer::Other));
}

#[test]
fn properties_are_aligned() {
    let body = Body::default().text("abc").properties(&[
        ("P", Value::Number(7)),
        ("Q", Value::Bytes(vec![9])),
        ("R", Value::Numbers(vec![5])),
    ]);
    assert_eq!(body.signature, "sa(sv)");
    let mut expected = Vec::new();
    put_text(&mut expected, "abc");
    put(&mut expected, 24 + 17 + 7 + 20);
    align(&mut expected, 8);
    put_text(&mut expected, "P");
    expected.extend([1, b't', 0]);
    align(&mut expected, 8);
    expected.extend(7_u64.to_ne_bytes());
    put_text(&mut expected, "Q");
    expected.extend([2, b'a', b'y', 0]);
    put(&mut expected, 1);
    expected.push(9);
    align(&mut expected, 8);
    put_text(&mut expected, "R");
    expected.extend([2, b'a', b'u', 0]);
    put(&mut expected, 4);
    put(&mut expected, 5);
    assert_eq!(body.bytes, expected);
}

#[test]
fn answers_are_told_apart() {
    let done = message(METHOD_RETURN, |bytes| answers(bytes, 5), b"body");
    assert_eq!(decode(&done), Ok(Answer::Return(5, b"body".to_vec())));
    let mut text = Vec::new();
    put_text(&mut text, "no");
    let refused = message(
        ERROR,
        |bytes| {
            field(bytes, 4, b's');
            put_text(bytes, "a.b.Error");
            answers(bytes, 6);
            field(bytes, 8, b'g');
            put_signature(bytes, "s");
        },
        &text,
    );
    let expected = Answer::Error(6, "a.b.Error".to_owned(), "no".to_owned());
    assert_eq!(decode(&refused), Ok(expected));
    assert_eq!(decode(&message(4, |_| {}, &[])), Ok(Answer::Other));
}

#[test]
fn jobs_have_numbers() {
    let mut body = Vec::new();
    put_signature(&mut body, "(uo)");
    align(&mut body, 8);
    put(&mut body, 1234);
    put_text(&mut body, "/org/freedesktop/systemd1/job/1234");
    assert_eq!(job(&body), Ok(1234));
    assert_eq!(job(&[1, b's', 0]), Err(Malformed));
}

#[test]
fn units_have_paths() {
    assert_eq!(
        unit_path("pausa-0a.scope"),
        "/org/freedesktop/systemd1/unit/pausa_2d0a_2escope"
    );
    assert_eq!(unit_path("0a"), "/org/freedesktop/systemd1/unit/_30a");
}

#[test]
fn too_much_is_malformed() {
    let mut start = [0; START];
    start[0] = ORDER;
    start[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert_eq!(rest(start), Err(Malformed));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), fields in 0_u32..300) {
        let mut bytes = bytes;
        if bytes.len() >= START {
            bytes[12..16].copy_from_slice(&fields.to_ne_bytes());
            rest(bytes[..START].try_into().unwrap()).ok();
        }
        decode(&bytes).ok();
        job(&bytes).ok();
    }
}
