//! The configuration, and the pod's state against that of the binaries.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::mount::{MsFlags, mount};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::chained::{Node, POD, POD_MAC, interfaces, on_node};
use crate::ipam_config::tests::with_args;
use crate::reference::{self, binaries, json_of, run};

const OTHER_MAC: &str = "02:00:00:00:00:99";

fn understood(config: &Value) -> Result<(), String> {
    Tuning.understands(config.as_object().unwrap())
}

fn set(config: &Value, mac_of_args: Option<&str>) -> Settings {
    let config: Config = parse(config.as_object().unwrap()).unwrap();
    config.settings(mac_of_args).unwrap()
}

#[test]
fn the_last_hardware_address_counts() {
    let mut config = json!({"mac": "02:00:00:00:00:01"});
    let mac = |config: &Value, args| set(config, args).link.mac.map(|mac| mac[5]);
    assert_eq!(mac(&config, None), Some(1));
    let args = Some("02:00:00:00:00:02");
    assert_eq!(mac(&config, args), Some(2));
    assert_eq!(mac(&config, Some("")), Some(1));
    config["runtimeConfig"] = json!({"mac": "02:00:00:00:00:03"});
    assert_eq!(mac(&config, args), Some(3));
    config["args"] = json!({"cni": {"mac": "02:00:00:00:00:04"}});
    assert_eq!(mac(&config, args), Some(4));
    config["args"]["cni"]["mac"] = json!("");
    assert_eq!(mac(&config, args), None);
}

#[test]
fn overrides_replace_what_the_network_has() {
    let mut config = json!({
        "sysctl": {"net.a": "1", "net.b": "2"}, "promisc": true, "mtu": 1400, "txQLen": 5, "allmulti": true,
        "args": {"cni": {"sysctl": {"net.b": "3", "net.c": "4"}}},
    });
    let settings = set(&config, None);
    let values: Vec<(&str, &str)> = settings
        .sysctls
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(values, [("net.a", "1"), ("net.b", "3"), ("net.c", "4")]);
    let all = LinkChange {
        mac: None,
        mtu: Some(1400),
        tx_queue_length: Some(5),
        promiscuous: Some(true),
        all_multicast: Some(true),
    };
    assert_eq!(settings.link, all);
    config["args"] = json!({"cni": {"promisc": false, "mtu": 0, "txQLen": 0, "allmulti": false}});
    let none = LinkChange {
        tx_queue_length: Some(0),
        all_multicast: Some(false),
        ..LinkChange::default()
    };
    assert_eq!(set(&config, None).link, none);
}

#[test]
fn what_is_not_known_is_not_understood() {
    understood(&json!({"dataDir": "/d", "runtimeConfig": {"mac": ""}, "args": {"cni": {}}})).unwrap();
    for unknown in [
        json!({"new": 1}),
        json!({"runtimeConfig": {"bandwidth": {}}}),
        json!({"args": {"labels": []}}),
        json!({"args": {"cni": {"ips": []}}}),
        json!({"mtu": -1}),
        json!({"txQLen": "1"}),
        json!({"sysctl": {"net.a": 1}}),
        json!({"mac": "02:00:00:00:00:01:02:03"}),
    ] {
        understood(&unknown).unwrap_err();
    }
}

#[test]
fn dots_of_a_sysctl_separate_and_those_of_an_interface_do_not() {
    let path = |key| sysctl_path(key, "eth0.7").ok();
    let expected = Some("ipv4/conf/eth0.7/arp_notify".to_owned());
    assert_eq!(path("net.ipv4.conf.IFNAME.arp_notify"), expected);
    assert_eq!(path("net/ipv4/conf/IFNAME/arp_notify"), expected);
    assert_eq!(path("/net//ipv4/conf/IFNAME/arp_notify"), expected);
    for key in [
        "",
        "net",
        "net.",
        "kernel.hostname",
        "vm/net/a",
        "IFNAME.net",
        "network.a",
    ] {
        assert_eq!(path(key), None, "{key}");
    }
    assert!(sysctl_path("net/IFNAME/kernel/hostname", "..").is_err());
}

proptest! {
    #[test]
    fn no_sysctl_is_outside_of_net(key in "[./a-zIFNAME]{0,40}", interface in "[./a-z]{0,15}") {
        if let Ok(path) = sysctl_path(&key, &interface) {
            prop_assert!(!path.is_empty() && !path.starts_with('/'));
            prop_assert!(path.split('/').all(|part| !part.is_empty() && part != ".."));
        }
    }

    #[test]
    fn any_backup_is_read_or_refused(text in ".{0,100}") {
        drop(serde_json::from_str::<Backup>(&text).map(|backup| backup.change()));
    }
}

#[test]
fn the_hardware_address_of_the_arguments() {
    let set = |args: &[(&str, &str)]| {
        settings(
            &with_args(reference::call(Command::Add, "pod", &json!({})), args),
            Config::default(),
        )
    };
    let ignored = [
        ("IgnoreUnknown", "True"),
        ("K8S_POD_NAME", "a"),
        ("MAC", OTHER_MAC),
    ];
    assert_eq!(set(&ignored).unwrap().link.mac, parse_mac(OTHER_MAC));
    assert_eq!(set(&[]).unwrap(), Settings::default());
    set(&[("K8S_POD_NAME", "a")]).unwrap_err();
    set(&[("IgnoreUnknown", "yes")]).unwrap_err();
}

/// The attributes of the pod's interface.
fn attributes(node: &Node) -> LinkChange {
    let link = node.in_pod(|| Netlink::open().unwrap().link_by_name(POD).unwrap().unwrap());
    LinkChange {
        mac: link.mac,
        mtu: Some(link.mtu),
        tx_queue_length: Some(link.tx_queue_length),
        promiscuous: Some(link.promiscuity != 0),
        all_multicast: Some(link.all_multicast),
    }
}

fn sysctls(node: &Node) -> Vec<String> {
    let paths = [
        "core/somaxconn",
        "ipv4/conf/eth0/arp_notify",
        "ipv4/ip_local_port_range",
        "ipv6/conf/all/disable_ipv6",
        "ipv6/conf/eth0/disable_ipv6",
    ];
    node.in_pod(|| paths.map(|path| sysctl::read(path).unwrap_or_default()).into())
}

fn files(dir: &TempDir) -> Vec<(String, String, u32)> {
    let mut files: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            (name, fs::read_to_string(entry.path()).unwrap(), mode)
        })
        .collect();
    files.sort();
    files
}

/// Adds on two nodes and compares; then each side checks and deletes what the other has added.
fn compare(config: &Value, args: &[(&str, &str)]) {
    for binary in binaries("tuning") {
        let on = |work: fn(&Call, &Path) -> (Value, Call), other: fn(&Call, &Path)| {
            let dir = tempfile::tempdir().unwrap();
            let mut config = config.clone();
            config["dataDir"] = json!(dir.path());
            on_node(|node| {
                let before = attributes(node);
                let mut call = node.call(Command::Add, &config);
                let args = args
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
                call.args.extend(args);
                let (result, mut call) = work(&call, &binary);
                let state = (interfaces(&result), node.state(), sysctls(node), files(&dir));
                call.command = Command::Check;
                other(&call, &binary);
                call.command = Command::Del;
                other(&call, &binary);
                assert_eq!(attributes(node), before);
                assert_eq!(files(&dir), []);
                state
            })
        };
        let ours = on(
            |call, _| (add(call).unwrap(), call.clone()),
            |call, binary| drop(run(binary, call).unwrap()),
        );
        let theirs = on(
            |call, binary| (run(binary, call).unwrap(), call.clone()),
            |call, _| match call.command {
                Command::Check => check(call).unwrap(),
                _ => (0..2).for_each(|_| delete(call).unwrap()),
            },
        );
        assert_eq!(
            format!("{ours:#?}"),
            format!("{theirs:#?}"),
            "{}",
            binary.display()
        );
    }
}

#[test]
#[ignore = "needs root"]
fn attributes_and_sysctls() {
    compare(
        &json!({"type": "tuning", "mac": OTHER_MAC, "mtu": 1300, "promisc": true, "allmulti": true,
                "sysctl": {"net.core.somaxconn": "500", "net/ipv4/conf/eth0/arp_notify": "1",
                           "net.ipv6.conf.all.disable_ipv6": "1"}}),
        &[],
    );
}

#[test]
#[ignore = "needs root"]
fn single_attributes() {
    for config in [
        json!({"type": "tuning"}),
        json!({"type": "tuning", "mtu": 1200}),
        json!({"type": "tuning", "allmulti": false}),
        json!({"type": "tuning", "mac": OTHER_MAC}),
        json!({"type": "tuning", "capabilities": {"mac": true}, "runtimeConfig": {"mac": OTHER_MAC}}),
        json!({"type": "tuning", "promisc": true}),
        json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "76"}, "mtu": 1280,
               "args": {"cni": {"sysctl": {"net.core.somaxconn": "77"}, "mtu": 1290, "allmulti": true}}}),
    ] {
        compare(&config, &[]);
    }
    compare(&json!({"type": "tuning", "mac": POD_MAC}), &[("MAC", OTHER_MAC)]);
}

#[test]
#[ignore = "needs root"]
fn a_sysctl_that_cannot_be_read_is_set() {
    let config = json!({"type": "tuning", "sysctl": {"net.ipv4.route.flush": "1"}});
    on_node(|node| {
        let call = node.call(Command::Add, &config);
        assert_eq!(add(&call).unwrap(), call.config["prevResult"]);
        check(&call).unwrap_err();
    });
}

/// Binaries before 1.2 do not have it.
#[test]
#[ignore = "needs root"]
fn the_length_of_the_queue() {
    let config = json!({"type": "tuning", "txQLen": 77});
    on_node(|node| {
        for binary in binaries("tuning") {
            let dir = tempfile::tempdir().unwrap();
            let before = attributes(node);
            let mut call = node.call(Command::Add, &config);
            call.config.insert("dataDir".to_owned(), json!(dir.path()));
            add(&call).unwrap();
            let (ours, saved) = (attributes(node), files(&dir));
            assert_eq!(ours.tx_queue_length, Some(77));
            check(&call).unwrap();
            delete(&call).unwrap();
            assert_eq!(attributes(node), before);
            run(&binary, &call).unwrap();
            if attributes(node) != before {
                assert_eq!(attributes(node), ours);
                assert_eq!(files(&dir), saved);
                check(&call).unwrap();
                delete(&call).unwrap();
                assert_eq!(attributes(node), before);
            }
        }
    });
}

/// Several numbers are separated by tabs when they are read.
#[test]
#[ignore = "needs root"]
fn sysctls_of_the_interface_and_of_several_numbers() {
    let config = json!({"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "1",
                        "net.ipv4.ip_local_port_range": "20000 30000"}});
    on_node(|node| {
        let call = node.call(Command::Add, &config);
        add(&call).unwrap();
        let values = sysctls(node);
        assert_eq!((values[1].as_str(), values[2].as_str()), ("1", "20000\t30000"));
        check(&call).unwrap();
        node.in_pod(|| sysctl::write("ipv4/conf/eth0/arp_notify", "0").unwrap());
        let failure = check(&call).unwrap_err();
        assert!(failure.msg.contains("arp_notify is \"0\""), "{failure:?}");
    });
}

#[test]
#[ignore = "needs root"]
fn what_the_result_says_is_updated() {
    let config = json!({"type": "tuning", "mac": OTHER_MAC.to_uppercase(), "mtu": 1300});
    let dir = tempfile::tempdir().unwrap();
    on_node(|node| {
        let mut call = node.call(Command::Add, &config);
        call.config.insert("dataDir".to_owned(), json!(dir.path()));
        call.config["prevResult"]["interfaces"][1]["mtu"] = json!(1450);
        let mut expected = call.config["prevResult"].clone();
        expected["interfaces"][1]["mac"] = json!(OTHER_MAC);
        expected["interfaces"][1]["mtu"] = json!(1300);
        assert_eq!(add(&call).unwrap(), expected);
        check(&call).unwrap();
        let ip = |command: &str| node.in_pod(|| drop(json_of(command)));
        ip("ip link set eth0 mtu 1310");
        let failure = check(&call).unwrap_err();
        assert!(failure.msg.contains("mtu 1310 instead of"), "{failure:?}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_failed_add_changes_nothing() {
    let config = json!({"type": "tuning", "mac": "ff:ff:ff:ff:ff:ff", "mtu": 1300, "allmulti": true});
    let dir = tempfile::tempdir().unwrap();
    on_node(|node| {
        let before = attributes(node);
        let mut call = node.call(Command::Add, &config);
        call.config.insert("dataDir".to_owned(), json!(dir.path()));
        let failure = add(&call).unwrap_err();
        assert!(failure.details.contains("change link"), "{failure:?}");
        assert_eq!(attributes(node), before);
        assert_eq!(files(&dir), []);
        call.config.remove("prevResult");
        add(&call).unwrap_err();
        check(&call).unwrap_err();
        delete(&call).unwrap();
    });
}

#[test]
#[ignore = "needs root"]
fn what_is_gone_is_deleted_with_its_backup() {
    let config = json!({"type": "tuning", "mtu": 1300});
    let dir = tempfile::tempdir().unwrap();
    on_node(|node| {
        let mut call = node.call(Command::Add, &config);
        call.config
            .insert("dataDir".to_owned(), json!(dir.path().join("a/b")));
        add(&call).unwrap();
        let netns = std::mem::replace(&mut call.netns, "/nowhere".into());
        delete(&call).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);
        delete(&call).unwrap();

        call.netns = netns;
        add(&call).unwrap();
        node.in_pod(|| drop(json_of("ip link del eth0")));
        delete(&call).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);

        let too_large = vec![b' '; (1 << 20) + 1];
        for broken in [&b"{\"mtu\":"[..], b"\xff", &too_large] {
            fs::write(dir.path().join("a/b/pod-1_eth0.json"), broken).unwrap();
            delete(&call).unwrap();
            assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);
        }
    });
}

/// The file is that of the test's mount namespace. Binaries before 1.2 do not read it.
#[test]
#[ignore = "needs root"]
fn the_allowlist_decides() {
    let config = |sysctl: &str| json!({"type": "tuning", "sysctl": {sysctl: "1"}});
    let notify = config("net.ipv4.conf.eth0.arp_notify");
    let accept = config("net.ipv4.conf.eth0.arp_accept");
    for binary in binaries("tuning") {
        let word = b"readAllowlist";
        let knows = fs::read(&binary)
            .unwrap()
            .windows(word.len())
            .any(|bytes| bytes == word);
        on_node(|node| {
            mount(
                None::<&str>,
                "/etc",
                Some("tmpfs"),
                MsFlags::empty(),
                None::<&str>,
            )
            .unwrap();
            let dir = Path::new(ALLOWLIST).parent().unwrap();
            fs::create_dir_all(dir).unwrap();
            let both = |config: &Value| {
                let call = node.call(Command::Add, config);
                let ours = add(&call);
                if knows {
                    let theirs = run(&binary, &call);
                    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
                }
                ours
            };
            both(&accept).unwrap();
            fs::write(ALLOWLIST, "").unwrap();
            both(&accept).unwrap_err();
            both(&json!({"type": "tuning"})).unwrap();
            fs::write(
                ALLOWLIST,
                "\r\n^net\\.ipv4\\.conf\\.\\w+\\.arp_n[a-z]*$\r\n  net.core \n",
            )
            .unwrap();
            both(&notify).unwrap();
            let failure = both(&accept).unwrap_err();
            assert!(failure.msg.contains("arp_accept"), "{failure:?}");
            both(&config("net.core.somaxconn")).unwrap();
            understood(&accept).unwrap();
            for others in ["", "\r\n  net.core \r\n\r\n"] {
                fs::write(ALLOWLIST, others).unwrap();
                both(&accept).unwrap_err();
            }
            // Both refuse: the one does not know what is allowed.
            for only_of_go in ["(", "\\p{Nothing}"] {
                fs::write(ALLOWLIST, only_of_go).unwrap();
                both(&accept).unwrap_err();
                understood(&accept).unwrap_err();
                understood(&json!({"mtu": 1300})).unwrap();
            }
        });
    }
}
