use pausa_monitor_protocol::{MountPlan, MountSource, Propagation};
use proptest::prelude::*;

use super::*;
use crate::oci::tests::Case;
use crate::proto::v1;

fn case(volumes: &[&str]) -> Case {
    let mut case = Case::new();
    let mut image = case.image.config().clone().unwrap();
    image.set_volumes(Some(volumes.iter().map(|&one| one.to_owned()).collect()));
    case.image.set_config(Some(image));
    case
}

fn own(case: &Case) -> Vec<MountPlan> {
    let mut mounts = case.plan().unwrap().mounts;
    mounts.retain(|mount| matches!(mount.source, MountSource::RootfsPath { .. }));
    mounts
}

fn targets(case: &Case) -> Vec<String> {
    let text = |mount: MountPlan| String::from_utf8(mount.target).unwrap();
    own(case).into_iter().map(text).collect()
}

#[test]
fn a_volume_is_a_writable_path_of_the_root_file_system() {
    let mut case = case(&["/data"]);
    case.security().readonly_rootfs = true;
    let spec = case.generate().unwrap();
    let mounts = spec.mounts().as_deref().unwrap();
    let mount = mounts
        .iter()
        .find(|mount| mount.destination() == Path::new("/data"))
        .unwrap();
    assert_eq!(mount.source().as_deref(), Some(Path::new("rootfs/data")));
    assert_eq!(mount.options().as_deref().unwrap(), ["rbind", "rprivate", "rw"]);
    let own = own(&case);
    assert_eq!(own.len(), 1);
    assert_eq!(
        own[0].source,
        MountSource::RootfsPath {
            path: b"/data".to_vec()
        }
    );
    assert_eq!(own[0].propagation, Some(Propagation::Private));
    assert_eq!(own[0].attributes, pausa_monitor_protocol::Attributes::default());
}

#[test]
fn what_the_pod_mounts_wins() {
    let mut case = case(&["/data", "/data/db", "/database", "/etc", "/etc/hosts", "/log"]);
    let mount = |target: &str| v1::Mount {
        container_path: target.to_owned(),
        host_path: "/srv".to_owned(),
        ..Default::default()
    };
    case.config.mounts = vec![mount("/data/"), mount("/log/app")];
    assert_eq!(targets(&case), ["/database", "/etc", "/log"]);
    // What is beneath a volume comes after it.
    let mounts = case.plan().unwrap().mounts;
    let at = |target: &[u8]| mounts.iter().position(|mount| mount.target == target).unwrap();
    assert!(at(b"/log") < at(b"/log/app") && at(b"/etc") < at(b"/etc/hosts"));
}

#[test]
fn what_cannot_be_is_left_out() {
    let long = format!("/{}", "n/".repeat(2048));
    let bad = [
        "",
        "data",
        "/",
        "//",
        "/.",
        "/..",
        "/a/../b",
        "../x",
        "/a\0b",
        "/proc",
        "/proc/sys",
        "/sys/x",
        "/dev",
        "/dev/shm",
        "//proc//self",
        &long,
    ];
    assert_eq!(targets(&case(&bad)), Vec::<String>::new());
    let twice = case(&["/b/", "//b", "/./b/.", "/a b"]);
    assert_eq!(targets(&twice), ["/a b", "/b"]);
    // `/dev` itself given by the pod: still nothing of the image's beneath.
    let mut dev = case(&["/dev/x"]);
    dev.config.mounts = vec![v1::Mount {
        container_path: "/dev".to_owned(),
        host_path: "/srv".to_owned(),
        ..Default::default()
    }];
    assert!(targets(&dev).is_empty());
}

#[test]
fn there_is_an_end_to_volumes() {
    let many: Vec<String> = (0..1000).map(|number| format!("/v{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(targets(&case(&many)).len(), VOLUMES_MAX);
}

proptest! {
    /// Whatever an image declares, a container of it has a plan, and no volume is outside its root.
    #[test]
    fn any_volumes_make_a_plan(volumes in prop::collection::vec("(/|\\.|proc|a|\\PC|\0){0,8}", 0..8)) {
        let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
        for mount in own(&case(&volumes)) {
            prop_assert_eq!(MountSource::RootfsPath { path: mount.target.clone() }, mount.source);
            prop_assert!(mount.target.starts_with(b"/") && mount.target.len() > 1);
            let climbs = mount.target.split(|byte| *byte == b'/').any(|name| name == b"..");
            prop_assert!(!climbs && !mount.target.contains(&0));
        }
    }
}
