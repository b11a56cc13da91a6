use serde_json::json;

use super::*;
use crate::tables::{in_new_netns, plugin_has, pod, reference, tables};

#[test]
fn names_are_those_of_the_reference() {
    assert_eq!(chain_name("", "test", "1234"), "CNI-2bbe0c48b91a7d1b8a6753a8");
    assert_eq!(chain_name("DN-", "test", "1234").len(), 28);
}

/// ptp masquerades as bridge does.
fn with_ptp(backend: Backend, addresses: &'static [&'static str]) {
    in_new_netns(move || {
        let nets: Vec<IpNet> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let gateway = |address: &str| format!("{}1", address.split_once("2/").unwrap().0);
        let given = |address: &&str| json!({"address": address, "gateway": gateway(address)});
        let given: Vec<_> = addresses.iter().map(given).collect();
        let backend_name = match backend {
            Backend::Iptables => "iptables",
            Backend::Nftables => "nftables",
        };
        let config = json!({
            "cniVersion": "1.0.0", "name": "net-1", "type": "ptp", "ipMasq": true, "ipMasqBackend": backend_name,
            "ipam": {"type": "static", "addresses": given},
        });
        let add_ours = |id: &str| add(Some(backend), &nets, "net-1", "eth0", id).unwrap();
        let del_ours = |id: &str| del(&nets, "net-1", "eth0", id).unwrap();
        let (_file, netns) = pod();
        let call = |command: &str| reference("ptp", command, "container-1", &netns, &config).unwrap();
        // Nothing there: no error.
        del_ours("container-1");
        assert_eq!(tables(), [""; 0]);

        call("ADD");
        let made = tables();
        assert!(
            made.iter().any(|line| line.to_lowercase().contains("masquerade")),
            "{made:#?}"
        );
        // A second ADD changes nothing.
        add_ours("container-1");
        assert_eq!(tables(), made);
        del_ours("container-1");
        let empty = tables();
        assert!(
            !empty.iter().any(|line| line.contains("container-1")),
            "{empty:#?}"
        );
        del_ours("container-1");
        assert_eq!(tables(), empty);

        add_ours("container-1");
        assert_eq!(tables(), made);
        add_ours("container-2");
        del_ours("container-2");
        assert_eq!(tables(), made);
        call("DEL");
        assert_eq!(tables(), empty);
    });
    // From nothing, ours makes what theirs makes from nothing.
    let nets: Vec<IpNet> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    in_new_netns(move || {
        add(Some(backend), &nets, "net-1", "eth0", "container-1").unwrap();
        del(&nets, "net-1", "eth0", "container-1").unwrap();
        assert!(!tables().iter().any(|line| line.contains("container-1")));
    });
}

#[test]
#[ignore = "needs root"]
fn iptables_rules_are_those_of_the_reference() {
    with_ptp(Backend::Iptables, &["10.7.0.2/24"]);
    with_ptp(Backend::Iptables, &["10.7.0.2/20", "fd00:7::2/64"]);
}

#[test]
#[ignore = "needs root"]
fn nftables_rules_are_those_of_the_reference() {
    if !plugin_has("ptp", "ipMasqBackend") {
        eprintln!("skipped: the ptp plugin is too old for nftables");
        return;
    }
    with_ptp(Backend::Nftables, &["10.7.0.2/24"]);
    with_ptp(Backend::Nftables, &["10.7.0.2/20", "fd00:7::2/61"]);
}

#[test]
#[ignore = "needs root"]
fn only_what_is_meant_is_removed() {
    in_new_netns(|| {
        let nets = ["10.7.0.2/24".parse().unwrap()];
        for backend in [Backend::Iptables, Backend::Nftables] {
            for id in ["a", "b", "c"] {
                add(Some(backend), &nets, "net", "eth0", id).unwrap();
            }
        }
        let all = tables();
        let has = |id: &str| {
            all.iter()
                .filter(|line| line.contains(&format!("id: {id}")))
                .count()
        };
        assert_eq!((has("a"), has("b"), has("c")), (1, 1, 1));
        // Numbers that are remembered and belong to others now are not believed.
        del(&nets, "net", "eth0", "a").unwrap();
        in_new_netns(|| {
            let nets = ["10.7.0.2/24".parse().unwrap()];
            for backend in [Backend::Iptables, Backend::Nftables] {
                for id in ["x", "b", "y", "c"] {
                    add(Some(backend), &nets, "net", "eth0", id).unwrap();
                }
            }
            let before = tables();
            del(&nets, "net", "eth0", "b").unwrap();
            let after = tables();
            let without_b = |line: &&String| {
                !line.contains(r#"\"b\""#)
                    && !line.contains("id: b")
                    && !line.contains(&chain_name("", "net", "b"))
            };
            assert_eq!(
                before.iter().filter(without_b).collect::<Vec<_>>(),
                after.iter().collect::<Vec<_>>()
            );
        });
        del(&nets, "net", "eth0", "b").unwrap();
        del(&nets, "net", "eth0", "c").unwrap();
        let rest = tables();
        assert!(!rest.iter().any(|line| line.contains("10.7.0.2")), "{rest:#?}");
    });
}
