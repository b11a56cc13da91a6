//! The names of files that are read from an archive.

use super::*;

#[test]
fn only_names_of_image_archives_are_known() {
    let hex = "ab".repeat(32);
    let blob = format!("blobs/sha256/{hex}");
    let layer = format!("{hex}/layer.tar");
    for name in [
        "index.json",
        "./index.json",
        "manifest.json",
        "abc.tar",
        &blob,
        &layer,
    ] {
        let expected = name.trim_start_matches("./");
        assert_eq!(known_name(name.as_bytes()).as_deref(), Some(expected), "{name}");
    }
    let escape = format!("../{blob}");
    let short = format!("blobs/sha256/{}", &hex[1..]);
    for name in [
        "",
        "/index.json",
        "../index.json",
        "a/b/layer.tar",
        "etc/passwd",
        "oci-layout",
        "x\n.json",
        &escape,
        &short,
    ] {
        assert_eq!(known_name(name.as_bytes()), None, "{name}");
    }
    assert_eq!(known_name(b"\xff.json"), None);
    assert_eq!(strip_parents(b"../abc/layer.tar"), b"abc/layer.tar");
}
