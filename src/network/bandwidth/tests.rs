//! What becomes of annotations.

use serde_json::json;

use super::*;

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
