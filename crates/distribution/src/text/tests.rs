use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_excerpt_is_short_and_plain(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let text = excerpt(&bytes);
        prop_assert!(text.chars().count() <= 200);
        prop_assert!(!text.chars().any(char::is_control));
    }
}
