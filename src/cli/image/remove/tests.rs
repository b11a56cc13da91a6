use super::*;

fn pruned() -> PruneResponse {
    PruneResponse {
        removed: vec![RemovedImage {
            id: "x".to_owned(),
            repo_tags: vec!["a.test/x:1".to_owned()],
            ..Default::default()
        }],
        failed: vec![FailedRemoval {
            image: "y".to_owned(),
            error: "the disk says no".to_owned(),
        }],
        in_use: Some(3),
        pinned: Some(1),
    }
}

#[test]
fn every_name_and_image_has_a_line() {
    assert_eq!(
        lines(&pruned(), false),
        "untagged a.test/x:1\nremoved x\nkept 3 in use, 1 pinned\n"
    );
    assert!(lines(&pruned(), true).starts_with("would untag a.test/x:1\nwould remove x\n"));
}

#[test]
fn only_prune_counts_images_that_stay() {
    let json = serde_json::to_value(PruneResponse::default()).unwrap();
    assert_eq!(json, serde_json::json!({"removed": [], "failed": []}));
    let json = serde_json::to_value(pruned()).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "removed": [{"id": "x", "repoTags": ["a.test/x:1"], "repoDigests": [], "size": 0}],
            "failed": [{"image": "y", "error": "the disk says no"}],
            "inUse": 3,
            "pinned": 1,
        })
    );
}
