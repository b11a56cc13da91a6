//! Parsing of configurations and the choice among the files of a directory.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::dir::ConfDir;
use super::*;

fn parse(value: &Value) -> Result<NetworkConfigList, Error> {
    NetworkConfigList::parse(
        value.to_string().as_bytes(),
        Path::new("/etc/cni/net.d/10.conflist"),
    )
}

#[test]
fn a_single_plugin_becomes_a_list_of_one() {
    let list = parse(&json!({"cniVersion": "0.4.0", "name": "net", "type": "bridge", "mtu": 1400})).unwrap();
    assert_eq!(list.name(), "net");
    assert_eq!(list.plugins().len(), 1);
    assert_eq!(list.plugins()[0].object()["mtu"], json!(1400));
    let again = NetworkConfigList::parse(list.bytes(), list.origin()).unwrap();
    assert_eq!(
        again, list,
        "the bytes kept in the cache must read back as the same list"
    );
}

#[test]
fn the_newest_common_version_is_chosen() {
    let list = |version: Value, versions: Value| {
        parse(
            &json!({"name": "n", "cniVersion": version, "cniVersions": versions, "plugins": [{"type": "x"}]}),
        )
        .map(|list| list.version())
    };
    assert_eq!(
        list(json!("0.4.0"), json!(["1.0.0", "1.1.0", "9.0.0"])).unwrap(),
        Version::V1_1_0
    );
    assert_eq!(list(json!("9.0.0"), json!(["0.3.1"])).unwrap(), Version::V0_3_1);
    assert!(list(json!("9.0.0"), json!([])).is_err());
}

#[test]
fn what_cni_forbids_is_named() {
    let field = |value: Value| match parse(&value).unwrap_err() {
        Error::InvalidConfig { field, .. } => field,
        other => panic!("unexpected error {other:?}"),
    };
    let plugin = json!([{"type": "x"}]);
    assert_eq!(
        field(json!({"name": "../etc", "cniVersion": "1.0.0", "plugins": plugin})),
        "name"
    );
    assert_eq!(field(json!({"name": "n", "plugins": plugin})), "cniVersion");
    assert_eq!(
        field(json!({"name": "n", "cniVersion": "1.0.0", "plugins": []})),
        "plugins"
    );
    let evil = json!([{"type": "x"}, {"type": "../sh"}]);
    assert_eq!(
        field(json!({"name": "n", "cniVersion": "1.0.0", "plugins": evil})),
        "plugins[1].type"
    );
    assert_eq!(field(json!({"name": "n", "cniVersion": "1.0.0"})), "type");
}

#[test]
fn flags_may_be_strings_and_only_enabled_capabilities_count() {
    let list = parse(&json!({
        "name": "n", "cniVersion": "1.1.0", "disableCheck": "TRUE", "disableGC": true,
        "plugins": [{"type": "x", "capabilities": {"portMappings": true, "dns": false}}],
    }))
    .unwrap();
    assert!(list.disable_check() && list.disable_gc());
    assert!(list.plugins()[0].has_capability("portMappings"));
    assert!(!list.plugins()[0].has_capability("dns"));
}

#[test]
fn the_first_valid_file_wins_and_the_skipped_ones_are_explained() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("net.d");
    let dir = ConfDir::new(path.clone());
    assert!(
        dir.load().network.is_none() && dir.load().rejected.is_empty(),
        "a missing directory is empty"
    );

    std::fs::create_dir(&path).unwrap();
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
    write("00-notes.txt", "not looked at");
    write("10-broken.conflist", "{");
    write(
        "30-late.json",
        r#"{"name":"late","cniVersion":"1.0.0","type":"x"}"#,
    );
    write(
        "20-good.conf",
        r#"{"name":"good","cniVersion":"1.0.0","type":"x"}"#,
    );
    let loaded = dir.load();
    assert_eq!(loaded.network.unwrap().name(), "good");
    assert!(
        matches!(&loaded.rejected[..], [Error::ParseConfig { path, .. }] if path.ends_with("10-broken.conflist"))
    );

    let replaced = temporary.path().join("replaced");
    std::fs::rename(&path, &replaced).unwrap();
    assert!(dir.load().network.is_none());
    std::os::unix::fs::symlink(&replaced, &path).unwrap();
    assert_eq!(
        dir.load().network.unwrap().name(),
        "good",
        "the directory may come back as a symlink"
    );
}

/// Any JSON, with the keys that the parser looks at more likely than others.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "(1.1.0|0.4.0|bridge|net|10.0.0.2/16|fe80::1/64|eth0|)",
        any::<String>()
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from)
    ];
    let key = prop_oneof![
        "(name|cniVersion|cniVersions|plugins|type|capabilities|disableCheck|disableGC)",
        "(interfaces|ips|routes|dns|interface|address|gateway|sandbox|dst|gw|nameservers|version|mac|mtu)",
        any::<String>()
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn hostile_configurations_are_refused_or_hold_the_invariants(value in any_json()) {
        if let Ok(list) = parse(&value) {
            prop_assert!(is_identifier(list.name()));
            prop_assert!(!list.plugins().is_empty());
            prop_assert!(list.plugins().iter().all(|plugin| is_plain_file_name(plugin.plugin_type())));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        drop(NetworkConfigList::parse(&bytes, Path::new("x")));
    }
}
