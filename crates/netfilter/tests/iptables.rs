//! Rules of iptables against iptables itself (its nf_tables variant), in network namespaces of the test's own.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Output, Stdio};

use nix::sched::{CloneFlags, unshare};
use pausa_netfilter::iptables::{Interface, Match, Network, Protocol, Rule, Target, base_chain};
use pausa_netfilter::{Chain, Change, ErrorKind, Family, Netfilter, Place, Set};

/// Runs a test on a thread in a network namespace that ends with it. Programs it starts are in the same namespace.
fn in_new_netns(test: impl FnOnce() + Send + 'static) {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    };
    std::thread::spawn(run).join().unwrap();
}

fn program(family: Family, suffix: &str) -> Command {
    Command::new(match family {
        Family::V6 => format!("ip6tables-nft{suffix}"),
        _ => format!("iptables-nft{suffix}"),
    })
}

fn output(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; is iptables installed?"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The lines of a chain's rules.
fn saved(family: Family, table: &str, chain: &str) -> Vec<String> {
    let saved = output(program(family, "-save").args(["-t", table]));
    let begin = format!("-A {chain} ");
    String::from_utf8(saved.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix(&begin))
        .map(ToOwned::to_owned)
        .collect()
}

fn network(text: &str) -> Option<Network> {
    Some(Network::of(text.parse().unwrap()))
}

fn without(network: &str) -> Option<Network> {
    Some(Network {
        negated: true,
        ..Network::of(network.parse().unwrap())
    })
}

fn interface(name: &str, negated: bool) -> Option<Interface> {
    Some(Interface {
        name: name.to_owned(),
        negated,
    })
}

fn comment(text: &str) -> Match {
    Match::Comment(text.to_owned())
}

type Shape = (Family, &'static str, &'static str, &'static [&'static str], Rule);

/// Every shape that the plugins use, as the arguments they give to iptables and as ours.
fn shapes() -> Vec<Shape> {
    const NAME: &str = r#"name: "n" id: "c""#;
    let jump = || Target::Jump("X".to_owned());
    let rule = Rule::to;
    vec![
        (
            Family::V4,
            "nat",
            "POSTROUTING",
            &["-s", "10.1.2.3", "-j", "X", "-m", "comment", "--comment", NAME],
            Rule {
                source: network("10.1.2.3/32"),
                matches: vec![comment(NAME)],
                ..rule(jump())
            },
        ),
        (
            Family::V4,
            "nat",
            "C",
            &[
                "-d",
                "10.1.2.3/24",
                "-j",
                "ACCEPT",
                "-m",
                "comment",
                "--comment",
                "plain",
            ],
            Rule {
                destination: network("10.1.2.3/24"),
                matches: vec![comment("plain")],
                ..rule(Target::Accept)
            },
        ),
        (
            Family::V4,
            "nat",
            "C",
            &[
                "!",
                "-d",
                "224.0.0.0/4",
                "-j",
                "MASQUERADE",
                "-m",
                "comment",
                "--comment",
                NAME,
            ],
            Rule {
                destination: without("224.0.0.0/4"),
                matches: vec![comment(NAME)],
                ..rule(Target::Masquerade)
            },
        ),
        (
            Family::V6,
            "nat",
            "POSTROUTING",
            &["-s", "fd00::5", "-j", "X", "-m", "comment", "--comment", NAME],
            Rule {
                source: network("fd00::5/128"),
                matches: vec![comment(NAME)],
                ..rule(jump())
            },
        ),
        (
            Family::V6,
            "nat",
            "C",
            &["-d", "fd00::5/64", "-j", "ACCEPT"],
            Rule {
                destination: network("fd00::5/64"),
                ..rule(Target::Accept)
            },
        ),
        (
            Family::V6,
            "nat",
            "C",
            &["!", "-d", "ff00::/8", "-j", "MASQUERADE"],
            Rule {
                destination: without("ff00::/8"),
                ..rule(Target::Masquerade)
            },
        ),
        (
            Family::V6,
            "nat",
            "C",
            &["-s", "fd00:1234::/61", "-p", "udp", "--dport", "53", "-j", "X"],
            Rule {
                source: network("fd00:1234::/61"),
                protocol: Some(Protocol::Udp),
                matches: vec![Match::Port(53)],
                ..rule(jump())
            },
        ),
        (
            Family::V4,
            "nat",
            "PREROUTING",
            &["-m", "addrtype", "--dst-type", "LOCAL", "-j", "X"],
            Rule {
                matches: vec![Match::LocalDestination],
                ..rule(jump())
            },
        ),
        (
            Family::V6,
            "nat",
            "OUTPUT",
            &["-m", "addrtype", "--dst-type", "LOCAL", "-j", "X"],
            Rule {
                matches: vec![Match::LocalDestination],
                ..rule(jump())
            },
        ),
        (
            Family::V4,
            "nat",
            "C",
            &[
                "-m",
                "comment",
                "--comment",
                NAME,
                "-m",
                "multiport",
                "-p",
                "tcp",
                "--destination-ports",
                "1,2,3,4,5,6,7,8,9,10,11,12,13,14,65535",
                "-j",
                "X",
            ],
            Rule {
                protocol: Some(Protocol::Tcp),
                matches: vec![
                    comment(NAME),
                    Match::Ports(vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 65535]),
                ],
                ..rule(jump())
            },
        ),
        (
            Family::V6,
            "nat",
            "C",
            &[
                "-m",
                "comment",
                "--comment",
                NAME,
                "-m",
                "multiport",
                "-p",
                "sctp",
                "--destination-ports",
                "80",
                "-j",
                "X",
            ],
            Rule {
                protocol: Some(Protocol::Sctp),
                matches: vec![comment(NAME), Match::Ports(vec![80])],
                ..rule(jump())
            },
        ),
        (
            Family::V4,
            "nat",
            "C",
            &[
                "-p",
                "tcp",
                "--dport",
                "80",
                "-d",
                "10.0.0.1",
                "-s",
                "10.2.3.4/20",
                "-j",
                "X",
            ],
            Rule {
                source: network("10.2.3.4/20"),
                destination: network("10.0.0.1/32"),
                protocol: Some(Protocol::Tcp),
                matches: vec![Match::Port(80)],
                ..rule(jump())
            },
        ),
        (
            Family::V4,
            "nat",
            "C",
            &["-p", "udp", "--dport", "80", "-s", "0.0.0.0/0", "-j", "X"],
            Rule {
                source: network("0.0.0.0/0"),
                protocol: Some(Protocol::Udp),
                matches: vec![Match::Port(80)],
                ..rule(jump())
            },
        ),
        (
            Family::V4,
            "nat",
            "C",
            &["-p", "sctp", "--dport", "80", "-s", "127.0.0.1", "-j", "X"],
            Rule {
                source: network("127.0.0.1/32"),
                protocol: Some(Protocol::Sctp),
                matches: vec![Match::Port(80)],
                ..rule(jump())
            },
        ),
        (
            Family::V4,
            "nat",
            "C",
            &[
                "-p",
                "tcp",
                "--dport",
                "80",
                "-j",
                "DNAT",
                "--to-destination",
                "10.1.2.3:8080",
            ],
            Rule {
                protocol: Some(Protocol::Tcp),
                matches: vec![Match::Port(80)],
                ..rule(Target::Dnat("10.1.2.3:8080".parse().unwrap()))
            },
        ),
        (
            Family::V6,
            "nat",
            "C",
            &[
                "-p",
                "sctp",
                "--dport",
                "80",
                "-j",
                "DNAT",
                "--to-destination",
                "[fd00::5]:8080",
            ],
            Rule {
                protocol: Some(Protocol::Sctp),
                matches: vec![Match::Port(80)],
                ..rule(Target::Dnat("[fd00::5]:8080".parse().unwrap()))
            },
        ),
        (
            Family::V4,
            "nat",
            "C",
            &[
                "-m",
                "comment",
                "--comment",
                "CNI mark",
                "-j",
                "MARK",
                "--set-xmark",
                "0x2000/0x2000",
            ],
            Rule {
                matches: vec![comment("CNI mark")],
                ..rule(Target::Mark(0x2000))
            },
        ),
        (
            Family::V4,
            "nat",
            "C",
            &[
                "-m",
                "mark",
                "--mark",
                "0x80000000/0x80000000",
                "-j",
                "MASQUERADE",
            ],
            Rule {
                matches: vec![Match::Mark(0x8000_0000)],
                ..rule(Target::Masquerade)
            },
        ),
        (
            Family::V6,
            "nat",
            "C",
            &["-m", "mark", "--mark", "0x1/0x1", "-j", "MASQUERADE"],
            Rule {
                matches: vec![Match::Mark(1)],
                ..rule(Target::Masquerade)
            },
        ),
        (
            Family::V4,
            "filter",
            "FORWARD",
            &[
                "-d",
                "10.1.2.3/32",
                "-m",
                "conntrack",
                "--ctstate",
                "RELATED,ESTABLISHED",
                "-j",
                "ACCEPT",
            ],
            Rule {
                destination: network("10.1.2.3/32"),
                matches: vec![Match::Established],
                ..rule(Target::Accept)
            },
        ),
        (
            Family::V6,
            "filter",
            "C",
            &[
                "-d",
                "fd00::5/128",
                "-m",
                "conntrack",
                "--ctstate",
                "RELATED,ESTABLISHED",
                "-j",
                "ACCEPT",
            ],
            Rule {
                destination: network("fd00::5/128"),
                matches: vec![Match::Established],
                ..rule(Target::Accept)
            },
        ),
        (
            Family::V6,
            "filter",
            "C",
            &["-s", "fd00::5/128", "-j", "ACCEPT"],
            Rule {
                source: network("fd00::5/128"),
                ..rule(Target::Accept)
            },
        ),
        (
            Family::V4,
            "filter",
            "C",
            &[
                "-i",
                "br0",
                "!",
                "-o",
                "br0",
                "-j",
                "X",
                "-m",
                "comment",
                "--comment",
                NAME,
            ],
            Rule {
                in_interface: interface("br0", false),
                out_interface: interface("br0", true),
                matches: vec![comment(NAME)],
                ..rule(jump())
            },
        ),
        (
            Family::V6,
            "filter",
            "C",
            &["-i", "a-name-with-15-c", "-o", "br0", "-j", "DROP"],
            Rule {
                in_interface: interface("a-name-with-15-c", false),
                out_interface: interface("br0", false),
                ..rule(Target::Drop)
            },
        ),
        (
            Family::V4,
            "filter",
            "FORWARD",
            &[
                "-m",
                "comment",
                "--comment",
                "it's \\ \"quoted\" ü",
                "-j",
                "RETURN",
            ],
            Rule {
                matches: vec![comment("it's \\ \"quoted\" ü")],
                ..rule(Target::Return)
            },
        ),
    ]
}

#[test]
#[ignore = "needs root"]
fn every_rule_is_one_that_iptables_would_write() {
    in_new_netns(|| {
        let mut netfilter = Netfilter::open().unwrap();
        for (family, table, name, arguments, rule) in shapes() {
            let chain = |name| Chain { family, table, name };
            let at = chain(name);
            let iptables = |operation: &str| {
                let mut command = program(family, "");
                command.args(["-w", "-t", table, operation, name]).args(arguments);
                command
            };
            // The first one makes what is missing.
            let new = |name| Change::AddChain {
                chain: chain(name),
                comment: None,
            };
            let base = base_chain(at).unwrap_or_else(|| new(name));
            let prepare = [
                Change::AddTable {
                    family,
                    table,
                    comment: None,
                },
                new("X"),
                base,
            ];
            netfilter.commit(&prepare, None).unwrap();
            let rendered = rule.render(family);
            let Some(rendered) = rendered else {
                assert_eq!(rule.in_interface.unwrap().name.len(), 16);
                continue;
            };

            output(&mut iptables("-A"));
            let (theirs, text) = (netfilter.rules(at).unwrap(), saved(family, table, name));
            assert_eq!(theirs.len(), 1, "{arguments:?}");
            let wanted = &rendered.expressions;
            assert!(
                theirs[0].does(&rendered),
                "{arguments:?}: {:?}, not {wanted:?}",
                theirs[0]
            );
            assert_eq!(text, [rule.to_string()]);
            // We find and delete what iptables wrote.
            let found = netfilter.look_up(&[at], &[(at, theirs[0].handle)]).unwrap();
            assert_eq!(found.rules[0].as_ref(), Some(&theirs[0]));
            let delete = Change::DeleteRule {
                chain: at,
                handle: theirs[0].handle,
            };
            netfilter.commit(&[delete], Some(found.generation)).unwrap();
            assert_eq!(saved(family, table, name), [""; 0]);
            assert_eq!(
                netfilter
                    .commit(&[delete], Some(found.generation))
                    .unwrap_err()
                    .kind(),
                ErrorKind::Changed
            );
            assert_eq!(
                netfilter.commit(&[delete], None).unwrap_err().kind(),
                ErrorKind::NotFound
            );

            // iptables prints, finds and deletes what we write.
            let add = Change::AddRule {
                chain: at,
                rule: &rendered,
                place: Place::Last,
                echo: true,
            };
            let handles = netfilter.commit(&[add], None).unwrap();
            let ours = netfilter.rules(at).unwrap();
            assert_eq!(handles, [ours[0].handle]);
            assert_eq!(ours[0].expressions, rendered.expressions);
            assert_eq!(saved(family, table, name), text);
            output(&mut iptables("-C"));
            output(&mut iptables("-D"));
            assert_eq!(saved(family, table, name), [""; 0]);

            // The text is read as the same rule.
            let input = format!("*{table}\n-A {name} {rule}\nCOMMIT\n");
            let mut restore = program(family, "-restore");
            restore.args(["--noflush", "-w"]).stdin(Stdio::piped());
            let mut restore = restore.spawn().unwrap();
            restore.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            assert!(restore.wait().unwrap().success());
            assert!(netfilter.rules(at).unwrap()[0].does(&rendered));
            output(&mut iptables("-D"));
        }
    });
}

#[test]
#[ignore = "needs root"]
fn base_chains_are_those_of_iptables() {
    const CHAINS: [(&str, &str); 7] = [
        ("filter", "INPUT"),
        ("filter", "FORWARD"),
        ("filter", "OUTPUT"),
        ("nat", "PREROUTING"),
        ("nat", "INPUT"),
        ("nat", "OUTPUT"),
        ("nat", "POSTROUTING"),
    ];
    let listing = || {
        let nft = output(Command::new("nft").args(["list", "ruleset"]));
        let text = String::from_utf8(nft.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.contains("counter"));
        let mut lines: Vec<_> = lines.map(ToOwned::to_owned).collect();
        lines.retain(|line| line.contains("type") || line.contains("chain") || line.contains("table"));
        lines
    };
    let (theirs, ours) = std::sync::mpsc::channel();
    in_new_netns(move || {
        for family in [Family::V4, Family::V6] {
            for (table, chain) in CHAINS {
                output(program(family, "").args(["-t", table, "-A", chain, "-j", "ACCEPT"]));
            }
        }
        theirs.send(listing()).unwrap();
    });
    in_new_netns(move || {
        let mut netfilter = Netfilter::open().unwrap();
        for family in [Family::V4, Family::V6] {
            for (table, name) in CHAINS {
                let base = base_chain(Chain { family, table, name }).unwrap();
                let table = Change::AddTable {
                    family,
                    table,
                    comment: None,
                };
                netfilter.commit(&[table, base], None).unwrap();
            }
        }
        assert_eq!(listing(), ours.recv().unwrap());
        // A policy stays as it is.
        output(program(Family::V4, "").args(["-P", "FORWARD", "DROP"]));
        let forward = Chain {
            family: Family::V4,
            table: "filter",
            name: "FORWARD",
        };
        netfilter.commit(&[base_chain(forward).unwrap()], None).unwrap();
        let policies = output(program(Family::V4, "").args(["-S", "FORWARD"]));
        assert_eq!(String::from_utf8(policies.stdout).unwrap(), "-P FORWARD DROP\n");
    });
}

#[test]
#[ignore = "needs root"]
fn a_transaction_is_made_as_a_whole_or_not_at_all() {
    in_new_netns(|| {
        let mut netfilter = Netfilter::open().unwrap();
        let chain = |name| Chain {
            family: Family::V4,
            table: "nat",
            name,
        };
        let table = Change::AddTable {
            family: Family::V4,
            table: "nat",
            comment: None,
        };
        let create = |name| Change::CreateChain { chain: chain(name) };
        netfilter.commit(&[table, create("a")], None).unwrap();
        let error = netfilter
            .commit(&[create("b"), create("a"), create("c")], None)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(error.to_string(), "netfilter: cannot add chain ip nat a");
        let found = netfilter
            .look_up(&[chain("a"), chain("b"), chain("c")], &[(chain("a"), 99)])
            .unwrap();
        assert_eq!(
            (found.chains, found.rules),
            (vec![true, false, false], vec![None])
        );
        let missing = Change::Flush { chain: chain("b") };
        assert_eq!(
            netfilter.commit(&[missing], None).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        // Many rules: more than the usual size of a datagram.
        let accept = Rule {
            matches: vec![comment("long")],
            ..Rule::to(Target::Accept)
        };
        let accept = accept.render(Family::V4).unwrap();
        let add = Change::AddRule {
            chain: chain("a"),
            rule: &accept,
            place: Place::Last,
            echo: true,
        };
        assert_eq!(netfilter.commit(&vec![add; 2000], None).unwrap().len(), 2000);
        let rules = netfilter.rules(chain("a")).unwrap();
        assert_eq!(rules.len(), 2000);
        let questions: Vec<_> = rules.iter().map(|rule| (chain("a"), rule.handle)).collect();
        let found = netfilter.look_up(&[], &questions).unwrap();
        assert!(found.rules.into_iter().flatten().eq(rules));
        let jump = Rule::to(Target::Jump("a".to_owned())).render(Family::V4).unwrap();
        let jump = Change::AddRule {
            chain: chain("b"),
            rule: &jump,
            place: Place::First,
            echo: true,
        };
        netfilter.commit(&[create("b"), jump], None).unwrap();
        let delete = [
            Change::Flush { chain: chain("a") },
            Change::DeleteChain { chain: chain("a") },
        ];
        assert_eq!(
            netfilter.commit(&delete, None).unwrap_err().kind(),
            ErrorKind::Busy
        );
    });
}

#[test]
#[ignore = "needs root"]
fn udp_connections_to_a_port_are_forgotten() {
    in_new_netns(|| {
        let mut netfilter = Netfilter::open().unwrap();
        output(Command::new("ip").args(["link", "set", "lo", "up"]));
        // Connections are tracked once a rule needs it.
        for family in [Family::V4, Family::V6] {
            output(program(family, "").args([
                "-A",
                "INPUT",
                "-m",
                "conntrack",
                "--ctstate",
                "NEW",
                "-j",
                "ACCEPT",
            ]));
        }
        for (family, address) in [(Family::V4, "127.0.0.1"), (Family::V6, "::1")] {
            let address: IpAddr = address.parse().unwrap();
            let server = UdpSocket::bind((address, 0)).unwrap();
            let other = UdpSocket::bind((address, 0)).unwrap();
            let client = UdpSocket::bind((address, 0)).unwrap();
            let port = server.local_addr().unwrap().port();
            let (wanted, kept) = (server.local_addr().unwrap(), other.local_addr().unwrap());
            client.send_to(b"x", wanted).unwrap();
            client.send_to(b"x", kept).unwrap();
            let tracked = || {
                let list = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
                // The first of the two directions.
                let to = |port: u16| list.lines().any(|line| line.contains(&format!("dport={port} ")));
                (to(port), to(kept.port()))
            };
            assert_eq!(tracked(), (true, true));
            netfilter.forget_udp(family, port).unwrap();
            assert_eq!(tracked(), (false, true));
            netfilter.forget_udp(family, port).unwrap();
            netfilter.forget_udp(family, kept.port()).unwrap();
            assert_eq!(tracked(), (false, false));
        }
    });
}

/// What nft(8) has added is found by its key, and nothing else is.
#[test]
#[ignore = "needs root"]
fn an_element_is_looked_up() {
    in_new_netns(|| {
        let rules = "add table ip t
add map ip t m { type inet_proto . inet_service : ipv4_addr . inet_service ; }
add set ip t s { type ipv4_addr ; }
add element ip t m { tcp . 8080 : 10.0.0.5 . 80 }
add element ip t s { 10.0.0.7 }
";
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
        let mut netfilter = Netfilter::open().unwrap();
        let mut look_up = |name, key: &[u8]| {
            let set = Set {
                family: Family::V4,
                table: "t",
                name,
            };
            netfilter.element(set, key).unwrap()
        };
        let key = |port: u16| {
            let [high, low] = port.to_be_bytes();
            [6, 0, 0, 0, high, low, 0, 0]
        };
        assert_eq!(look_up("m", &key(8080)), Some(vec![10, 0, 0, 5, 0, 80, 0, 0]));
        assert_eq!(look_up("m", &key(8081)), None);
        assert_eq!(look_up("s", &[10, 0, 0, 7]), Some(Vec::new()));
        assert_eq!(look_up("s", &[10, 0, 0, 8]), None);
        assert_eq!(look_up("missing", &key(8080)), None);
    });
}
