use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;

use super::{OomWatch, parse};

#[test]
fn both_versions_of_the_file_are_read() {
    assert_eq!(parse(b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
    assert_eq!(
        parse(b"low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"),
        Some(1)
    );
    assert_eq!(parse(b"oom_kill_disable 1\n"), None);
    assert_eq!(parse(b"\xff"), None);
}

#[test]
fn only_a_kill_since_the_start_counts() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"oom_kill 2\n").unwrap();
    let watch = OomWatch::new(OwnedFd::from(file.try_clone().unwrap()));
    assert!(!watch.struck());
    file.rewind().unwrap();
    file.write_all(b"oom_kill 3\n").unwrap();
    assert!(watch.struck());
}
