use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn answers_never_panic_and_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(MessagesOf(&bytes).count() <= bytes.len());
        prop_assert!(Attributes(&bytes).count() <= bytes.len());
        drop(Rule::parse(&bytes));
        drop(comment_of(&bytes));
        drop(data_of_element(&bytes));
    }

    #[test]
    fn attributes_that_lie_about_lengths_are_skipped(
        kinds in prop::collection::vec((0u16..12, any::<u16>(), prop::collection::vec(any::<u8>(), 0..24)), 0..12)
    ) {
        let mut bytes = vec![0; FAMILY_HEADER];
        for (kind, lie, value) in kinds {
            let length = if lie % 3 == 0 { lie } else { u16::try_from(value.len() + 4).unwrap() };
            bytes.extend(length.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(&value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        drop(Rule::parse(&bytes));
        drop(data_of_element(&bytes));
    }
}

#[test]
fn a_comment_is_found_behind_other_user_data() {
    assert_eq!(comment_of(b"\x07\x02ab\x00\x03id\x00").as_deref(), Some("id"));
    assert_eq!(comment_of(b"\x00\x09id\x00"), None);
}

#[test]
fn the_data_of_an_element_are_found() {
    let attribute = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let key = attribute(1, &attribute(1, &[6, 0, 0, 0]));
    let data = attribute(2, &attribute(1, &[10, 0, 0, 5]));
    let answer = |element: &[u8]| {
        let list = attribute(3, &attribute(1, element));
        [
            vec![0; FAMILY_HEADER],
            attribute(1, b"t\0"),
            attribute(2, b"m\0"),
            list,
        ]
        .concat()
    };
    let of_map = answer(&[key.clone(), data].concat());
    assert_eq!(data_of_element(&of_map), Some(vec![10, 0, 0, 5]));
    assert_eq!(data_of_element(&answer(&key)), None, "of a set");
}

/// Releases of iptables differ in the order of matches and in how they look at the protocol.
#[test]
fn a_rule_is_known_in_every_form() {
    let compare = |value: &[u8]| Expression::Compare {
        negated: false,
        value: value.to_vec(),
    };
    let source = [
        Expression::Payload {
            base: 1,
            offset: 12,
            length: 4,
        },
        compare(&[10, 0, 0, 1]),
    ];
    let protocol = |value: u8| [Expression::Meta { key: 16 }, compare(&[value])];
    let in_header = [PROTOCOL_OF_V4, compare(&[6])];
    let end = [Expression::Counter, Expression::Verdict(Verdict::Accept)];
    let expressions = |parts: [&[Expression]; 3]| parts.concat();
    let rule = NewRule {
        expressions: expressions([&source, &protocol(6), &end]),
        comment: None,
        compat: None,
    };
    let listed = |expressions| Rule {
        handle: 1,
        expressions,
        comment: None,
    };
    for same in [
        [&source[..], &protocol(6), &end],
        [&protocol(6), &source, &end],
        [&in_header, &source, &end],
    ] {
        assert!(listed(expressions(same)).does(&rule), "{same:?}");
    }
    for other in [
        [&source[..], &protocol(17), &end],
        [&source, &end, &[]],
        [&source, &source, &end],
        [&protocol(6), &protocol(6), &end],
    ] {
        assert!(!listed(expressions(other)).does(&rule), "{other:?}");
    }
}
