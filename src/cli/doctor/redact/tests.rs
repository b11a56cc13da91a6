use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn texts_lose_what_looks_like_a_secret_and_keep_the_rest() {
    for (given, expected) in [
        (
            "pull https://me:hunter2@r.example/v2 failed",
            "pull https://[redacted]@r.example/v2 failed",
        ),
        ("http://token@proxy:3128", "http://[redacted]@proxy:3128"),
        (
            "Authorization: Bearer abc.def-123",
            "Authorization: [redacted] [redacted]",
        ),
        ("header Bearer abcdef-123;", "header Bearer [redacted];"),
        ("x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln y", "x [redacted] y"),
        ("db_password=hunter2, next", "db_password=[redacted], next"),
        ("\"api-key\": \"a b\"", "\"api-key\": [redacted]"),
        (
            "pausa image pull --creds u:p IMAGE",
            "pausa image pull --creds [redacted] IMAGE",
        ),
        (
            "k -----BEGIN RSA PRIVATE KEY-----\nAA\n-----END RSA PRIVATE KEY----- v",
            "k [redacted] v",
        ),
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[redacted]"),
    ] {
        assert_eq!(text(given), expected);
    }
    for harmless in [
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "cgroup /kubepods/burstable/pod6d3c1f2a-1b2c-4d5e-8f90-0123456789ab/1a2b3c4d5e6f",
        "the setting network.bridge.subnet is 10.88.0.0/16",
        "2026-01-02T03:00:01.120+00:00 INFO serving version=0.1.0",
        "/var/lib/kubelet/pods/volumes/kubernetes.io~projected/kube-api-access-x7x2z",
        "nf_conntrack_max_connections_of_this_node",
    ] {
        assert_eq!(text(harmless), harmless);
    }
}

#[test]
fn documents_keep_their_form() {
    let mut document = json!({
        "metadata": {"name": "web-0", "annotations": {
            "app": "web",
            "vault.example/role": "abcd1234abcd1234zzzz",
            "checksum/config": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "kubectl.kubernetes.io/last-applied-configuration": "{\"spec\":{\"password\":\"hunter2\",\"a\":1}}",
        }},
        "envs": [{"key": "A", "value": "hunter2"}],
        "command": ["sh", "-c", "hunter2"],
        "auth": {"username": "me", "password": "hunter2"},
        "empty_token": "",
        "has_token": false,
        "auth_file": "/etc/pausa/auth.json",
        "https://me:hunter2@r.example": {"skip_verify": true},
        "image": "r.example/app:1",
    });
    json(&mut document);
    assert_eq!(
        document,
        json!({
            "metadata": {"name": "web-0", "annotations": {
                "app": "web",
                "vault.example/role": REMOVED,
                "checksum/config": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "kubectl.kubernetes.io/last-applied-configuration": "{\"spec\":{\"a\":1,\"password\":\"[redacted]\"}}",
            }},
            "envs": REMOVED,
            "command": REMOVED,
            "auth": REMOVED,
            "empty_token": "",
            "has_token": false,
            "auth_file": "/etc/pausa/auth.json",
            "https://[redacted]@r.example": {"skip_verify": true},
            "image": "r.example/app:1",
        })
    );
}

#[test]
fn headers_of_registries_go_whatever_they_are() {
    let given = "server = \"https://u:hunter2@r.example\"\n[header]\nx-anything = [\"hunter2\"]\n[host.\"https://u:hunter2@m.example\".header]\nx = \"hunter2\"\n";
    let clean = toml(given).unwrap().to_string();
    assert!(!clean.contains("hunter2"), "{clean}");
    assert!(
        clean.contains("r.example") && clean.contains("x-anything"),
        "{clean}"
    );
    assert_eq!(toml("server = \"hunter2"), None);
}

proptest! {
    #[test]
    fn a_password_never_survives_in_the_usual_places(secret in "[a-zA-Z0-9]{8,24}", user in "[a-z]{1,8}") {
        prop_assume!(!REMOVED.contains(&secret));
        let texts = [
            format!("https://{user}:{secret}@r.example/v2/"),
            format!("password={secret}"),
            format!("\"token\": \"{secret}\""),
            format!("Bearer {secret}"),
            format!("--creds {user}:{secret}"),
        ];
        for given in texts {
            let clean = text(&format!("before {given} after"));
            prop_assert!(!clean.contains(&secret), "{clean}");
            prop_assert!(clean.starts_with("before ") && clean.ends_with(" after"), "{clean}");
        }
        let mut document = json!({"a": [{"registryPassword": secret, "env": {"X": secret}, "args": [secret]}]});
        json(&mut document);
        prop_assert!(!document.to_string().contains(&secret));
    }

    #[test]
    fn any_text_can_be_cleaned(given in ".*") {
        text(&given);
        let mut value = Value::from(given);
        json(&mut value);
    }
}
