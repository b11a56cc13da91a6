//! What the host adds to a node, with nodes that every host has.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use super::*;

fn node(path: &str) -> DeviceNode {
    DeviceNode {
        path: path.to_owned(),
        host_path: None,
        kind: None,
        major: 0,
        minor: 0,
        file_mode: None,
        access: Some("rwm".to_owned()),
        uid: None,
        gid: None,
    }
}

/// Type, numbers and mode.
fn parts(node: &DeviceNode) -> (LinuxDeviceType, i64, i64, Option<u32>) {
    let Device { device, .. } = node.device().unwrap();
    (device.typ(), device.major(), device.minor(), device.file_mode())
}

/// A directory with a pipe, a link to `/dev/null` and a file.
fn host() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().to_owned();
    let path = move |name: &str| root.join(name).to_str().unwrap().to_owned();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::from(0o640)).unwrap();
    std::os::unix::fs::symlink("/dev/null", path("link")).unwrap();
    fs::write(path("file"), "").unwrap();
    (temporary, path)
}

#[test]
fn what_is_missing_comes_from_the_host() {
    let (_host, path) = host();
    let null = fs::symlink_metadata("/dev/null").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&null.permissions()) & 0o7777;
    use LinuxDeviceType::{C, P};
    assert_eq!(parts(&node("/dev/null")), (C, 1, 3, Some(mode)));
    let elsewhere = DeviceNode {
        host_path: Some("/dev/null".to_owned()),
        ..node("/dev/vendor")
    };
    assert_eq!(parts(&elsewhere), (C, 1, 3, Some(mode)));
    assert_eq!(
        elsewhere.device().unwrap().device.path(),
        &PathBuf::from("/dev/vendor")
    );
    let typed = DeviceNode {
        kind: Some(C),
        file_mode: Some(0o600),
        ..node("/dev/null")
    };
    assert_eq!(parts(&typed), (C, 1, 3, Some(0o600)));
    let numbered = DeviceNode {
        major: 9,
        minor: 8,
        ..node("/dev/null")
    };
    assert_eq!(parts(&numbered), (C, 9, 8, Some(mode)));
    let minor_only = DeviceNode {
        minor: 8,
        ..node("/dev/null")
    };
    assert_eq!(parts(&minor_only), (C, 1, 3, Some(mode)));
    assert_eq!(parts(&node(&path("pipe"))), (P, 0, 0, Some(0o640)));
}

#[test]
fn a_complete_node_need_not_be_on_the_host() {
    use LinuxDeviceType::{B, P};
    let block = DeviceNode {
        kind: Some(B),
        major: 8,
        ..node("/dev/pausa-no-such-node")
    };
    assert_eq!(parts(&block), (B, 8, 0, None));
    let other = DeviceNode {
        kind: Some(B),
        major: 8,
        ..node("/dev/null")
    };
    assert_eq!(parts(&other).0, B, "the host only adds a mode");
    let pipe = DeviceNode {
        kind: Some(P),
        ..node("/dev/pausa-no-such-node")
    };
    assert_eq!(parts(&pipe), (P, 0, 0, None));
}

#[test]
fn what_the_host_does_not_have_is_named() {
    let (_host, path) = host();
    let missing = node("/dev/pausa-no-such-node").device().unwrap_err();
    assert!(
        missing.to_string().contains("/dev/pausa-no-such-node"),
        "{missing}"
    );
    assert!(missing.source().is_some());
    for name in ["link", "file"] {
        let error = node(&path(name)).device().unwrap_err();
        assert!(
            matches!(&error, CdiError::NotANode { path: named } if named.ends_with(name)),
            "{error}"
        );
    }
    let block = DeviceNode {
        kind: Some(LinuxDeviceType::B),
        ..node("/dev/null")
    };
    let error = block.device().unwrap_err().to_string();
    assert!(error.contains("/dev/null") && error.contains("type c"), "{error}");
}
