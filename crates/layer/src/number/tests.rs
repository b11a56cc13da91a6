use proptest::prelude::*;

use super::*;

#[test]
fn octal_fields_may_be_padded_with_blanks_and_nuls() {
    assert_eq!(field(b"0000644\0"), Some(0o644));
    assert_eq!(field(b"   644 \0"), Some(0o644));
    assert_eq!(field(b"\0\0\0\0\0\0\0\0"), Some(0));
    assert_eq!(field(b"        "), Some(0));
    assert_eq!(field(b"0000648\0"), None);
    assert_eq!(field(b"-1\0"), None);
}

#[test]
fn base256_fields_hold_large_and_negative_numbers() {
    assert_eq!(
        field(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]),
        Some(4_294_967_294)
    );
    assert_eq!(field(&[0xff; 12]), Some(-1));
    assert_eq!(unsigned(&[0xff; 12]), None);
    assert_eq!(
        field(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Some(i64::MAX)
    );
    assert_eq!(field(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
}

#[test]
fn times_before_the_epoch_round_towards_the_past() {
    assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
    assert_eq!(time(b"-1.5"), Some((-2, 500_000_000)));
    assert_eq!(time(b"-1"), Some((-1, 0)));
    assert_eq!(time(b"7."), Some((7, 0)));
    assert_eq!(time(b"7.1234567899"), Some((7, 123_456_789)));
    assert_eq!(time(b".5"), None);
    assert_eq!(time(b"1.x"), None);
    assert_eq!(time(b"99999999999999999999"), None);
}

proptest! {
    #[test]
    fn no_field_panics(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
        let _ = (field(&bytes), unsigned(&bytes), decimal(&bytes), time(&bytes));
    }

    #[test]
    fn octal_and_base256_agree_with_what_was_written(value in 0i64..(1 << 33)) {
        prop_assert_eq!(field(format!("{value:011o}\0").as_bytes()), Some(value));
        let mut wide = [0u8; 12];
        wide[4..].copy_from_slice(&value.to_be_bytes());
        wide[0] = 0x80;
        prop_assert_eq!(field(&wide), Some(value));
    }
}
