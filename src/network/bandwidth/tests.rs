//! Quantities and what becomes of them.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn quantities_are_read_as_kubernetes_does() {
    let cases = [
        ("10M", Some(10_000_000)),
        ("1.5Gi", Some(1_610_612_736)),
        ("2e6", Some(2_000_000)),
        ("1E", Some(1_000_000_000_000_000_000)),
        ("1500m", Some(2)),
        (".5k", Some(500)),
        ("", None),
        (".", None),
        ("-1", None),
        ("10 M", None),
        ("10MB", None),
        ("1e99", None),
        ("99999999999999999E", None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_quantity(text), expected, "{text:?}");
    }
}

#[test]
fn only_what_is_annotated_becomes_an_argument() {
    let annotations = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    assert_eq!(capability(&annotations(&[("other", "1")])).unwrap(), None);
    let argument = capability(&annotations(&[(EGRESS, "1M")])).unwrap();
    assert_eq!(
        argument,
        Some(json!({"egressRate": 1_000_000, "egressBurst": 4_294_967_295_u32}))
    );
    assert!(
        capability(&annotations(&[(INGRESS, "10")])).is_err(),
        "10 bits a second is a mistake"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,24}|[0-9.]{0,20}[kMGTPEimeE0-9]{0,3}") {
        let value = parse_quantity(&text);
        prop_assert!(value.is_none() || text.bytes().any(|byte| byte.is_ascii_digit()));
    }
}
