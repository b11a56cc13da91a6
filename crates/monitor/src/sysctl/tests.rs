use proptest::prelude::*;

use super::{path, write_all};

#[test]
fn both_forms_of_a_name_are_understood() {
    assert_eq!(
        path("net.ipv4.ip_forward").as_deref(),
        Some("net/ipv4/ip_forward")
    );
    assert_eq!(
        path("net/ipv4/ip_forward").as_deref(),
        Some("net/ipv4/ip_forward")
    );
    assert_eq!(
        path("net.ipv4.conf.eth0/1.forwarding").as_deref(),
        Some("net/ipv4/conf/eth0.1/forwarding")
    );
    assert_eq!(
        path("net/ipv4/conf/eth0.1/forwarding").as_deref(),
        Some("net/ipv4/conf/eth0.1/forwarding")
    );
}

#[test]
fn names_that_leave_the_tree_are_refused() {
    for name in [
        "",
        "/",
        "..",
        "net..ipv4",
        "../etc/passwd",
        "net/../../etc",
        "/net/ipv4",
        "net.IPv4",
        "a b",
        "alone",
    ] {
        assert_eq!(path(name), None, "{name:?}");
    }
}

#[test]
fn a_failure_names_the_sysctl() {
    let failure = write_all(&[("net.no_such_thing".to_owned(), "1".to_owned())]).unwrap_err();
    assert!(failure.step.contains("net.no_such_thing"), "{}", failure.step);
    assert_eq!(failure.errno, rustix::io::Errno::NOENT.raw_os_error());
}

proptest! {
    #[test]
    fn no_path_has_an_empty_or_dotted_part(name in "[a-z./_-]{0,20}") {
        if let Some(path) = path(&name) {
            prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        }
    }
}
