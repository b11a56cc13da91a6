use super::*;
use crate::proto::admin::{DocumentReport, LayerReport, VerifyMethod};

fn verified(damage: Option<&str>) -> Verified {
    let report = VerifyResponse {
        id: "sha256:11".to_owned(),
        names: vec!["a.test/x:1".to_owned()],
        documents: vec![DocumentReport {
            digest: "sha256:11".to_owned(),
            kind: "config".to_owned(),
            damage: None,
        }],
        layers: vec![LayerReport {
            diff_id: "sha256:22".to_owned(),
            bytes: 2048,
            inodes: 3,
            method: VerifyMethod::Tree.into(),
            damage: damage.map(str::to_owned),
        }],
        whole: damage.is_none(),
    };
    Verified {
        report,
        repaired: false,
    }
}

#[test]
fn damage_is_named_below_its_image() {
    assert_eq!(
        verified(None).lines(),
        "whole     a.test/x:1: 1 layers, 2.0 KiB\n"
    );
    assert_eq!(
        verified(Some("/etc/passwd is gone")).lines(),
        "damaged   a.test/x:1: 1 layers, 2.0 KiB\n          layer sha256:22: /etc/passwd is gone\n"
    );
}

#[test]
fn programs_get_null_where_nothing_is_damaged() {
    let document = Document {
        images: vec![verified(None)],
        incomplete: vec![Incomplete {
            image: IncompleteImage::default(),
            repaired: true,
        }],
    };
    assert_eq!(
        serde_json::to_value(document).unwrap(),
        serde_json::json!({
            "images": [{
                "id": "sha256:11", "names": ["a.test/x:1"], "whole": true, "repaired": false,
                "documents": [{"digest": "sha256:11", "kind": "config", "damage": null}],
                "layers": [{"diffId": "sha256:22", "bytes": 2048, "inodes": 3, "method": "tree", "damage": null}],
            }],
            "incomplete": [{"id": "", "names": [], "missing": [], "repaired": true}],
        })
    );
}

#[test]
fn what_was_repaired_is_no_failure() {
    let mut document = Document {
        images: vec![verified(Some("x"))],
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
        assert!(take_requested(&image, &mut missing), "{text}");
        assert_eq!(missing, ["other.test/x"], "{text}");
    }
    let mut missing = vec!["other.test/x".to_owned()];
    assert!(!take_requested(&image, &mut missing));
}
