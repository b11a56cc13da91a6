use super::*;
use crate::error::Kind;
use crate::reference::Reference;

/// Files by name below one directory; `registries.conf` is the main one.
fn setup(files: &[(&str, &str)]) -> (tempfile::TempDir, Registries) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let registries =
        Registries::new([dir.path().join("hosts")]).with_conf(dir.path().join("registries.conf"), false);
    (dir, registries)
}

fn main(text: &str) -> (tempfile::TempDir, Registries) {
    setup(&[("registries.conf", text)])
}

/// Where a pull would go, as `base/repository`.
fn way(registries: &Registries, reference: &str) -> Result<Vec<String>, Error> {
    let reference: Reference = reference.parse().unwrap();
    let endpoints = registries.endpoints(&reference)?;
    Ok(endpoints
        .iter()
        .map(|endpoint| format!("{}/{}", endpoint.base, endpoint.repository))
        .collect())
}

fn names(registries: &Registries, text: &str) -> Result<Vec<String>, Error> {
    let names = registries.names(text)?;
    Ok(names.iter().map(ToString::to_string).collect())
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn the_example_of_the_manual_page_goes_where_it_says() {
    let (_dir, registries) = main(
        r#"
        unqualified-search-registries = ["example.com"]
        [[registry]]
        prefix = "example.com/foo"
        insecure = false
        blocked = false
        location = "internal-registry-for-example.com/bar"
        [[registry.mirror]]
        location = "example-mirror-0.local/mirror-for-foo"
        [[registry.mirror]]
        location = "example-mirror-1.local/mirrors/foo"
        insecure = true
        "#,
    );
    assert_eq!(
        way(&registries, "example.com/foo/image:latest").unwrap(),
        [
            "https://example-mirror-0.local/v2/mirror-for-foo/image",
            "https://example-mirror-1.local/v2/mirrors/foo/image",
            "http://example-mirror-1.local/v2/mirrors/foo/image",
            "https://internal-registry-for-example.com/v2/bar/image",
        ]
    );
    let reference = "example.com/foo/image".parse().unwrap();
    let found = registries.endpoints(&reference).unwrap();
    assert!(found[1].tls.skip_verify && !found[0].tls.skip_verify);
    assert_eq!(found[2].fallback, Fallback::AfterNoConnection);
    assert_eq!((found[0].role, found[3].role), (Role::Mirror, Role::Registry));
    assert_eq!(found[0].registry, "example.com");
    // The names that mirrors are asked for are their own: no `ns`.
    assert!(found.iter().all(|endpoint| endpoint.namespace.is_none()));
    // `example.com/foobar` does not begin with `example.com/foo`.
    assert_eq!(
        way(&registries, "example.com/foobar/x").unwrap(),
        ["https://example.com/v2/foobar/x"]
    );
}

#[test]
fn the_longest_prefix_counts_and_wildcards_match_subdomains() {
    let (_dir, registries) = main(
        r#"
        [[registry]]
        location = "r.example"
        [[registry]]
        prefix = "r.example/team"
        location = "in.example/t"
        [[registry]]
        prefix = "r.example/team/app:1"
        location = "in.example/one/app:2"
        [[registry]]
        prefix = "*.wild.example"
        location = "in.example/wild"
        [[registry]]
        prefix = "*.deep.wild.example"
        "#,
    );
    for (reference, expected) in [
        ("r.example/other", "https://r.example/v2/other"),
        ("r.example/team/x", "https://in.example/v2/t/x"),
        ("r.example/team/app:1", "https://in.example/v2/one/app"),
        ("a.wild.example/x", "https://in.example/v2/wild/x"),
        ("a.b.wild.example/x/y", "https://in.example/v2/wild/x/y"),
        (
            "a.deep.wild.example:5000/x",
            "https://a.deep.wild.example:5000/v2/x",
        ),
        ("wild.example/x", "https://wild.example/v2/x"),
        (
            "notwild.example/a.wild.example",
            "https://notwild.example/v2/a.wild.example",
        ),
    ] {
        assert_eq!(way(&registries, reference).unwrap(), [expected], "{reference}");
    }
    let renamed = registries
        .endpoints(&"r.example/team/app:1".parse().unwrap())
        .unwrap();
    assert_eq!(renamed[0].tag.as_deref(), Some("2"));
}

#[test]
fn mirrors_serve_tags_or_digests_as_they_are_told() {
    let (_dir, registries) = main(
        r#"
        [[registry]]
        location = "r.example"
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "all.example"
        pull-from-mirror = "all"
        [[registry]]
        location = "old.example"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m.example"
        "#,
    );
    let hosts = |reference: &str| -> Vec<String> {
        let endpoints = registries.endpoints(&reference.parse().unwrap()).unwrap();
        endpoints.iter().map(Endpoint::host).collect()
    };
    assert_eq!(
        hosts("r.example/a:1"),
        ["tags.example", "all.example", "r.example"]
    );
    let by_digest = ["digests.example", "all.example", "r.example"];
    assert_eq!(hosts(&format!("r.example/a@{DIGEST}")), by_digest);
    assert_eq!(hosts(&format!("r.example/a:1@{DIGEST}")), by_digest);
    assert_eq!(hosts("old.example/a"), ["old.example"]);
    assert_eq!(
        hosts(&format!("old.example/a@{DIGEST}")),
        ["m.example", "old.example"]
    );
}

#[test]
fn blocked_names_are_refused_with_the_file_that_does_it() {
    let (dir, registries) = main("[[registry]]\nprefix = \"docker.io/library\"\nblocked = true\n");
    let error = way(&registries, "busybox").unwrap_err();
    assert_eq!(error.kind(), Kind::Blocked);
    let text = error.to_string();
    assert!(
        text.contains("docker.io/library/busybox") && text.contains("registries.conf"),
        "{text}"
    );
    assert!(way(&registries, "docker.io/team/app").is_ok());
    // Read live.
    std::fs::write(dir.path().join("registries.conf"), "").unwrap();
    assert!(way(&registries, "busybox").is_ok());
}

#[test]
fn short_names_follow_aliases_then_the_search_list() {
    let (_dir, registries) = main(
        r#"
        unqualified-search-registries = ["one.example", "two.example:5000"]
        [aliases]
        app = "r.example/team/app"
        "team/tool" = "r.example/tool"
        "#,
    );
    assert_eq!(names(&registries, "app").unwrap(), ["r.example/team/app:latest"]);
    assert_eq!(names(&registries, "app:2").unwrap(), ["r.example/team/app:2"]);
    assert_eq!(
        names(&registries, &format!("team/tool@{DIGEST}")).unwrap(),
        [format!("r.example/tool@{DIGEST}")]
    );
    assert_eq!(
        names(&registries, "busybox:1").unwrap(),
        ["one.example/busybox:1", "two.example:5000/busybox:1"]
    );
    assert_eq!(names(&registries, "r.example/x").unwrap(), ["r.example/x:latest"]);
    assert_eq!(names(&registries, "localhost/x").unwrap(), ["localhost/x:latest"]);
    assert_eq!(
        names(&registries, "UPPER").unwrap_err().kind(),
        Kind::InvalidReference
    );
    let (_dir, silent) = main("");
    assert_eq!(
        names(&silent, "busybox").unwrap(),
        ["docker.io/library/busybox:latest"]
    );
}

#[test]
fn enforcing_refuses_what_is_ambiguous() {
    let (_dir, two) = main(
        "unqualified-search-registries = [\"a.example\", \"b.example\"]\nshort-name-mode = \"enforcing\"",
    );
    let error = names(&two, "busybox").unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidReference);
    assert!(error.to_string().contains("enforcing"), "{error}");
    let (_dir, one) =
        main("unqualified-search-registries = [\"a.example\"]\nshort-name-mode = \"enforcing\"");
    assert_eq!(names(&one, "busybox").unwrap(), ["a.example/busybox:latest"]);
    let (_dir, none) = main("unqualified-search-registries = []");
    assert_eq!(
        names(&none, "busybox").unwrap_err().kind(),
        Kind::InvalidReference
    );
}

#[test]
fn drop_ins_go_over_the_main_file_in_lexical_order() {
    let (_dir, registries) = setup(&[
        (
            "registries.conf",
            "unqualified-search-registries = [\"main.example\"]\n[aliases]\na = \"r.example/a\"\nb = \"r.example/b\"\n[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\nlocation = \"m.example\"\n",
        ),
        (
            "registries.conf.d/20.conf",
            "unqualified-search-registries = [\"second.example\"]\n[aliases]\na = \"\"\n",
        ),
        (
            "registries.conf.d/10.conf",
            "unqualified-search-registries = [\"first.example\"]\n[aliases]\nb = \"r.example/other\"\n",
        ),
        (
            "registries.conf.d/30.conf",
            "[[registry]]\nlocation = \"r.example\"\ninsecure = true\n",
        ),
        ("registries.conf.d/40.conf.off", "nonsense"),
    ]);
    assert_eq!(names(&registries, "a").unwrap(), ["second.example/a:latest"]);
    assert_eq!(names(&registries, "b").unwrap(), ["r.example/other:latest"]);
    assert_eq!(
        way(&registries, "r.example/x").unwrap(),
        ["https://r.example/v2/x", "http://r.example/v2/x"]
    );
}

#[test]
fn hosts_toml_says_how_the_named_servers_are_reached() {
    let (_dir, registries) = setup(&[
        (
            "registries.conf",
            "[[registry]]\nlocation = \"docker.io\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"m.example\"\n[[registry.mirror]]\nlocation = \"n.example\"\n",
        ),
        (
            "hosts/docker.io/hosts.toml",
            "server = \"https://registry-1.docker.io\"\n[host.\"https://cache.example\"]\n",
        ),
        (
            "hosts/m.example/hosts.toml",
            "server = \"http://10.0.0.1:5000\"\n",
        ),
        (
            "hosts/_default/hosts.toml",
            "server = \"https://default.example\"\n",
        ),
        ("certs.d/n.example/ca.crt", "pem"),
    ]);
    assert_eq!(
        way(&registries, "busybox").unwrap(),
        [
            "http://10.0.0.1:5000/v2/library/busybox",
            "https://n.example/v2/library/busybox",
            "https://cache.example/v2/library/busybox",
            "https://registry-1.docker.io/v2/library/busybox",
        ]
    );
    let found = registries.endpoints(&"busybox".parse().unwrap()).unwrap();
    assert_eq!(found[1].tls.ca, [b"pem".to_vec()]);
    assert_eq!(found[2].role, Role::Mirror);
    // `_default` is for hosts that nothing else names.
    assert_eq!(
        way(&registries, "quay.io/a/b").unwrap(),
        ["https://default.example/v2/a/b"]
    );
}

#[test]
fn insecure_on_loopback_has_one_plain_twin() {
    let (_dir, registries) = main("[[registry]]\nlocation = \"localhost:5000\"\ninsecure = true\n");
    assert_eq!(
        way(&registries, "localhost:5000/a").unwrap(),
        ["https://localhost:5000/v2/a", "http://localhost:5000/v2/a"]
    );
}

#[test]
fn version_1_is_understood() {
    let (_dir, registries) = main(
        "[registries.search]\nregistries = ['one.example']\n[registries.insecure]\nregistries = ['two.example']\n[registries.block]\nregistries = ['bad.example']\n",
    );
    assert_eq!(names(&registries, "a").unwrap(), ["one.example/a:latest"]);
    assert_eq!(way(&registries, "two.example/a").unwrap().len(), 2);
    assert_eq!(
        way(&registries, "bad.example/a").unwrap_err().kind(),
        Kind::Blocked
    );
}

#[test]
fn mistakes_are_named() {
    for (text, word) in [
        ("[[registry]]", "neither prefix nor location"),
        ("[[registry]]\nlocation = \"https://r.example\"", "scheme"),
        ("[[registry]]\nprefix = \"a.*.example\"", "*"),
        ("[[registry]]\nprefix = \"*.a.example/x\"", "wildcard"),
        ("[[registry]]\nprefix = \"*.a.example:5000\"", "wildcard"),
        (
            "[[registry]]\nlocation = \"r.example\"\nblokced = true",
            "blokced",
        ),
        (
            "[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\ninsecure = true",
            "location",
        ),
        (
            "[[registry]]\nlocation = \"r.example\"\n[[registry.mirror]]\nlocation = \"m.example\"\npull-from-mirror = \"some\"",
            "digest-only",
        ),
        (
            "[[registry]]\nlocation = \"r.example\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"m.example\"\npull-from-mirror = \"all\"",
            "mirror-by-digest-only",
        ),
        (
            "[[registry]]\nlocation = \"r.example\"\npull-from-mirror = \"all\"",
            "pull-from-mirror",
        ),
        (
            "[[registry]]\nprefix = \"r.example\"\nlocation = \"nodots\"",
            "nodots",
        ),
        ("unqualified-search-registries = [\"r.example/x\"]", "r.example/x"),
        ("unqualified-search-registries = [\"nodots\"]", "nodots"),
        ("short-name-mode = \"lax\"", "lax"),
        ("[aliases]\n\"r.example/a\" = \"r.example/b\"", "short name"),
        ("[aliases]\n\"a:1\" = \"r.example/b\"", "short name"),
        ("[aliases]\na = \"b\"", "full name"),
        ("[aliases]\na = \"r.example/b:1\"", "full name"),
        (
            "unqualified-search-registries = [\"a.b\"]\n[registries.block]\nregistries = []",
            "version 1",
        ),
        ("x = ", "line 1"),
    ] {
        let (_dir, registries) = main(text);
        let error = way(&registries, "r.example/a").unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{text}");
        assert!(error.to_string().contains(word), "{text}: {error}");
        assert!(error.to_string().contains("registries.conf"), "{error}");
    }
}

#[test]
fn a_file_that_is_required_must_be_there() {
    let missing = std::path::PathBuf::from("/nonexistent/registries.conf");
    let required = Registries::default().with_conf(missing.clone(), true);
    assert_eq!(way(&required, "r.example/a").unwrap_err().kind(), Kind::Config);
    let optional = Registries::default().with_conf(missing, false);
    assert!(way(&optional, "r.example/a").is_ok());
}
