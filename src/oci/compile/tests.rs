use pausa_monitor_protocol::{DeviceKind, MountSource};

use super::*;
use crate::error::{ErrorKind, Kinded};
use crate::oci::devices::Device;
use crate::oci::tests::{Case, v1_layout, v2_layout};
use crate::proto::v1;

/// MOUNT_ATTR_RDONLY and MOUNT_ATTR_NOEXEC.
const RDONLY: u64 = 1;
const NOEXEC: u64 = 8;

/// A privileged container mounts from the node's own cgroup namespace: without them the node would lose its flags.
#[test]
fn the_hierarchy_keeps_its_flags() {
    let cgroups = v2_layout();
    let mut mount = Mount::default();
    mount
        .set_destination("/sys/fs/cgroup".into())
        .set_typ(Some("cgroup".to_owned()));
    let mounts = mounts::plan(&[mount], std::path::Path::new("/b/rootfs"), &cgroups, None).unwrap();
    let expected = MountSource::Filesystem {
        fstype: "cgroup2".to_owned(),
        source: "cgroup".to_owned(),
        options: vec![("nsdelegate".to_owned(), None)],
    };
    assert_eq!(mounts[0].source, expected);
}

#[test]
fn only_a_bind_from_beneath_the_root_is_a_part_of_it() {
    let cgroups = v2_layout();
    let plan = |source: &str| {
        let mut mount = Mount::default();
        mount
            .set_destination("/v".into())
            .set_typ(Some("bind".to_owned()))
            .set_source(Some(source.into()))
            .set_options(Some(vec!["rbind".to_owned(), "ro".to_owned()]));
        let mounts = mounts::plan(&[mount], std::path::Path::new("/b/rootfs"), &cgroups, None);
        mounts.unwrap().remove(0)
    };
    let own = plan("/b/rootfs/a//b/");
    assert_eq!(
        own.source,
        MountSource::RootfsPath {
            path: b"/a/b".to_vec()
        }
    );
    assert_eq!(
        (own.target.as_slice(), own.attributes.set),
        (b"/v".as_slice(), RDONLY)
    );
    for other in [
        "/b/rootfs",
        "/b/rootfs2/a",
        "/b/rootfs/a/../../x",
        "/b",
        "/b/rootfs/..",
    ] {
        let bind = plan(other);
        assert!(matches!(bind.source, MountSource::Bind { .. }), "{other}");
    }
}

#[test]
fn bind_options_become_attributes() {
    let mut case = Case::new();
    let mount = |target: &str, readonly, recursive| v1::Mount {
        container_path: target.to_owned(),
        host_path: "/srv".to_owned(),
        readonly,
        recursive_read_only: recursive,
        mount_options: vec!["noexec".to_owned()],
        ..Default::default()
    };
    case.config.mounts = vec![mount("/ro", true, false), mount("/rro", true, true)];
    let plan = case.plan().unwrap();
    let at = |target: &[u8]| plan.mounts.iter().find(|mount| mount.target == target).unwrap();
    let readonly = at(b"/ro");
    assert_eq!(readonly.attributes.set, RDONLY | NOEXEC);
    assert_eq!(readonly.propagation, Some(Propagation::Private));
    let MountSource::Bind { path, recursive } = &readonly.source else {
        panic!()
    };
    assert_eq!((path.as_slice(), *recursive), (b"/srv".as_slice(), true));
    let recursive = at(b"/rro");
    assert_eq!(
        (recursive.attributes.set, recursive.attributes.set_recursive),
        (NOEXEC, RDONLY)
    );
}

#[test]
fn filesystems_keep_their_parameters() {
    let plan = Case::new().plan().unwrap();
    let dev = plan.mounts.iter().find(|mount| mount.target == b"/dev").unwrap();
    let MountSource::Filesystem { fstype, options, .. } = &dev.source else {
        panic!()
    };
    assert_eq!(fstype, "tmpfs");
    let size = ("size".to_owned(), Some("65536k".to_owned()));
    assert!(options.contains(&size), "{options:?}");
    // strictatime is one value of a field that has to be cleared for it.
    assert_eq!(
        (dev.attributes.set & 0x70, dev.attributes.clear & 0x70),
        (0x20, 0x70)
    );
}

#[test]
fn the_standard_devices_are_there_and_others_win() {
    let mut case = Case::new();
    case.prepared.devices = vec![Device {
        path: "/dev/zero".into(),
        kind: DeviceKind::Block,
        major: 7,
        minor: 1,
        mode: 0o600,
        uid: 1,
        gid: 2,
        access: "r".to_owned(),
    }];
    let plan = case.plan().unwrap();
    assert_eq!(plan.devices.len(), 6);
    let zero: Vec<_> = plan
        .devices
        .iter()
        .filter(|node| node.path == b"/dev/zero")
        .collect();
    assert_eq!(
        (zero.len(), zero[0].kind, zero[0].major),
        (1, DeviceKind::Block, 7)
    );
}

pub(super) fn edited(edit: impl FnOnce(&mut Spec)) -> Result<ExtendedPlan, OciError> {
    let case = Case::new();
    let mut spec = case.generate().unwrap();
    edit(&mut spec);
    compile(&CompileInput {
        id: "c1",
        bundle: Path::new("/run/b"),
        spec: &spec,
        namespaces: &case.namespaces().unwrap(),
        cgroups: &case.cgroups,
        io: IoPlan::default(),
        log: None,
        programs: &SeccompPrograms::default(),
    })
}

#[test]
fn a_spec_that_cannot_be_carried_out_is_refused_by_name() {
    let set_option = |option: &'static str| {
        move |spec: &mut Spec| {
            let mounts = spec.mounts_mut().as_mut().unwrap();
            let hosts = mounts
                .iter_mut()
                .find(|mount| mount.destination().ends_with("hosts"));
            hosts.unwrap().set_options(Some(vec![option.to_owned()]));
        }
    };
    for (error, field) in [
        (edited(set_option("size=1")).unwrap_err(), "mounts.options"),
        (edited(|spec| _ = spec.set_linux(None)).unwrap_err(), "linux"),
        (edited(|spec| _ = spec.set_root(None)).unwrap_err(), "root"),
        (
            edited(|spec| {
                let linux = spec.linux_mut().as_mut().unwrap();
                linux.set_rootfs_propagation(Some("odd".to_owned()));
            })
            .unwrap_err(),
            "rootfsPropagation",
        ),
    ] {
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn a_program_is_compiled_once() {
    let mut case = Case::new();
    case.prepared.seccomp = crate::oci::security::Seccomp::RuntimeDefault;
    let spec = case.generate().unwrap();
    let filter = spec.linux().as_ref().unwrap().seccomp().as_ref().unwrap();
    let programs = SeccompPrograms::default();
    let first = programs.program(filter).unwrap();
    assert!(!first.0.is_empty() && first.0.len().is_multiple_of(8));
    assert_eq!(programs.program(filter).unwrap(), first);
}

/// SELinux's labels: of the process, and of every new file system that would get a label of the node's.
#[test]
fn labels_reach_the_process_and_new_file_systems() {
    let mut case = Case::new();
    case.labels = Some(crate::lsm::selinux::Labels {
        process: "u:r:t:s0:c1,c2".to_owned(),
        file: "u:object_r:f:s0:c1,c2".to_owned(),
    });
    case.security().namespace_options = Some(v1::NamespaceOption {
        ipc: v1::NamespaceMode::Container.into(),
        ..Default::default()
    });
    for cgroups in [v1_layout(), v2_layout()] {
        case.cgroups = cgroups;
        let plan = case.plan().unwrap();
        assert_eq!(plan.process.selinux.as_deref(), Some("u:r:t:s0:c1,c2"));
        for mount in &plan.mounts {
            let MountSource::Filesystem { fstype, options, .. } = &mount.source else {
                continue;
            };
            let label = options.iter().find(|(key, _)| key == "context");
            let label = label.and_then(|(_, value)| value.as_deref());
            let expected = LABELLED_TYPES
                .contains(&fstype.as_str())
                .then_some("u:object_r:f:s0:c1,c2");
            assert_eq!(label, expected, "{fstype}");
        }
    }
    let spec = case.generate().unwrap();
    assert_eq!(
        spec.linux().as_ref().unwrap().mount_label().as_deref(),
        Some("u:object_r:f:s0:c1,c2")
    );
    case.labels = None;
    assert!(case.plan().unwrap().process.selinux.is_none());
}

const LABELLED_TYPES: [&str; 3] = ["tmpfs", "devpts", "mqueue"];
