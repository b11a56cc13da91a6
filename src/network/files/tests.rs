//! The texts, byte for byte.

use super::*;

fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

#[test]
fn resolv_conf_has_search_servers_options_in_this_order() {
    let dns = DnsConfig {
        servers: strings(&["10.96.0.10", "10.96.0.10", "fd00::a"]),
        searches: strings(&["ns.svc.cluster.local", "svc.cluster.local"]),
        options: strings(&["ndots:5", "edns0"]),
    };
    let expected = "search ns.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver 10.96.0.10\n\
                    nameserver fd00::a\noptions ndots:5 edns0\n";
    assert_eq!(resolv_conf(Some(&dns), "host"), expected);
}

#[test]
fn without_configuration_the_hosts_file_is_used() {
    assert_eq!(resolv_conf(None, "nameserver 1.1.1.1\n"), "nameserver 1.1.1.1\n");
    assert_eq!(resolv_conf(Some(&DnsConfig::default()), "x\n"), "x\n");
}

#[test]
fn a_value_cannot_begin_a_line() {
    let dns = DnsConfig {
        servers: strings(&["1.1.1.1\noptions x"]),
        ..DnsConfig::default()
    };
    assert_eq!(resolv_conf(Some(&dns), ""), "nameserver 1.1.1.1 options x\n");
}

#[test]
fn hosts_names_the_pod_under_each_address() {
    let text = hosts(
        "web-0",
        &["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
    );
    assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
    assert!(text.ends_with("10.1.0.5\tweb-0\nfd00::5\tweb-0\n"), "{text}");
    assert_eq!(
        hosts("", &["10.1.0.5".parse().unwrap()]).matches("10.1").count(),
        0
    );
}

#[test]
fn an_empty_host_name_is_the_hosts() {
    assert_eq!(
        (hostname("", "node"), hostname("web-0", "node")),
        ("node", "web-0")
    );
}
