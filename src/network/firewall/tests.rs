//! The rules as the programs see them, each test in a network namespace of its own.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::network::types::Protocol;

/// Runs a test in a new network namespace if `program` is there.
fn alone(program: &str, test: impl FnOnce(PathBuf) + Send + 'static) {
    let Some(path) = tool::find(program) else {
        println!("skipped: needs {program}");
        return;
    };
    let enter = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test(path);
    };
    std::thread::spawn(enter).join().unwrap();
}

fn ports() -> [HostPort; 2] {
    let port = HostPort {
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port: 8080,
        address: [10, 123, 0, 2].into(),
        container_port: 80,
        network: Some("10.123.0.0/24".parse().unwrap()),
    };
    [
        port.clone(),
        HostPort {
            protocol: Protocol::Udp,
            host_ip: Some([127, 0, 0, 1].into()),
            ..port
        },
    ]
}

fn output(program: &str, arguments: &[&str]) -> String {
    String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
}

fn rules(bridge: &str) -> Rules {
    Rules {
        instance: bridge.to_owned(),
        masquerade: true,
    }
}

#[test]
#[ignore = "needs root"]
fn iptables_rules_are_made_once_and_go_completely() {
    alone("iptables", |path| {
        let (rules, subnet) = (rules("ptest-0"), Some("10.123.0.0/24".parse().unwrap()));
        for _ in 0..2 {
            iptables::install(&path, &rules, Family::V4, subnet).unwrap();
            iptables::open(&path, &rules, &ports()).unwrap();
        }
        let listed = || output("iptables-save", &["-t", "nat"]);
        assert_eq!(listed().matches("-j DNAT").count(), 2, "{}", listed());
        assert_eq!(listed().matches("-j MASQUERADE").count(), 4, "{}", listed());
        assert_eq!(listed().matches("-j PAUSA-DN-ptest-0").count(), 2, "{}", listed());
        iptables::close(&path, &rules, &ports()).unwrap();
        iptables::close(&path, &rules, &ports()).unwrap();
        assert_eq!(listed().matches("-j DNAT").count(), 0, "{}", listed());
        assert_eq!(listed().matches("-j MASQUERADE").count(), 3, "{}", listed());
        iptables::guard(&path, "ptest-0").unwrap();
        for _ in 0..2 {
            iptables::uninstall(&path, &rules).unwrap();
        }
        let all = output("iptables-save", &[]);
        assert!(!all.contains("PAUSA-") && !all.contains("ptest-0"), "{all}");
    });
}

#[test]
#[ignore = "needs root"]
fn tables_of_different_bridges_do_not_meet() {
    alone("nft", |path| {
        let subnet = Some("10.123.0.0/24".parse().unwrap());
        for bridge in ["br-1", "br_1", "br_2d1"] {
            nft::install(&path, &rules(bridge), Family::V4, subnet).unwrap();
            nft::open(&rules(bridge), &ports()).unwrap();
        }
        assert_eq!(output("nft", &["list", "tables"]).lines().count(), 3);
        nft::close(&rules("br-1"), &ports()).unwrap();
        assert_eq!(
            output("nft", &["list", "ruleset"]).matches("tcp . 8080").count(),
            2
        );
        for _ in 0..2 {
            nft::uninstall(&path, &rules("br-1"), Family::V4).unwrap();
        }
        assert_eq!(output("nft", &["list", "tables"]).lines().count(), 2);
    });
}

#[test]
#[ignore = "needs root"]
fn closing_takes_only_what_is_the_pods_own() {
    alone("nft", |path| {
        let rules = rules("br0");
        nft::close(&rules, &ports()).unwrap();
        nft::install(&path, &rules, Family::V4, Some("10.123.0.0/24".parse().unwrap())).unwrap();
        nft::open(&rules, &ports()).unwrap();
        let others = ports().map(|port| HostPort {
            address: [10, 123, 0, 9].into(),
            ..port
        });
        match nft::open(&rules, &others) {
            Err(NetworkError::Netfilter { source }) => {
                assert_eq!(source.kind(), pausa_netfilter::ErrorKind::Exists);
            }
            outcome => panic!("{outcome:?}"),
        }
        nft::close(&rules, &others).unwrap();
        assert_eq!(
            output("nft", &["list", "ruleset"])
                .matches("10.123.0.2 . 80")
                .count(),
            2
        );
    });
}
