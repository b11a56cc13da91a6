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
