use super::*;
use crate::error::{ErrorKind, Kinded};

const HOST: u64 = (1 << 41) - 1;

fn bit(name: &str) -> u64 {
    1 << number(name).unwrap()
}

fn default() -> u64 {
    DEFAULT.iter().fold(0, |mask, name| mask | bit(name))
}

fn ask(add: &[&str], drop: &[&str], ambient: &[&str]) -> Result<Granted, OciError> {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let asked = v1::Capability {
        add_capabilities: list(add),
        drop_capabilities: list(drop),
        add_ambient_capabilities: list(ambient),
    };
    granted(Some(&asked), false, HOST)
}

#[test]
fn every_name_is_one_of_the_specs_and_back() {
    for (n, name) in NAMES.iter().enumerate() {
        let set = names(1 << n);
        assert_eq!(set.len(), 1, "{name}");
        assert_eq!(mask(Some(&set)), 1 << n, "{name}");
    }
    assert_eq!(default().count_ones(), 14);
    assert_eq!(bit("SYS_ADMIN"), 1 << 21);
    assert_eq!(bit("CHECKPOINT_RESTORE"), 1 << 40);
}

#[test]
fn names_come_in_any_spelling() {
    let granted = ask(&["net_admin", "CAP_SYS_TIME", "cap_Bpf"], &["Cap_Kill"], &[]).unwrap();
    let added = bit("NET_ADMIN") | bit("SYS_TIME") | bit("BPF");
    assert_eq!(granted.bounding, (default() | added) & !bit("KILL"));
}

#[test]
fn all_comes_before_single_names_and_dropping_after_adding() {
    let bounding = |add, drop| ask(add, drop, &[]).unwrap().bounding;
    assert_eq!(bounding(&["ALL"], &[]), HOST);
    assert_eq!(bounding(&[], &["all"]), 0);
    assert_eq!(bounding(&["ALL"], &["ALL"]), 0);
    assert_eq!(bounding(&["KILL"], &["ALL"]), bit("KILL"));
    assert_eq!(bounding(&["ALL"], &["KILL"]), HOST & !bit("KILL"));
    assert_eq!(bounding(&["KILL"], &["KILL"]), default() & !bit("KILL"));
}

#[test]
fn all_is_what_the_host_has() {
    let asked = v1::Capability {
        add_capabilities: vec!["ALL".to_owned()],
        ..Default::default()
    };
    assert_eq!(granted(Some(&asked), false, 0b1011).unwrap().bounding, 0b1011);
    assert_eq!(granted(None, true, 0b1011).unwrap().bounding, 0b1011);
}

#[test]
fn an_unknown_name_is_refused_with_its_list() {
    for (asked, list) in [
        (ask(&["FLY"], &[], &[]), "add"),
        (ask(&[], &["FLY"], &[]), "drop"),
        (ask(&[], &[], &[""]), "add_ambient"),
    ] {
        let error = asked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(
            error.to_string().contains(&format!("{list}_capabilities")),
            "{error}"
        );
    }
}

#[test]
fn only_root_begins_with_what_it_may_have() {
    let granted = ask(&[], &["ALL"], &["NET_BIND_SERVICE"]).unwrap();
    let bind = bit("NET_BIND_SERVICE");
    let sets = sets(granted, false);
    assert_eq!(
        (sets.bounding, sets.permitted, sets.inheritable, sets.ambient),
        (bind, bind, bind, bind)
    );
    let plain = ask(&[], &[], &[]).unwrap();
    let user = super::sets(plain, false);
    assert_eq!((user.bounding, user.effective, user.permitted), (default(), 0, 0));
    let root = super::sets(plain, true);
    assert_eq!(
        (root.effective, root.permitted, root.inheritable),
        (default(), default(), 0)
    );
    assert_eq!(from_oci(Some(&to_oci(&root))), root);
}

#[test]
fn what_is_dropped_by_name_is_not_ambient() {
    let granted = ask(&[], &["NET_RAW"], &["NET_RAW", "CHOWN"]).unwrap();
    let bit = |name| 1_u64 << number(name).unwrap();
    assert_eq!(granted.ambient, bit("CHOWN"));
    assert_eq!(granted.bounding & bit("NET_RAW"), 0);
    // Dropping all and adding one back is how a single one is granted.
    let granted = ask(&[], &["ALL"], &["CHOWN"]).unwrap();
    assert_eq!((granted.ambient, granted.bounding), (bit("CHOWN"), bit("CHOWN")));
}
