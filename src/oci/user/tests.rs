use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use oci_spec::image::ConfigBuilder;
use proptest::prelude::*;

use super::*;
use crate::error::{ErrorKind, Kinded};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    # a comment\n\
    broken:x:9\n\
    app:x:1000:2000::/home/app:/bin/sh\n\
    1234:x:0:0::/home/number:/bin/sh\n";
const GROUP: &str = "root:x:0:\n70:x:0:\nstaff:x:50:app,other\nmore:x:60:other, app\nnone:x:70:\n";

fn root_with(passwd: Option<&str>, group: Option<&str>) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    for (name, text) in [("passwd", passwd), ("group", group)] {
        if let Some(text) = text {
            fs::write(root.path().join("etc").join(name), text).unwrap();
        }
    }
    root
}

fn resolve(
    root: &Path,
    image_user: &str,
    change: impl FnOnce(&mut v1::LinuxContainerSecurityContext),
) -> Result<ResolvedUser, OciError> {
    let mut security = v1::LinuxContainerSecurityContext::default();
    change(&mut security);
    let config = v1::ContainerConfig {
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut image = ImageConfiguration::default();
    image.set_config(Some(ConfigBuilder::default().user(image_user).build().unwrap()));
    let root = fs::File::open(root).unwrap();
    resolve_user(root.as_fd(), &config, &image)
}

fn id(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> ResolvedUser {
    ResolvedUser {
        uid,
        gid,
        groups: groups.to_vec(),
        home: home.to_owned(),
    }
}

#[test]
fn the_images_user_in_all_forms() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    for (text, expected) in [
        ("", user(0, 0, &[0], "/root")),
        ("app", user(1000, 2000, &[2000, 50, 60], "/home/app")),
        ("1000", user(1000, 2000, &[2000, 50, 60], "/home/app")),
        ("app:staff", user(1000, 50, &[50, 60], "/home/app")),
        ("app:70", user(1000, 70, &[70, 50, 60], "/home/app")),
        ("4000:5000", user(4000, 5000, &[5000], "/")),
        ("4000", user(4000, 0, &[0], "/")),
        // Names that look like numbers.
        ("1234", user(1234, 0, &[0], "/")),
        ("01234:0070", user(1234, 70, &[70], "/")),
        (":staff", user(0, 50, &[50], "/root")),
    ] {
        assert_eq!(resolve(root.path(), text, |_| {}).unwrap(), expected, "{text:?}");
    }
}

#[test]
fn unknown_names_and_huge_ids_are_refused() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    for text in [
        "nobody",
        "app:nobody",
        "-1",
        "2147483648",
        "99999999999999999999999",
        "1000:4294967296",
        "+5",
    ] {
        let error = resolve(root.path(), text, |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
        assert!(error.to_string().contains("the image's User"), "{error}");
    }
}

#[test]
fn cri_wins_over_the_image() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    let by_id = resolve(root.path(), "nobody", |security| security.run_as_user = id(1000));
    assert_eq!(by_id.unwrap(), user(1000, 2000, &[2000, 50, 60], "/home/app"));
    let by_name = resolve(root.path(), "root", |security| {
        security.run_as_username = "app".to_owned();
        security.run_as_group = id(70);
    });
    assert_eq!(by_name.unwrap(), user(1000, 70, &[70, 50, 60], "/home/app"));
    let number = resolve(root.path(), "", |security| {
        security.run_as_username = "1234".to_owned();
    });
    assert_eq!(number.unwrap(), user(1234, 0, &[0], "/"));
    let unknown = resolve(root.path(), "", |security| {
        security.run_as_user = id(5000);
        security.run_as_group = id(6000);
        security.supplemental_groups = vec![7000, 6000];
    });
    assert_eq!(unknown.unwrap(), user(5000, 6000, &[6000, 7000], "/"));
}

/// KEP-3619: kubelet's clients expect the image's groups before those that were asked for.
#[test]
fn the_images_groups_come_before_the_requested_ones() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    let merged = resolve(root.path(), "app", |security| {
        security.supplemental_groups = vec![4000, 60];
    });
    assert_eq!(merged.unwrap().groups, [2000, 50, 60, 4000]);
}

#[test]
fn strict_leaves_the_images_groups_out() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    let strict = resolve(root.path(), "app", |security| {
        security.supplemental_groups = vec![4000];
        security.set_supplemental_groups_policy(SupplementalGroupsPolicy::Strict);
    });
    assert_eq!(strict.unwrap().groups, [2000, 4000]);
}

#[test]
fn fields_that_contradict_each_other_are_named() {
    let root = root_with(Some(PASSWD), Some(GROUP));
    let group = resolve(root.path(), "app", |security| security.run_as_group = id(5)).unwrap_err();
    assert_eq!(group.kind(), ErrorKind::InvalidArgument);
    assert!(group.to_string().contains("linux.security_context.run_as_group"));
    let both = resolve(root.path(), "", |security| {
        security.run_as_user = id(5);
        security.run_as_username = "app".to_owned();
    });
    assert!(both.unwrap_err().to_string().contains("run_as_username"));
    for bad in [-1, 1 << 31, i64::MAX] {
        let error = resolve(root.path(), "", |security| security.run_as_user = id(bad)).unwrap_err();
        assert!(error.to_string().contains("run_as_user"), "{error}");
        let error = resolve(root.path(), "", |security| {
            security.supplemental_groups = vec![bad];
        });
        assert!(error.unwrap_err().to_string().contains("supplemental_groups"));
    }
}

#[test]
fn an_image_without_the_files_has_only_numbers() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(resolve(root.path(), "", |_| {}).unwrap(), user(0, 0, &[0], "/"));
    assert_eq!(
        resolve(root.path(), "5:6", |_| {}).unwrap(),
        user(5, 6, &[6], "/")
    );
    assert!(resolve(root.path(), "app", |_| {}).is_err());
}

#[test]
fn links_stay_inside_the_root() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("passwd"), "app:x:666:666::/evil:/\n").unwrap();
    let root = root_with(None, Some(GROUP));
    let etc = root.path().join("etc");
    for target in [
        outside.path().join("passwd").display().to_string(),
        format!("../../../../../../../..{}/passwd", outside.path().display()),
        "/proc/self/root/etc/passwd".to_owned(),
    ] {
        let link = etc.join("passwd");
        symlink(&target, &link).unwrap();
        assert!(resolve(root.path(), "app", |_| {}).is_err(), "{target}");
        fs::remove_file(&link).unwrap();
    }
    // A link inside is fine, absolute as the container means it.
    fs::write(root.path().join("real"), PASSWD).unwrap();
    symlink("/real", etc.join("passwd")).unwrap();
    assert_eq!(resolve(root.path(), "app", |_| {}).unwrap().uid, 1000);
}

#[test]
fn what_is_no_small_plain_file_is_refused_at_once() {
    let root = root_with(None, None);
    let passwd = root.path().join("etc/passwd");
    let refused = || {
        let error = resolve(root.path(), "app", |_| {}).unwrap_err();
        assert!(matches!(error, OciError::HostileFile { .. }), "{error}");
    };
    let fifo = nix::sys::stat::Mode::from_bits_truncate(0o644);
    nix::unistd::mkfifo(&passwd, fifo).unwrap();
    refused();
    fs::remove_file(&passwd).unwrap();
    fs::create_dir(&passwd).unwrap();
    refused();
    fs::remove_dir(&passwd).unwrap();
    // Sparse: nothing of it is on disk.
    fs::File::create(&passwd).unwrap().set_len(1 << 40).unwrap();
    refused();
}

proptest! {
    #[test]
    fn any_line_is_a_user_or_nobody(line in "(:|[0-9]{1,12}|\\PC){0,16}") {
        if let Some(user) = super::database::user(&line) {
            prop_assert!(user.uid <= MAX_ID && user.gid <= MAX_ID && user.home.starts_with('/'));
        }
        if let Some((name, gid, _)) = super::database::group(&line) {
            prop_assert!(!name.is_empty() && gid <= MAX_ID);
        }
    }
}
