//! Scalars as Go reads them, the limits, and that any JSON is read as what it is.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Enough for all but what is meant to have too much.
const MEMORY: usize = 64 << 20;

fn typed(text: &str) -> Result<Value, YamlError> {
    parse(text, Scalars::Typed, MEMORY)
}

#[test]
fn plain_scalars_have_types_and_others_are_texts() {
    for (text, expected) in [
        ("", Value::Null),
        ("---\n# nothing\n", Value::Null),
        ("~", Value::Null),
        ("True", json!(true)),
        ("on", json!("on")),
        ("'true'", json!("true")),
        ("!!str 5", json!("5")),
        ("10", json!(10)),
        ("+1_000", json!(1000)),
        ("0660", json!(432)),
        ("0o660", json!(432)),
        ("-0x1F", json!(-31)),
        ("0b11", json!(3)),
        ("0", json!(0)),
        ("08", json!(8.0)),
        ("-1.5e3", json!(-1500.0)),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("1.1.0", json!("1.1.0")),
        ("0x-5", json!("0x-5")),
        ("0x", json!("0x")),
        ("é", json!("é")),
        ("\"\\ud83d\\ude00\"", json!("😀")),
        ("{\r\n\t\"a\":\t[\n\t\t1\n\t]\n}", json!({"a": [1]})),
        (".inf", json!(".inf")),
        ("nan", json!("nan")),
        ("1e999", json!("1e999")),
        (
            "a: &x {e: 1k}\n5: *x\n",
            json!({"a": {"e": "1k"}, "5": {"e": "1k"}}),
        ),
    ] {
        assert_eq!(typed(text).unwrap(), expected, "{text:?}");
    }
}

#[test]
fn texts_are_as_written_unless_null() {
    for (text, expected) in [
        ("", Value::Null),
        ("---\n# nothing\n", Value::Null),
        ("080", json!("080")),
        ("1_000", json!("1_000")),
        ("1.50", json!("1.50")),
        ("True", json!("True")),
        (
            "[x, 'null', null, ~, \"\", !!str null]",
            json!(["x", "null", null, null, "", "null"]),
        ),
        ("a:\n0x5: 7 # a comment\n", json!({"a": null, "0x5": "7"})),
        (
            "a: &x {e: 1k}\n5: *x\n",
            json!({"a": {"e": "1k"}, "5": {"e": "1k"}}),
        ),
    ] {
        let value = parse(text, Scalars::Text, MEMORY).unwrap();
        assert_eq!(value, expected, "{text:?}");
    }
}

#[test]
fn what_cannot_be_used_has_its_line() {
    let bomb = (1..12).fold("a0: &a0 x\n".to_owned(), |text, level| {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("{text}a{level}: &a{level} [{list}]\n")
    });
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let maps = format!("[{}]", "{a},".repeat(200_000));
    for (text, problem) in [
        ("a: 1\na: 2\n", "line 2: the same key"),
        ("a: 1\n---\nb: 2\n", "more than one document"),
        ("[a]: 1\n", "line 1: a key is not a text"),
        ("~: 1\n", "line 1: a key is not a text"),
        ("a: &x [*x]\n", "alias"),
        ("a: *x\n", "line 1"),
        ("a: [1\n", "line"),
        ("a: 1\n\tb: 2\n", "found a tab"),
        (&deep, "line 1: it nests"),
        (&"{".repeat(1 << 20), "line 1"),
        (&bomb, "too much in it"),
        (&maps, "too much in it"),
    ] {
        for scalars in [Scalars::Typed, Scalars::Text] {
            let error = parse(text, scalars, MEMORY).unwrap_err().to_string();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }
}

#[test]
fn memory_is_that_of_everything_together() {
    for text in [
        "[a, b, c, d]",
        "[&a [b], *a, *a]",
        "&a [&b [&c [d]]]",
        "{a: b}",
        "- aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        let error = parse(text, Scalars::Text, 128).unwrap_err().to_string();
        assert!(error.contains("too much in it"), "{text:?}: {error}");
        parse(text, Scalars::Text, 1024).unwrap();
    }
    parse("[a, b]", Scalars::Text, 128).unwrap();
}

/// Any JSON that nests as deep as a document may.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[-a: \\n&*\\[\\]{}?#'\"|>~!%,0]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_read_as_what_it_is(value in any_json()) {
        prop_assert_eq!(&typed(&value.to_string()).unwrap(), &value);
        prop_assert_eq!(&typed(&format!("{value:#}")).unwrap(), &value);
    }

    #[test]
    fn any_text_is_json_or_an_error(text in "[-a: \\n&*\\[\\]{}?#'\"|>~!%,0]{0,60}") {
        typed(&text).ok();
        parse(&text, Scalars::Text, MEMORY).ok();
    }

    #[test]
    fn odd_characters_do_not_hurt(text in "\\PC{0,40}") {
        typed(&text).ok();
        parse(&text, Scalars::Text, MEMORY).ok();
    }
}
