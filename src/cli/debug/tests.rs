use super::*;

const ROOT: User = User { uid: 0, gid: Some(0) };
const SOMEBODY: User = User { uid: 1000, gid: None };

#[test]
fn a_user_is_one_or_two_numbers() {
    assert_eq!(user("1000"), Ok(SOMEBODY));
    assert_eq!(user("0:0"), Ok(ROOT));
    for wrong in ["", "root", "1:", ":1", "-1", "1:2:3"] {
        assert!(user(wrong).is_err(), "{wrong}");
    }
}

fn of(profile: Profile, given: Option<User>, theirs: Option<User>) -> v1::LinuxContainerSecurityContext {
    security(profile, given, theirs, true, v1::NamespaceOption::default()).unwrap()
}

#[test]
fn profiles_are_those_of_kubectl() {
    let capabilities = |profile| of(profile, Some(SOMEBODY), None).capabilities.unwrap();
    assert_eq!(capabilities(Profile::General).add_capabilities, ["SYS_PTRACE"]);
    assert_eq!(
        capabilities(Profile::Netadmin).add_capabilities,
        ["NET_ADMIN", "NET_RAW"]
    );
    assert_eq!(capabilities(Profile::Restricted).drop_capabilities, ["ALL"]);
    assert_eq!(capabilities(Profile::Baseline), v1::Capability::default());
    for profile in Profile::value_variants() {
        let security = of(*profile, Some(SOMEBODY), None);
        let is_sysadmin = *profile == Profile::Sysadmin;
        assert_eq!(security.privileged, is_sysadmin);
        assert_eq!(security.masked_paths.is_empty(), is_sysadmin);
        assert_eq!(security.readonly_paths.is_empty(), is_sysadmin);
        let kind = security.seccomp.unwrap().profile_type();
        assert_eq!(kind == ProfileType::Unconfined, is_sysadmin);
        assert_eq!(security.no_new_privs, *profile == Profile::Restricted);
    }
}

#[test]
fn restricted_is_never_root() {
    let uid = |given, theirs| {
        let security = security(
            Profile::Restricted,
            given,
            theirs,
            false,
            v1::NamespaceOption::default(),
        );
        security.map(|security| security.run_as_user.unwrap().value).ok()
    };
    assert_eq!(uid(None, Some(SOMEBODY)), Some(1000));
    assert_eq!(uid(Some(SOMEBODY), Some(ROOT)), Some(1000));
    assert_eq!(uid(None, Some(ROOT)), None);
    assert_eq!(uid(Some(ROOT), Some(SOMEBODY)), None);
    assert_eq!(uid(None, None), None);
    assert!(of(Profile::General, None, Some(SOMEBODY)).run_as_user.is_none());
}

#[test]
fn the_images_own_programs_come_first() {
    let path = path_with_target(&["HOME=/".to_owned(), "PATH=/busybox:/bin".to_owned()]);
    assert!(
        path.starts_with("/busybox:/bin:/target/usr/local/sbin:") && path.ends_with(":/target/bin"),
        "{path}"
    );
    assert!(path_with_target(&[]).starts_with("/usr/local/sbin:"));
}

#[test]
fn the_number_of_a_process_is_read_from_proc() {
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(pid_inside(own).unwrap() > 0);
    assert!(
        pid_inside(i32::MAX)
            .unwrap_err()
            .to_string()
            .contains("has the target ended")
    );
}
