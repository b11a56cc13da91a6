use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::LazyLock;

use super::*;
use crate::error::{ErrorKind, Kinded};

fn with_mount(host_path: &Path, propagation: MountPropagation) -> v1::ContainerConfig {
    v1::ContainerConfig {
        mounts: vec![v1::Mount {
            container_path: "/data".to_owned(),
            host_path: host_path.to_str().unwrap().to_owned(),
            propagation: propagation.into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Prepares a container with one device.
fn with_device(host: &str, container: &str, permissions: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        devices: vec![v1::Device {
            container_path: container.to_owned(),
            host_path: host.to_owned(),
            permissions: permissions.to_owned(),
        }],
        ..Default::default()
    }
}

static CDI: LazyLock<pausa_cdi::Registry> = LazyLock::new(|| pausa_cdi::Registry::new(Vec::new()));
static APPARMOR: LazyLock<AppArmor> = LazyLock::new(AppArmor::off);

fn sources(seccomp_root: &Path, own_devices: bool) -> NodeSources<'_> {
    NodeSources {
        seccomp_root,
        own_devices,
        apparmor: &APPARMOR,
        hooks_dirs: &[],
        cdi: &CDI,
    }
}

fn device_of(host: &str, container: &str, permissions: &str) -> Result<Prepared, OciError> {
    let config = with_device(host, container, permissions);
    prepare(&config, sources(Path::new("/nowhere"), false))
}

fn with_profile(reference: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                seccomp: Some(v1::SecurityProfile {
                    profile_type: v1::security_profile::ProfileType::Localhost.into(),
                    localhost_ref: reference.to_owned(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

const PRIVATE: MountPropagation = MountPropagation::PropagationPrivate;

#[test]
fn a_missing_source_is_made_and_a_link_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    let missing = real.join("a/b");
    assert_eq!(
        prepare_mounts(&with_mount(&missing, PRIVATE)).unwrap(),
        std::slice::from_ref(&missing)
    );
    let mode = fs::metadata(&missing).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    let link = real.join("link");
    symlink(&missing, &link).unwrap();
    assert_eq!(prepare_mounts(&with_mount(&link, PRIVATE)).unwrap(), [missing]);
}

#[test]
fn a_source_that_cannot_be_is_named() {
    let error = prepare_mounts(&with_mount(Path::new("/dev/null/x"), PRIVATE)).unwrap_err();
    assert!(error.to_string().contains("mounts[0].host_path"), "{error}");
    let relative = prepare_mounts(&with_mount(Path::new("x"), PRIVATE)).unwrap_err();
    assert_eq!(relative.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn propagation_is_checked_against_the_mount_of_the_source() {
    let mounts =
        |tags: &str| mountinfo::parse(format!("7 1 0:1 / / rw {tags} - ext4 /dev/a rw\n").as_bytes());
    let id = statx(CWD, "/", AtFlags::empty(), StatxFlags::MNT_ID)
        .unwrap()
        .stx_mnt_id;
    let check = |tags: &str, asked| {
        let mut mounts = mounts(tags);
        mounts[0].id = id;
        check_propagation("mounts[0]", Path::new("/"), asked, &mounts)
    };
    let down = MountPropagation::PropagationHostToContainer;
    let both = MountPropagation::PropagationBidirectional;
    assert!(check("shared:1", both).is_ok());
    assert!(check("shared:1", down).is_ok());
    assert!(check("master:1", down).is_ok());
    let error = check("master:1", both).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("mounts[0].propagation"), "{error}");
    assert!(check("", down).is_err());
}

#[test]
fn devices_may_be_links_and_directories() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("null");
    symlink("/dev/null", &link).unwrap();
    let found = device_of(link.to_str().unwrap(), "/dev/mine", "rw")
        .unwrap()
        .devices;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (
            found[0].path.as_path(),
            found[0].major,
            found[0].minor,
            found[0].access.as_str()
        ),
        (Path::new("/dev/mine"), 1, 3, "rw")
    );
    let all = device_of("/dev", "/host-dev", "").unwrap().devices;
    assert!(
        all.iter()
            .any(|device| device.path == Path::new("/host-dev/zero"))
    );
    assert!(!all.iter().any(|device| device.path.starts_with("/host-dev/pts")));
}

/// As in containerd and CRI-O: only the devices that are asked for, and each id only where one is given.
#[test]
fn devices_belong_to_the_containers_user_where_that_is_configured() {
    let mut config = with_device("/dev/null", "/dev/mine", "rw");
    let owner = |config: &v1::ContainerConfig, own: bool| {
        let devices = prepare(config, sources(Path::new("/nowhere"), own))
            .unwrap()
            .devices;
        let owner = |path: &str| {
            let device = devices.iter().find(|device| device.path == Path::new(path));
            device.map(|device| (device.uid, device.gid))
        };
        (owner("/dev/mine"), owner("/dev/null"))
    };
    assert_eq!(owner(&config, true), (Some((0, 0)), None));
    let security = config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default();
    security.run_as_user = Some(v1::Int64Value { value: 1000 });
    security.privileged = true;
    assert_eq!(owner(&config, true), (Some((1000, 0)), Some((0, 0))));
    let security = config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default();
    security.run_as_group = Some(v1::Int64Value { value: 2000 });
    assert_eq!(owner(&config, true).0, Some((1000, 2000)));
    assert_eq!(owner(&config, false).0, Some((0, 0)));
}

#[test]
fn what_is_no_device_is_refused_by_name() {
    for (host, permissions, field) in [
        ("/proc/version", "", "devices[0].host_path"),
        ("/dev/not-there", "", "devices[0].host_path"),
        ("/dev/null", "rx", "devices[0].permissions"),
    ] {
        let error = device_of(host, "/dev/x", permissions).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn a_localhost_profile_is_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("good.json"),
        r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#,
    )
    .unwrap();
    fs::write(dir.path().join("bad.json"), "{").unwrap();
    fs::write(
        dir.path().join("huge.json"),
        vec![b' '; pausa_seccomp::MAX_PROFILE_SIZE + 1],
    )
    .unwrap();
    let read = |name: &str| prepare(&with_profile(name), sources(dir.path(), false));
    assert!(matches!(
        read("good.json").unwrap().seccomp,
        Seccomp::Localhost(_)
    ));
    assert_eq!(read("bad.json").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(read("huge.json").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        read("missing.json").unwrap_err().kind(),
        ErrorKind::FailedPrecondition
    );
}

/// Where there is no AppArmor, only a named profile is refused.
#[test]
fn apparmor_is_required_only_by_a_named_profile() {
    use v1::security_profile::ProfileType;
    let with = |kind: ProfileType, name: &str, privileged| {
        let mut config = v1::ContainerConfig::default();
        let linux = config.linux.get_or_insert_default();
        let security = linux.security_context.get_or_insert_default();
        security.privileged = privileged;
        security.apparmor = Some(v1::SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: name.to_owned(),
        });
        apparmor_profile(&config, &AppArmor::off())
    };
    for privileged in [false, true] {
        for kind in [ProfileType::RuntimeDefault, ProfileType::Unconfined] {
            assert_eq!(with(kind, "", privileged).unwrap(), None);
        }
        let error = with(ProfileType::Localhost, "mine", privileged).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        let text = error.to_string();
        assert!(
            text.contains("linux.security_context.apparmor") && text.contains("mine"),
            "{text}"
        );
    }
    assert_eq!(
        apparmor_profile(&v1::ContainerConfig::default(), &AppArmor::off()).unwrap(),
        None
    );
}
