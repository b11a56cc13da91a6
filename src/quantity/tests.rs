use proptest::prelude::*;

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
        assert_eq!(parse(text), expected, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,24}|[0-9.]{0,20}[kMGTPEimeE0-9]{0,3}") {
        let value = parse(&text);
        prop_assert!(value.is_none() || text.bytes().any(|byte| byte.is_ascii_digit()));
    }
}
