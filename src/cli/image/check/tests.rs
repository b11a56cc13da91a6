use super::*;
use crate::proto::admin::CheckedReference;

fn endpoint(url: &str, role: &str) -> CheckedEndpoint {
    CheckedEndpoint {
        url: url.to_owned(),
        repository: "library/busybox".to_owned(),
        role: role.to_owned(),
        asked: true,
        pull: true,
        resolve: true,
        transport: "TLS, verified".to_owned(),
        ..Default::default()
    }
}

fn checked() -> CheckResponse {
    let mirror = CheckedEndpoint {
        file: Some("/etc/pausa/certs.d/docker.io/hosts.toml".to_owned()),
        asked: false,
        resolve: false,
        headers: vec!["x-key".to_owned()],
        ..endpoint("https://mirror.test/v2/", "mirror")
    };
    CheckResponse {
        given: "busybox".to_owned(),
        references: vec![
            CheckedReference {
                reference: "docker.io/library/busybox:latest".to_owned(),
                endpoints: vec![mirror, endpoint("https://registry-1.docker.io/v2/", "registry")],
                ..Default::default()
            },
            CheckedReference {
                reference: "bad.test/busybox:latest".to_owned(),
                refused: Some("registries.conf blocks it".to_owned()),
                blocked: true,
                endpoints: Vec::new(),
            },
        ],
    }
}

#[test]
fn servers_stand_in_their_order() {
    let text = page(&checked());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "docker.io/library/busybox:latest");
    assert!(lines[1].starts_with("SERVER"), "{text}");
    let cells: Vec<_> = lines[2]
        .split("   ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(
        cells,
        [
            "https://mirror.test/v2/",
            "mirror",
            "library/busybox",
            "TLS, verified",
            "/etc/pausa/certs.d/docker.io/hosts.toml",
            "not asked: lacks the capability resolve; headers x-key",
        ]
    );
    assert!(
        lines[3].contains("registry-1.docker.io") && lines[3].ends_with("default"),
        "{text}"
    );
    assert!(
        text.ends_with("bad.test/busybox:latest\nblocked: registries.conf blocks it\n"),
        "{text}"
    );
}

#[test]
fn programs_get_what_the_daemon_said() {
    let json = serde_json::to_value(checked()).unwrap();
    assert_eq!(json["given"], "busybox");
    let references = &json["references"];
    assert!(references[0]["refused"].is_null());
    assert_eq!(references[0]["endpoints"][0]["headers"][0], "x-key");
    // Every field is there, without a value too.
    let endpoint = references[0]["endpoints"][1].as_object().unwrap();
    let mut fields: Vec<_> = endpoint.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "asked",
            "certificates",
            "clientCertificate",
            "condition",
            "dialTimeoutMs",
            "file",
            "headers",
            "key",
            "proxy",
            "pull",
            "repository",
            "resolve",
            "role",
            "rule",
            "tag",
            "transport",
            "url",
        ]
    );
    assert!(endpoint["dialTimeoutMs"].is_null());
}
