//! The cache's files: format, modes, damage.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;

#[test]
fn an_entry_has_the_reference_librarys_format() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ResultCache::new(dir.path());
    let mut entry = CachedAttachment::new("c1", "eth0", "net", b"{}".to_vec());
    entry.netns = "/var/run/netns/x".to_owned();
    entry.cni_args = Some(vec![("K8S_POD_NAME".to_owned(), "p".to_owned())]);
    entry.result = Some(json!({"cniVersion": "1.0.0"}));
    cache.save(&entry).unwrap();

    let path = dir.path().join("results/net-c1-eth0");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let text: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        text,
        json!({
            "kind": "cniCacheV1", "containerId": "c1", "config": "e30=", "ifName": "eth0", "networkName": "net",
            "netns": "/var/run/netns/x", "cniArgs": [["K8S_POD_NAME", "p"]], "result": {"cniVersion": "1.0.0"},
        })
    );
    assert_eq!(cache.load("net", "c1", "eth0").unwrap(), Some(entry.clone()));
    assert_eq!(cache.entries_of("c1").unwrap(), [entry]);
    assert!(
        cache.entries_of("c").unwrap().is_empty(),
        "a prefix of an id is another id"
    );
    cache.remove("net", "c1", "eth0").unwrap();
    cache.remove("net", "c1", "eth0").unwrap();
    assert!(cache.entries().unwrap().is_empty());
    assert_eq!(
        std::fs::read_dir(dir.path().join("results")).unwrap().count(),
        0,
        "no temporary file stays"
    );
}

#[test]
fn damage_counts_as_missing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ResultCache::new(dir.path());
    assert!(cache.entries().unwrap().is_empty(), "no directory yet");
    cache
        .save(&CachedAttachment::new("good", "eth0", "net", Vec::new()))
        .unwrap();
    let results = dir.path().join("results");
    std::fs::write(results.join("net-cut-eth0"), r#"{"kind": "cniCa"#).unwrap();
    std::fs::write(
        results.join("net-kind-eth0"),
        r#"{"kind":"other","containerId":"kind"}"#,
    )
    .unwrap();
    assert_eq!(cache.load("net", "cut", "eth0").unwrap(), None);
    assert_eq!(cache.load("net", "kind", "eth0").unwrap(), None);
    assert_eq!(cache.entries().unwrap().len(), 1);
}
