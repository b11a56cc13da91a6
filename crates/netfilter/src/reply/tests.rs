use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn answers_never_panic_and_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(MessagesOf(&bytes).count() <= bytes.len());
        prop_assert!(Attributes(&bytes).count() <= bytes.len());
        drop(Rule::parse(&bytes));
        drop(comment_of(&bytes));
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
    }
}

#[test]
fn a_comment_is_found_behind_other_user_data() {
    assert_eq!(comment_of(b"\x07\x02ab\x00\x03id\x00").as_deref(), Some("id"));
    assert_eq!(comment_of(b"\x00\x09id\x00"), None);
}
