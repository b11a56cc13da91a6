use serde_json::json;

use super::*;
use crate::ipam_config::tests::{unversioned, with_args};
use crate::reference::{self, binaries, call};

fn config(more: &Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "macvlan",
        "ipam": {
            "type": "static",
            "addresses": [
                {"address": "10.1.2.3/24", "gateway": "10.1.2.1", "version": "4"},
                {"address": "fd00::3/64", "gateway": ""},
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.2.9"}],
            "dns": {"nameservers": ["10.1.2.1"], "domain": "example", "search": ["a.example"], "options": ["edns0"]},
        },
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// Configurations and arguments, with the addresses that are given, if any.
fn cases() -> Vec<(Call, Option<&'static str>)> {
    let case = |more: &Value, args: &[(&str, &str)]| with_args(call(Command::Add, "a", &config(more)), args);
    let by_args = json!({"args": {"cni": {"ips": ["10.9.0.1/16"]}}});
    let by_runtime = json!({"args": {"cni": {"ips": ["10.9.0.1/16"]}}, "runtimeConfig": {"ips": ["10.8.0.1/16", "fd08::1/64"]}});
    let none = json!({});
    let bare = json!({"ipam": {"type": "static"}});
    vec![
        (case(&none, &[]), Some("10.1.2.3/24>10.1.2.1 fd00::3/64")),
        (
            case(
                &none,
                &[
                    ("IP", "10.7.0.1/16, fd07::1/64"),
                    ("GATEWAY", "10.7.0.9,fd07::9,10.1.2.8"),
                ],
            ),
            Some("10.1.2.3/24>10.1.2.1 fd00::3/64 10.7.0.1/16>10.7.0.9 fd07::1/64>fd07::9"),
        ),
        (
            case(
                &none,
                &[("IgnoreUnknown", "true"), ("K8S_POD_NAME", "a"), ("IP", "")],
            ),
            Some("10.1.2.3/24>10.1.2.1 fd00::3/64"),
        ),
        (case(&by_args, &[("IP", "10.7.0.1/16")]), Some("10.9.0.1/16")),
        (case(&by_runtime, &[]), Some("10.8.0.1/16 fd08::1/64")),
        (case(&bare, &[]), Some("")),
        (case(&none, &[("K8S_POD_NAME", "a")]), None),
        (case(&none, &[("IP", "10.7.0.1")]), None),
        (case(&none, &[("IP", "10.7.0.1/16,")]), None),
        (case(&none, &[("GATEWAY", "gateway")]), None),
    ]
}

#[test]
fn addresses_of_all_sources() {
    for (call, expected) in cases() {
        Static.understands(&call.config).unwrap();
        let result = run(&call).and_then(|result| {
            AddResult::from_value(&result).map_err(|error| Failure::internal(error.to_string()))
        });
        let given = result.ok().map(|result| {
            let text = |ip: &IpConfig| match ip.gateway {
                Some(gateway) => format!("{}>{gateway}", ip.address),
                None => ip.address.to_string(),
            };
            result.ips.iter().map(text).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(given.as_deref(), expected, "{call:?}");
    }
}

#[test]
fn check_compares_gateways() {
    let mut check = call(Command::Check, "a", &config(&json!({})));
    run(&check).unwrap_err();
    let previous = run(&call(Command::Add, "a", &config(&json!({})))).unwrap();
    check.config.insert("prevResult".to_owned(), previous.clone());
    run(&check).unwrap();
    let mut other = previous;
    other["ips"][0]["gateway"] = json!("10.1.2.2");
    check.config.insert("prevResult".to_owned(), other);
    run(&check).unwrap_err();
}

#[test]
fn what_is_not_known_is_left_to_the_binary() {
    for ipam in [
        json!({"addresses": [{"address": "10.1.2.3"}]}),
        json!({"addresses": [{"Address": "10.1.2.3/24"}]}),
        json!({"addresses": [{"address": "::ffff:10.1.2.3/120"}]}),
        json!({"address": "10.1.2.3/24"}),
        json!({"dns": {"nameserver": "10.1.2.1"}}),
    ] {
        Static
            .understands(config(&json!({"ipam": ipam})).as_object().unwrap())
            .unwrap_err();
    }
    let other = json!({"runtimeConfig": {"ipRanges": []}});
    Static
        .understands(config(&other).as_object().unwrap())
        .unwrap_err();
}

#[test]
#[ignore = "needs the reference plugins"]
fn the_binary_gives_the_same() {
    for binary in binaries("static") {
        for (add, _) in cases() {
            let theirs = reference::run(&binary, &add).map(|result| unversioned(&result));
            let ours = run(&add).map(|result| unversioned(&result));
            assert_eq!(theirs.as_ref().ok(), ours.as_ref().ok(), "{add:?}: {theirs:?}");
        }
    }
}
