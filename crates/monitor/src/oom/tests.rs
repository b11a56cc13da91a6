use std::fs::File;
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
    let watch = OomWatch::new(OwnedFd::from(file.try_clone().unwrap()), None);
    assert!(!watch.own_count_has_grown());
    file.rewind().unwrap();
    file.write_all(b"oom_kill 3\n").unwrap();
    assert!(watch.own_count_has_grown());
}

fn count(file: &mut File, kills: u32) -> OwnedFd {
    file.rewind().unwrap();
    writeln!(file, "oom_kill {kills}").unwrap();
    OwnedFd::from(file.try_clone().unwrap())
}

/// The counter of a cgroup that is gone: reading its open file fails.
fn gone(dir: &tempfile::TempDir) -> OwnedFd {
    OwnedFd::from(File::create(dir.path().join("gone")).unwrap())
}

#[test]
fn the_parents_count_replaces_that_of_a_cgroup_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut parent = tempfile::tempfile().unwrap();
    let watch = OomWatch::new(gone(&dir), Some(count(&mut parent, 4)));
    assert!(
        !watch.explains_sigkill(),
        "a SIGKILL that is not the OOM killer's"
    );
    count(&mut parent, 5);
    assert!(watch.explains_sigkill());
    assert!(
        !watch.own_count_has_grown(),
        "the parent's count only matters for an unexplained SIGKILL"
    );
    assert!(!OomWatch::new(gone(&dir), None).explains_sigkill());
}

#[test]
fn the_own_count_takes_precedence() {
    let (mut own, mut parent) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let watch = OomWatch::new(count(&mut own, 0), Some(count(&mut parent, 0)));
    count(&mut parent, 1);
    assert!(!watch.explains_sigkill(), "another container's kill");
    count(&mut own, 1);
    assert!(watch.explains_sigkill());
}
