use oci_spec::runtime::Spec;
use proptest::prelude::*;

use super::*;
use crate::error::{ErrorKind, Kinded};
use crate::oci::tests::Case;
use crate::proto::v1::{self, MountPropagation};

fn mount(target: &str) -> v1::Mount {
    v1::Mount {
        container_path: target.to_owned(),
        host_path: "/srv".to_owned(),
        ..Default::default()
    }
}

fn with(mounts: Vec<v1::Mount>) -> Result<Spec, OciError> {
    let mut case = Case::new();
    case.config.mounts = mounts;
    case.generate()
}

fn targets(spec: &Spec) -> Vec<String> {
    let all = spec.mounts().as_deref().unwrap();
    all.iter()
        .map(|mount| mount.destination().display().to_string())
        .collect()
}

#[test]
fn a_cri_mount_takes_the_place_of_a_default() {
    let spec = with(vec![mount("/etc/hosts"), mount("/dev/shm/")]).unwrap();
    for target in ["/etc/hosts", "/dev/shm"] {
        let here: Vec<_> = spec
            .mounts()
            .iter()
            .flatten()
            .filter(|mount| mount.destination() == Path::new(target))
            .collect();
        assert_eq!(here.len(), 1, "{target}");
        assert_eq!(here[0].source().as_deref(), Some(Path::new("/srv")));
    }
}

#[test]
fn a_cri_mount_on_dev_takes_the_place_of_everything_beneath() {
    let spec = with(vec![mount("/dev")]).unwrap();
    let dev: Vec<_> = targets(&spec)
        .into_iter()
        .filter(|target| target.starts_with("/dev"))
        .collect();
    assert_eq!(dev, ["/dev"]);
}

#[test]
fn no_mount_hides_an_earlier_one() {
    let spec = with(vec![mount("/a/b/c"), mount("/a"), mount("/a/z"), mount("/a/b")]).unwrap();
    let ours: Vec<_> = targets(&spec)
        .into_iter()
        .filter(|target| target.starts_with("/a"))
        .collect();
    assert_eq!(ours, ["/a", "/a/z", "/a/b", "/a/b/c"]);
}

#[test]
fn propagation_reaches_the_root() {
    let mut shared = mount("/a");
    shared.set_propagation(MountPropagation::PropagationBidirectional);
    let mut slave = mount("/b");
    slave.set_propagation(MountPropagation::PropagationHostToContainer);
    let root = |mounts| {
        let spec = with(mounts).unwrap();
        spec.linux().as_ref().unwrap().rootfs_propagation().clone()
    };
    assert_eq!(root(vec![mount("/a")]), None);
    assert_eq!(root(vec![slave.clone()]).as_deref(), Some("rslave"));
    assert_eq!(root(vec![shared, slave]).as_deref(), Some("rshared"));
}

#[test]
fn recursive_read_only_needs_read_only_and_private() {
    let mut one = mount("/a");
    one.recursive_read_only = true;
    assert_eq!(
        with(vec![one.clone()]).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    one.readonly = true;
    assert!(with(vec![one.clone()]).is_ok());
    one.set_propagation(MountPropagation::PropagationHostToContainer);
    let error = with(vec![one]).unwrap_err();
    assert!(
        error.to_string().contains("mounts[0].recursive_read_only"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_mounted_is_refused_by_name() {
    let bad = |change: fn(&mut v1::Mount)| {
        let mut one = mount("/a");
        change(&mut one);
        with(vec![mount("/fine"), one]).unwrap_err().to_string()
    };
    assert!(bad(|mount| mount.container_path = "a".to_owned()).contains("mounts[1].container_path"));
    assert!(bad(|mount| mount.container_path = "/..".to_owned()).contains("mounts[1].container_path"));
    assert!(bad(|mount| mount.host_path = String::new()).contains("mounts[1].host_path"));
    assert!(bad(|mount| mount.mount_options = vec!["exec".to_owned()]).contains("mounts[1].mount_options"));
    assert!(bad(|mount| mount.propagation = 9).contains("mounts[1].propagation"));
    assert!(bad(|mount| mount.uid_mappings.push(v1::IdMapping::default())).contains("mounts[1].uidMappings"));
    let image = bad(|mount| {
        mount.image = Some(v1::ImageSpec {
            image: "busybox".to_owned(),
            ..Default::default()
        });
    });
    assert!(image.contains("mounts[1].readonly"));
}

#[test]
fn an_ipc_namespace_of_its_own_has_its_own_shm() {
    let mut case = Case::new();
    case.security().namespace_options = Some(v1::NamespaceOption {
        ipc: v1::NamespaceMode::Container.into(),
        ..Default::default()
    });
    let spec = case.generate().unwrap();
    let shm = spec
        .mounts()
        .iter()
        .flatten()
        .find(|one| one.destination() == Path::new("/dev/shm"));
    assert_eq!(shm.unwrap().typ().as_deref(), Some("tmpfs"));
}

proptest! {
    #[test]
    fn a_clean_path_leads_down_only(path in "(/|\\.|a|\\PC){0,12}") {
        match clean(&path) {
            None => prop_assert!(!path.starts_with('/')),
            Some(clean) => {
                prop_assert!(clean.is_absolute());
                prop_assert!(clean.components().skip(1).all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
