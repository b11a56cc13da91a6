use super::*;

#[test]
fn durations_are_those_of_go() {
    for (text, micros) in [
        ("1s", 1_000_000),
        ("1.5s", 1_500_000),
        (".5s", 500_000),
        ("1m1500ms", 61_500_000),
        ("1h0.25m", 3_615_000_000),
        ("250us", 250),
        ("2\u{b5}s", 2),
    ] {
        assert_eq!(duration(text), Some(Duration::from_micros(micros)), "{text}");
    }
    for text in [
        "",
        "1",
        "s",
        ".s",
        "1x",
        "-1s",
        "1s2",
        "1..5s",
        "99999999999999999999s",
        "9999999999999h",
    ] {
        assert_eq!(duration(text), None, "{text}");
    }
}

#[test]
fn a_proxy_is_an_address_and_nothing_else() {
    for text in [
        "http://p:8080",
        "https://p/",
        "socks5://u:w@p:1",
        "socks5h://[::1]:1080",
    ] {
        assert!(proxy(text).is_ok(), "{text}");
    }
    for text in [
        "p:8080",
        "ftp://p",
        "http://",
        "http://p/x",
        "http://p?x",
        "http://p#x",
        "",
    ] {
        assert!(proxy(text).is_err(), "{text}");
    }
}
