use super::*;

fn covers(pattern: &str, name: &str) -> bool {
    Pinned::new(&[pattern.to_owned()]).covers([&name.to_owned()])
}

#[test]
fn patterns_are_references_or_have_stars() {
    let name = "registry.k8s.io/coredns/coredns:v1.12";
    let digest = format!("docker.io/library/busybox@sha256:{}", "ab".repeat(32));
    for (pattern, name, expected) in [
        (name, name, true),
        ("registry.k8s.io/coredns/coredns", name, false),
        ("busybox", "docker.io/library/busybox:latest", true),
        ("busybox:1", "docker.io/library/busybox:latest", false),
        (digest.as_str(), digest.as_str(), true),
        ("registry.k8s.io/*", name, true),
        ("*coredns*", name, true),
        ("*/coredns:*", name, true),
        ("*:v1.12", name, true),
        ("*:v1.1", name, false),
        ("registry.k8s.io/*/coredns:v1.12", name, true),
        ("registry.k8s.io/*/coredns:v1.12*v1.12", name, false),
        ("*", name, true),
        ("**", name, true),
        ("", name, false),
        ("quay.io/*", name, false),
    ] {
        assert_eq!(covers(pattern, name), expected, "{pattern} {name}");
    }
}

#[test]
fn nothing_is_pinned_without_a_pattern_or_a_name() {
    assert!(!Pinned::default().covers([&"a:b".to_owned()]));
    assert!(!Pinned::new(&["*".to_owned()]).covers([]));
}
