use std::process::Stdio;

use super::profile::{Node, version};
use super::*;

#[test]
fn profiles_are_listed_with_their_modes() {
    let list = "pausa-default (enforce)\n/usr/bin/man (enforce)\n/usr/bin/man//filter (complain)\n\
                name with (parentheses) and spaces (kill)\n:ns://other (unconfined)\n";
    let expected = [
        "/usr/bin/man",
        "/usr/bin/man//filter",
        ":ns://other",
        "name with (parentheses) and spaces",
        "pausa-default",
    ];
    assert!(
        names(list).iter().map(String::as_str).eq(expected),
        "{:?}",
        names(list)
    );
    assert!(names("").is_empty());
}

#[test]
fn versions_of_the_parser() {
    let of = |number: &str| {
        version(&format!(
            "AppArmor parser version {number}\nCopyright (C) 1999-2008\n"
        ))
    };
    assert_eq!(of("3.0.8"), Some((3, 0)));
    assert_eq!(of("2.13.6"), Some((2, 13)));
    assert_eq!(of("4.0.0~beta3"), Some((4, 0)));
    assert_eq!(of("4.1"), Some((4, 1)));
    for odd in ["", "four", "5"] {
        assert_eq!(of(odd), None, "{odd}");
    }
    assert_eq!(version("no such option"), None);
}

/// All kinds of nodes that the text differs on.
fn nodes() -> Vec<Node> {
    let mut nodes = Vec::new();
    for bits in 0..8 {
        for parser in [None, Some((2, 13)), Some((3, 0)), Some((4, 1))] {
            nodes.push(Node {
                parser,
                abi: bits & 1 != 0,
                tunables: bits & 2 != 0,
                base: bits & 4 != 0,
                daemon: (bits == 7).then(|| "/usr/sbin/pausa".to_owned()),
            });
        }
    }
    nodes
}

/// What is denied does not depend on the node, and no rule of pausa's needs a file that is missing.
#[test]
fn every_node_gets_the_same_denials() {
    for node in nodes() {
        let text = node.profile();
        for rule in [
            "deny mount,",
            "deny umount,",
            "deny /proc/kcore rwklmx,",
            "deny /proc/[^1-9]** wkl,",
        ] {
            assert_eq!(text.matches(rule).count(), 1, "{rule} in {text}");
        }
        assert_eq!(text.contains("\nabi <abi/3.0>,"), node.abi, "{text}");
        assert_eq!(
            text.contains("\n  include <abstractions/base>"),
            node.base && node.tunables,
            "{text}"
        );
        let later = !node.abi && node.parser == Some((4, 1));
        assert_eq!(text.contains("\n  userns,"), later, "{text}");
        assert_eq!(
            text.contains("peer=/usr/sbin/pausa,"),
            node.daemon.is_some(),
            "{text}"
        );
    }
}

/// The parser of this machine compiles the profile, without a word about it. Needs no AppArmor in the kernel.
#[test]
fn the_parser_compiles_the_profile() {
    let Some(parser) = tool::find("apparmor_parser") else {
        println!("skipped: needs apparmor_parser: apt-get install apparmor");
        return;
    };
    let text = profile::text(&parser);
    let check = ["--skip-kernel-load", "--skip-cache"];
    tool::run(&parser, &check, &text).unwrap();
    // That it checks at all.
    let broken = text.replace("deny mount,", "deny mout,");
    tool::run(&parser, &check, &broken).unwrap_err();
    // A rule that comes to nothing would compile, too: each denial makes another policy.
    let compiled = |text: &str| {
        let mut child = std::process::Command::new(&parser)
            .args(["--skip-kernel-load", "--skip-cache", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let whole = compiled(&text);
    assert!(!whole.is_empty());
    for rule in text.lines().filter(|line| line.starts_with("  deny /")) {
        assert_ne!(compiled(&text.replace(rule, "")), whole, "{rule}");
    }
}

#[test]
fn a_node_without_apparmor_confines_nothing() {
    let off = AppArmor::off();
    assert_eq!(off.default_profile().unwrap(), None);
    assert!(off.is_in_place(UNCONFINED));
    assert!(!off.is_in_place("mine"));
    let described = off.describe();
    assert_eq!(described["confinesByDefault"], false);
    assert!(described["reason"].as_str().unwrap().contains("not enabled"));
}
