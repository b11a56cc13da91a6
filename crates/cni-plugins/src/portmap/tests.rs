use std::path::PathBuf;
use std::process::Command as Process;

use pausa_netlink::sysctl;
use serde_json::json;

use super::*;
use crate::tables::{in_new_netns, output, plugin_has, reference, tables};

const ID: &str = "c0ffee";

fn call(command: Command, config: &Value) -> Call {
    Call {
        command,
        container_id: ID.to_owned(),
        netns: PathBuf::from("/some/netns"),
        if_name: "eth0".to_owned(),
        args: Vec::new(),
        config: config.as_object().unwrap().clone(),
    }
}

fn ours(command: Command, config: &Value) -> Result<(), Failure> {
    let call = call(command, config);
    Portmap.understands(&call.config).map_err(Failure::internal)?;
    let parsed: Config = configuration(&call)?;
    let backend = Backend::or_default(parsed.backend);
    match command {
        Command::Add => {
            assert_eq!(add(&call, &parsed, backend)?, config["prevResult"]);
            Ok(())
        }
        Command::Check => check(&call, &parsed, backend),
        _ => del(&call, &parsed, backend),
    }
}

fn theirs(command: &str, config: &Value) {
    reference("portmap", command, ID, "/some/netns", config).unwrap();
}

fn with(settings: &Value, mappings: &Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "net-1", "type": "portmap",
        "runtimeConfig": {"portMappings": mappings},
        "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": "br0"}, {"name": "veth0"}, {"name": "eth0", "sandbox": "/some/netns"},
            ],
            "ips": [
                {"address": "10.9.9.9/24", "interface": 0},
                {"address": "10.7.0.2/20", "gateway": "10.7.0.1", "interface": 2},
                {"address": "10.7.0.3/20", "interface": 2},
                {"address": "fd00:7::2/61", "interface": 2},
            ],
            "dns": {},
        },
    });
    let settings = settings.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(settings);
    config
}

fn mapping(host: u16, container: u16, protocol: &str, ip: &str) -> Value {
    json!({"hostPort": host, "containerPort": container, "protocol": protocol, "hostIP": ip})
}

/// A link that leads to the pod.
fn link() {
    output(Process::new("ip").args(["link", "add", "pod0", "type", "veth", "peer", "name", "pod1"]));
    output(Process::new("ip").args(["link", "set", "pod0", "up"]));
    output(Process::new("ip").args(["address", "add", "10.7.0.1/20", "dev", "pod0"]));
}

fn routes_localnet() -> bool {
    sysctl::exchange("ipv4/conf/pod0/route_localnet", "0").unwrap() == "1"
}

/// Each adds, checks and deletes what the other one adds.
fn compare(config: Value) {
    in_new_netns(move || {
        link();
        output(Process::new("iptables").args(["-t", "nat", "-N", "OTHER"]));
        ours(Command::Del, &config).unwrap();
        assert!(!tables().iter().any(|line| line.contains("hostport")));
        theirs("ADD", &config);
        let (made, localnet) = (tables(), routes_localnet());
        assert!(made.iter().any(|line| line.contains(ID)), "{made:#?}");
        // Version 1.1.1 does not find what it has added for many ports of both families.
        let check = || reference("portmap", "CHECK", ID, "/some/netns", &config);
        let finds_its_own = check().is_ok();
        ours(Command::Check, &config).unwrap();
        ours(Command::Del, &config).unwrap();
        let empty = tables();
        assert!(!empty.iter().any(|line| line.contains(ID)), "{empty:#?}");
        ours(Command::Del, &config).unwrap();
        assert!(ours(Command::Check, &config).is_err());

        ours(Command::Add, &config).unwrap();
        assert_eq!(tables(), made, "{config}");
        assert_eq!(routes_localnet(), localnet);
        assert_eq!(check().is_ok(), finds_its_own, "{config}");
        ours(Command::Check, &config).unwrap();
        if config["backend"] != "nftables" {
            // A second ADD changes nothing.
            ours(Command::Add, &config).unwrap();
            assert_eq!(tables(), made);
        }
        theirs("DEL", &config);
        assert_eq!(tables(), empty);

        // By numbers that are remembered.
        ours(Command::Add, &config).unwrap();
        ours(Command::Del, &config).unwrap();
        assert_eq!(tables(), empty);
    });
}

/// In two namespaces, from nothing.
fn compare_first(config: &Value) {
    let of_ours = {
        let config = config.clone();
        in_new_netns(move || {
            link();
            ours(Command::Add, &config).unwrap();
            tables()
        })
    };
    let config = config.clone();
    let of_theirs = in_new_netns(move || {
        link();
        theirs("ADD", &config);
        tables()
    });
    assert_eq!(of_ours, of_theirs);
}

fn many() -> Value {
    let tcp = (0..17).map(|at| mapping(8000 + at, 80, "tcp", ""));
    let others = [
        mapping(53, 5353, "udp", ""),
        mapping(53, 5353, "tcp", "192.0.2.1"),
        mapping(54, 5353, "udp", "2001:db8::1"),
        mapping(55, 5353, "udp", "0.0.0.0"),
        mapping(56, 5353, "sctp", "::"),
        mapping(57, 5353, "sctp", ""),
    ];
    tcp.chain(others).collect()
}

#[test]
#[ignore = "needs root"]
fn iptables_rules_are_those_of_the_reference() {
    output(Process::new("iptables").arg("--version"));
    for settings in [
        json!({}),
        json!({"snat": true, "masqAll": true}),
        json!({"snat": false}),
        json!({"backend": "iptables", "markMasqBit": 31}),
        json!({"conditionsV4": ["!", "-d", "192.0.2.0/24", "-m", "comment", "--comment", "a \"b\""], "conditionsV6": ["!", "-d", "fc00::/7"]}),
    ] {
        // Older releases do not know all settings.
        let older = !plugin_has("portmap", "nftables");
        if older && (settings["backend"] == "iptables" || settings["masqAll"] == true) {
            continue;
        }
        let config = with(&settings, &many());
        compare(config.clone());
        compare_first(&config);
    }
}

#[test]
#[ignore = "needs root"]
fn a_chain_of_somebody_else_may_set_the_mark() {
    in_new_netns(|| {
        link();
        let config = with(
            &json!({"externalSetMarkChain": "KUBE-MARK-MASQ"}),
            &json!([mapping(80, 80, "tcp", "")]),
        );
        assert!(ours(Command::Add, &config).is_err());
        assert!(!tables().iter().any(|line| line.contains("KUBE")));
        for program in ["iptables", "ip6tables"] {
            output(Process::new(program).args(["-t", "nat", "-N", "KUBE-MARK-MASQ"]));
        }
        ours(Command::Add, &config).unwrap();
        let made = tables();
        assert!(made.iter().any(|line| line.contains("-j KUBE-MARK-MASQ")));
        ours(Command::Del, &config).unwrap();
        theirs("ADD", &config);
        assert_eq!(tables(), made);
    });
}

#[test]
#[ignore = "needs root"]
fn nftables_rules_are_those_of_the_reference() {
    if !plugin_has("portmap", "hostports_all") {
        eprintln!("skipped: the portmap plugin is too old for nftables");
        return;
    }
    for settings in [
        json!({"backend": "nftables"}),
        json!({"backend": "nftables", "masqAll": true}),
        json!({"backend": "nftables", "snat": false}),
    ] {
        let config = with(&settings, &many());
        compare(config.clone());
        compare_first(&config);
    }
}

#[test]
#[ignore = "needs root"]
fn a_lost_rule_is_noticed() {
    for backend in ["iptables", "nftables"] {
        in_new_netns(move || {
            let config = with(&json!({"backend": backend}), &json!([mapping(80, 80, "tcp", "")]));
            ours(Command::Add, &config).unwrap();
            ours(Command::Check, &config).unwrap();
            let table = if backend == "iptables" { "nat" } else { TABLE };
            let chain = if backend == "iptables" { DNAT } else { PORTS };
            output(Process::new("nft").args(["flush", "chain", "ip6", table, chain]));
            assert!(ours(Command::Check, &config).is_err());
        });
    }
}

#[test]
fn what_is_unknown_is_left_to_the_binary() {
    let ports = json!([mapping(80, 80, "tcp", "")]);
    let understood = |settings: Value, mappings: &Value| {
        let config = with(&settings, mappings);
        Portmap.understands(config.as_object().unwrap()).is_ok()
    };
    for settings in [
        json!({}),
        json!({"snat": null, "conditionsV4": null, "markMasqBit": null, "backend": null}),
        json!({"conditionsV4": [], "backend": "nftables"}),
        json!({"externalSetMarkChain": "X"}),
    ] {
        assert!(understood(settings.clone(), &ports), "{settings}");
    }
    for settings in [
        json!({"unknown": 1}),
        json!({"snat": "yes"}),
        json!({"backend": "ipfw"}),
        json!({"markMasqBit": 32}),
        json!({"markMasqBit": 1, "externalSetMarkChain": "X"}),
        json!({"externalSetMarkChain": "X", "backend": "nftables"}),
        json!({"conditionsV4": ["ip", "saddr", "10.0.0.0/8"]}),
        json!({"conditionsV4": ["-s", "10.0.0.0/8"], "backend": "nftables"}),
        json!({"conditionsV4": ["-s", "10.0.0.0/8\nCOMMIT"]}),
        json!({"conditionsV6": [""]}),
        json!({"externalSetMarkChain": "X\nCOMMIT"}),
        json!({"externalSetMarkChain": ""}),
        json!({"args": {}}),
    ] {
        assert!(!understood(settings.clone(), &ports), "{settings}");
    }
    for mapping in [
        mapping(0, 80, "tcp", ""),
        mapping(80, 80, "TCP", ""),
        mapping(80, 80, "icmp", ""),
        mapping(80, 80, "tcp", "localhost"),
        mapping(80, 80, "tcp", "::ffff:192.0.2.1"),
        json!({"hostPort": 70000, "containerPort": 80, "protocol": "tcp"}),
        json!({"hostPort": 80, "containerPort": 80}),
        json!({"hostPort": 80, "containerPort": 80, "protocol": "tcp", "name": "x"}),
    ] {
        assert!(!understood(json!({}), &json!([mapping])), "{mapping}");
    }
}
