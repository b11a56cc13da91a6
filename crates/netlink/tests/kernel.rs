//! Against the kernel, in network namespaces of the test's own: nothing of the machine's is touched.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, unshare};
use pausa_netlink::{
    ErrorKind, LOOPBACK, LinkChange, Netlink, Request, Route, TokenBucket, Veth, in_netns, sysctl,
};

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
        mac: None,
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

#[test]
#[ignore = "needs root"]
fn what_a_link_receives_is_redirected_and_limited() {
    let (host, pod) = (netns(), netns());
    let mut here = Netlink::open_in(host.as_fd()).unwrap();
    let mut there = Netlink::open_in(pod.as_fd()).unwrap();
    let veth = Veth {
        name: "v1",
        mac: None,
        master: None,
        peer_name: "eth0",
        peer_netns: pod.as_fd(),
        peer_mac: None,
        mtu: None,
    };
    let ifb = Request::CreateIfb {
        name: "ifb9",
        mtu: 1400,
    };
    here.execute(&[Request::CreateVeth(veth), ifb.clone()]).unwrap();
    assert_eq!(here.execute(&[ifb]).unwrap_err().kind(), ErrorKind::Exists);
    let eth0 = there.link_by_name("eth0").unwrap().unwrap();
    let end = here.link_by_index(eth0.parent.unwrap()).unwrap().unwrap();
    assert_eq!((end.name.as_str(), end.parent), ("v1", Some(eth0.index)));
    assert_eq!(here.link_by_index(9999).unwrap(), None);
    let ifb = here.link_by_name("ifb9").unwrap().unwrap();
    assert_eq!(
        (ifb.kind.as_str(), ifb.mtu, ifb.tx_queue_length, ifb.up),
        ("ifb", 1400, 0, false)
    );

    let slow = TokenBucket {
        rate: 125_000,
        limit: 13_125,
        buffer: 1_250_000,
    };
    let fast = TokenBucket {
        rate: 5_000_000_000,
        ..slow
    };
    let bucket = |index, bucket| Request::AddTokenBucket { index, bucket };
    here.execute(&[
        bucket(end.index, slow),
        bucket(ifb.index, fast),
        Request::SetUp { index: ifb.index },
        Request::AddIngress { index: end.index },
        Request::RedirectIngress {
            index: end.index,
            to: ifb.index,
        },
    ])
    .unwrap();
    assert_eq!(here.token_bucket(end.index).unwrap(), Some(slow));
    assert_eq!(here.token_bucket(ifb.index).unwrap(), Some(fast));
    let error = here.execute(&[bucket(end.index, slow)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert_eq!(there.token_bucket(eth0.index).unwrap(), None);
    assert_eq!(here.token_bucket(LOOPBACK).unwrap(), None);
    assert_eq!(here.token_bucket(9999).unwrap(), None);
}

#[test]
#[ignore = "needs root"]
fn attributes_are_changed_and_those_not_given_stay() {
    let netns = netns();
    let mut netlink = Netlink::open_in(netns.as_fd()).unwrap();
    netlink
        .execute(&[Request::CreateBridge {
            name: "br0",
            mac: None,
            mtu: None,
            vlan_filtering: false,
        }])
        .unwrap();
    let before = netlink.link_by_name("br0").unwrap().unwrap();
    let mut change = LinkChange {
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: Some(1300),
        tx_queue_length: Some(77),
        promiscuous: Some(true),
        all_multicast: Some(true),
    };
    let index = before.index;
    netlink.execute(&[Request::ChangeLink { index, change }]).unwrap();
    let changed = netlink.link_by_name("br0").unwrap().unwrap();
    assert_eq!(
        (
            changed.mac,
            changed.mtu,
            changed.tx_queue_length,
            changed.promiscuity,
            changed.all_multicast
        ),
        (change.mac, 1300, 77, 1, true)
    );
    assert!(changed.up);
    change = LinkChange {
        promiscuous: Some(false),
        ..LinkChange::default()
    };
    netlink.execute(&[Request::ChangeLink { index, change }]).unwrap();
    let restored = netlink.link_by_name("br0").unwrap().unwrap();
    assert_eq!(
        (restored.promiscuity, restored.all_multicast, restored.mtu),
        (0, true, 1300)
    );
    change = LinkChange {
        mac: Some([0xff; 6]),
        mtu: Some(1200),
        all_multicast: Some(false),
        ..LinkChange::default()
    };
    let error = netlink
        .execute(&[Request::ChangeLink { index, change }])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("netlink: cannot change link {index}: address ff:ff:ff:ff:ff:ff, mtu 1200, allmulticast off")
    );
}

#[test]
#[ignore = "needs root"]
fn a_sysctl_of_all_interfaces_is_written_again() {
    let value = |path: &str| sysctl::read(path).unwrap();
    in_netns(netns().as_fd(), || {
        let (all, lo) = ("ipv6/conf/all/disable_ipv6", "ipv6/conf/lo/disable_ipv6");
        sysctl::write(all, "1").unwrap();
        sysctl::write(lo, "0").unwrap();
        assert_eq!((value(all).as_str(), value(lo).as_str()), ("1", "0"));
        sysctl::write(all, "1").unwrap();
        assert_eq!(value(lo), "1");
        sysctl::write("ipv4/route/flush", "1").unwrap();
        assert!(sysctl::write("../kernel/hostname", "x").is_err());
    })
    .unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_neighbour_that_does_not_answer_has_failed() {
    let netns = netns();
    let mut netlink = Netlink::open_in(netns.as_fd()).unwrap();
    let bridge = Request::CreateBridge {
        name: "br0",
        mac: None,
        mtu: None,
        vlan_filtering: false,
    };
    netlink.execute(&[bridge]).unwrap();
    let index = netlink.index_of("br0").unwrap().unwrap();
    let address = Request::AddAddress {
        index,
        address: ip("10.9.0.1"),
        prefix: 24,
    };
    netlink.execute(&[address]).unwrap();
    let set = in_netns(netns.as_fd(), || {
        let arguments = ["neigh", "add", "10.9.0.7", "dev", "br0", "nud", "failed"];
        std::process::Command::new("ip").args(arguments).status().unwrap()
    });
    assert!(set.unwrap().success());
    let found = netlink.neighbours().unwrap();
    // The kernel has some of its own, for groups.
    let failed: Vec<_> = found
        .iter()
        .filter(|found| !found.address.is_multicast())
        .map(|found| (found.index, found.address, found.failed))
        .collect();
    assert_eq!(failed, [(index, ip("10.9.0.7"), true)]);
}

#[test]
#[ignore = "needs root"]
fn a_sysctl_is_exchanged() {
    use pausa_netlink::sysctl;
    let exchange = || {
        let notify = "ipv4/conf/lo/arp_notify";
        assert_eq!(sysctl::exchange(notify, "1").unwrap(), "0");
        assert_eq!(sysctl::exchange(notify, "1").unwrap(), "1");
        assert_eq!(sysctl::read(notify).unwrap(), "1");
        // A shorter value after a longer one.
        let range = "ipv4/ip_local_port_range";
        sysctl::exchange(range, "20000\t30001").unwrap();
        assert_eq!(sysctl::exchange(range, "2000\t3001").unwrap(), "20000\t30001");
        assert_eq!(sysctl::read(range).unwrap(), "2000\t3001");
        for missing in ["ipv4/conf/none/arp_notify", "ipv4/conf/lo/none"] {
            let error = sysctl::exchange(missing, "1").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{missing}");
        }
        // Outside of the directory.
        sysctl::exchange("../kernel/panic", "0").unwrap_err();
    };
    in_netns(netns().as_fd(), exchange).unwrap();
}
