use super::*;
use std::collections::HashMap;

fn proxies(pairs: &[(&str, &str)]) -> Proxies {
    let variables: HashMap<&str, &str> = pairs.iter().copied().collect();
    Proxies::from_lookup(|name| variables.get(name).map(|value| (*value).to_owned()))
}

fn of(proxies: &Proxies, url: &str) -> Option<String> {
    proxies.of(&Url::parse(url).unwrap()).map(shown)
}

#[test]
fn the_scheme_of_the_url_decides_which_variable() {
    let set = proxies(&[
        ("HTTP_PROXY", "one:8080"),
        ("https_proxy", "http://u:secret@two:3128"),
    ]);
    assert_eq!(of(&set, "http://r.example/v2"), Some("http://one:8080".into()));
    assert_eq!(of(&set, "https://r.example/v2"), Some("http://two:3128".into()));
    assert!(!format!("{set:?}").contains("secret"));
    let all = proxies(&[("ALL_PROXY", "socks5://s:1080"), ("HTTP_PROXY", "one:8080")]);
    assert_eq!(of(&all, "https://r.example"), Some("socks5://s:1080".into()));
    assert_eq!(of(&all, "http://r.example"), Some("http://one:8080".into()));
    assert_eq!(of(&proxies(&[("HTTP_PROXY", "")]), "http://r.example"), None);
    assert_eq!(
        of(&proxies(&[("HTTP_PROXY", "ftp://p")]), "http://r.example"),
        None
    );
}

#[test]
fn no_proxy_knows_names_addresses_networks_and_ports() {
    let list = "corp.example, .sub.example,10.0.0.0/8,192.168.1.1,[fd00::1],fd01::/16,port.example:5000,*.star.example";
    let set = proxies(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", list)]);
    for direct in [
        "https://corp.example",
        "https://a.corp.example:5000",
        "https://x.sub.example",
        "https://10.1.2.3:5000",
        "https://192.168.1.1",
        "https://[fd00::1]",
        "https://[fd01::9]:5000",
        "https://port.example:5000",
        "https://a.star.example",
        "https://localhost",
        "https://127.0.0.9",
        "https://[::1]",
    ] {
        assert_eq!(of(&set, direct), None, "{direct}");
    }
    for proxied in [
        "https://corp.example.org",
        "https://notcorp.example",
        "https://sub.example",
        "https://11.0.0.1",
        "https://192.168.1.2",
        "https://port.example",
        "https://star.example",
    ] {
        assert!(of(&set, proxied).is_some(), "{proxied}");
    }
    assert_eq!(
        of(
            &proxies(&[("HTTPS_PROXY", "p:1"), ("no_proxy", "*")]),
            "https://r.example"
        ),
        None
    );
}
