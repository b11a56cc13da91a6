use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn root(path: &Path) -> std::fs::File {
    std::fs::File::open(path).unwrap()
}

fn inode(handle: &OwnedFd) -> u64 {
    fstat(handle).unwrap().st_ino
}

#[test]
fn missing_directories_and_files_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let handle = make(root(dir.path()).as_fd(), b"/a/b/../c/file", Make::File).unwrap();
    let made = std::fs::metadata(dir.path().join("a/c/file")).unwrap();
    assert!(made.is_file());
    assert_eq!(made.ino(), inode(&handle));
    assert!(dir.path().join("a/b").is_dir());
}

#[test]
fn links_stay_inside_the_root_even_when_dangling() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    std::fs::create_dir_all(inner.join("etc")).unwrap();
    symlink("../../../../run/resolve/stub", inner.join("etc/resolv.conf")).unwrap();
    symlink("/", inner.join("up")).unwrap();
    make(root(&inner).as_fd(), b"/etc/resolv.conf", Make::File).unwrap();
    assert!(inner.join("run/resolve/stub").is_file());
    make(root(&inner).as_fd(), b"/up/../../x/y", Make::Directory).unwrap();
    assert!(inner.join("x/y").is_dir());
    assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
}

#[test]
fn circles_of_links_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    symlink("b", dir.path().join("a")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    let error = make(root(dir.path()).as_fd(), b"/a/c", Make::Directory).unwrap_err();
    assert_eq!(error, Errno::LOOP);
}

#[test]
fn a_file_on_the_way_is_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = make(root(dir.path()).as_fd(), b"/file/x", Make::Directory).unwrap_err();
    assert_eq!(error, Errno::NOTDIR);
}

#[test]
fn plain_paths_have_no_links() {
    let dir = tempfile::tempdir().unwrap();
    symlink("etc", dir.path().join("proc")).unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    let top = root(dir.path());
    assert_eq!(
        open_plain(top.as_fd(), b"/proc", OFlags::PATH).unwrap_err(),
        Errno::LOOP
    );
    assert!(open_plain(top.as_fd(), b"/etc", OFlags::PATH).is_ok());
}

#[test]
fn parents_need_a_name_after_them() {
    let dir = tempfile::tempdir().unwrap();
    let top = root(dir.path());
    for path in [&b"/"[..], b"", b"/a/..", b"."] {
        assert_eq!(make_parent(top.as_fd(), path).unwrap_err(), Errno::INVAL);
    }
    let (_, name) = make_parent(top.as_fd(), b"/dev/net/tun/").unwrap();
    assert_eq!(name, b"tun");
    assert!(dir.path().join("dev/net").is_dir());
}

proptest! {
    /// Whatever the path, what is made lies beneath the root.
    #[test]
    fn nothing_is_made_outside(parts in prop::collection::vec("(\\.\\.|\\.|up|[a-c]|)", 0..12)) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        symlink("../../..", inner.join("up")).unwrap();
        let path = format!("/{}", parts.join("/"));
        let made = make(root(&inner).as_fd(), path.as_bytes(), Make::Directory).unwrap();
        prop_assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
        let real = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&made))).unwrap();
        prop_assert!(real.starts_with(inner.canonicalize().unwrap()));
    }
}

/// Another container that shares a volume swaps a directory for a link to the outside, over and over.
#[test]
fn a_race_does_not_lead_outside() {
    let outer = tempfile::tempdir().unwrap();
    let (inner, outside) = (outer.path().join("inner"), outer.path().join("outside"));
    std::fs::create_dir_all(inner.join("a/b")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    symlink("../../../outside", inner.join("link")).unwrap();
    let top = root(&inner);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&top, "a/b", &top, "link", flags).unwrap();
            }
        });
        let made = (0..3000)
            .filter(|turn| make(top.as_fd(), format!("/a/b/{turn}").as_bytes(), Make::File).is_ok())
            .count();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        made
    });
    assert!(made > 0);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}
