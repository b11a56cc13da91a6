use super::*;
use crate::error::{ErrorKind, Kinded};

fn oci(allow: bool, typ: LinuxDeviceType, numbers: (i64, i64), access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(typ))
        .set_major(Some(numbers.0))
        .set_minor(Some(numbers.1))
        .set_access(Some(access.to_owned()));
    rule
}

const ANY: (i64, i64) = (-1, -1);

#[test]
fn what_is_not_given_is_any_and_everything() {
    let mut bare = LinuxDeviceCgroup::default();
    bare.set_allow(true);
    let [all] = read(&[bare]).unwrap()[..] else {
        panic!("not one rule");
    };
    assert!(all.is_total() && all.allow);
    let rules = read(&[oci(true, LinuxDeviceType::U, (1, -1), "mr")]).unwrap();
    let expected = Rule {
        allow: true,
        kind: Some(Kind::Character),
        major: Some(1),
        minor: None,
        access: MAKE | READ,
    };
    assert_eq!(rules, [DENY_ALL, expected]);
}

#[test]
fn what_comes_before_everything_has_no_say() {
    let rules = [
        oci(true, LinuxDeviceType::C, (1, 3), "rwm"),
        oci(false, LinuxDeviceType::A, ANY, "rwm"),
        oci(true, LinuxDeviceType::P, (0, 0), "rwm"),
    ];
    assert_eq!(read(&rules).unwrap(), [DENY_ALL]);
}

#[test]
fn only_a_list_without_denials_allows_everything() {
    let all = oci(true, LinuxDeviceType::A, ANY, "rwm");
    let none = oci(false, LinuxDeviceType::A, ANY, "rwm");
    let some = oci(false, LinuxDeviceType::B, (8, 0), "w");
    let allows = |rules: &[LinuxDeviceCgroup]| allow_everything(&read(rules).unwrap());
    assert!(allows(std::slice::from_ref(&all)));
    assert!(allows(&[none.clone(), all.clone()]));
    assert!(!allows(&[all.clone(), none]));
    assert!(!allows(&[all, some]));
    assert!(!allows(&[oci(true, LinuxDeviceType::C, ANY, "rwm")]));
    // A list about pipes only leaves all devices open: denied.
    assert!(!allows(&[oci(true, LinuxDeviceType::P, ANY, "rwm")]));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for rule in [
        oci(true, LinuxDeviceType::C, (1 << 32, 0), "r"),
        oci(true, LinuxDeviceType::C, (1, 3), "rx"),
    ] {
        let error = read(&[rule]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(FIELD), "{error}");
    }
}
