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
    assert!(!watch.struck());
    file.rewind().unwrap();
    file.write_all(b"oom_kill 3\n").unwrap();
    assert!(watch.struck());
}

fn count(file: &mut File, kills: u32) -> OwnedFd {
    file.rewind().unwrap();
    writeln!(file, "oom_kill {kills}").unwrap();
    OwnedFd::from(file.try_clone().unwrap())
}

/// A cgroup that is gone: its open file can be read no more.
fn gone(dir: &tempfile::TempDir) -> OwnedFd {
    OwnedFd::from(File::create(dir.path().join("gone")).unwrap())
}

#[test]
fn the_cgroup_above_knows_what_one_that_is_gone_cannot_tell() {
    let dir = tempfile::tempdir().unwrap();
    let mut above = tempfile::tempfile().unwrap();
    let watch = OomWatch::new(gone(&dir), Some(count(&mut above, 4)));
    assert!(!watch.killed(), "somebody else's SIGKILL");
    count(&mut above, 5);
    assert!(watch.killed());
    assert!(
        !watch.struck(),
        "one that was told to end is not asked about above"
    );
    assert!(!OomWatch::new(gone(&dir), None).killed());
}

#[test]
fn a_count_of_its_own_is_believed_first() {
    let (mut own, mut above) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let watch = OomWatch::new(count(&mut own, 0), Some(count(&mut above, 0)));
    count(&mut above, 1);
    assert!(!watch.killed(), "another container's");
    count(&mut own, 1);
    assert!(watch.killed());
}
