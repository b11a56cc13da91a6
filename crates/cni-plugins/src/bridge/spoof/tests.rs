//! What the binary makes of it is compared in `tests/differential`.

use std::process::Command as Process;

use pausa_cni::Command;
use serde_json::json;

use super::*;
use crate::kernel::forget;
use crate::reference::{call, in_new_netns, output};
use crate::tables::tables;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn of(container: &str) -> Call {
    call(Command::Add, container, &json!({"type": "bridge"}))
}

fn lines_with(word: &str) -> usize {
    tables().iter().filter(|line| line.contains(word)).count()
}

#[test]
#[ignore = "needs root"]
fn only_what_is_meant_is_removed() {
    in_new_netns(|| {
        tear_down(&of("pod")).unwrap();
        assert_eq!(tables(), [""; 0]);
        for container in ["pod", "pod-1", "other"] {
            set_up("veth00000001", MAC, &of(container)).unwrap();
        }
        let all = tables();
        set_up("veth00000002", MAC, &of("new")).unwrap();
        assert_eq!(lines_with("macspoofchk-new-eth0"), 4);
        tear_down(&of("new")).unwrap();
        assert_eq!(tables(), all);
        tear_down(&of("new")).unwrap();
        assert_eq!(tables(), all);
        tear_down(&of("pod")).unwrap();
        assert_eq!(lines_with("-pod-eth0"), 0);
        assert_eq!(lines_with("macspoofchk-pod-1-eth0"), 4);
    });
}

/// The numbers of rules that are remembered may belong to others by then.
#[test]
#[ignore = "needs root"]
fn rules_that_somebody_else_has_moved_are_found() {
    in_new_netns(|| {
        set_up("veth00000001", MAC, &of("moved")).unwrap();
        let listing = output(Process::new("nft").args(["list", "table", "bridge", "nat"]));
        output(Process::new("nft").args(["flush", "chain", "bridge", "nat", "PREROUTING"]));
        let (_, rules) = listing.split_once("accept;").unwrap();
        let rule = rules.split('\n').nth(1).unwrap().trim();
        for rule in ["counter comment \"another\"", rule, rule] {
            output(Process::new("nft").arg(format!("add rule bridge nat PREROUTING {rule}")));
        }
        assert_eq!(lines_with("iifname"), 2);
        tear_down(&of("moved")).unwrap();
        assert_eq!(lines_with("moved"), 0);
        assert_eq!(lines_with("another"), 1);
    });
}

/// After an ADD that was not followed by a DEL.
#[test]
#[ignore = "needs root"]
fn a_second_set_up_filters_by_the_new_address() {
    in_new_netns(|| {
        for is_remembered in [true, false] {
            set_up("veth00000001", MAC, &of("again")).unwrap();
            if !is_remembered {
                let comment = "macspoofchk-again-eth0";
                forget(std::iter::once(hint(
                    Family::Bridge,
                    TABLE,
                    PREROUTING.name,
                    comment,
                )));
            }
            set_up("veth00000002", [2, 0, 0, 0, 0, 2], &of("again")).unwrap();
            assert_eq!(lines_with("02:00:00:00:00:01"), 0);
            assert_eq!(lines_with("02:00:00:00:00:02"), 1);
            assert_eq!(lines_with("iifname"), 2);
            tear_down(&of("again")).unwrap();
            assert_eq!(lines_with("again"), 0);
        }
    });
}

#[test]
fn a_comment_is_not_cut() {
    let failure = set_up("veth00000001", MAC, &of(&"a".repeat(112))).unwrap_err();
    assert!(failure.msg.contains("too long"), "{failure:?}");
}
