use std::path::Path;

use super::*;
use crate::error::{ErrorKind, Kinded};
use crate::oci::tests::host;

fn profile(kind: ProfileType, reference: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: reference.to_owned(),
    })
}

fn old_path(path: &str) -> v1::LinuxContainerSecurityContext {
    let mut security = v1::LinuxContainerSecurityContext::default();
    #[expect(deprecated, reason = "what is tested")]
    {
        security.seccomp_profile_path = path.to_owned();
    }
    security
}

#[test]
fn the_old_seccomp_path_counts_where_the_field_is_absent() {
    for (path, choice) in [
        ("", Choice::Unset),
        ("unconfined", Choice::Unconfined),
        ("runtime/default", Choice::RuntimeDefault),
        ("docker/default", Choice::RuntimeDefault),
        ("localhost//p/a.json", Choice::Localhost("/p/a.json".to_owned())),
    ] {
        assert_eq!(seccomp_choice(&old_path(path)).unwrap(), choice, "{path}");
    }
    assert!(seccomp_choice(&old_path("other")).is_err());
    let mut both = old_path("unconfined");
    both.seccomp = profile(ProfileType::RuntimeDefault, "");
    assert_eq!(seccomp_choice(&both).unwrap(), Choice::RuntimeDefault);
    both.privileged = true;
    assert_eq!(seccomp_choice(&both).unwrap(), Choice::Unset);
}

#[test]
fn localhost_profiles_do_not_climb() {
    let root = Path::new("/var/lib/kubelet/seccomp");
    assert_eq!(localhost_path(root, "a/b.json").unwrap(), root.join("a/b.json"));
    assert_eq!(localhost_path(root, "/p/b.json").unwrap(), Path::new("/p/b.json"));
    for bad in ["", "../x", "/a/../b", "a\0"] {
        assert!(localhost_path(root, bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_kernel_without_seccomp_refuses_only_what_needs_it() {
    let mut host = host();
    host.seccomp = false;
    let none = Capabilities::new();
    assert!(seccomp(&Seccomp::Unconfined, &none, &host).unwrap().is_none());
    let error = seccomp(&Seccomp::RuntimeDefault, &none, &host).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
}

#[test]
fn the_default_filter_depends_on_the_bounding_set() {
    let host = host();
    let with = [oci_spec::runtime::Capability::SysAdmin].into();
    let plain = seccomp(&Seccomp::RuntimeDefault, &Capabilities::new(), &host).unwrap();
    let admin = seccomp(&Seccomp::RuntimeDefault, &with, &host).unwrap();
    assert!(plain.is_some());
    assert_ne!(plain, admin);
}

#[test]
fn apparmor_by_new_and_old_field() {
    let none = Choice::Unconfined;
    let default = Choice::RuntimeDefault;
    let mine = Choice::Localhost("mine".to_owned());
    let (new, old) = (APPARMOR, "linux.security_context.apparmor_profile");
    let cases = [
        (None, "", old, &default),
        (None, "runtime/default", old, &default),
        (None, "unconfined", old, &none),
        (None, "localhost/mine", old, &mine),
        (
            profile(ProfileType::RuntimeDefault, ""),
            "unconfined",
            new,
            &default,
        ),
        (
            profile(ProfileType::Unconfined, ""),
            "localhost/other",
            new,
            &none,
        ),
        (
            profile(ProfileType::Localhost, "mine"),
            "localhost/other",
            new,
            &mine,
        ),
        (profile(ProfileType::Localhost, "localhost/mine"), "", new, &mine),
    ];
    for (typed, name, field, expected) in cases {
        for privileged in [false, true] {
            #[expect(deprecated, reason = "the old field")]
            let security = v1::LinuxContainerSecurityContext {
                apparmor: typed.clone(),
                apparmor_profile: name.to_owned(),
                privileged,
                ..Default::default()
            };
            // The default profile would deny a privileged container what it is privileged for.
            let expected = if privileged && *expected == default {
                &none
            } else {
                expected
            };
            let choice = apparmor_choice(&security).unwrap();
            assert_eq!(
                (choice.0, &choice.1),
                (field, expected),
                "{typed:?} {name:?} {privileged}"
            );
        }
    }
}

#[test]
fn a_wrong_apparmor_profile_is_refused_by_field() {
    let cases = [
        (profile(ProfileType::Localhost, ""), "", APPARMOR),
        (profile(ProfileType::Localhost, "a\0b"), "", APPARMOR),
        (
            profile(ProfileType::Localhost, "a\nexec unconfined"),
            "",
            APPARMOR,
        ),
        (None, "localhost/", "linux.security_context.apparmor_profile"),
        (None, "mine", "linux.security_context.apparmor_profile"),
    ];
    for (typed, name, field) in cases {
        #[expect(deprecated, reason = "the old field")]
        let security = v1::LinuxContainerSecurityContext {
            apparmor: typed.clone(),
            apparmor_profile: name.to_owned(),
            ..Default::default()
        };
        let error = apparmor_choice(&security).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().starts_with(field), "{error}");
    }
}

/// A profile that refuses `mount`, and `chroot` too where the container lacks CAP_SYS_CHROOT.
const REFUSING: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
         "excludes": {"caps": ["CAP_SYS_CHROOT"]}}
    ]
}"#;

fn refused(filter: &LinuxSeccomp) -> Vec<String> {
    let rules = filter.syscalls().iter().flatten();
    rules.flat_map(|rule| rule.names().clone()).collect()
}

#[test]
fn the_profile_of_the_configuration_is_the_runtime_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("default.json");
    std::fs::write(&path, REFUSING).unwrap();
    let mut host = host();
    let none = Capabilities::new();
    let chroot = Capabilities::from([oci_spec::runtime::Capability::SysChroot]);
    let built_in = seccomp(&Seccomp::RuntimeDefault, &none, &host).unwrap();
    host.read_seccomp_default(&path).unwrap();
    // It was read at the start: what becomes of the file is for the next one.
    std::fs::remove_file(&path).unwrap();
    let ours = seccomp(&Seccomp::RuntimeDefault, &none, &host).unwrap().unwrap();
    assert_ne!(Some(&ours), built_in.as_ref());
    assert_eq!(refused(&ours), ["mount", "chroot"]);
    // Resolved for each container.
    let with_chroot = seccomp(&Seccomp::RuntimeDefault, &chroot, &host)
        .unwrap()
        .unwrap();
    assert_eq!(refused(&with_chroot), ["mount"]);
    // The other two choices are as they were.
    assert!(seccomp(&Seccomp::Unconfined, &none, &host).unwrap().is_none());
    let local = Profile::parse(br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    let local = seccomp(&Seccomp::Localhost(local), &none, &host)
        .unwrap()
        .unwrap();
    assert!(refused(&local).is_empty());
}

#[test]
fn a_profile_of_the_configuration_that_cannot_be_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("default.json");
    let mut host = host();
    let error = host.read_seccomp_default(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("seccomp.default_profile"), "{error}");
    for bad in [
        "",
        "{}",
        r#"{"defaultAction": "SCMP_ACT_KILL_ALL"}"#,
        // Only the compiler knows that a system call has six arguments.
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
    ] {
        std::fs::write(&path, bad).unwrap();
        let error = host.read_seccomp_default(&path).unwrap_err();
        assert!(
            error.to_string().contains("seccomp.default_profile"),
            "{bad}: {error}"
        );
    }
}

#[test]
fn who_has_a_limited_layer_cannot_leave_it() {
    let denies = |case: &crate::oci::tests::Case| {
        let spec = case.generate().unwrap();
        let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
        let rules = seccomp.and_then(|seccomp| seccomp.syscalls().clone());
        let first = rules.unwrap_or_default().into_iter().next();
        first.is_some_and(|rule| rule.names()[..] == ["file_setattr"])
    };
    let mut case = crate::oci::tests::Case::new();
    case.prepared.seccomp = Seccomp::RuntimeDefault;
    assert!(!denies(&case));
    case.limited_layer = true;
    assert!(denies(&case));
    case.prepared.seccomp = Seccomp::Unconfined;
    assert!(denies(&case));
    case.privileged();
    assert!(!denies(&case));
}

#[test]
fn a_limit_without_seccomp_is_refused() {
    let mut host = host();
    host.seccomp = false;
    let error = keep_projects(None, &host).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
}
