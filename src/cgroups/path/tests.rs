use proptest::prelude::*;

use super::*;
use crate::error::{ErrorKind, Kinded};

fn cgroupfs(parent: &str) -> Result<CgroupPath, CgroupError> {
    CgroupPath::new(Driver::Cgroupfs, parent, "c1")
}

fn systemd(parent: &str) -> Result<CgroupPath, CgroupError> {
    CgroupPath::new(Driver::Systemd, parent, "c1")
}

#[test]
fn cgroupfs_paths() {
    for (parent, relative) in [
        ("/kubepods/burstable/pod1", "kubepods/burstable/pod1/c1"),
        ("kubepods/", "kubepods/c1"),
        ("", "pausa/c1"),
        ("/", "c1"),
    ] {
        let path = cgroupfs(parent).unwrap();
        assert_eq!(path.relative(), relative);
        assert_eq!(path.spec_path(), format!("/{relative}"));
        assert_eq!(path.default_parent, parent.is_empty());
    }
}

#[test]
fn systemd_paths() {
    let path = systemd("/kubepods.slice/kubepods-pod1_2.slice").unwrap();
    assert_eq!(
        path.relative(),
        "kubepods.slice/kubepods-pod1_2.slice/pausa-c1.scope"
    );
    assert_eq!(path.spec_path(), "kubepods-pod1_2.slice:pausa:c1");
    let renamed = path.with_scope_prefix("cri-containerd");
    assert_eq!(
        renamed.relative(),
        "kubepods.slice/kubepods-pod1_2.slice/cri-containerd-c1.scope"
    );
    assert_eq!(renamed.spec_path(), "kubepods-pod1_2.slice:cri-containerd:c1");
    assert_eq!(
        cgroupfs("/a").unwrap().with_scope_prefix("crio").relative(),
        "a/c1"
    );
    assert_eq!(systemd("").unwrap().relative(), "pausa.slice/pausa-c1.scope");
    assert_eq!(systemd("-.slice").unwrap().relative(), "pausa-c1.scope");
    for bad in ["a--b.slice", ".slice", "-a.slice", "a-.slice", "..-a.slice"] {
        assert!(systemd(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_other_drivers_form_is_refused_in_clear_words() {
    for error in [
        cgroupfs("/a/b.slice").unwrap_err(),
        systemd("/kubepods/pod1").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("cgroupDriver of kubelet"), "{error}");
    }
}

#[test]
fn a_path_never_climbs() {
    for bad in ["/a/../b", "..", "/a//b", "./a", "/a\0b"] {
        assert!(cgroupfs(bad).is_err(), "{bad:?}");
    }
    for bad in ["", ".", "..", "a/b", "a\0"] {
        assert!(CgroupPath::new(Driver::Cgroupfs, "/a", bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_parent_leads_down_or_nowhere(parent in "(/|\\.|-|a|\\PC){0,12}(\\.slice)?", id in "(/|\\.|\\PC){0,6}") {
        for driver in [Driver::Cgroupfs, Driver::Systemd] {
            if let Ok(path) = CgroupPath::new(driver, &parent, &id) {
                prop_assert!(path.relative().split('/').all(|name| !matches!(name, "" | "." | "..")));
            }
        }
    }
}

#[test]
fn the_parent_of_a_container_is_the_pods_cgroup() {
    let parent = |driver, given: &str| {
        let path = CgroupPath::new(driver, given, "c").unwrap();
        path.parent().map(|parent| parent.relative())
    };
    assert_eq!(
        parent(Driver::Cgroupfs, "/kubepods/pod1").unwrap(),
        "kubepods/pod1"
    );
    assert_eq!(parent(Driver::Cgroupfs, "/pod1").unwrap(), "pod1");
    assert_eq!(parent(Driver::Cgroupfs, "/"), None);
    assert_eq!(parent(Driver::Systemd, "a-b.slice").unwrap(), "a.slice/a-b.slice");
}
