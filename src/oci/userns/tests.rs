use std::path::Path;

use pausa_monitor_protocol::{MountSource, Namespace};
use rustix::mount::MountAttrFlags;

use super::*;
use crate::error::{ErrorKind, Kinded};
use crate::oci::tests::Case;

/// A field and how it goes wrong.
type Change<T> = (&'static str, fn(&mut T));

const RANGE: IdRange = IdRange {
    first: 131_072,
    length: 65_536,
};

fn mapping(container_id: u32, host_id: u32, length: u32) -> v1::IdMapping {
    v1::IdMapping {
        container_id,
        host_id,
        length,
    }
}

fn usual() -> v1::UserNamespace {
    v1::UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: vec![mapping(0, RANGE.first, RANGE.length)],
        gids: vec![mapping(0, RANGE.first, RANGE.length)],
    }
}

fn options(users: v1::UserNamespace) -> v1::NamespaceOption {
    v1::NamespaceOption {
        pid: NamespaceMode::Container.into(),
        userns_options: Some(users),
        ..Default::default()
    }
}

fn pod(options: v1::NamespaceOption) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A container of a pod with users, which says the same about itself.
fn case() -> Case {
    let mut case = Case::new();
    case.pod.linux = pod(options(usual())).linux;
    case.security().namespace_options = Some(options(usual()));
    case
}

#[test]
fn a_pod_has_one_range_or_none() {
    assert_eq!(pod_users(&v1::PodSandboxConfig::default()).unwrap(), None);
    assert_eq!(pod_users(&pod(options(usual()))).unwrap(), Some(RANGE));
    let node = v1::UserNamespace {
        mode: NamespaceMode::Node.into(),
        ..Default::default()
    };
    assert_eq!(pod_users(&pod(options(node))).unwrap(), None);
}

/// Nobody can mount a sysfs of a network namespace that belongs to another user namespace, or join such a namespace.
#[test]
fn on_the_hosts_network_it_sees_the_hosts_sys() {
    let mut case = case();
    let sys = |case: &Case| {
        let spec = case.generate().unwrap();
        let mounts = spec.mounts().clone().unwrap();
        mounts
            .into_iter()
            .find(|mount| mount.destination() == Path::new("/sys"))
            .unwrap()
    };
    assert_eq!(sys(&case).typ().as_deref(), Some("sysfs"));
    let mut of_host = options(usual());
    of_host.set_network(NamespaceMode::Node);
    case.security().namespace_options = Some(of_host.clone());
    let error = case.generate().unwrap_err();
    assert!(error.to_string().contains("namespace_options.network"), "{error}");
    case.pod.linux = pod(of_host).linux;
    let found = sys(&case);
    assert_eq!(
        (found.typ().as_deref(), found.source().as_deref()),
        (Some("bind"), Some(Path::new("/sys")))
    );
    let has = |option: &str| found.options().iter().flatten().any(|one| one == option);
    assert!(
        ["rbind", "rro", "nosuid", "noexec", "nodev"].into_iter().all(has),
        "{found:?}"
    );
    let plan = super::super::namespace_plan(&case.pod, &case.config).unwrap();
    assert_eq!((plan.network, plan.uts), (Namespace::Pod, Namespace::Pod));
}

#[test]
fn what_cannot_be_is_refused_by_its_field() {
    let changes: [Change<v1::UserNamespace>; 13] = [
        ("mode", |users| users.set_mode(NamespaceMode::Container)),
        ("mode", |users| users.set_mode(NamespaceMode::Target)),
        ("mode", |users| users.mode = 9),
        ("userns_options is", |users| users.set_mode(NamespaceMode::Node)),
        ("uids", |users| users.uids.clear()),
        ("gids", |users| users.gids.clear()),
        ("uids", |users| users.uids.push(mapping(65_536, 1, 65_536))),
        ("uids", |users| users.uids[0].container_id = 1),
        ("uids", |users| users.uids[0].host_id = 0),
        ("uids", |users| users.uids[0].length = 65_535),
        ("uids", |users| users.uids[0].host_id = u32::MAX - 65_535),
        ("gids", |users| users.gids[0].host_id += 1),
        ("gids", |users| users.gids[0].length += 1),
    ];
    for (at, (field, change)) in changes.into_iter().enumerate() {
        let mut users = usual();
        change(&mut users);
        let error = pod_users(&pod(options(users))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{at}: {error}");
        assert!(
            error.to_string().contains(&format!("userns_options.{field}"))
                || error.to_string().contains(field),
            "{at}: {error}"
        );
    }
    let mut highest = usual();
    for mapping in highest.uids.iter_mut().chain(&mut highest.gids) {
        mapping.host_id = u32::MAX - 65_536;
    }
    assert!(pod_users(&pod(options(highest))).unwrap().is_some());
}

#[test]
fn neither_pids_nor_ipc_of_the_node_go_with_it() {
    let changes: [Change<v1::NamespaceOption>; 2] = [
        ("namespace_options.pid", |options| {
            options.set_pid(NamespaceMode::Node);
        }),
        ("namespace_options.ipc", |options| {
            options.set_ipc(NamespaceMode::Node);
        }),
    ];
    for (field, change) in changes {
        let mut of_pod = options(usual());
        change(&mut of_pod);
        let error = pod_users(&pod(of_pod.clone())).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
        let mut case = case();
        case.security().namespace_options = Some(of_pod);
        let error = case.generate().unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let error = case().privileged().generate().unwrap_err();
    assert!(error.to_string().contains("privileged"), "{error}");
}

#[test]
fn a_container_has_what_its_pod_has() {
    let mut other = usual();
    other.uids[0].host_id += 65_536;
    other.gids[0].host_id += 65_536;
    let node = v1::UserNamespace {
        mode: NamespaceMode::Node.into(),
        ..Default::default()
    };
    for users in [other, node.clone()] {
        let mut case = case();
        case.security().namespace_options = Some(options(users));
        let error = case.generate().unwrap_err();
        assert!(error.to_string().contains("userns_options"), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    let mut in_plain_pod = Case::new();
    in_plain_pod.security().namespace_options = Some(options(usual()));
    assert!(in_plain_pod.generate().is_err());
    in_plain_pod.security().namespace_options = Some(options(node));
    assert!(in_plain_pod.generate().is_ok());
    // One that says nothing is in its pod's all the same.
    let mut silent = case();
    silent.config.linux = None;
    let spec = silent.generate().unwrap();
    assert!(spec.linux().as_ref().unwrap().uid_mappings().is_some());
}

#[test]
fn ids_that_the_range_does_not_have_are_refused() {
    let changes: [Change<ResolvedUser>; 3] = [
        ("run_as_user", |user| user.uid = 65_536),
        ("run_as_group", |user| user.gid = 65_536),
        ("supplemental_groups", |user| user.groups.push(100_000)),
    ];
    for (field, change) in changes {
        let mut case = case();
        change(&mut case.user);
        let error = case.generate().unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn the_spec_has_the_namespace_and_its_map() {
    let spec = case().generate().unwrap();
    let linux = serde_json::to_value(spec.linux()).unwrap();
    let map = serde_json::json!([{"hostID": 131_072, "containerID": 0, "size": 65_536}]);
    assert_eq!((&linux["uidMappings"], &linux["gidMappings"]), (&map, &map));
    let namespaces = linux["namespaces"].as_array().unwrap();
    assert!(
        namespaces.contains(&serde_json::json!({"type": "user"})),
        "{namespaces:?}"
    );
}

#[test]
fn mounts_are_mapped_where_it_is_asked_for() {
    let mount = |target: &str, first: Option<u32>| {
        let mappings: Vec<_> = first
            .map(|first| mapping(0, first, RANGE.length))
            .into_iter()
            .collect();
        v1::Mount {
            container_path: target.to_owned(),
            host_path: "/srv".to_owned(),
            uid_mappings: mappings.clone(),
            gid_mappings: mappings,
            ..Default::default()
        }
    };
    let mut case = case();
    case.config.mounts = vec![mount("/mapped", Some(RANGE.first)), mount("/plain", None)];
    let idmap = u64::from(MountAttrFlags::MOUNT_ATTR_IDMAP.bits());
    let plan = case.plan().unwrap();
    let is_mapped = |target: &str| {
        let found = plan
            .mounts
            .iter()
            .find(|mount| mount.target == target.as_bytes())
            .unwrap();
        assert!(matches!(&found.source, MountSource::Bind { .. }));
        found.attributes.set & idmap != 0
    };
    assert!(is_mapped("/mapped") && !is_mapped("/plain"));
    let spec = case.generate().unwrap();
    let mapped = spec.mounts().iter().flatten();
    let mapped: Vec<_> = mapped.filter(|mount| mount.uid_mappings().is_some()).collect();
    assert_eq!(mapped.len(), 1);
    assert_eq!(mapped[0].destination(), Path::new("/mapped"));

    case.config.mounts[0].gid_mappings.clear();
    assert!(
        case.generate()
            .unwrap_err()
            .to_string()
            .contains("mounts[0].gidMappings")
    );
    case.config.mounts = vec![mount("/other", Some(RANGE.first + 65_536))];
    assert!(case.generate().unwrap_err().to_string().contains("the pod's"));
    let mut plain = Case::new();
    plain.config.mounts = vec![mount("/mapped", Some(RANGE.first))];
    assert!(
        plain
            .generate()
            .unwrap_err()
            .to_string()
            .contains("mounts[0].uidMappings")
    );
}
