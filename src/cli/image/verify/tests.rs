use super::*;
use crate::proto::admin::{DocumentReport, LayerReport};

fn report(damage: &str) -> VerifyResponse {
    VerifyResponse {
        id: "sha256:11".to_owned(),
        names: vec!["a.test/x:1".to_owned()],
        documents: vec![DocumentReport {
            digest: "sha256:11".to_owned(),
            kind: "config".to_owned(),
            damage: String::new(),
        }],
        layers: vec![LayerReport {
            diff_id: "sha256:22".to_owned(),
            bytes: 2048,
            inodes: 3,
            method: VerifyMethod::Tree.into(),
            damage: damage.to_owned(),
        }],
        whole: damage.is_empty(),
    }
}

#[test]
fn damage_is_named_below_its_image() {
    assert_eq!(
        Verified::from(report("")).lines(),
        "whole     a.test/x:1: 1 layers, 2.0 KiB\n"
    );
    assert_eq!(
        Verified::from(report("/etc/passwd is gone")).lines(),
        "damaged   a.test/x:1: 1 layers, 2.0 KiB\n          layer sha256:22: /etc/passwd is gone\n"
    );
}

#[test]
fn programs_get_null_where_nothing_is_damaged() {
    let json = serde_json::to_value(Verified::from(report(""))).unwrap();
    assert!(json["layers"][0]["damage"].is_null());
    assert_eq!(json["layers"][0]["method"], "tree");
    assert_eq!(json["layers"][0]["diffId"], "sha256:22");
    assert_eq!(json["whole"], true);
}

#[test]
fn what_was_repaired_is_no_failure() {
    let mut document = Document {
        images: vec![report("x").into()],
        incomplete: Vec::new(),
    };
    assert!(verdict(&document, Vec::new()).is_err());
    document.images[0].repaired = true;
    assert!(verdict(&document, Vec::new()).is_ok());
    assert!(verdict(&document, vec!["y".to_owned()]).is_err());
}

#[test]
fn incomplete_images_are_found_by_name_and_id() {
    let image = IncompleteImage {
        id: "sha256:abcd".to_owned(),
        names: vec!["docker.io/library/busybox:latest".to_owned()],
        missing: Vec::new(),
    };
    for text in [
        "busybox",
        "docker.io/library/busybox:latest",
        "abc",
        "sha256:abcd",
    ] {
        let mut missing = vec![text.to_owned(), "other.test/x".to_owned()];
        assert!(asked_for(&image, &mut missing), "{text}");
        assert_eq!(missing, ["other.test/x"], "{text}");
    }
    let mut missing = vec!["other.test/x".to_owned()];
    assert!(!asked_for(&image, &mut missing));
}
