use std::path::PathBuf;
use std::process::Command as Process;

use serde_json::json;

use super::*;
use crate::tables::{in_new_netns, output, plugin_has, reference, tables};

const ID: &str = "c0ffee";

fn ours(command: Command, config: &Value) -> Result<(), Failure> {
    let call = Call {
        command,
        container_id: ID.to_owned(),
        netns: PathBuf::from("/some/netns"),
        if_name: "eth0".to_owned(),
        args: Vec::new(),
        config: config.as_object().unwrap().clone(),
    };
    Firewall.understands(&call.config).map_err(Failure::internal)?;
    let parsed: Config = configuration(&call)?;
    match command {
        Command::Add => {
            assert_eq!(add(&call, &parsed)?, config["prevResult"]);
            Ok(())
        }
        Command::Check => check(&call, &parsed),
        _ => del(&call),
    }
}

fn theirs(command: &str, config: &Value) {
    reference("firewall", command, ID, "/some/netns", config).unwrap();
}

fn with(settings: &Value, addresses: &[&str]) -> Value {
    let ips: Vec<_> = addresses
        .iter()
        .map(|address| json!({"address": address, "interface": 1}))
        .collect();
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "net-1", "type": "firewall",
        "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/some/netns"}],
            "ips": ips,
            "dns": {},
        },
    });
    let settings = settings.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(settings);
    config
}

fn every_setting() -> Vec<Value> {
    let all = [
        json!({}),
        json!({"backend": "iptables", "iptablesAdminChainName": "MY-ADMIN", "firewalldZone": "x", "ingressPolicy": "open"}),
        json!({"ingressPolicy": "same-bridge"}),
        json!({"ingressPolicy": "isolated"}),
    ];
    // Older releases comment some rules in another way.
    let is_new = plugin_has("firewall", "ingressPolicy: same-bridge|isolated");
    let known =
        |settings: &Value| is_new || matches!(settings["ingressPolicy"].as_str(), None | Some("open"));
    all.into_iter().filter(known).collect()
}

#[test]
#[ignore = "needs root"]
fn each_adds_checks_and_deletes_what_the_other_adds() {
    for settings in every_setting() {
        in_new_netns(move || {
            let config = with(&settings, &["10.7.0.2/20", "fd00:7::2/61", "10.7.0.9/20"]);
            let other = with(&settings, &["10.7.0.3/20"]);
            ours(Command::Del, &config).unwrap();
            assert_eq!(tables(), [""; 0]);
            theirs("ADD", &config);
            let made = tables();
            assert!(made.iter().any(|line| line.contains("10.7.0.2")), "{made:#?}");
            theirs("CHECK", &config);
            ours(Command::Check, &config).unwrap();
            ours(Command::Add, &config).unwrap();
            assert_eq!(tables(), made);
            ours(Command::Del, &config).unwrap();
            let empty = tables();
            assert!(!empty.iter().any(|line| line.contains("10.7.0")), "{empty:#?}");
            ours(Command::Del, &config).unwrap();
            assert_eq!(tables(), empty);
            assert!(ours(Command::Check, &config).is_err());

            ours(Command::Add, &config).unwrap();
            assert_eq!(tables(), made, "{config}");
            theirs("CHECK", &config);
            ours(Command::Add, &other).unwrap();
            ours(Command::Del, &other).unwrap();
            assert_eq!(tables(), made);
            theirs("DEL", &config);
            assert_eq!(tables(), empty);
        });
    }
}

#[test]
#[ignore = "needs root"]
fn from_nothing_the_rules_are_those_of_the_reference() {
    for settings in every_setting() {
        for before in [false, true] {
            let prepare = move || {
                if before {
                    output(Process::new("iptables").args(["-A", "FORWARD", "-j", "ACCEPT"]));
                    output(Process::new("iptables").args(["-P", "FORWARD", "DROP"]));
                }
            };
            // Two bridges.
            let first = with(&settings, &["10.7.0.2/20"]);
            let mut second = with(&settings, &["10.8.0.2/20", "fd00::8/64"]);
            second["prevResult"]["interfaces"][0]["name"] = json!("br1");
            let configs = [first, second];
            let of_ours = {
                let configs = configs.clone();
                in_new_netns(move || {
                    prepare();
                    configs
                        .iter()
                        .for_each(|config| ours(Command::Add, config).unwrap());
                    tables()
                })
            };
            let of_theirs = in_new_netns(move || {
                prepare();
                configs.iter().for_each(|config| theirs("ADD", config));
                tables()
            });
            assert_eq!(of_ours, of_theirs, "{settings}");
        }
    }
}

#[test]
fn what_is_unknown_is_left_to_the_binary() {
    let understood = |settings: Value| {
        let config = with(&settings, &[]);
        Firewall.understands(config.as_object().unwrap()).is_ok()
    };
    assert!(understood(json!({"backend": "iptables", "ingressPolicy": ""})));
    for settings in [
        json!({"backend": "firewalld"}),
        json!({"backend": "nftables"}),
        json!({"ingressPolicy": "closed"}),
        json!({"unknown": 1}),
        json!({"backend": "iptables", "iptablesAdminChainName": "A\nB"}),
        json!({"backend": "iptables", "runtimeConfig": {}}),
    ] {
        assert!(!understood(settings.clone()), "{settings}");
    }
}

#[test]
fn a_running_firewalld_is_known_by_its_pid_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("firewalld.pid");
    assert!(!firewalld_runs(&file));
    // Of another program, as after a crash.
    std::fs::write(&file, format!("{}\n", std::process::id())).unwrap();
    assert!(!firewalld_runs(&file));
    let sleep = dir.path().join("firewalld");
    std::fs::copy("/bin/sleep", &sleep).unwrap();
    let mut child = Process::new(sleep).arg("60").spawn().unwrap();
    std::fs::write(&file, child.id().to_string()).unwrap();
    let runs = firewalld_runs(&file);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(runs);
    assert!(!firewalld_runs(&file));
}
