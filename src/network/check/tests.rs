use std::time::Duration;

use ipnet::IpNet;
use pausa_cni::{Command, Interface, IpConfig, Route};
use pausa_netlink::{Address, AddressState, KnownRoute, Link, Neighbour};

use super::read::{Host, Inside, Namespace, Port, Seen, socket_address};
use super::*;
use crate::network::firewall::PortRule;
use crate::network::host_ports::HostPort;

const POD: &str = "0123";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A pod on a bridge, with a host port.
struct Case {
    expected: Expected,
    seen: Seen,
    surroundings: Surroundings,
}

impl Case {
    fn healthy() -> Self {
        let result = AddResult {
            interfaces: vec![
                Interface {
                    name: "br0".to_owned(),
                    ..Interface::default()
                },
                Interface {
                    name: "veth1".to_owned(),
                    ..Interface::default()
                },
                Interface {
                    name: "eth0".to_owned(),
                    mac: "02:00:00:00:00:05".to_owned(),
                    sandbox: "/netns".to_owned(),
                    ..Interface::default()
                },
            ],
            ips: vec![IpConfig {
                interface: Some(2),
                address: net("10.88.0.5/16"),
                gateway: Some(ip("10.88.0.1")),
            }],
            routes: vec![Route::new(net("0.0.0.0/0"))],
            ..AddResult::default()
        };
        let link = |index, name: &str, kind: &str| Link {
            index,
            name: name.to_owned(),
            kind: kind.to_owned(),
            mtu: 1500,
            up: true,
            operational: true,
            ..Link::default()
        };
        let named = |link: Link| (link.name.clone(), link);
        let address = |index, text: &str| Address {
            index,
            address: ip(text),
            prefix: 16,
            state: AddressState::Preferred,
        };
        let port = HostPort {
            protocol: Protocol::Tcp,
            host_ip: None,
            host_port: 8080,
            address: ip("10.88.0.5"),
            container_port: 80,
            network: Some(net("10.88.0.0/16")),
        };
        Self {
            expected: Expected {
                pod_id: POD.to_owned(),
                netns: PathBuf::from("/netns"),
                attachments: vec![Attached {
                    network: "net".to_owned(),
                    interface: "eth0".to_owned(),
                    result,
                    bridge: Some(Bridge {
                        name: "br0".to_owned(),
                        is_gateway: true,
                        is_default_gateway: true,
                    }),
                }],
                dns: Some(DnsConfig {
                    servers: vec!["10.96.0.10".to_owned()],
                    ..DnsConfig::default()
                }),
                resolv_conf: PathBuf::from("/pod/resolv.conf"),
            },
            seen: Seen {
                namespace: Namespace::Entered,
                inside: Inside {
                    links: [named(Link {
                        mac: Some(MAC),
                        ..link(2, "eth0", "veth")
                    })]
                    .into(),
                    addresses: vec![address(2, "10.88.0.5")],
                    routes: vec![KnownRoute {
                        index: Some(2),
                        destination: (ip("0.0.0.0"), 0),
                        gateway: Some(ip("10.88.0.1")),
                        table: 254,
                    }],
                    neighbours: Vec::new(),
                    reachable: [ip("10.96.0.10")].into(),
                },
                host: Host {
                    links: [
                        named(link(7, "br0", "bridge")),
                        named(Link {
                            master: Some(7),
                            ..link(8, "veth1", "veth")
                        }),
                    ]
                    .into(),
                    addresses: vec![address(7, "10.88.0.1")],
                    sysctls: [
                        ("ipv4/ip_forward".to_owned(), Some("1".to_owned())),
                        ("ipv4/conf/br0/forwarding".to_owned(), Some("1".to_owned())),
                    ]
                    .into(),
                    error: None,
                },
                ports: Ok(vec![(port, Port::ByPausa(Ok(PortRule::Opened)))]),
                masqueraded: vec![(net("10.88.0.0/16"), Ok(true))],
                resolv_conf: Ok("search a\nnameserver 10.96.0.10\n".to_owned()),
            },
            surroundings: Surroundings {
                uplinks: vec![("ens3".to_owned(), 1500)],
                owners: Ok([(ip("10.88.0.5"), vec![owner(POD, "net", "eth0")])].into()),
                listeners: [(Protocol::Tcp, ip("0.0.0.0"), 22)].into(),
            },
        }
    }

    fn findings(&self) -> Vec<Finding> {
        decide::all(&self.expected, &self.seen, &self.surroundings)
    }

    fn eth0(&mut self) -> &mut Link {
        self.seen.inside.links.get_mut("eth0").unwrap()
    }

    fn of_host(&mut self, name: &str) -> &mut Link {
        self.seen.host.links.get_mut(name).unwrap()
    }
}

fn owner(container: &str, network: &str, interface: &str) -> Owner {
    Owner {
        container: container.to_owned(),
        network: network.to_owned(),
        interface: interface.to_owned(),
    }
}

#[test]
fn a_healthy_pod_is_checked_in_all_respects() {
    let findings = Case::healthy().findings();
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| finding.verdict != Verdict::Ok)
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let checked: BTreeSet<Check> = findings.iter().map(|finding| finding.check).collect();
    let all = [
        Check::Namespace,
        Check::Interface,
        Check::Address,
        Check::Route,
        Check::Gateway,
        Check::HostEnd,
        Check::Bridge,
        Check::Mtu,
        Check::Forwarding,
        Check::HostPort,
        Check::Masquerade,
        Check::ResolvConf,
        Check::Duplicate,
    ];
    assert_eq!(checked, all.into());
}

type Fault = (&'static str, fn(&mut Case), &'static [(Check, Verdict)]);

/// A fault is reported once, where it is.
#[test]
fn each_fault_is_one_finding() {
    use Verdict::{Info, Problem, Unknown, Warning};
    let faults: &[Fault] = &[
        (
            "no namespace",
            |case| {
                case.seen.namespace = Namespace::Missing;
                case.seen.inside = Inside::default();
            },
            &[(Check::Namespace, Problem)],
        ),
        (
            "not a namespace",
            |case| {
                case.seen.namespace = Namespace::Unusable("EINVAL".to_owned());
                case.seen.inside = Inside::default();
            },
            &[(Check::Namespace, Problem)],
        ),
        (
            "another namespace",
            |case| case.seen.namespace = Namespace::Another,
            &[(Check::Namespace, Problem)],
        ),
        (
            "no result",
            |case| case.expected.attachments.clear(),
            &[(Check::Result, Problem)],
        ),
        (
            "no interface",
            |case| {
                case.seen.inside = Inside::default();
                case.of_host("veth1").operational = false;
            },
            &[(Check::Interface, Problem)],
        ),
        (
            "interface down",
            |case| {
                case.eth0().up = false;
                case.eth0().operational = false;
                case.seen.inside.routes.clear();
                case.seen.inside.reachable.clear();
                case.of_host("veth1").operational = false;
            },
            &[(Check::Interface, Problem)],
        ),
        (
            "no carrier",
            |case| case.eth0().operational = false,
            &[(Check::Interface, Problem)],
        ),
        (
            "another hardware address",
            |case| case.eth0().mac = Some([2; 6]),
            &[(Check::Interface, Problem)],
        ),
        (
            "no address",
            |case| {
                case.seen.inside.addresses.clear();
                case.seen.inside.routes.clear();
                case.seen.inside.reachable.clear();
            },
            &[(Check::Address, Problem)],
        ),
        (
            "another prefix",
            |case| case.seen.inside.addresses[0].prefix = 24,
            &[(Check::Address, Problem)],
        ),
        (
            "an address of another interface",
            |case| case.seen.inside.addresses[0].index = 1,
            &[(Check::Address, Problem)],
        ),
        (
            "duplicate detected",
            |case| case.seen.inside.addresses[0].state = AddressState::Duplicate,
            &[(Check::Address, Problem)],
        ),
        (
            "tentative",
            |case| case.seen.inside.addresses[0].state = AddressState::Tentative,
            &[(Check::Address, Warning)],
        ),
        (
            "no default route",
            |case| {
                case.seen.inside.routes.clear();
                case.seen.inside.reachable.clear();
            },
            &[(Check::Route, Problem)],
        ),
        (
            "a default route that only the gateway implies",
            |case| {
                case.expected.attachments[0].result.routes.clear();
                case.seen.inside.routes.clear();
            },
            &[(Check::Route, Problem)],
        ),
        (
            "in another table",
            |case| case.seen.inside.routes[0].table = 7,
            &[(Check::Route, Problem)],
        ),
        (
            "through somebody else",
            |case| {
                case.expected.attachments[0].result.routes[0].gw = Some(ip("10.88.0.1"));
                case.seen.inside.routes[0].gateway = Some(ip("10.88.0.9"));
            },
            &[(Check::Route, Problem)],
        ),
        (
            "the gateway does not answer",
            |case| {
                case.seen.inside.neighbours = vec![Neighbour {
                    index: 2,
                    address: ip("10.88.0.1"),
                    failed: true,
                }];
            },
            &[(Check::Gateway, Problem)],
        ),
        (
            "no end on the host",
            |case| {
                case.seen.host.links.remove("veth1");
            },
            &[(Check::HostEnd, Problem)],
        ),
        (
            "the host's end is down",
            |case| {
                case.of_host("veth1").up = false;
                case.eth0().operational = false;
            },
            &[(Check::HostEnd, Problem)],
        ),
        (
            "not a port",
            |case| {
                case.of_host("veth1").master = None;
                case.of_host("br0").mtu = 9000;
            },
            &[(Check::HostEnd, Problem)],
        ),
        (
            "a port of another bridge",
            |case| case.of_host("veth1").master = Some(99),
            &[(Check::HostEnd, Problem)],
        ),
        (
            "no bridge",
            |case| {
                case.seen.host.links.remove("br0");
                case.of_host("veth1").master = None;
                case.seen
                    .host
                    .sysctls
                    .insert("ipv4/conf/br0/forwarding".to_owned(), None);
            },
            &[(Check::Bridge, Problem)],
        ),
        (
            "bridge down",
            |case| case.of_host("br0").up = false,
            &[(Check::Bridge, Problem)],
        ),
        (
            "no gateway",
            |case| case.seen.host.addresses.clear(),
            &[(Check::Bridge, Problem)],
        ),
        (
            "the node's links are not known",
            |case| {
                case.seen.host.error = Some("EPERM".to_owned());
                case.seen.host.links.clear();
            },
            &[(Check::Bridge, Unknown)],
        ),
        (
            "another MTU in the pod",
            |case| case.eth0().mtu = 1400,
            &[(Check::Mtu, Problem)],
        ),
        (
            "another MTU of the bridge",
            |case| case.of_host("br0").mtu = 1400,
            &[(Check::Mtu, Problem)],
        ),
        (
            "another MTU in the result",
            |case| case.expected.attachments[0].result.interfaces[2].mtu = Some(9000),
            &[(Check::Mtu, Problem)],
        ),
        (
            "a narrow uplink",
            |case| case.surroundings.uplinks.push(("wg0".to_owned(), 1420)),
            &[(Check::Mtu, Warning)],
        ),
        (
            "no forwarding",
            |case| {
                let off = Some("0".to_owned());
                case.seen.host.sysctls.insert("ipv4/ip_forward".to_owned(), off);
            },
            &[(Check::Forwarding, Problem)],
        ),
        (
            "no element",
            |case| case.seen.ports.as_mut().unwrap()[0].1 = Port::ByPausa(Ok(PortRule::Missing)),
            &[(Check::HostPort, Problem)],
        ),
        (
            "another target",
            |case| {
                case.seen.ports.as_mut().unwrap()[0].1 =
                    Port::ByPausa(Ok(PortRule::Elsewhere("10.88.0.9:80".to_owned())));
            },
            &[(Check::HostPort, Problem)],
        ),
        (
            "the tables cannot be read",
            |case| case.seen.ports.as_mut().unwrap()[0].1 = Port::ByPausa(Err("EPERM".to_owned())),
            &[(Check::HostPort, Unknown)],
        ),
        (
            "the record cannot be read",
            |case| case.seen.ports = Err("EIO".to_owned()),
            &[(Check::HostPort, Unknown)],
        ),
        (
            "somebody listens",
            |case| {
                case.surroundings
                    .listeners
                    .insert((Protocol::Tcp, ip("::"), 8080));
            },
            &[(Check::HostPort, Info)],
        ),
        (
            "no masquerading",
            |case| case.seen.masqueraded[0].1 = Ok(false),
            &[(Check::Masquerade, Problem)],
        ),
        (
            "no file",
            |case| case.seen.resolv_conf = Err("no such file".to_owned()),
            &[(Check::ResolvConf, Problem)],
        ),
        (
            "an empty file",
            |case| case.seen.resolv_conf = Ok(String::new()),
            &[(Check::ResolvConf, Problem)],
        ),
        (
            "an empty copy of the node's",
            |case| {
                case.expected.dns = None;
                case.seen.resolv_conf = Ok("\n".to_owned());
            },
            &[(Check::ResolvConf, Warning)],
        ),
        (
            "not an address",
            |case| case.seen.resolv_conf = Ok("nameserver dns.example\n".to_owned()),
            &[(Check::ResolvConf, Problem)],
        ),
        (
            "no route to a name server",
            |case| case.seen.inside.reachable.clear(),
            &[(Check::ResolvConf, Warning)],
        ),
        (
            "the node's own resolver",
            |case| {
                case.seen.resolv_conf = Ok("nameserver 127.0.0.53\n".to_owned());
                case.seen.inside.reachable = [ip("127.0.0.53")].into();
            },
            &[(Check::ResolvConf, Info)],
        ),
        (
            "another pod has the address",
            |case| {
                let owners = case.surroundings.owners.as_mut().unwrap();
                owners
                    .get_mut(&ip("10.88.0.5"))
                    .unwrap()
                    .push(owner("4567", "net", "eth0"));
            },
            &[(Check::Duplicate, Problem)],
        ),
        (
            "the cache cannot be read",
            |case| case.surroundings.owners = Err("EIO".to_owned()),
            &[(Check::Duplicate, Unknown)],
        ),
    ];
    for (name, change, wanted) in faults {
        let mut case = Case::healthy();
        change(&mut case);
        let findings = case.findings();
        let bad = findings.iter().filter(|finding| finding.verdict != Verdict::Ok);
        let all: Vec<_> = bad.map(|finding| (finding.check, finding.verdict)).collect();
        assert_eq!(all, *wanted, "{name}: {findings:#?}");
        for finding in findings.iter().filter(|finding| finding.verdict != Verdict::Ok) {
            assert!(
                !finding.found.is_empty() && !finding.consequence.is_empty() && !finding.remedy.is_empty(),
                "{name}: {finding:#?}"
            );
        }
    }
}

type Innocent = (&'static str, fn(&mut Case));

#[test]
fn what_is_nobodys_fault_is_no_finding() {
    let changes: [Innocent; 6] = [
        ("an unrelated network with the same address", |case| {
            let owners = case.surroundings.owners.as_mut().unwrap();
            owners
                .get_mut(&ip("10.88.0.5"))
                .unwrap()
                .push(owner("4567", "other", "net1"));
        }),
        ("a bridge without a gateway", |case| {
            let attached = &mut case.expected.attachments[0];
            attached.bridge.as_mut().unwrap().is_gateway = false;
            case.seen.host.addresses.clear();
            case.seen.host.sysctls.clear();
        }),
        ("several default gateways", |case| {
            case.expected.attachments[0].result.routes[0].gw = Some(ip("10.88.0.1"));
            case.seen.inside.routes[0].gateway = None;
            case.seen.inside.routes[0].index = None;
        }),
        ("a neighbour that is gone", |case| {
            case.seen.inside.neighbours = vec![Neighbour {
                index: 2,
                address: ip("10.88.0.77"),
                failed: true,
            }];
        }),
        ("a listener of another address", |case| {
            let ports = case.seen.ports.as_mut().unwrap();
            ports[0].0.host_ip = Some(ip("192.0.2.1"));
            case.surroundings
                .listeners
                .insert((Protocol::Tcp, ip("127.0.0.1"), 8080));
        }),
        ("a link-local name server", |case| {
            case.seen.resolv_conf = Ok("nameserver fe80::1%eth0\n".to_owned());
            case.seen.inside.reachable = [ip("fe80::1")].into();
        }),
    ];
    for (name, change) in changes {
        let mut case = Case::healthy();
        change(&mut case);
        let bad: Vec<_> = case
            .findings()
            .into_iter()
            .filter(|finding| finding.verdict != Verdict::Ok)
            .collect();
        assert!(bad.is_empty(), "{name}: {bad:#?}");
    }
}

#[test]
fn what_check_says_names_the_plugin() {
    let plugin = |code| pausa_cni::Error::Plugin {
        plugin: "calico".to_owned(),
        command: Command::Check,
        code,
        msg: "no".to_owned(),
        details: String::new(),
        stderr: String::new(),
    };
    let hangs = pausa_cni::Error::Timeout {
        plugin: "calico".to_owned(),
        command: Command::Check,
        limit: Duration::from_secs(30),
        stderr: String::new(),
    };
    let missing = pausa_cni::Error::PluginNotFound {
        plugin: "calico".to_owned(),
        searched: Vec::new(),
    };
    for (error, verdict) in [
        (plugin(100), Verdict::Problem),
        (plugin(11), Verdict::Unknown),
        (hangs, Verdict::Unknown),
        (missing, Verdict::Problem),
    ] {
        let finding = decide::cni("net", &Outcome::Failed(error));
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.found.contains("calico"), "{finding:?}");
    }
    assert_eq!(decide::cni("net", &Outcome::Passed).verdict, Verdict::Ok);
}

#[test]
fn a_cache_that_cannot_be_read_is_said_once() {
    let mut case = Case::healthy();
    case.expected.attachments.clear();
    let mut findings = case.findings();
    decide::cache_unreadable("EIO", &mut findings);
    let about: Vec<_> = findings
        .iter()
        .filter(|finding| finding.check == Check::Result)
        .map(|finding| finding.verdict)
        .collect();
    assert_eq!(about, [Verdict::Unknown]);
}

#[test]
fn what_the_bridge_is_to_be_comes_from_its_plugin() {
    let of = |plugin: Value| {
        let list =
            serde_json::json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "tuning"}, plugin]});
        bridge(list.to_string().as_bytes())
    };
    let expected = |name: &str, is_gateway, is_default_gateway| {
        Some(Bridge {
            name: name.to_owned(),
            is_gateway,
            is_default_gateway,
        })
    };
    assert_eq!(
        of(serde_json::json!({"type": "bridge"})),
        expected("cni0", false, false)
    );
    assert_eq!(
        of(serde_json::json!({"type": "bridge", "bridge": "b", "isGateway": true})),
        expected("b", true, false)
    );
    assert_eq!(
        of(serde_json::json!({"type": "bridge", "bridge": "b", "isDefaultGateway": true})),
        expected("b", true, true)
    );
    assert_eq!(of(serde_json::json!({"type": "ptp"})), None);
    assert_eq!(bridge(b"nonsense"), None);
}

#[test]
fn an_answer_is_bounded_and_faults_go_first() {
    let finding = |verdict, found: String| Finding {
        check: Check::HostPort,
        verdict,
        object: String::new(),
        expected: String::new(),
        found,
        consequence: String::new(),
        remedy: String::new(),
    };
    let mut findings = vec![finding(Verdict::Ok, "ä".repeat(LONGEST_TEXT)); MOST_FINDINGS];
    findings.push(finding(Verdict::Problem, "no rule".to_owned()));
    let findings = bounded(findings);
    assert_eq!(findings.len(), MOST_FINDINGS);
    assert_eq!(findings[0].verdict, Verdict::Problem);
    let longest = findings.iter().map(|finding| finding.found.len()).max();
    assert!(longest.unwrap() <= LONGEST_TEXT + '…'.len_utf8());
}

#[test]
fn addresses_of_sockets_are_read() {
    let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
    let v4 = format!("{}:1F90", word([127, 0, 0, 1]));
    assert_eq!(socket_address(&v4), Some((ip("127.0.0.1"), 8080)));
    let v6 = format!(
        "{}{}{}{}:0016",
        word([0; 4]),
        word([0; 4]),
        word([0; 4]),
        word([0, 0, 0, 1])
    );
    assert_eq!(socket_address(&v6), Some((ip("::1"), 22)));
    for broken in [
        "",
        "7F000001",
        "7F0001:1F90",
        "7F00000é:1F90",
        "0100007F0100007F:1",
    ] {
        assert_eq!(socket_address(broken), None, "{broken}");
    }
}
