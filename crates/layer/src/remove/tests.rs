use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

use crate::{Error, remove_tree};

#[test]
fn trees_go_whole_and_links_are_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = File::open(temp.path()).unwrap();
    fs::create_dir_all(temp.path().join("keep/inner")).unwrap();
    fs::write(temp.path().join("keep/inner/f"), "kept").unwrap();
    fs::create_dir_all(temp.path().join("gone/a/b")).unwrap();
    for n in 0..500 {
        fs::write(temp.path().join(format!("gone/a/file-{n}")), "").unwrap();
    }
    symlink("../keep", temp.path().join("gone/link")).unwrap();
    symlink(temp.path().join("keep"), temp.path().join("gone/a/b/link")).unwrap();
    symlink("keep", temp.path().join("top")).unwrap();
    remove_tree(dir.as_fd(), OsStr::new("gone")).unwrap();
    remove_tree(dir.as_fd(), OsStr::new("top")).unwrap();
    remove_tree(dir.as_fd(), OsStr::new("never-there")).unwrap();
    assert!(!temp.path().join("gone").exists());
    assert!(temp.path().join("top").symlink_metadata().is_err());
    assert_eq!(
        fs::read_to_string(temp.path().join("keep/inner/f")).unwrap(),
        "kept"
    );
}

#[test]
fn trees_that_keep_many_threads_busy_go_whole() {
    let temp = tempfile::tempdir().unwrap();
    let dir = File::open(temp.path()).unwrap();
    let long = "x".repeat(250);
    for directory in 0..40 {
        let place = temp.path().join(format!("wide/{directory}/below"));
        fs::create_dir_all(&place).unwrap();
        symlink("../..", place.join("up")).unwrap();
        for file in 0..50 {
            fs::write(place.join(format!("{long}{file}")), "").unwrap();
            fs::write(place.parent().unwrap().join(file.to_string()), "").unwrap();
        }
    }
    fs::create_dir(temp.path().join("empty")).unwrap();
    fs::write(temp.path().join("plain"), "").unwrap();
    for name in ["wide", "empty", "plain"] {
        remove_tree(dir.as_fd(), OsStr::new(name)).unwrap();
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn names_that_are_no_plain_component_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = File::open(temp.path()).unwrap();
    fs::create_dir_all(temp.path().join("a/b")).unwrap();
    for name in ["", ".", "..", "a/b", "a/", "/"] {
        assert!(
            matches!(
                remove_tree(dir.as_fd(), OsStr::new(name)),
                Err(Error::System { .. })
            ),
            "{name:?}"
        );
    }
    assert!(temp.path().join("a/b").exists());
}

#[test]
fn trees_deeper_than_any_path_and_than_the_handles_of_a_process_can_be_removed_and_measured() {
    let temp = tempfile::tempdir().unwrap();
    let dir = File::open(temp.path()).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o700);
    rustix::fs::mkdirat(&dir, "deep", mode).unwrap();
    let mut at = crate::metadata::open_directory(dir.as_fd(), b"deep").unwrap();
    for _ in 0..1100 {
        rustix::fs::mkdirat(&at, "directory", mode).unwrap();
        at = crate::metadata::open_directory(at.as_fd(), b"directory").unwrap();
    }
    drop(at);
    assert_eq!(crate::usage(dir.as_fd()).unwrap().inodes, 1102);
    remove_tree(dir.as_fd(), OsStr::new("deep")).unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}
