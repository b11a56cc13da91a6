use serde_json::json;

use super::*;
use crate::proto::v1;

fn inspected(info: &Value) -> Inspected {
    let image = v1::Image {
        id: "sha256:1".to_owned(),
        repo_tags: vec!["a.test/x:1".to_owned(), "a.test/x:2".to_owned()],
        size: 2048,
        ..Default::default()
    };
    Inspected {
        image: image.into(),
        info: super::info(&info.to_string()),
    }
}

#[test]
fn what_the_image_says_is_shown_and_nothing_else() {
    let text = describe(&inspected(&json!({"imageSpec": {
        "created": "2026-01-02T03:04:05Z", "os": "linux", "architecture": "arm", "variant": "v7",
        "config": {"Entrypoint": ["/bin/a b", "c"], "Cmd": [], "Env": ["A=1", "B=2"], "Labels": {"k": "v"},
                   "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:22"]},
    }})));
    assert_eq!(
        text,
        "Id           sha256:1\n\
         Tags         a.test/x:1\n\
         \x20            a.test/x:2\n\
         Size         2.0 KiB\n\
         Pinned       no\n\
         Created      2026-01-02T03:04:05Z\n\
         Platform     linux/arm/v7\n\
         Entrypoint   [\"/bin/a b\",\"c\"]\n\
         Environment  A=1\n\
         \x20            B=2\n\
         Ports        80/tcp\n\
         Labels       k=v\n\
         Layers       sha256:22\n"
    );
}

#[test]
fn hostile_labels_are_escaped() {
    let text = describe(&inspected(
        &json!({"imageSpec": {"config": {"Labels": {"k": "\u{1b}[2J"}}}}),
    ));
    assert!(text.contains("k=\\u{1b}[2J"), "{text}");
}

#[test]
fn a_daemon_that_tells_nothing_more_is_no_trouble() {
    assert!(describe(&inspected(&json!("no object"))).starts_with("Id           sha256:1\n"));
}
