//! Against the kernel, in network namespaces of the test's own: nothing of the machine's is touched.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, unshare};
use pausa_netlink::{ErrorKind, LOOPBACK, Netlink, Request, Route, Veth, in_netns};

/// A network namespace that lives as long as the file.
fn netns() -> File {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    std::thread::spawn(make).join().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_pod_is_attached_to_a_bridge() {
    let (host, pod) = (netns(), netns());
    let mut here = Netlink::open_in(host.as_fd()).unwrap();
    let mac = [0x0a, 0x58, 10, 9, 0, 1];
    here.execute(&[Request::CreateBridge {
        name: "br0",
        mac: Some(mac),
        mtu: Some(1400),
        vlan_filtering: false,
    }])
    .unwrap();
    let bridge = here.link_by_name("br0").unwrap().unwrap();
    assert_eq!(
        (bridge.kind.as_str(), bridge.mac, bridge.mtu, bridge.up),
        ("bridge", Some(mac), 1400, true)
    );
    let gateway = Request::AddAddress {
        index: bridge.index,
        address: ip("10.9.0.1"),
        prefix: 24,
    };
    here.execute(std::slice::from_ref(&gateway)).unwrap();
    assert_eq!(here.execute(&[gateway]).unwrap_err().kind(), ErrorKind::Exists);
    let addresses: Vec<_> = here
        .addresses(bridge.index)
        .unwrap()
        .iter()
        .map(|a| (a.address, a.prefix))
        .collect();
    assert!(addresses.contains(&(ip("10.9.0.1"), 24)), "{addresses:?}");
    assert!(here.addresses(LOOPBACK).unwrap().is_empty());

    let peer_mac = [0x0a, 0x58, 10, 9, 0, 2];
    let veth = Veth {
        name: "v1",
        master: Some(bridge.index),
        peer_name: "eth0",
        peer_netns: pod.as_fd(),
        peer_mac: Some(peer_mac),
        mtu: Some(1400),
    };
    here.execute(&[Request::CreateVeth(veth)]).unwrap();
    let end = here.link_by_name("v1").unwrap().unwrap();
    assert_eq!(
        (end.master, end.up, end.kind.as_str()),
        (Some(bridge.index), true, "veth")
    );
    here.execute(&[Request::SetPort {
        index: end.index,
        hairpin: false,
        isolated: false,
    }])
    .unwrap();

    let mut there = Netlink::open_in(pod.as_fd()).unwrap();
    let eth0 = there.link_by_name("eth0").unwrap().unwrap();
    assert_eq!((eth0.mac, eth0.mtu, eth0.up), (Some(peer_mac), 1400, false));
    there
        .execute(&[
            Request::SetUp { index: LOOPBACK },
            Request::SetUp { index: eth0.index },
            Request::AddAddress {
                index: eth0.index,
                address: ip("10.9.0.2"),
                prefix: 24,
            },
            Request::AddRoute(Route {
                gateway: Some(ip("10.9.0.1")),
                ..Route::new(eth0.index, (ip("0.0.0.0"), 0))
            }),
        ])
        .unwrap();
    let served = in_netns(host.as_fd(), || {
        std::net::TcpListener::bind("10.9.0.1:80").unwrap()
    })
    .unwrap();
    in_netns(pod.as_fd(), || {
        std::net::TcpStream::connect("10.9.0.1:80").unwrap()
    })
    .unwrap();
    drop(served);

    here.execute(&[Request::SetMaster {
        index: end.index,
        master: 0,
    }])
    .unwrap();
    assert_eq!(here.link_by_name("v1").unwrap().unwrap().master, None);
    here.execute(&[Request::SetDown { index: end.index }]).unwrap();
    assert!(!here.link_by_name("v1").unwrap().unwrap().up);
    here.execute(&[Request::DeleteLink { name: "v1" }]).unwrap();
    assert_eq!(
        there.link_by_name("eth0").unwrap(),
        None,
        "the pair goes together"
    );
    let error = here.execute(&[Request::DeleteLink { name: "v1" }]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "netlink: cannot delete link v1");
}

#[test]
#[ignore = "needs root"]
fn the_calling_thread_stays_in_its_namespace() {
    let other = netns();
    let id = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = id();
    let inside = in_netns(other.as_fd(), id).unwrap();
    assert_ne!(inside, before);
    assert_eq!(id(), before);
    let no_namespace = File::open("/proc/self/status").unwrap();
    assert!(in_netns(no_namespace.as_fd(), || ()).is_err());
}

#[test]
#[ignore = "needs root"]
fn many_links_are_listed_and_a_refused_request_names_itself() {
    let host = netns();
    let mut netlink = Netlink::open_in(host.as_fd()).unwrap();
    let names: Vec<String> = (0..200).map(|number| format!("br{number}")).collect();
    let requests: Vec<_> = names
        .iter()
        .map(|name| Request::CreateBridge {
            name,
            mac: None,
            mtu: None,
            vlan_filtering: false,
        })
        .collect();
    netlink.execute(&requests).unwrap();
    assert_eq!(netlink.links().unwrap().len(), 201);
    let error = netlink
        .execute(&[
            Request::CreateBridge {
                name: "new",
                mac: None,
                mtu: None,
                vlan_filtering: false,
            },
            Request::SetUp { index: 9999 },
            Request::CreateBridge {
                name: "br7",
                mac: None,
                mtu: None,
                vlan_filtering: false,
            },
        ])
        .unwrap_err();
    assert_eq!(error.to_string(), "netlink: cannot set link 9999 up");
    assert!(netlink.link_by_name("new").unwrap().is_some());
}
