use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::fs::CWD;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_created_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    for (bytes, durability) in [
        (b"first, and longer".as_slice(), Durability::Process),
        (b"second".as_slice(), Durability::PowerCut),
        (b"".as_slice(), Durability::PowerCut),
    ] {
        replace_file(CWD, &path, bytes, durability).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o177, 0);
    }
    assert_eq!(names(dir.path()), ["record"]);
}

#[test]
fn a_path_may_be_relative_to_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("below")).unwrap();
    let fd = File::open(dir.path()).unwrap();
    replace_file(fd.as_fd(), Path::new("record"), b"1", Durability::PowerCut).unwrap();
    replace_file(fd.as_fd(), Path::new("below/record"), b"2", Durability::PowerCut).unwrap();
    assert_eq!(fs::read(dir.path().join("record")).unwrap(), b"1");
    assert_eq!(fs::read(dir.path().join("below/record")).unwrap(), b"2");
    assert_eq!(names(dir.path()), ["below", "record"]);
}

#[test]
fn a_rename_that_fails_leaves_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    fs::create_dir(&path).unwrap();
    let error = replace_file(CWD, &path, b"new", Durability::PowerCut).unwrap_err();
    assert_eq!((error.operation, error.errno), ("replace", Errno::ISDIR));
    assert_eq!(error.path, path);
    assert_eq!(names(dir.path()), ["record"]);
}

#[test]
fn a_missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/record");
    let error = replace_file(CWD, &path, b"new", Durability::Process).unwrap_err();
    assert_eq!((error.operation, error.errno), ("create", Errno::NOENT));
    assert!(error.to_string().contains("missing/.new-"), "{error}");
}

/// The limit on file sizes holds for the whole process, so the test runs itself in a process of its own, which
/// ignores the signal that comes with the limit.
#[test]
fn a_write_that_fails_midway_leaves_the_old_content() {
    const CHILD: &str = "PAUSA_SYS_TEST_FILE_SIZE_LIMIT";
    if std::env::var_os(CHILD).is_none() {
        let child = Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "atomic_file::tests::a_write_that_fails_midway_leaves_the_old_content",
            ])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    replace_file(CWD, &path, b"old", Durability::Process).unwrap();
    let limit = Rlimit {
        current: Some(4096),
        maximum: Some(4096),
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    let error = replace_file(CWD, &path, &[b'x'; 8192], Durability::Process).unwrap_err();
    assert_eq!((error.operation, error.errno), ("write", Errno::FBIG));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["record"]);
}

#[test]
fn a_staged_file_that_is_dropped_is_removed_and_a_link_to_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    let staged = StagedFile::write(CWD, &path, b"whole", Durability::Process).unwrap();
    assert!(!path.exists());
    fs::hard_link(staged.temporary(), dir.path().join("link")).unwrap();
    drop(staged);
    assert_eq!(names(dir.path()), ["link"]);
    assert_eq!(fs::read(dir.path().join("link")).unwrap(), b"whole");
}

#[test]
fn leftovers_of_other_processes_are_removed_and_are_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    // As after a crash of a process that had this one's id: the next names are taken.
    let own: Vec<_> = (0..64)
        .map(|number| format!("{}{number}", own_prefix()))
        .collect();
    let foreign = format!("{PREFIX}{}-0", std::process::id() + 1);
    for name in own.iter().chain([&foreign, &".hidden".to_owned()]) {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    replace_file(CWD, &path, b"whole", Durability::Process).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(names(dir.path()).len(), own.len() + 3);
    let fd = File::open(dir.path()).unwrap();
    assert_eq!(remove_leftovers(fd.as_fd()), Ok(1));
    assert!(!dir.path().join(&foreign).exists());
    assert_eq!(remove_leftovers(fd.as_fd()), Ok(0));
    assert_eq!(names(dir.path()).len(), own.len() + 2);
}

#[test]
fn readers_see_one_content_or_the_other_while_many_replace_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    replace_file(CWD, &path, &[b'a'; 9000], Durability::Process).unwrap();
    std::thread::scope(|scope| {
        for letter in b'b'..b'f' {
            let path = &path;
            scope.spawn(move || {
                for length in 8000..8050 {
                    replace_file(CWD, path, &vec![letter; length], Durability::Process).unwrap();
                }
            });
        }
        for _ in 0..400 {
            let bytes = fs::read(&path).unwrap();
            assert!(bytes.len() >= 8000, "{} bytes", bytes.len());
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        }
    });
    assert_eq!(names(dir.path()), ["record"]);
}
