use std::net::SocketAddr;
use std::process::Command as Process;

use pausa_netfilter::iptables::{Network, Protocol, Target};

use super::*;
use crate::tables::{in_new_netns, output};

#[test]
fn the_variant_is_read_from_the_version() {
    for (version, expected) in [
        ("iptables v1.8.9 (nf_tables)\n", By::Kernel),
        ("iptables v1.8.8 (nf_tables)\n", By::Kernel),
        ("iptables v1.10.0 (nf_tables)\n", By::Kernel),
        ("iptables v2.0 (nf_tables)\n", By::Kernel),
        ("iptables v1.8.7 (nf_tables)\n", By::Programs("iptables")),
        ("iptables v1.8.9 (legacy)\n", By::Programs("iptables")),
        ("iptables v1.6.1\n", By::Programs("iptables")),
        ("", By::Programs("iptables")),
    ] {
        assert_eq!(by("iptables", version), expected, "{version}");
    }
    assert_eq!(ask("pausa-has-no-such-program"), None);
}

#[test]
fn only_whole_names_lead_to_a_chain() {
    let saved = Saved::parse(
        "*nat\n:A - [0:0]\n-A A -s 1.2.3.4/32 -j CNI-1\n-A A -j XCNI-1\n-A A -j CNI-1\n-A B -j CNI-1\n",
    );
    assert_eq!(
        saved.leading_to("A", "CNI-1").collect::<Vec<_>>(),
        ["-s 1.2.3.4/32 -j CNI-1", "-j CNI-1"]
    );
    assert!(saved.has("B", "-j CNI-1") && !saved.has("A", "-j CNI-2") && !saved.has("C", "-j CNI-1"));
}

fn jump(to: &str) -> Rule {
    Rule::to(Target::Jump(to.to_owned()))
}

fn own(chain: &str, address: &str) -> Wanted {
    let comment = || Match::Comment(format!("it's \"{chain}\""));
    let to: SocketAddr = format!("{address}:80").parse().unwrap();
    Wanted::Own {
        chain: chain.to_owned(),
        rules: vec![Rule {
            protocol: Some(Protocol::Tcp),
            matches: vec![Match::Port(80)],
            ..Rule::to(Target::Dnat(to))
        }],
        from: "PREROUTING",
        entries: vec![Rule {
            source: Some(Network::host(address.parse().unwrap())),
            matches: vec![comment()],
            ..jump(chain)
        }],
    }
}

/// The same operations; what the table is after each.
fn history(by: By, save: &'static str) -> Vec<Vec<String>> {
    in_new_netns(move || {
        let iptables = Iptables {
            family: Family::V4,
            by,
        };
        let save = || {
            let mut lines: Vec<String> = output(Process::new(save).args(["-t", "nat"]))
                .lines()
                .filter(|line| line.starts_with("-A") || line.contains(" - ["))
                .map(ToOwned::to_owned)
                .collect();
            // Chains are listed in the order of their making, or of their names.
            lines.sort_by_key(|line| line.split(' ').nth(1).unwrap_or_default().to_owned());
            lines
        };
        let shared = |place| Wanted::Rule("POSTROUTING".to_owned(), jump("SHARED"), place);
        let mut history = Vec::new();
        let mut step = |outcome: Result<(), Failure>| {
            outcome.unwrap();
            history.push(save());
        };
        step(iptables.ensure(
            "nat",
            &[
                Wanted::Chain("SHARED".to_owned()),
                shared(Place::First),
                own("A", "10.0.0.1"),
            ],
        ));
        step(iptables.ensure("nat", &[own("B", "10.0.0.2"), shared(Place::First)]));
        // Nothing is missing.
        step(iptables.ensure(
            "nat",
            &[
                own("B", "10.0.0.2"),
                Wanted::Chain("SHARED".to_owned()),
                shared(Place::Last),
            ],
        ));
        let last = Rule {
            matches: vec![Match::Comment("first".to_owned())],
            ..Rule::to(Target::Return)
        };
        step(iptables.ensure(
            "nat",
            &[Wanted::Rule("SHARED".to_owned(), last.clone(), Place::First)],
        ));
        let there = [("POSTROUTING", jump("SHARED")), ("SHARED", last.clone())];
        assert_eq!(iptables.missing("nat", &there).unwrap(), None);
        let there = [("SHARED", last.clone()), ("SHARED", jump("A"))];
        assert_eq!(iptables.missing("nat", &there).unwrap(), Some(&there[1]));
        // Arguments that only iptables can read.
        let mut with_arguments = own("C", "10.0.0.3");
        let Wanted::Own { entries, .. } = &mut with_arguments else {
            unreachable!()
        };
        let arguments = ["!", "-i", "lo", "-m", "comment", "--comment", "a\"b c"].map(ToOwned::to_owned);
        entries[0].matches.push(Match::Arguments(arguments.to_vec()));
        let entry = entries[0].clone();
        step(iptables.ensure("nat", &[with_arguments.clone()]));
        step(iptables.ensure("nat", &[with_arguments]));
        assert_eq!(iptables.missing("nat", &[("PREROUTING", entry)]).unwrap(), None);

        step(iptables.remove_chains("nat", &[("B", "PREROUTING"), ("NONE", "OUTPUT")]));
        step(iptables.remove_chains("nat", &[("B", "PREROUTING")]));
        step(iptables.remove_chains("nat", &[("C", "PREROUTING")]));
        step(iptables.remove_rules("nat", &[("SHARED", last.clone()), ("SHARED", jump("A"))]));
        step(iptables.remove_rules("nat", &[("SHARED", last)]));
        history
    })
}

#[test]
#[ignore = "needs root"]
fn programs_make_the_same_rules_as_we_do() {
    let by_kernel = history(By::Kernel, "iptables-nft-save");
    assert_eq!(by_kernel[4].len(), 12, "{:#?}", by_kernel[4]);
    assert_eq!(by_kernel[10].len(), 5, "{:#?}", by_kernel[10]);
    for (name, save) in [
        ("iptables-legacy", "iptables-legacy-save"),
        ("iptables-nft", "iptables-nft-save"),
    ] {
        assert_eq!(history(By::Programs(name), save), by_kernel, "{name}");
    }
}

#[test]
#[ignore = "needs root"]
fn many_at_once_do_not_disturb_each_other() {
    in_new_netns(|| {
        let iptables = Iptables {
            family: Family::V4,
            by: By::Kernel,
        };
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for round in 0..20 {
                        let chain = format!("POD-{thread}-{round}");
                        let shared = Wanted::Rule("POSTROUTING".to_owned(), jump("SHARED"), Place::First);
                        let wanted = [
                            Wanted::Chain("SHARED".to_owned()),
                            shared,
                            own(&chain, "10.0.0.1"),
                        ];
                        iptables.ensure("nat", &wanted).unwrap();
                        iptables.remove_chains("nat", &[(&chain, "PREROUTING")]).unwrap();
                    }
                });
            }
        });
        let saved = output(Process::new("iptables-nft-save").args(["-t", "nat"]));
        let rules: Vec<_> = saved.lines().filter(|line| line.starts_with("-A")).collect();
        assert_eq!(rules, ["-A POSTROUTING -j SHARED"]);
    });
}
