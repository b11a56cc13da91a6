use super::*;
use crate::error::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};

fn descriptor(media_type: &str, platform: Option<Value>) -> Value {
    let mut value = json!({"mediaType": media_type, "digest": Digest::sha256(b"x").to_string(), "size": 1});
    if let Some(platform) = platform {
        value["platform"] = platform;
    }
    value
}

fn parse(value: &Value, content_type: Option<&str>) -> Result<(Document, String), Error> {
    let bytes = value.to_string().into_bytes();
    Document::parse(&bytes, content_type, &Digest::sha256(&bytes))
}

fn manifest(media_type: Option<&str>) -> Value {
    let mut value =
        json!({"schemaVersion": 2, "config": descriptor("c", None), "layers": [descriptor("l", None)]});
    if let Some(media_type) = media_type {
        value["mediaType"] = media_type.into();
    }
    value
}

#[test]
fn both_families_of_manifests_and_indexes_are_read() {
    for media_type in [OCI_MANIFEST, DOCKER_MANIFEST] {
        let (document, found) = parse(&manifest(Some(media_type)), None).unwrap();
        assert!(matches!(document, Document::Manifest(m) if m.layers.len() == 1));
        assert_eq!(found, media_type);
    }
    for media_type in [OCI_INDEX, DOCKER_LIST] {
        let index = json!({"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST, None)]});
        let (document, found) = parse(&index, Some(&format!("{media_type}; charset=utf-8"))).unwrap();
        assert!(matches!(document, Document::Index(_)));
        assert_eq!(found, media_type);
    }
    let (_, guessed) = parse(&manifest(None), Some("application/json")).unwrap();
    assert_eq!(guessed, OCI_MANIFEST);
}

#[test]
fn what_is_no_image_is_refused_with_its_kind() {
    let mut both = manifest(Some(OCI_MANIFEST));
    both["manifests"] = json!([]);
    let mut short = manifest(Some(OCI_MANIFEST));
    short["layers"][0]["digest"] = "sha256:12".into();
    let mut negative = manifest(Some(OCI_MANIFEST));
    negative["layers"][0]["size"] = (-1).into();
    let schema1 = json!({"schemaVersion": 1, "name": "x", "fsLayers": []});
    for (value, kind) in [
        (both, Kind::InvalidAnswer),
        (short, Kind::InvalidAnswer),
        (negative, Kind::InvalidAnswer),
        (json!({}), Kind::InvalidAnswer),
        (json!([]), Kind::InvalidAnswer),
        (manifest(Some(OCI_INDEX)), Kind::InvalidAnswer),
        (manifest(Some("application/x")), Kind::Unsupported),
        (schema1.clone(), Kind::InvalidAnswer),
    ] {
        assert_eq!(parse(&value, None).unwrap_err().kind(), kind, "{value}");
    }
    let error = parse(
        &schema1,
        Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
    )
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("schema 1"));
}

#[test]
fn an_index_without_the_platform_names_those_it_has() {
    let entry =
        |os: &str, arch: &str| descriptor(OCI_MANIFEST, Some(json!({"os": os, "architecture": arch})));
    let value =
        json!({"manifests": [entry("unknown", "unknown"), entry("linux", "s390x"), entry("linux", "arm64")]});
    let (document, _) = parse(&value, None).unwrap();
    let Document::Index(index) = document else {
        panic!("not an index")
    };
    let found = index.select(&Platform::new("linux", "s390x", None)).unwrap();
    assert_eq!(found.platform.as_ref().unwrap().architecture, "s390x");
    let error = index
        .select(&Platform::new("linux", "riscv64", None))
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NoMatchingPlatform);
    assert!(error.to_string().contains("linux/s390x, linux/arm64"), "{error}");
    assert!(!error.to_string().contains("unknown"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,100}") {
        let digest = Digest::sha256(&bytes);
        prop_assert!(Document::parse(&bytes, Some(&text), &digest).is_err() || !bytes.is_empty());
        prop_assert!(Document::parse(text.as_bytes(), None, &digest).is_err());
    }
}
