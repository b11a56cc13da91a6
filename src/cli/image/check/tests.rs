use serde_json::json;

use super::*;

fn document() -> Document {
    let endpoint = |url: &str, role: &str| {
        json!({
            "url": url, "repository": "library/busybox", "tag": null, "role": role, "asked": true, "condition": null,
            "pull": true, "resolve": true, "file": null, "key": null, "rule": null, "transport": "TLS, verified",
            "certificates": [], "clientCertificate": false, "headers": [], "dialTimeoutMs": null, "proxy": null,
            "of a newer daemon": 1,
        })
    };
    let mut mirror = endpoint("https://mirror.test/v2/", "mirror");
    mirror["file"] = json!("/etc/pausa/certs.d/docker.io/hosts.toml");
    mirror["asked"] = json!(false);
    mirror["resolve"] = json!(false);
    mirror["headers"] = json!(["x-key"]);
    let told = json!({"given": "busybox", "references": [
        {"reference": "docker.io/library/busybox:latest", "refused": null, "blocked": false,
         "endpoints": [mirror, endpoint("https://registry-1.docker.io/v2/", "registry")]},
        {"reference": "bad.test/busybox:latest", "refused": "registries.conf blocks it", "blocked": true,
         "endpoints": []},
    ]});
    serde_json::from_value(told).unwrap()
}

#[test]
fn servers_stand_in_their_order() {
    let text = page(&document());
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
    let json = serde_json::to_value(document()).unwrap();
    assert_eq!(json["references"][0]["endpoints"][0]["headers"][0], "x-key");
    assert!(json["references"][0]["endpoints"][1]["dialTimeoutMs"].is_null());
}
