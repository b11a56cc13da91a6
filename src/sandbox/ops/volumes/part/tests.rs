use crate::error::Kinded;
use std::fs::File;
use std::io::{Read as _, Write as _};

use rustix::fs::{mkdirat, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::*;

/// A detached file system with the file `kept/below`.
fn whole() -> OwnedFd {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_create(&context).unwrap();
    let whole = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
    mkdirat(&whole, "kept", Mode::RWXU).unwrap();
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&whole, "kept/below", flags, Mode::RUSR).unwrap();
    File::from(file).write_all(b"text").unwrap();
    whole
}

fn text(part: &OwnedFd) -> String {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    let mut file = File::from(openat(part, "below", flags, Mode::empty()).unwrap());
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
#[ignore = "needs root"]
fn kernels_old_and_new_give_a_part_and_no_mount_stays() {
    let place = tempfile::tempdir().unwrap();
    let mount = whole();
    assert_eq!(text(&below(&mount, "kept", place.path()).unwrap()), "text");
    // As before Linux 6.15.
    let mount = whole();
    let part = openat(&mount, "kept", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let cloned = attached(&mount, part.as_fd(), place.path()).unwrap();
    drop(part);
    assert_eq!(text(&cloned), "text");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(place.path().to_str().unwrap()), "{mounts}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root"]
fn what_is_not_below_is_refused() {
    let place = tempfile::tempdir().unwrap();
    for (sub_path, kind) in [
        ("..", ErrorKind::InvalidArgument),
        ("/kept", ErrorKind::InvalidArgument),
        ("gone", ErrorKind::NotFound),
        ("kept/below/more", ErrorKind::NotFound),
    ] {
        let mount = whole();
        let refused = below(&mount, sub_path, place.path()).unwrap_err();
        assert_eq!(refused.kind(), kind, "{sub_path}");
    }
}
