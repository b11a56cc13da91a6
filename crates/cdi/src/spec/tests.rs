//! What spec files may say, which version that needs, and that JSON and YAML say the same.

use std::error::Error;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Everything that a spec file can have.
const EVERYTHING: &str = r#"
cdiVersion: 1.1.0
kind: vendor.com/gpu
annotations: {note: 1}
containerEdits:
  env: [DRIVER=1.2]
  hooks:
    - hookName: createContainer
      path: /usr/bin/vendor-hook
      args: [vendor-hook, --quiet]
      env: [A=b]
      timeout: 10
  mounts:
    - {hostPath: /usr/lib/vendor.so, containerPath: /usr/lib/vendor.so, options: [ro, rbind]}
    - {hostPath: tmpfs, containerPath: /scratch, type: tmpfs}
devices:
  - name: 0
    annotations: {note: true}
    containerEdits:
      deviceNodes:
        - path: /dev/gpu0
          hostPath: /dev/vendor/gpu0
          type: c
          major: 195
          minor: 0
          fileMode: 0660
          permissions: rw
          uid: 1
          gid: 2
        - path: /dev/gpu-control
          permissions: none
      additionalGIDs: [44, 0]
      intelRdt: {closID: gpu, l3CacheSchema: "L3:0=f", memBwSchema: "MB:0=10", schemata: ["L3:0=f"], enableMonitoring: true}
      netDevices: [{hostInterfaceName: ib0, name: net0}]
  - name: all
    containerEdits:
      env:
        - GPUS=all
      mounts:
"#;

fn parse(document: &Value) -> Result<Spec, SpecError> {
    Spec::parse(document.to_string().as_bytes())
}

/// A document with a version, one device, and these edits for it.
fn with(version: &str, edits: &Value) -> Value {
    json!({"cdiVersion": version, "kind": "v/c", "devices": [{"name": "d", "containerEdits": edits}]})
}

#[test]
fn everything_is_read() {
    let spec = Spec::parse(EVERYTHING.as_bytes()).unwrap();
    assert_eq!(spec.kind, "vendor.com/gpu");
    assert_eq!(spec.devices.keys().collect::<Vec<_>>(), ["0", "all"]);
    assert_eq!(spec.edits.rest.env, ["DRIVER=1.2"]);
    let (stage, hook) = &spec.edits.rest.hooks[0];
    assert_eq!(*stage, HookStage::CreateContainer);
    let hook_as_json = json!({
        "path": "/usr/bin/vendor-hook", "args": ["vendor-hook", "--quiet"], "env": ["A=b"], "timeout": 10,
    });
    assert_eq!(serde_json::to_value(hook).unwrap(), hook_as_json);
    let mounts = json!([
        {"destination": "/usr/lib/vendor.so", "source": "/usr/lib/vendor.so", "options": ["ro", "rbind"]},
        {"destination": "/scratch", "source": "tmpfs", "type": "tmpfs"},
    ]);
    assert_eq!(serde_json::to_value(&spec.edits.rest.mounts).unwrap(), mounts);
    let gpu = &spec.devices["0"];
    let node = DeviceNode {
        path: "/dev/gpu0".to_owned(),
        host_path: Some("/dev/vendor/gpu0".to_owned()),
        kind: Some(LinuxDeviceType::C),
        major: 195,
        minor: 0,
        file_mode: Some(0o660),
        access: Some("rw".to_owned()),
        uid: Some(1),
        gid: Some(2),
    };
    assert_eq!(gpu.nodes[0], node);
    assert_eq!(gpu.nodes[1].access, None);
    assert_eq!(gpu.rest.additional_gids, [44, 0]);
    assert_eq!(gpu.rest.net_devices["ib0"], "net0");
    let rdt = json!({
        "closID": "gpu", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=10", "schemata": ["L3:0=f"],
        "enableMonitoring": true,
    });
    assert_eq!(serde_json::to_value(&gpu.rest.intel_rdt).unwrap(), rdt);
}

#[test]
fn versions_are_known_and_new_enough() {
    let env = json!({"env": ["A=b"]});
    for version in ["0.3.0", "v0.3.0", "0.8.0", "1.0.0", "1.1.0"] {
        parse(&with(version, &env)).unwrap();
    }
    for version in [
        "", "0.1.0", "0.2.0", "0.3", "0.9.0", "1.2.0", "2.0.0", "vv1.1.0", "latest",
    ] {
        let error = parse(&with(version, &env)).unwrap_err();
        assert!(
            matches!(&error, SpecError::Version { version: named } if named == version),
            "{error}"
        );
    }
    let node = |name: &str| json!({"cdiVersion": "", "kind": "v/c", "devices": [{"name": name, "containerEdits": env}]});
    let mut dotted = node("d");
    dotted["kind"] = json!("v.com/c.d");
    let mut annotated = node("d");
    annotated["annotations"] = json!({"a": "b"});
    let mut device_annotated = node("d");
    device_annotated["devices"][0]["annotations"] = json!({"a": "b"});
    let mut whole = node("d");
    whole["containerEdits"] = json!({"additionalGids": [1]});
    let edits = |edits: Value| with("", &edits);
    let mount = |kind: &str| json!({"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": kind}]});
    let path = |path: &str| json!({"deviceNodes": [{"path": "/dev/a", "hostPath": path}]});
    for (mut document, since, field) in [
        (
            edits(mount("bind")),
            "0.4.0",
            "devices[0].containerEdits.mounts[0].type",
        ),
        (
            edits(path("/dev/b")),
            "0.5.0",
            "devices[0].containerEdits.deviceNodes[0].hostPath",
        ),
        (node("0"), "0.5.0", "devices[0].name"),
        (annotated, "0.6.0", "annotations"),
        (device_annotated, "0.6.0", "devices[0].annotations"),
        (dotted, "0.6.0", "kind"),
        (
            edits(json!({"intelRdt": {}})),
            "0.7.0",
            "devices[0].containerEdits.intelRdt",
        ),
        (whole, "0.7.0", "containerEdits.additionalGids"),
        (
            edits(json!({"intelRdt": {"schemata": []}})),
            "1.1.0",
            "devices[0].containerEdits.intelRdt.schemata",
        ),
        (
            edits(json!({"intelRdt": {"enableMonitoring": true}})),
            "1.1.0",
            "devices[0].containerEdits.intelRdt.enableMonitoring",
        ),
        (
            edits(json!({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]})),
            "1.1.0",
            "devices[0].containerEdits.netDevices",
        ),
    ] {
        let versions = [
            "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0",
        ];
        for version in versions {
            document["cdiVersion"] = json!(version);
            match parse(&document) {
                Ok(_) => assert!(version >= since, "{document}"),
                Err(SpecError::NeedsVersion { field: named, .. }) if version < since => {
                    // What needs 1.1.0 is in something that needs 0.7.0.
                    assert!(field.starts_with(&named), "{named}");
                }
                Err(error) => panic!("{document}: {error}"),
            }
        }
    }
    for unused in [
        mount(""),
        path(""),
        json!({"netDevices": [], "additionalGids": []}),
    ] {
        let mut unused = unused;
        unused["env"] = json!(["A=b"]);
        parse(&with("0.3.0", &unused)).unwrap();
    }
}

#[test]
fn what_cdi_forbids_is_named() {
    let edits = |edits: Value| with("1.1.0", &edits);
    let node = |field: &str, value: Value| {
        let mut node = json!({"path": "/dev/a"});
        node[field] = value;
        edits(json!({"deviceNodes": [node]}))
    };
    let mount = |mount: Value| edits(json!({"mounts": [mount]}));
    let hook = |field: &str, value: Value| {
        let mut hook = json!({"hookName": "poststop", "path": "/bin/true"});
        hook[field] = value;
        edits(json!({"hooks": [hook]}))
    };
    let mut kind = edits(json!({"env": ["A=b"]}));
    kind["kind"] = json!("vendor");
    let mut twice = edits(json!({"env": ["A=b"]}));
    let device = twice["devices"][0].clone();
    twice["devices"].as_array_mut().unwrap().push(device);
    let mut annotated = edits(json!({"env": ["A=b"]}));
    annotated["annotations"] = json!({"a": ["b"]});
    let mut unknown = edits(json!({"env": ["A=b"]}));
    unknown["more"] = Value::Null;
    let mut long = edits(json!({"env": ["A=b"]}));
    long["x".repeat(1000)] = json!(1);
    let device = "devices[0].containerEdits.";
    for (document, field) in [
        (json!([]), "document"),
        (json!({"cdiVersion": "0.3.0", "kind": "v/c"}), "devices"),
        (
            json!({"cdiVersion": "0.3.0", "kind": "v/c", "devices": []}),
            "devices",
        ),
        (
            json!({"cdiVersion": "0.3.0", "kind": "v/c", "devices": {}}),
            "devices",
        ),
        (
            json!({"cdiVersion": "0.3.0", "kind": "v/c", "devices": [null]}),
            "devices[0]",
        ),
        (
            json!({"cdiVersion": "0.3.0", "kind": "v/c", "devices": [{}]}),
            "devices[0].name",
        ),
        (
            json!({"cdiVersion": "0.3.0", "kind": "v/c", "devices": [{"name": "d"}]}),
            "devices[0].containerEdits",
        ),
        (edits(json!({})), "devices[0].containerEdits"),
        (
            edits(json!({"env": [], "mounts": null})),
            "devices[0].containerEdits",
        ),
        (kind, "kind"),
        (twice, "devices[1].name"),
        (annotated, "annotations.a"),
        (unknown, "more"),
        (long, &"x".repeat(64)),
        (edits(json!({"envs": []})), "{}envs"),
        (edits(json!({"env": ["A"]})), "{}env"),
        (edits(json!({"env": ["=b"]})), "{}env"),
        (edits(json!({"env": ["A=b", {}]})), "{}env[1]"),
        (edits(json!({"env": ["A=\0"]})), "{}env[0]"),
        (edits(json!({"env": "A=b"})), "{}env"),
        (edits(json!({"deviceNodes": [{}]})), "{}deviceNodes[0].path"),
        (node("path", json!("dev/a")), "{}deviceNodes[0].path"),
        (node("hostPath", json!("dev/a")), "{}deviceNodes[0].hostPath"),
        (node("type", json!("d")), "{}deviceNodes[0].type"),
        (node("permissions", json!("rx")), "{}deviceNodes[0].permissions"),
        (node("major", json!(-1)), "{}deviceNodes[0].major"),
        (node("minor", json!(1_u64 << 32)), "{}deviceNodes[0].minor"),
        (node("fileMode", json!("0660")), "{}deviceNodes[0].fileMode"),
        (node("uid", json!(1.5)), "{}deviceNodes[0].uid"),
        (node("mode", json!(1)), "{}deviceNodes[0].mode"),
        (mount(json!({"containerPath": "/b"})), "{}mounts[0].hostPath"),
        (
            mount(json!({"hostPath": "a", "containerPath": "/b"})),
            "{}mounts[0].hostPath",
        ),
        (
            mount(json!({"hostPath": "a", "containerPath": "/b", "type": "x", "options": ["rbind"]})),
            "{}mounts[0].hostPath",
        ),
        (
            mount(json!({"hostPath": "", "containerPath": "/b", "type": "tmpfs"})),
            "{}mounts[0].hostPath",
        ),
        (mount(json!({"hostPath": "/a"})), "{}mounts[0].containerPath"),
        (
            mount(json!({"hostPath": "/a", "containerPath": "b"})),
            "{}mounts[0].containerPath",
        ),
        (hook("hookName", json!("createruntime")), "{}hooks[0].hookName"),
        (hook("path", json!("true")), "{}hooks[0].path"),
        (hook("env", json!(["A"])), "{}hooks[0].env"),
        (hook("timeout", json!(0)), "{}hooks[0].timeout"),
        (hook("timeout", json!(-1)), "{}hooks[0].timeout"),
        (edits(json!({"intelRdt": {"closID": "a/b"}})), "{}intelRdt.closID"),
        (edits(json!({"intelRdt": {"closID": ".."}})), "{}intelRdt.closID"),
        (
            edits(json!({"intelRdt": {"closID": "a".repeat(4096)}})),
            "{}intelRdt.closID",
        ),
        (
            edits(json!({"intelRdt": {"enableCMT": true}})),
            "{}intelRdt.enableCMT",
        ),
        (
            edits(json!({"intelRdt": {"enableMonitoring": "yes"}})),
            "{}intelRdt.enableMonitoring",
        ),
        (
            edits(json!({"netDevices": [{"name": "a"}]})),
            "{}netDevices[0].hostInterfaceName",
        ),
        (
            edits(json!({"netDevices": [{"hostInterfaceName": "a"}]})),
            "{}netDevices[0].name",
        ),
        (
            edits(json!({"netDevices": [
                {"hostInterfaceName": "a", "name": "x"}, {"hostInterfaceName": "b", "name": "x"},
            ]})),
            "{}netDevices[1].name",
        ),
        (
            edits(json!({"netDevices": [
                {"hostInterfaceName": "a", "name": "x"}, {"hostInterfaceName": "a", "name": "y"},
            ]})),
            "{}netDevices[1].hostInterfaceName",
        ),
        (edits(json!({"additionalGids": ["1"]})), "{}additionalGids[0]"),
        (edits(json!({"additionalGids": [-1]})), "{}additionalGids[0]"),
    ] {
        let field = field.replace("{}", device);
        match parse(&document).unwrap_err() {
            SpecError::Field { field: named, .. } | SpecError::UnknownField { field: named } => {
                assert_eq!(named, field, "{document}");
            }
            other => panic!("{document}: {other}"),
        }
    }
    for class in ["/", "", "..."] {
        parse(&edits(json!({"intelRdt": {"closID": class}}))).unwrap();
    }
}

#[test]
fn what_is_no_document_says_why() {
    for (bytes, reason) in [
        (b"\xff".as_slice(), "utf-8"),
        (b"{", "line 1"),
        (b"a: b\na: c\n", "line 2"),
        (b"", ""),
    ] {
        let error = Spec::parse(bytes).unwrap_err();
        let source = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(source.contains(reason), "{bytes:?}: {error}: {source}");
    }
}

/// JSON that is a spec file as often as not.
fn any_document() -> impl Strategy<Value = Value> {
    fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
        let fields: Vec<_> = fields
            .into_iter()
            .map(|(name, value)| (Just(name), prop::option::weighted(0.98, value)))
            .collect();
        let present = |fields: Vec<(&str, Option<Value>)>| {
            let fields = fields.into_iter();
            Value::Object(
                fields
                    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                    .collect(),
            )
        };
        fields.prop_map(present).boxed()
    }
    fn list(of: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
        prop::collection::vec(of, 0..3).prop_map(Value::from).boxed()
    }
    fn text(pattern: &'static str) -> BoxedStrategy<Value> {
        pattern.prop_map(Value::from).boxed()
    }
    let number = || (0..9_u32).prop_map(Value::from).boxed();
    let path = || text("/[a-z/.: ]{0,8}");
    let node = object(vec![
        ("path", path()),
        ("hostPath", path()),
        ("type", text("[bcup]")),
        ("major", number()),
        ("minor", number()),
        ("fileMode", number()),
        ("permissions", text("(r|w|m|none)?")),
        ("uid", number()),
    ]);
    let mount = object(vec![
        ("hostPath", path()),
        ("containerPath", path()),
        ("type", text("(bind|tmpfs)?")),
        ("options", list(text("(ro|rbind|\\PC{0,5})"))),
    ]);
    let hook = object(vec![
        ("hookName", text("(prestart|poststop)")),
        ("path", path()),
        ("args", list(text("\\PC{0,8}"))),
        ("timeout", (0..90_u32).prop_map(Value::from).boxed()),
    ]);
    let rdt = object(vec![
        ("closID", text("([a-z]{0,3}|/|a/b)")),
        ("schemata", list(text("L3:0=f"))),
    ]);
    let edits = object(vec![
        ("env", list(text("[A-Z]{1,3}=\\PC{0,8}"))),
        ("deviceNodes", list(node)),
        ("mounts", list(mount)),
        ("hooks", list(hook)),
        ("intelRdt", rdt),
        ("additionalGids", list(number())),
    ]);
    let device = object(vec![
        ("name", text("[a-z0-9]{1,3}")),
        ("containerEdits", edits.clone()),
    ]);
    let fields = vec![
        ("cdiVersion", text("(1\\.1\\.0|1\\.1\\.0|1\\.1\\.0|0\\.7\\.0)")),
        ("kind", text("[a-z]/[a-z]")),
        ("devices", list(device)),
        ("containerEdits", edits),
    ];
    object(fields)
}

/// A value as block style YAML, without quotes where none are needed.
fn yaml(value: &Value, indent: usize) -> String {
    let space = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .map(|(key, value)| format!("\n{space}{key}: {}", yaml(value, indent + 2)))
            .collect(),
        Value::Array(list) if !list.is_empty() => {
            let items = list.iter();
            items
                .map(|value| format!("\n{space}- {}", yaml(value, indent + 2)))
                .collect()
        }
        Value::String(text) if text.len() > 1 && text.chars().all(|c| c.is_ascii_lowercase() || c == '/') => {
            text.clone()
        }
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn json_and_yaml_say_the_same(document in any_document()) {
        let json = parse(&document);
        let yaml = Spec::parse(yaml(&document, 0).as_bytes());
        match (json, yaml) {
            (Ok(json), Ok(yaml)) => prop_assert_eq!(json, yaml),
            (Err(json), Err(yaml)) => prop_assert_eq!(json.to_string(), yaml.to_string()),
            (json, yaml) => prop_assert!(false, "{:?} {:?}", json, yaml),
        }
    }

    #[test]
    fn damaged_files_are_refused_or_valid(at in 0..EVERYTHING.len(), byte: u8, cut: bool) {
        let mut bytes = EVERYTHING.as_bytes().to_vec();
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(spec) = Spec::parse(&bytes) {
            prop_assert!(name::is_kind(&spec.kind) && !spec.devices.is_empty());
        }
    }
}
