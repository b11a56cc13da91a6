//! What a pod on the built-in bridge tries on the network. The attacker is a program in `attacks/`, which has a raw socket.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::attacks::attacker;
use crate::harness::pod::bind;
use crate::harness::{Node, on_own_node, strings};

/// Output of ip(8) on the node.
fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("ip");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The line about an address in a neighbour table.
fn neighbour<'a>(table: &'a str, address: &str) -> &'a str {
    let line = table
        .lines()
        .find(|line| line.starts_with(&format!("{address} ")));
    line.unwrap_or_else(|| panic!("no {address} in {table}"))
}

/// The number of the port at which a bridge looks for a hardware address, if it knows (`struct __fdb_entry`).
fn port_of(bridge: &str, mac: [u8; 6]) -> Option<u8> {
    let table = std::fs::read(format!("/sys/class/net/{bridge}/brforward")).expect("the bridge's table");
    table
        .chunks_exact(16)
        .find(|entry| entry[..6] == mac)
        .map(|entry| entry[6])
}

fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

fn text(address: Ipv4Addr) -> String {
    mac(address).map(|byte| format!("{byte:02x}")).join(":")
}

/// Who has sent a datagram to the socket.
fn senders(socket: &UdpSocket) -> BTreeSet<IpAddr> {
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a time limit");
    let mut senders = BTreeSet::new();
    while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
        senders.insert(from.ip());
    }
    senders
}

fn gateway(node: &Node) -> Ipv4Addr {
    let [a, b, c, _] = node.slot().subnet().octets();
    Ipv4Addr::new(a, b, c, 1)
}

/// CVE-2020-10749 and the like: a pod can take over neither traffic of the node nor of a neighbour, with router
/// advertisements, ARP, redirects or forged addresses, although the default capabilities include raw sockets.
#[test]
#[ignore = "needs root"]
fn a_pod_cannot_take_over_the_traffic_of_others() {
    on_own_node(async |node| {
        let (bridge, gateway) = (node.slot().bridge(), gateway(node));
        let pod = node.pod().await;
        let victim = pod.start(|_| {}).await;
        let other = node.pod().await;
        let address = |ip: String| ip.parse::<Ipv4Addr>().expect("an IPv4 address");
        let (victims, own) = (address(pod.ip().await), address(other.ip().await));
        // They know each other, which is what the attacker wants to change.
        victim.sh(&format!("ping -c 1 -W 10 {gateway}")).await;
        let port = port_of(&bridge, mac(victims)).expect("the bridge has seen the victim");
        let socket = UdpSocket::bind((gateway, 0)).expect("a socket");
        let listening = socket.local_addr().expect("its address").port();

        let program = attacker("forge");
        let ended = other.run(|config| {
            config.command = strings(&[
                "/attack",
                &own.to_string(),
                &gateway.to_string(),
                &victims.to_string(),
                &listening.to_string(),
            ]);
            config.mounts.push(pausa::proto::v1::Mount {
                readonly: true,
                ..bind(&program, "/attack")
            });
        });
        let ended = ended.await;
        assert_eq!(ended.stdout(), "sent\n", "{ended:?}");

        assert_eq!(port_of(&bridge, mac(victims)), Some(port), "the bridge's table");
        assert_eq!(senders(&socket), BTreeSet::from([IpAddr::V4(own)]));
        for what in ["route", "address"] {
            let seen = ip(&["-6", what, "show"]);
            assert!(!seen.contains("2001:db8:bad:"), "{seen}");
            assert_eq!(ip(&["-6", what, "show", "dev", &bridge]), "");
        }
        let table = ip(&["neighbour", "show", "dev", &bridge]);
        let entry = neighbour(&table, &victims.to_string());
        assert!(entry.contains(&text(victims)), "{entry}");
        let table = victim.sh("ip neigh").await;
        let entry = neighbour(&table, &gateway.to_string());
        assert!(entry.contains(&text(gateway)), "{entry}");
        let route = victim.sh("ip route get 203.0.113.1").await;
        assert!(route.contains(&format!("via {gateway} ")), "{route}");
        let addresses = victim.sh("cat /proc/net/if_inet6").await;
        assert!(!addresses.contains("eth0"), "{addresses}");
        // Other interfaces of a pod are its own business.
        let off = "cd /proc/sys/net/ipv6/conf; cat default/disable_ipv6 eth0/disable_ipv6";
        assert_eq!(victim.sh(off).await, "0\n1\n");
        // What is honest passes.
        victim.sh(&format!("ping -c 1 -W 10 {own}")).await;
        victim.sh(&format!("arping -c 1 -w 10 -I eth0 {own}")).await;
    });
}
