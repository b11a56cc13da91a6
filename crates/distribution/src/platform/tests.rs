use super::*;

fn parse(text: &str) -> Platform {
    let mut parts = text.split('/');
    Platform::new(parts.next().unwrap(), parts.next().unwrap(), parts.next())
}

fn best(wanted: &str, offered: &[&str]) -> Option<String> {
    let offered: Vec<Platform> = offered.iter().map(|p| parse(p)).collect();
    parse(wanted)
        .best(offered.iter())
        .map(|at| offered[at].to_string())
}

#[test]
fn the_best_runnable_variant_is_chosen() {
    let all = [
        "linux/386",
        "linux/arm/v5",
        "linux/arm/v7",
        "linux/arm64/v8",
        "linux/amd64",
        "windows/amd64",
    ];
    for (wanted, found) in [
        ("linux/amd64", Some("linux/amd64")),
        ("linux/x86_64", Some("linux/amd64")),
        ("linux/amd64/v3", Some("linux/amd64")),
        ("linux/arm64", Some("linux/arm64/v8")),
        ("linux/aarch64/v9", Some("linux/arm64/v8")),
        ("linux/arm", Some("linux/arm/v7")),
        ("linux/arm/v6", Some("linux/arm/v5")),
        ("linux/riscv64", None),
    ] {
        assert_eq!(best(wanted, &all).as_deref(), found, "{wanted}");
    }
    assert_eq!(
        best("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"]).as_deref(),
        Some("linux/amd64/v2")
    );
    assert_eq!(best("linux/amd64", &["linux/amd64/v2"]), None);
    assert_eq!(
        best("linux/arm64", &["linux/arm/v6", "linux/arm64"]).as_deref(),
        Some("linux/arm64")
    );
    assert_eq!(
        best("linux/arm64", &["linux/arm/v6", "linux/arm/v7"]).as_deref(),
        Some("linux/arm/v7")
    );
    assert_eq!(best("linux/amd64", &["unknown/unknown"]), None);
}

#[test]
fn among_equals_the_first_wins() {
    let offered = [parse("linux/amd64"), parse("linux/amd64")];
    assert_eq!(parse("linux/amd64").best(offered.iter()), Some(0));
}
