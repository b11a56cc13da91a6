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

#[test]
fn a_neighbour_is_read() {
    let message = |state: u16| {
        let mut bytes = vec![2, 0, 0, 0];
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(state.to_ne_bytes());
        bytes.extend([0, 1]);
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(1_u16.to_ne_bytes());
        bytes.extend([10, 0, 0, 1]);
        bytes
    };
    let expected = |failed| Neighbour {
        index: 7,
        address: [10, 0, 0, 1].into(),
        failed,
    };
    assert_eq!(Neighbour::parse(&message(0x02)), Some(expected(false)));
    assert_eq!(Neighbour::parse(&message(0x20)), Some(expected(true)));
    assert_eq!(Neighbour::parse(&message(0x20)[..11]), None);
    assert_eq!(Neighbour::parse(&message(0x20)[..12]), None, "without an address");
}

#[test]
fn a_rate_beyond_32_bits_is_read_from_its_own_attribute() {
    let attribute = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let mut parameters = [0; 36];
    parameters[8..12].fill(0xff);
    parameters[24..28].copy_from_slice(&7_u32.to_ne_bytes());
    parameters[28..32].copy_from_slice(&9_u32.to_ne_bytes());
    let rate = (1_u64 << 33).to_ne_bytes();
    let options = [attribute(1, &parameters), attribute(4, &rate)].concat();
    let message = [vec![0; 20], attribute(1, b"tbf\0"), attribute(2, &options)].concat();
    let bucket = TokenBucket {
        rate: 1 << 33,
        limit: 7,
        buffer: 9,
    };
    assert_eq!(TokenBucket::parse(&message), Some(bucket));
    let other = [vec![0; 20], attribute(1, b"fq\0"), attribute(2, &options)].concat();
    assert_eq!(TokenBucket::parse(&other), None);
    let cut_off = [vec![0; 20], attribute(1, b"tbf\0"), attribute(2, &options[..24])].concat();
    assert_eq!(TokenBucket::parse(&cut_off), None);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let link = Link::parse(&bytes);
        prop_assert_eq!(link.is_some(), bytes.len() >= 16);
        prop_assert!(KnownRoute::parse(&bytes).is_none() || bytes.len() >= 12);
        prop_assert!(TokenBucket::parse(&bytes).is_none() || bytes.len() >= 20 + 4 + 4 + 4 + 32);
        prop_assert!(Address::parse(&bytes).is_none() || bytes.len() >= 16);
        prop_assert!(Neighbour::parse(&bytes).is_none() || bytes.len() >= 20);
    }
}
