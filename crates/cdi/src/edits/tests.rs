//! What edits make of an OCI spec.

use serde_json::{Value, json};

use super::*;

/// The edits of a device.
fn edits(edits: &Value) -> Edits {
    let document = json!({
        "cdiVersion": "1.1.0", "kind": "v/c", "devices": [{"name": "d", "containerEdits": edits}],
    });
    let spec = crate::Spec::parse(document.to_string().as_bytes()).unwrap();
    let mut edits = Edits::default();
    edits.add(&spec.devices["d"]).unwrap();
    edits
}

/// The spec with the edits of a device, as JSON.
fn apply(spec: &Value, device: &Value) -> Value {
    let mut all =
        json!({"ociVersion": "1.2.0", "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}}, "linux": {}});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    let mut spec: Spec = serde_json::from_value(all).unwrap();
    edits(device).apply(&mut spec).unwrap();
    serde_json::to_value(&spec).unwrap()
}

fn user(uid: u32, gid: u32) -> Value {
    json!({"cwd": "/", "user": {"uid": uid, "gid": gid}})
}

#[test]
fn variables_replace_those_with_the_same_name_where_they_are() {
    let process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["A=1", "ODD", "B=2", "A=3"]});
    let env = json!({"env": ["B=x=y", "C=", "A=5", "ODD=6", "C=7"]});
    let after = apply(&json!({"process": process}), &env);
    assert_eq!(
        after["process"]["env"],
        json!(["A=1", "ODD=6", "B=x=y", "A=5", "C=7"])
    );
}

#[test]
fn devices_replace_those_with_the_same_path_and_are_allowed() {
    let device = |path: &str, minor: u32| json!({"path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 384});
    let linux = json!({
        "devices": [device("/dev/a", 1), device("/dev/b", 2)],
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
    });
    let nodes = json!({"deviceNodes": [
        {"path": "/dev/a", "type": "c", "major": 9, "minor": 1, "permissions": "r", "fileMode": 384},
        {"path": "/dev/c", "type": "b", "major": 9, "minor": 2, "fileMode": 384, "uid": 0, "gid": 7},
        {"path": "/dev/d", "type": "u", "major": 9, "minor": 3, "fileMode": 384},
        {"path": "/dev/e", "type": "p", "fileMode": 384},
        {"path": "/dev/f", "type": "c", "major": 9, "minor": 4, "permissions": "none", "fileMode": 384},
        {"path": "/dev/c", "type": "b", "major": 9, "minor": 5, "fileMode": 384},
    ]});
    let after = apply(&json!({"linux": linux, "process": user(5, 0)}), &nodes);
    let added = |path: &str, kind: &str, major: u32, minor: u32| {
        let mut device = json!({"path": path, "type": kind, "major": major, "minor": minor});
        device["fileMode"] = json!(384);
        device["uid"] = json!(5);
        device
    };
    let devices = json!([
        device("/dev/b", 2),
        added("/dev/a", "c", 9, 1),
        added("/dev/d", "u", 9, 3),
        added("/dev/e", "p", 0, 0),
        added("/dev/f", "c", 9, 4),
        added("/dev/c", "b", 9, 5),
    ]);
    assert_eq!(after["linux"]["devices"], devices);
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 9, "minor": 1, "access": "r"},
        {"allow": true, "type": "b", "major": 9, "minor": 2, "access": "rwm"},
        {"allow": true, "type": "b", "major": 9, "minor": 5, "access": "rwm"},
    ]);
    assert_eq!(after["linux"]["resources"]["devices"], rules);
}

#[test]
fn devices_have_an_owner_of_their_own_or_the_user_of_the_process() {
    for (process, own, expected) in [
        ((0, 0), json!({}), (None, None)),
        ((5, 6), json!({}), (Some(5), Some(6))),
        ((0, 6), json!({}), (None, Some(6))),
        ((5, 6), json!({"uid": 0, "gid": 7}), (Some(0), Some(7))),
    ] {
        let mut node = json!({"path": "/dev/a", "type": "c", "major": 9});
        node.as_object_mut()
            .unwrap()
            .extend(own.as_object().unwrap().clone());
        let after = apply(
            &json!({"process": user(process.0, process.1)}),
            &json!({"deviceNodes": [node]}),
        );
        let device = &after["linux"]["devices"][0];
        assert_eq!(
            (device.get("uid"), device.get("gid")),
            (
                expected.0.map(Value::from).as_ref(),
                expected.1.map(Value::from).as_ref(),
            )
        );
    }
}

#[test]
fn mounts_replace_those_at_the_same_place_and_parents_come_first() {
    let mount = |destination: &str, source: &str| json!({"destination": destination, "source": source});
    let before = json!([
        mount("/a/b/c", "1"),
        mount("/proc", "2"),
        mount("/a/b", "3"),
        mount("/dev", "4"),
        mount("/dev/shm", "5"),
        mount("/", "6"),
    ]);
    let new = |path: &str, source: &str| json!({"hostPath": source, "containerPath": path});
    let mounts =
        json!({"mounts": [new("/dev/", "/7"), new("/a", "/8"), new("/a/b/../x", "/9"), new("/a", "/10")]});
    let after = apply(&json!({"mounts": before}), &mounts);
    let order: Vec<_> = after["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| &mount["source"])
        .collect();
    assert_eq!(order, ["6", "2", "/7", "/10", "3", "5", "/9", "1"]);
    let untouched = apply(&json!({"mounts": before}), &json!({"env": ["A=b"]}));
    assert_eq!(untouched["mounts"], before);
}

#[test]
fn bind_mounts_of_a_user_namespace_are_mapped() {
    let options = |linux: Value, kind: &str, options: &[&str]| {
        let mount = json!({"hostPath": "/a", "containerPath": "/b", "type": kind, "options": options});
        let after = apply(&json!({"linux": linux}), &json!({"mounts": [mount]}));
        after["mounts"][0]["options"].as_array().unwrap().last().cloned()
    };
    let user = json!({"namespaces": [{"type": "mount"}, {"type": "user"}]});
    for (kind, given, last) in [
        ("", vec!["ro", "bind"], "idmap"),
        ("bind", vec!["rbind", "ro"], "ridmap"),
        ("bind", vec!["ro"], "idmap"),
        ("bind", vec!["idmap", "rbind"], "rbind"),
        ("bind", vec!["ridmap", "ro"], "ro"),
        ("tmpfs", vec!["ro"], "ro"),
    ] {
        assert_eq!(
            options(user.clone(), kind, &given),
            Some(json!(last)),
            "{kind} {given:?}"
        );
        assert_eq!(
            options(json!({}), kind, &given),
            given.last().map(|last| json!(last))
        );
    }
}

#[test]
fn hooks_and_groups_are_appended_and_the_rest_is_set() {
    let before = json!({
        "hooks": {"poststop": [{"path": "/1"}]},
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0, "additionalGids": [3, 4]}},
        "linux": {"intelRdt": {"closID": "old", "memBwSchema": "MB:0=1"}, "netDevices": {"a": {"name": "b"}}},
    });
    let hook = |name: &str, path: &str| json!({"hookName": name, "path": path});
    let names = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    let mut hooks: Vec<Value> = names.iter().map(|name| hook(name, &format!("/{name}"))).collect();
    hooks.push(hook("poststop", "/2"));
    let device = json!({
        "hooks": hooks,
        "additionalGids": [0, 5, 4, 5],
        "intelRdt": {"closID": "new"},
        "netDevices": [{"hostInterfaceName": "a", "name": "c"}, {"hostInterfaceName": "d", "name": "e"}],
    });
    let after = apply(&before, &device);
    for name in &names[..5] {
        assert_eq!(after["hooks"][name], json!([{"path": format!("/{name}")}]));
    }
    assert_eq!(
        after["hooks"]["poststop"],
        json!([{"path": "/1"}, {"path": "/poststop"}, {"path": "/2"}])
    );
    assert_eq!(after["process"]["user"]["additionalGids"], json!([3, 4, 5]));
    assert_eq!(after["linux"]["intelRdt"], json!({"closID": "new"}));
    assert_eq!(
        after["linux"]["netDevices"],
        json!({"a": {"name": "c"}, "d": {"name": "e"}})
    );
}

#[test]
fn no_edits_change_nothing_and_no_spec_is_changed_in_part() {
    let before = json!({"ociVersion": "1.2.0", "process": user(1, 2), "linux": {}});
    let mut spec: Spec = serde_json::from_value(before.clone()).unwrap();
    Edits::default().apply(&mut spec).unwrap();
    assert_eq!(spec, serde_json::from_value(before.clone()).unwrap());
    let edits = edits(&json!({"env": ["A=b"], "additionalGids": [1]}));
    for part in ["process", "linux"] {
        let mut less = before.clone();
        less.as_object_mut().unwrap().remove(part);
        let less: Spec = serde_json::from_value(less).unwrap();
        let mut spec = less.clone();
        let error = edits.apply(&mut spec).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(spec, less);
    }
}
