use super::*;
use proptest::prelude::*;

#[test]
fn the_challenges_seen_in_the_field_are_understood() {
    let hub = parse(
        r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#,
    );
    assert_eq!(hub.len(), 1);
    assert_eq!(hub[0].scheme, "bearer");
    assert_eq!(hub[0].param("realm"), Some("https://auth.docker.io/token"));
    assert_eq!(hub[0].param("scope"), Some("repository:library/busybox:pull"));
    assert_eq!(hub[0].param("error"), None);

    let two = parse(r#"Basic realm="a, \"b\"" , BEARER Realm = https , service=x"#);
    assert_eq!(two.len(), 2);
    assert_eq!(two[0].param("realm"), Some(r#"a, "b""#));
    assert_eq!(
        (two[1].scheme.as_str(), two[1].param("service")),
        ("bearer", Some("x"))
    );

    let mixed = parse(r#"Negotiate dGVzdA==, Basic realm="x", NTLM"#);
    let schemes: Vec<&str> = mixed.iter().map(|c| c.scheme.as_str()).collect();
    assert_eq!(schemes, ["negotiate", "basic", "ntlm"]);
}

#[test]
fn garbage_ends_the_parse_and_keeps_what_was_understood() {
    assert_eq!(parse(""), []);
    assert_eq!(parse("realm=x"), []);
    let open = parse(r#"Basic realm="never closed"#);
    assert_eq!(open[0].scheme, "basic");
    assert_eq!(open[0].param("realm"), None);
    assert_eq!(parse("Basic realm=\"x\", \u{1}Bearer").len(), 1);
    assert!(parse(&"a,".repeat(MAX_HEADER)).len() <= MAX_CHALLENGES);
}

fn quote(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

proptest! {
    #[test]
    fn any_header_is_survived(header in "([A-Za-z]{1,6}[ =,\"\\\\]{0,3}|\\PC){0,60}") {
        prop_assert!(parse(&header).len() <= MAX_CHALLENGES);
    }

    #[test]
    fn what_is_written_is_read(realm in "\\PC{0,40}", service in "[ -~]{0,20}", scope in "[a-z:/,*]{1,30}") {
        let header = format!("Bearer realm={},service={}, scope={}", quote(&realm), quote(&service), quote(&scope));
        let found = parse(&header);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(found[0].param("realm"), Some(realm.as_str()));
        prop_assert_eq!(found[0].param("service"), Some(service.as_str()));
        prop_assert_eq!(found[0].param("scope"), Some(scope.as_str()));
    }
}
