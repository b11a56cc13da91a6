//! Parsing of bytes that may be anything.

use proptest::prelude::*;

use super::*;

#[test]
fn a_cut_off_answer_is_refused() {
    assert_eq!(Link::parse(&[0; 15]), None);
    assert_eq!(Address::parse(&[0; 7]), None);
    assert_eq!(
        Address::parse(&[0; 8]),
        None,
        "an address message without an address"
    );
}

#[test]
fn an_address_is_read() {
    let mut bytes = vec![2, 24, 0, 0];
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(8_u16.to_ne_bytes());
    bytes.extend(2_u16.to_ne_bytes());
    bytes.extend([10, 0, 0, 9]);
    let expected = Address {
        index: 7,
        address: [10, 0, 0, 9].into(),
        prefix: 24,
        state: AddressState::Preferred,
    };
    assert_eq!(Address::parse(&bytes), Some(expected));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let link = Link::parse(&bytes);
        prop_assert_eq!(link.is_some(), bytes.len() >= 16);
        prop_assert!(KnownRoute::parse(&bytes).is_none() || bytes.len() >= 12);
        prop_assert!(Address::parse(&bytes).is_none() || bytes.len() >= 16);
    }
}
