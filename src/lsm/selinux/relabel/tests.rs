//! Labels are extended attributes, which the kernel keeps for root also where SELinux is off.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use rustix::fs::lgetxattr;
use tempfile::TempDir;

use super::*;

const MINE: &str = "system_u:object_r:container_file_t:s0:c1,c2";
const OTHER: &str = "system_u:object_r:container_file_t:s0:c3,c4";

/// The label of a file or link, if it has one.
fn label(path: &Path) -> Option<String> {
    let mut value = [0_u8; LABEL_MAX];
    let length = lgetxattr(path, ATTRIBUTE, &mut value).ok()?;
    // SELinux, where it is on, gives it with a final NUL.
    let text = String::from_utf8_lossy(&value[..length]);
    Some(text.trim_end_matches('\0').to_owned())
}

/// A volume, and a file outside of it that a link inside leads to.
fn volume() -> (TempDir, TempDir) {
    let (inside, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let at = |name: &str| inside.path().join(name);
    fs::create_dir_all(at("a/b/c")).unwrap();
    for name in ["file", "a/file", "a/b/c/file"] {
        fs::write(at(name), name).unwrap();
    }
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path().join("secret"), at("a/link")).unwrap();
    symlink(outside.path(), at("directory-link")).unwrap();
    (inside, outside)
}

#[test]
#[ignore = "needs root"]
fn everything_in_a_volume_is_labelled_and_nothing_outside() {
    let (inside, outside) = volume();
    let path = inside.path().canonicalize().unwrap();
    let unchanged = || [label(outside.path()), label(&outside.path().join("secret"))];
    let before = unchanged();
    // The directory, three below, three files, two links.
    assert_eq!(relabel(&path, MINE).unwrap(), 9);
    for name in ["", "a", "a/b/c", "file", "a/b/c/file", "a/link", "directory-link"] {
        assert_eq!(label(&path.join(name)).as_deref(), Some(MINE), "{name}");
    }
    assert_eq!(unchanged(), before);
}

#[test]
#[ignore = "needs root"]
fn a_file_with_the_label_is_not_written() {
    let (inside, _outside) = volume();
    let path = inside.path().canonicalize().unwrap();
    relabel(&path, MINE).unwrap();
    let file = path.join("a/file");
    let changed = |path: &Path| {
        fs::symlink_metadata(path)
            .map(|data| (data.ctime(), data.ctime_nsec()))
            .unwrap()
    };
    let before = changed(&file);
    assert_eq!(relabel(&path, MINE).unwrap(), 0);
    assert_eq!(changed(&file), before);
    fs::write(path.join("a/new"), "").unwrap();
    assert_eq!(relabel(&path, MINE).unwrap(), 1);
    assert_eq!(relabel(&path, OTHER).unwrap(), 10);
    assert_eq!(label(&file).as_deref(), Some(OTHER));
}

#[test]
#[ignore = "needs root"]
fn a_volume_may_be_a_file() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().canonicalize().unwrap().join("hosts");
    fs::write(&file, "").unwrap();
    let before = label(dir.path());
    assert_eq!(relabel(&file, MINE).unwrap(), 1);
    assert_eq!(label(&file).as_deref(), Some(MINE));
    assert_eq!(label(dir.path()), before);
}

/// Neither a link in the path nor a mount in the volume leads elsewhere.
#[test]
#[ignore = "needs root"]
fn links_in_the_path_and_mounts_below_are_not_followed() {
    let (inside, outside) = volume();
    let path = inside.path().canonicalize().unwrap();
    let outer = [label(outside.path()), label(&outside.path().join("secret"))];
    assert!(matches!(
        relabel(&path.join("directory-link"), MINE),
        Ok(1) | Err(RelabelError::Call { .. })
    ));
    assert_eq!(label(outside.path()), outer[0]);
    let below = path.join("a/b/mounted");
    fs::create_dir(&below).unwrap();
    let outcome = std::thread::scope(|scope| {
        let mounted = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
            nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            let bind = nix::mount::MsFlags::MS_BIND;
            nix::mount::mount(Some(outside.path()), &below, None::<&str>, bind, None::<&str>).unwrap();
            relabel(&path, MINE).map(|_| label(&below.join("secret")))
        };
        scope.spawn(mounted).join().unwrap()
    });
    assert_eq!(outcome.unwrap(), outer[1]);
    assert_eq!(label(&path.join("a/b/c")).as_deref(), Some(MINE));
}

#[test]
fn directories_of_the_system_are_refused() {
    for path in [
        "/",
        "/etc",
        "/usr",
        "/usr/lib",
        "/home",
        "/home/somebody",
        "/var",
        "/var/lib",
        "/root",
        "/tmp",
        "/proc",
        "/proc/sys",
        "/sys/fs",
        "/dev/shm",
        "/boot/efi",
        "/etc/shadow",
    ] {
        assert!(
            matches!(relabel(Path::new(path), MINE), Err(RelabelError::System)),
            "{path}"
        );
    }
    for path in [
        "/home/somebody/data",
        "/srv/data",
        "/var/lib/kubelet/pods/1/volumes/x",
        "/etc/app",
        "/usrdata",
    ] {
        assert!(!is_system(Path::new(path)), "{path}");
    }
}

#[test]
fn a_volume_that_is_missing_is_named() {
    let error = relabel(Path::new("/no/such/volume"), MINE).unwrap_err();
    assert!(error.to_string().contains("/no/such/volume"), "{error}");
}
