//! The built-in bridge.

use super::*;
use crate::error::Kinded;

fn port(protocol: Protocol, host_port: u16, container_port: u16) -> PortMapping {
    PortMapping {
        protocol,
        container_port,
        host_port,
        host_ip: None,
    }
}

fn table(node: &Node) -> String {
    let list = || {
        std::process::Command::new("nft")
            .args(["list", "table", "ip", "pausa_ptest0"])
            .output()
            .unwrap()
    };
    String::from_utf8(node.host.run(list).stdout).unwrap()
}

#[test]
#[ignore = "needs root"]
fn pods_reach_each_other_and_the_host_and_leave_nothing() {
    let node = Node::new();
    let (a, pod_a) = node.pod("a");
    let (b, pod_b) = node.pod("b");
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (first, second) = node.run(async || {
        network.wait_ready(Duration::ZERO).await.unwrap();
        (
            network.attach(&pod_a).await.unwrap(),
            network.attach(&pod_b).await.unwrap(),
        )
    });
    assert_eq!(first.ips, ["10.123.0.2".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(second.ips, ["10.123.0.3".parse::<std::net::IpAddr>().unwrap()]);
    let result: serde_json::Value = serde_json::from_str(first.result.get()).unwrap();
    assert_eq!(result["ips"][0]["gateway"], "10.123.0.1");
    assert!(connects(&a, &b, "10.123.0.3:80", "10.123.0.3:80"));
    assert!(connects(&b, &node.host, "0.0.0.0:81", "10.123.0.1:81"));
    assert!(connects(&node.host, &a, "0.0.0.0:80", "10.123.0.2:80"));
    assert!(connects(&a, &a, "127.0.0.1:82", "127.0.0.1:82"), "loopback is up");
    assert!(table(&node).contains("saddr 10.123.0.0/24"), "{}", table(&node));
    let forward = node
        .host
        .run(|| fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap());
    assert_eq!(forward.trim(), "1");

    // A daemon that has just started goes on with what is there.
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (c, pod_c) = node.pod("c");
    node.run(async || {
        assert_eq!(
            network.attach(&pod_c).await.unwrap().ips[0].to_string(),
            "10.123.0.4"
        );
        network.detach(&pod_a, true).await.unwrap();
        network.detach(&pod_a, true).await.unwrap();
    });
    assert_eq!(a.links(), ["lo"]);
    b.remove();
    node.run(async || {
        network.detach(&pod_b, false).await.unwrap();
        assert_eq!(network.collect_garbage(pods(&[&pod_c])).await.unwrap(), 0);
        assert_eq!(node.addresses(), 1);
        // A namespace may be in use by somebody else.
        assert_eq!(network.collect_garbage(pods(&[])).await.unwrap(), 0);
        c.remove();
        assert_eq!(network.collect_garbage(pods(&[])).await.unwrap(), 1);
    });
    assert_eq!(node.addresses(), 0);
    assert_eq!(node.host.links(), ["lo", "ptest0"]);
}

#[test]
#[ignore = "needs root"]
fn a_failed_attach_leaves_nothing() {
    let node = Node::new();
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (netns, pod) = node.pod("a");
    let missing = PodNetwork {
        netns: node.path("missing"),
        ..pod.clone()
    };
    // Somebody has the interface's name already, so that the pair cannot be made.
    let occupy = || {
        let request = pausa_netlink::Request::CreateBridge {
            name: "eth0",
            mac: None,
            mtu: None,
            vlan_filtering: false,
        };
        pausa_netlink::Netlink::open()
            .unwrap()
            .execute(&[request])
            .unwrap();
    };
    netns.run(occupy);
    node.run(async || {
        let error = network.attach(&missing).await.unwrap_err();
        assert!(matches!(error, NetworkError::Cni { .. }), "{error:?}");
        let error = network.attach(&pod).await.unwrap_err();
        let text = crate::error::chain(&error);
        assert!(text.contains("has an interface eth0 already"), "{text}");
        let bad = PodNetwork {
            pod_id: "../x".to_owned(),
            ..pod.clone()
        };
        assert_eq!(
            network.attach(&bad).await.unwrap_err().kind(),
            crate::error::ErrorKind::InvalidArgument
        );
    });
    assert_eq!(node.addresses(), 0);
    assert_eq!(node.host.links(), ["lo", "ptest0"]);
}

#[test]
#[ignore = "needs root"]
fn host_ports_lead_to_the_pod_from_everywhere_and_go_with_it() {
    let node = Node::new();
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (a, mut pod_a) = node.pod("a");
    let (b, mut pod_b) = node.pod("b");
    let limited = PortMapping {
        host_ip: Some("127.0.0.1".parse().unwrap()),
        ..port(Protocol::Tcp, 8081, 80)
    };
    let none = port(Protocol::Tcp, 0, 80);
    pod_a.port_mappings = vec![
        port(Protocol::Tcp, 8080, 80),
        port(Protocol::Udp, 8080, 80),
        limited,
        none,
    ];
    pod_b.port_mappings = vec![port(Protocol::Sctp, 8080, 80), port(Protocol::Tcp, 8080, 80)];
    node.run(async || {
        network.attach(&pod_a).await.unwrap();
        let error = network.attach(&pod_b).await.unwrap_err();
        assert!(
            matches!(
                error,
                NetworkError::PortTaken {
                    port: 8080,
                    protocol: "tcp",
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(node.addresses(), 1, "the pod that got no port got nothing");
        pod_b.port_mappings.truncate(1);
        network.attach(&pod_b).await.unwrap();
    });
    assert!(connects(&b, &a, "0.0.0.0:80", "10.123.0.1:8080"), "from a pod");
    assert!(
        connects(&node.host, &a, "0.0.0.0:80", "10.123.0.1:8080"),
        "from the host"
    );
    assert!(
        connects(&node.host, &a, "0.0.0.0:80", "127.0.0.1:8080"),
        "from the host's loopback"
    );
    assert!(connects(&node.host, &a, "0.0.0.0:80", "127.0.0.1:8081"));
    assert!(
        !connects(&node.host, &a, "0.0.0.0:80", "10.123.0.1:8081"),
        "limited to one address"
    );
    assert!(
        connects(&a, &a, "0.0.0.0:80", "10.123.0.1:8080"),
        "from the pod itself"
    );
    assert!(table(&node).contains("sctp . 8080"));

    // Somebody flushes all rules; the next look puts everything back.
    let flush = || {
        std::process::Command::new("nft")
            .args(["flush", "ruleset"])
            .status()
            .unwrap()
    };
    assert!(node.host.run(flush).success());
    assert!(!connects(&b, &a, "0.0.0.0:80", "10.123.0.1:8080"));
    let live = pods(&[&pod_a, &pod_b]);
    node.run(async || network.collect_garbage(live).await.unwrap());
    assert!(connects(&b, &a, "0.0.0.0:80", "10.123.0.1:8080"));

    // A new daemon takes them away, although it made none.
    let network = Network::new(node.config(NetworkMode::Bridge));
    node.run(async || network.detach(&pod_a, true).await.unwrap());
    let rules = table(&node);
    assert!(
        !rules.contains("tcp . 8080") && rules.contains("sctp . 8080"),
        "{rules}"
    );
    node.run(async || network.detach(&pod_b, true).await.unwrap());
    assert_eq!(count(&node.path("network/ptest0.ports"), |_| true), 0);
}

#[test]
#[ignore = "needs root"]
fn a_bridge_that_was_deleted_comes_back_with_its_pods() {
    let node = Node::new();
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (a, pod_a) = node.pod("a");
    let (b, pod_b) = node.pod("b");
    node.run(async || network.attach(&pod_a).await.unwrap());
    node.host.run(|| {
        let request = pausa_netlink::Request::DeleteLink { name: "ptest0" };
        pausa_netlink::Netlink::open()
            .unwrap()
            .execute(&[request])
            .unwrap();
    });
    node.run(async || network.attach(&pod_b).await.unwrap());
    assert!(connects(&b, &a, "0.0.0.0:80", "10.123.0.2:80"));
}

#[test]
#[ignore = "needs root"]
fn a_daemon_that_died_after_an_attach_is_followed_by_one_that_undoes_it() {
    let node = Node::new();
    let (a, pod) = node.pod("a");
    node.run(async || {
        let first = Network::new(node.config(NetworkMode::Bridge));
        first.attach(&pod).await.unwrap();
        // The daemon dies here without having noted success, and its successor undoes what it may have done.
        let second = Network::new(node.config(NetworkMode::Bridge));
        second.detach(&pod, true).await.unwrap();
        second.attach(&pod).await.unwrap();
    });
    assert_eq!(node.addresses(), 1);
    assert!(connects(&node.host, &a, "0.0.0.0:80", "10.123.0.3:80"));
}

/// Before the built-in network was a conflist there was no cached result, and a record had the ports only.
#[test]
#[ignore = "needs root"]
fn a_pod_that_an_older_version_attached_is_detached() {
    let node = Node::new();
    let (a, mut pod) = node.pod("a");
    pod.port_mappings = vec![port(Protocol::Tcp, 8080, 80)];
    let network = Network::new(node.config(NetworkMode::Bridge));
    node.run(async || network.attach(&pod).await.unwrap());
    fs::remove_dir_all(node.path("cni/results")).unwrap();
    let record =
        r#"[{"protocol":"tcp","host_ip":null,"host_port":8080,"address":"10.123.0.2","container_port":80}]"#;
    fs::write(node.path("network/ptest0.ports").join(&pod.pod_id), record).unwrap();
    assert!(table(&node).contains("tcp . 8080"));
    assert!(table(&node).contains("\"ptest0\""), "the bridge is guarded");
    let network = Network::new(node.config(NetworkMode::Bridge));
    node.run(async || network.detach(&pod, true).await.unwrap());
    assert!(!table(&node).contains("tcp . 8080"));
    assert_eq!(node.addresses(), 0);
    assert_eq!(a.links(), ["lo"]);
}

/// A daemon that was killed between unmounting a namespace and removing its file leaves the file.
#[test]
#[ignore = "needs root"]
fn a_file_that_is_no_namespace_any_more_counts_as_none() {
    let node = Node::new();
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (a, pod) = node.pod("a");
    node.run(async || {
        network.attach(&pod).await.unwrap();
        umount2(&a.path, MntFlags::MNT_DETACH).unwrap();
        network.detach(&pod, true).await.unwrap();
    });
    assert_eq!(node.addresses(), 0);
    assert!(a.path.exists());
}

#[test]
#[ignore = "needs root"]
fn nobody_waits_any_more_and_nothing_stays() {
    let node = Node::new();
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (a, pod) = node.pod("a");
    node.run(async || {
        let attach = tokio::spawn({
            let (network, pod) = (network.clone(), pod.clone());
            async move { network.attach(&pod).await }
        });
        let eventually = async |what: &str, done: &dyn Fn() -> bool| {
            for _ in 0..5000 {
                if done() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            panic!("{what}");
        };
        let begun = || node.path("network/ptest0/last_reserved_ip.0").exists();
        eventually("nothing was attached", &begun).await;
        attach.abort();
        let undone = || node.addresses() == 0 && a.links() == ["lo"] && node.host.links() == ["lo", "ptest0"];
        eventually("the abandoned attachment was not undone", &undone).await;
    });
}

#[test]
#[ignore = "needs root"]
fn a_pod_that_comes_back_at_once_waits_for_its_own_end() {
    let node = Node::new();
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (a, pod) = node.pod("a");
    let addresses = node.run(async || {
        let mut addresses = BTreeSet::new();
        for _ in 0..3 {
            addresses.extend(network.attach(&pod).await.unwrap().ips);
            network.detach(&pod, true).await.unwrap();
        }
        addresses.extend(network.attach(&pod).await.unwrap().ips);
        addresses
    });
    assert_eq!(
        addresses.len(),
        4,
        "the old address was given back before the new one was taken"
    );
    assert_eq!(node.addresses(), 1);
    assert!(connects(&node.host, &a, "0.0.0.0:80", "10.123.0.5:80"));
}

#[test]
#[ignore = "needs root"]
fn the_range_of_kubelet_wins_and_outlives_the_daemon() {
    let node = Node::new();
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (_a, pod_a) = node.pod("a");
    node.run(async || {
        assert!(network.set_pod_cidr("10.200.1.0").await.is_err());
        network.set_pod_cidr("fd00::/64, 10.200.1.0/24").await.unwrap();
        let again = Network::new(node.config(NetworkMode::Bridge));
        assert_eq!(
            again.attach(&pod_a).await.unwrap().ips[0].to_string(),
            "10.200.1.2"
        );
    });
}

fn of_both_families(node: &Node) -> NetworkConfig {
    let mut config = node.config(NetworkMode::Bridge);
    config.bridge.subnet_v6 = Some("fd00:123::/64".parse().unwrap());
    config
}

#[test]
#[ignore = "needs root"]
fn pods_of_both_families_reach_each_other_the_host_and_their_ports() {
    let node = Node::new();
    let network = Network::new(of_both_families(&node));
    let (a, mut pod_a) = node.pod("a");
    let (b, pod_b) = node.pod("b");
    let at_address = PortMapping {
        host_ip: Some("fd00:123::1".parse().unwrap()),
        ..port(Protocol::Tcp, 8081, 80)
    };
    pod_a.port_mappings = vec![port(Protocol::Tcp, 8080, 80), at_address];
    let first = node.run(async || {
        network.attach(&pod_b).await.unwrap();
        network.attach(&pod_a).await.unwrap()
    });
    let ips: Vec<String> = first.ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.123.0.3", "fd00:123::3"]);
    let any = "[::]:80";
    assert!(connects(&b, &a, any, "[fd00:123::3]:80"), "from a pod");
    assert!(connects(&node.host, &a, any, "[fd00:123::3]:80"), "from the host");
    assert!(
        connects(&a, &node.host, "[::]:81", "[fd00:123::1]:81"),
        "to the gateway"
    );
    for target in ["10.123.0.1:8080", "[fd00:123::1]:8080", "[fd00:123::1]:8081"] {
        assert!(connects(&b, &a, any, target), "{target} from a pod");
        assert!(connects(&node.host, &a, any, target), "{target} from the host");
        assert!(connects(&a, &a, any, target), "{target} from the pod itself");
    }
    assert!(
        !connects(&node.host, &a, any, "10.123.0.1:8081"),
        "limited to one address"
    );

    // Another daemon closes what this one opened.
    let network = Network::new(of_both_families(&node));
    node.run(async || network.detach(&pod_a, true).await.unwrap());
    assert!(!connects(&b, &a, any, "[fd00:123::1]:8080"));
}

/// What a pod sends under addresses that it was not given does not arrive.
#[test]
#[ignore = "needs root"]
fn a_pod_of_both_families_speaks_for_itself_only() {
    let node = Node::new();
    let network = Network::new(of_both_families(&node));
    let (a, pod_a) = node.pod("a");
    let (b, pod_b) = node.pod("b");
    node.run(async || {
        network.attach(&pod_a).await.unwrap();
        network.attach(&pod_b).await.unwrap();
    });
    assert!(connects(&a, &b, "[::]:80", "[fd00:123::3]:80"));
    // Its own link-local address is its own.
    let scope = a.run(|| {
        let mut netlink = pausa_netlink::Netlink::open().unwrap();
        netlink.link_by_name("eth0").unwrap().unwrap().index
    });
    assert!(connects(
        &a,
        &b,
        "[::]:80",
        &format!("[{}%{scope}]:80", link_local(&b))
    ));
    for forged in ["fd00:123::7", "10.123.0.7", "fd00:123::1"] {
        let prefix = if forged.contains(':') { 64 } else { 24 };
        let add = [
            "address",
            "add",
            &format!("{forged}/{prefix}"),
            "dev",
            "eth0",
            "nodad",
        ]
        .map(str::to_owned)
        .to_vec();
        let add: Vec<String> = add
            .into_iter()
            .filter(|word| prefix == 64 || word != "nodad")
            .collect();
        let added = a.run(|| std::process::Command::new("ip").args(&add).status().unwrap());
        assert!(added.success());
        assert!(!connects_from(&a, &b, forged), "from {forged}");
    }
    // A pod with only the other family's protocol switched on says nothing in it.
    let network = Network::new(node.config(NetworkMode::Bridge));
    let (c, pod_c) = node.pod("c");
    node.run(async || network.attach(&pod_c).await.unwrap());
    let enable = || {
        fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0").unwrap();
        let add = ["address", "add", "fd00:123::9/64", "dev", "eth0", "nodad"];
        assert!(
            std::process::Command::new("ip")
                .args(add)
                .status()
                .unwrap()
                .success()
        );
    };
    c.run(enable);
    assert!(!connects(&c, &b, "[::]:80", "[fd00:123::3]:80"));
}

/// The address that the kernel derives from the hardware address.
fn link_local(pod: &Netns) -> std::net::Ipv6Addr {
    let addresses = pod.run(|| {
        let mut netlink = pausa_netlink::Netlink::open().unwrap();
        let index = netlink.index_of("eth0").unwrap().unwrap();
        netlink.addresses(index).unwrap()
    });
    let link_local = addresses.iter().find_map(|known| match known.address {
        std::net::IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
        _ => None,
    });
    link_local.unwrap()
}

/// Whether datagrams from this address of a pod arrive in another one.
fn connects_from(from: &Netns, to: &Netns, address: &str) -> bool {
    let v6 = address.contains(':');
    let (any, target) = if v6 {
        ("[::]:90", "[fd00:123::3]:90")
    } else {
        ("0.0.0.0:90", "10.123.0.3:90")
    };
    let receiver = to.run(|| std::net::UdpSocket::bind(any).unwrap());
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    from.run(|| {
        let source: std::net::IpAddr = address.parse().unwrap();
        let socket = std::net::UdpSocket::bind((source, 0)).unwrap();
        for _ in 0..3 {
            socket.send_to(b"x", target).ok();
        }
    });
    receiver.recv_from(&mut [0; 4]).is_ok()
}

/// Not a test of speed: prints what an attach costs, for whoever wants to know.
#[test]
#[ignore = "needs root"]
fn fifty_pods_get_fifty_addresses() {
    let node = Node::new();
    let network = Network::new(node.config(NetworkMode::Bridge));
    let pods: Vec<_> = (0..50).map(|number| node.pod(&format!("p{number}"))).collect();
    let mut addresses = BTreeSet::new();
    node.run(async || {
        let mut attach = Vec::new();
        let mut detach = Vec::new();
        for (_, pod) in &pods {
            let begin = std::time::Instant::now();
            addresses.extend(network.attach(pod).await.unwrap().ips);
            attach.push(begin.elapsed());
        }
        for (_, pod) in &pods {
            let begin = std::time::Instant::now();
            network.detach(pod, true).await.unwrap();
            detach.push(begin.elapsed());
        }
        attach.sort_unstable();
        detach.sort_unstable();
        println!("median attach {:?}, detach {:?}", attach[25], detach[25]);
    });
    assert_eq!(addresses.len(), 50);
    assert_eq!(node.addresses(), 0);
}
