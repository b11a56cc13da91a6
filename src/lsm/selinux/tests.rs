use super::*;

#[test]
fn the_name_of_the_policy() {
    let settings = "# comment\nSELINUX=permissive\nSELINUXTYPE=targeted \n";
    assert_eq!(policy_name(settings), Some("targeted"));
    for nothing in [
        "",
        "SELINUX=enforcing",
        "SELINUXTYPE=",
        "SELINUXTYPE=../../tmp",
        "SELINUXTYPE=a/b",
    ] {
        assert_eq!(policy_name(nothing), None, "{nothing}");
    }
}

#[test]
fn nothing_is_labelled_where_it_is_off() {
    let off = SeLinux::open(false);
    let asked = v1::SeLinuxOption {
        level: "s0:c1,c2".to_owned(),
        ..Default::default()
    };
    assert!(off.label_pod(Some(&asked)).unwrap().is_none());
    let wanted = Wanted {
        container: Some(&asked),
        ..Wanted::default()
    };
    assert_eq!(
        off.labels(Some(&PodLabel { level: None }), &wanted).unwrap(),
        None
    );
    let described = off.describe();
    assert_eq!(described["labelsContainers"], false);
    assert!(described["reason"].as_str().unwrap().contains("enable_selinux"));
}
