use super::*;

fn pruned(id: &str, error: &str) -> PrunedImage {
    PrunedImage {
        id: id.to_owned(),
        repo_tags: vec![format!("a.test/{id}:1")],
        error: error.to_owned(),
        ..Default::default()
    }
}

fn document() -> Document {
    let response = PruneResponse {
        images: vec![pruned("x", ""), pruned("y", "the disk says no")],
        in_use: 3,
        pinned: 1,
    };
    response.into()
}

#[test]
fn what_failed_is_told_from_what_went() {
    let document = document();
    assert_eq!(document.removed.len(), 1);
    assert_eq!(document.failed[0].error, "the disk says no");
    assert_eq!(
        document.lines(false),
        "untagged a.test/x:1\nremoved x\nkept 3 in use, 1 pinned\n"
    );
    assert!(
        document
            .lines(true)
            .starts_with("would untag a.test/x:1\nwould remove x\n")
    );
}

#[test]
fn what_was_named_keeps_nothing() {
    let json = serde_json::to_value(Document::default()).unwrap();
    assert_eq!(json, serde_json::json!({"removed": [], "failed": []}));
    let json = serde_json::to_value(document()).unwrap();
    assert_eq!(json["inUse"], 3);
}
