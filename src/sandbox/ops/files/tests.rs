//! The directory of network namespaces. Each test in a mount namespace of its own.

use nix::sched::{CloneFlags, unshare};

use super::*;

/// A directory in a mount namespace of this thread's own. It ends with the thread, and every test has one.
fn directory() -> tempfile::TempDir {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    tempfile::tempdir().unwrap()
}

/// As `ip netns add` does before it adds one, see ip-netns(8).
fn as_ip_does(dir: &Path) {
    let none = None::<&str>;
    let share = || mount(none, dir, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    if share().is_err() {
        mount(Some(dir), dir, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
        share().unwrap();
    }
}

fn mounts_of(dir: &Path) -> usize {
    let all = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    all.lines()
        .filter(|line| line.contains(dir.to_str().unwrap()))
        .count()
}

#[test]
#[ignore = "needs root"]
fn a_namespace_is_unbound_after_another_tool_has_used_the_directory() {
    let dir = directory();
    share_netns_dir(dir.path()).unwrap();
    let path = dir.path().join("pausa-1");
    bind_netns(std::process::id().cast_signed(), &path).unwrap();
    as_ip_does(dir.path());
    unbind_netns(&path);
    assert!(!path.exists());
    assert_eq!(mounts_of(dir.path()), 1, "the directory itself");
}

#[test]
#[ignore = "needs root"]
fn the_directory_is_mounted_once_and_not_over_what_is_bound_in_it() {
    let dir = directory();
    for _ in 0..2 {
        share_netns_dir(dir.path()).unwrap();
        assert_eq!(mounts_of(dir.path()), 1);
    }
    let older = tempfile::tempdir().unwrap();
    let path = older.path().join("pausa-1");
    bind_netns(std::process::id().cast_signed(), &path).unwrap();
    share_netns_dir(older.path()).unwrap();
    unbind_netns(&path);
    assert!(!path.exists());
    assert_eq!(mounts_of(older.path()), 0);
}
