use std::os::fd::AsFd;

use super::*;

#[test]
fn the_rest_of_the_path_is_below() {
    let directory = b"/sys/fs/cgroup/kubepods/pod1/c1";
    assert_eq!(
        below(directory, b"/kubepods/pod1/c1/init.scope"),
        Some(&b"init.scope"[..])
    );
    assert_eq!(below(directory, b"/kubepods/pod1/c1/a/b"), Some(&b"a/b"[..]));
    assert_eq!(below(directory, b"/kubepods/pod1/c2/a"), None);
    assert_eq!(below(directory, b"/kubepods/pod1/c1"), None);
    assert_eq!(below(directory, b"/"), None);
}

#[test]
fn what_is_no_pidfd_has_no_cgroup() {
    let file = std::fs::File::open("/").unwrap();
    assert_eq!(of_process(file.as_fd(), file.as_fd()).unwrap_err(), Errno::SRCH);
}

/// Only a group of resctrl may be missed: a process outside of its cgroup would have no limits.
#[test]
#[ignore = "needs root"]
fn a_removed_cgroup_takes_no_process() {
    let name = format!("pausa-test-enter-{}", std::process::id());
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let Some(hierarchy) = hierarchies
        .map(|entry| entry.path())
        .find(|path| path.join("tasks").exists())
    else {
        println!("skipped: needs cgroup v1");
        return;
    };
    let group = hierarchy.join(name);
    std::fs::create_dir(&group).unwrap();
    let tasks = std::fs::File::options()
        .write(true)
        .open(group.join("tasks"))
        .unwrap();
    std::fs::remove_dir(&group).unwrap();
    assert_eq!(enter(tasks.as_fd(), b"0"), Err(Errno::NODEV));
}
