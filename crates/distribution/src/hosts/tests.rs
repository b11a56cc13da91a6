use super::*;
use crate::endpoint::{Fallback, Role};
use crate::error::Kind;
use std::time::Duration;

fn setup(host: &str, toml: &str) -> (tempfile::TempDir, HostsDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join(host)).unwrap();
    std::fs::write(dir.path().join(host).join("hosts.toml"), toml).unwrap();
    let hosts = HostsDir::new([dir.path().to_owned()]);
    (dir, hosts)
}

fn resolve(hosts: &HostsDir, reference: &str) -> Result<Vec<Endpoint>, Error> {
    hosts.endpoints(&reference.parse().unwrap())
}

fn bases(endpoints: &[Endpoint]) -> Vec<&str> {
    endpoints.iter().map(|e| e.base.as_str()).collect()
}

#[test]
fn mirrors_keep_the_order_of_the_file_and_the_registry_comes_last() {
    let (_dir, hosts) = setup(
        "docker.io",
        r#"
        [host."https://z.example"]
          capabilities = ["pull", "push"]
          dial_timeout = "1m1500ms"
        [host."http://a.example:5000/cache/v2/"]
          [host."http://a.example:5000/cache/v2/".header]
            x-one = "1"
            x-two = ["a", "b"]
        [host."https://m.example/odd"]
          override_path = true
          skip_verify = true
        "#,
    );
    let found = resolve(&hosts, "busybox").unwrap();
    assert_eq!(
        bases(&found),
        [
            "https://z.example/v2",
            "http://a.example:5000/cache/v2",
            "https://m.example/odd",
            "https://registry-1.docker.io/v2"
        ]
    );
    assert!(found[0].capabilities.pull && !found[0].capabilities.resolve);
    assert_eq!(found[0].dial_timeout, Some(Duration::from_millis(61_500)));
    assert_eq!(found[0].namespace.as_deref(), Some("docker.io"));
    assert!(found[2].tls.skip_verify);
    assert_eq!(found[1].headers.get_all("x-two").iter().count(), 2);
    assert_eq!(found[3].namespace, None);
}

fn pem(chain: &[u8], key: &[u8]) -> ClientPem {
    ClientPem {
        chain: chain.to_vec(),
        key: key.to_vec(),
    }
}

#[test]
fn the_server_takes_the_settings_at_the_top() {
    let (dir, hosts) = setup(
        "r.example_5000_",
        "server = \"https://other.example\"\nca = [\"a.pem\"]\nclient = [[\"c.pem\", \"k.pem\"], \"both.pem\"]\n",
    );
    for name in ["a.pem", "c.pem", "k.pem", "both.pem"] {
        std::fs::write(dir.path().join("r.example_5000_").join(name), name).unwrap();
    }
    let found = resolve(&hosts, "r.example:5000/a").unwrap();
    assert_eq!(bases(&found), ["https://other.example/v2"]);
    assert_eq!(found[0].tls.ca, [b"a.pem".to_vec()]);
    assert_eq!(found[0].tls.client[0], pem(b"c.pem", b"k.pem"));
    assert_eq!(found[0].tls.client[1], pem(b"both.pem", b"both.pem"));
    assert_eq!(found[0].namespace.as_deref(), Some("r.example:5000"));
    // The file is read live.
    std::fs::write(
        dir.path().join("r.example_5000_/hosts.toml"),
        "server = \"http://new.example\"",
    )
    .unwrap();
    assert_eq!(
        bases(&resolve(&hosts, "r.example:5000/a").unwrap()),
        ["http://new.example/v2"]
    );
}

#[test]
fn the_most_specific_directory_counts() {
    let (dir, hosts) = setup("_default", "server = \"https://default.example\"");
    assert_eq!(
        bases(&resolve(&hosts, "r.example:5000/a").unwrap()),
        ["https://default.example/v2"]
    );
    std::fs::create_dir(dir.path().join("r.example:5000")).unwrap();
    std::fs::write(dir.path().join("r.example:5000/x.crt"), "pem").unwrap();
    let found = resolve(&hosts, "r.example:5000/a").unwrap();
    assert_eq!(bases(&found), ["https://r.example:5000/v2"]);
    assert_eq!(found[0].tls.ca, [b"pem".to_vec()]);
}

#[test]
fn a_loopback_server_without_scheme_may_be_plain() {
    let (_dir, hosts) = setup("r.example", "server = \"127.0.0.1:5000\"");
    let found = resolve(&hosts, "r.example/a").unwrap();
    assert_eq!(
        bases(&found),
        ["https://127.0.0.1:5000/v2", "http://127.0.0.1:5000/v2"]
    );
    assert_eq!(found[1].fallback, Fallback::AfterNoTls);
}

#[test]
fn mistakes_are_named() {
    for (toml, word) in [
        ("servr = \"x\"", "servr"),
        ("[host.\"https://m\"]\nskipverify = true", "skipverify"),
        ("[host.\"https://m\"]\ncapabilities = [\"fetch\"]", "fetch"),
        ("[host.\"ftp://m\"]", "ftp://m"),
        ("[host.\"https://u:secret@m\"]", "credentials"),
        ("server = \"https://\"", "server"),
        ("dial_timeout = \"soon\"", "soon"),
        ("proxy = \"http://u:secret@p/x\"", "proxy"),
        (
            "[host.\"https://m\"]\n[host.\"https://m\".host.\"https://n\"]",
            "host",
        ),
        ("ca = \"missing.pem\"", "missing.pem"),
        ("client = [[\"a\", \"b\", \"c\"]]", "pair"),
        ("[header]\n\"bad name\" = \"x\"", "bad name"),
        ("server = ", "hosts.toml"),
        ("\n\nheader = \"Bearer secret\"", "line 3"),
    ] {
        let (_dir, hosts) = setup("r.example", toml);
        let error = resolve(&hosts, "r.example/a").unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{toml}");
        let cause = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        let text = format!("{error} {cause}");
        assert!(text.contains(word), "{toml}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn no_directory_means_defaults() {
    let hosts = HostsDir::new([PathBuf::from("/nonexistent/certs.d")]);
    assert_eq!(
        bases(&resolve(&hosts, "quay.io/a/b").unwrap()),
        ["https://quay.io/v2"]
    );
}

#[test]
fn http_with_tls_settings_means_tls_first() {
    let (_dir, hosts) = setup(
        "docker.io",
        r#"
        server = "https://registry-1.docker.io"
        [host."http://192.168.31.250:5000"]
          capabilities = ["pull", "resolve", "push"]
          skip_verify = true
        [host."http://plain.example"]
          skip_verify = true
        [host."http://plain.example:5000"]
        "#,
    );
    let found = resolve(&hosts, "busybox").unwrap();
    assert_eq!(
        bases(&found),
        [
            "https://192.168.31.250:5000/v2",
            "http://192.168.31.250:5000/v2",
            "http://plain.example/v2",
            "http://plain.example:5000/v2",
            "https://registry-1.docker.io/v2"
        ]
    );
    assert_eq!(found[1].fallback, Fallback::AfterNoTls);
    assert_eq!(found[3].fallback, Fallback::None);
    assert_eq!(found[3].role, Role::Mirror);
    assert_eq!(found[4].role, Role::Registry);
    assert_eq!(found[4].source.key, "server");
}

#[test]
fn an_empty_list_of_capabilities_restricts_nothing_and_letters_do_not_matter() {
    let (_dir, hosts) = setup(
        "r.example",
        "capabilities = []\n[host.\"https://m\"]\ncapabilities = [\"Pull\"]",
    );
    let found = resolve(&hosts, "r.example/a").unwrap();
    assert!(found[0].capabilities.pull && !found[0].capabilities.resolve);
    assert!(found[1].capabilities.pull && found[1].capabilities.resolve);
}

#[test]
fn a_proxy_belongs_to_the_host_it_stands_under() {
    let (_dir, hosts) = setup(
        "r.example",
        "server = \"https://r.example\"\nproxy = \"http://one:8080\"\n[host.\"https://m\"]\nproxy = \"socks5://two:1\"",
    );
    let found = resolve(&hosts, "r.example/a").unwrap();
    assert_eq!(found[0].proxy.as_ref().unwrap().as_str(), "socks5://two:1");
    assert_eq!(found[1].proxy.as_ref().unwrap().as_str(), "http://one:8080/");
}

#[test]
fn an_empty_file_is_like_none() {
    let (dir, hosts) = setup("r.example", "");
    std::fs::write(dir.path().join("r.example/ca.crt"), "pem").unwrap();
    let found = resolve(&hosts, "r.example/a").unwrap();
    assert_eq!(found[0].tls.ca, [b"pem".to_vec()]);
    assert_eq!(
        found[0].source.certificates,
        [dir.path().join("r.example/ca.crt")]
    );
}
