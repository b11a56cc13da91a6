use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

#[test]
fn a_place_is_a_path_or_a_container_and_a_path() {
    let container = |name: &str, path: &str| {
        let (name, path) = (name.to_owned(), path.into());
        Ok(Place::Container { name, path })
    };
    assert_eq!("shop/web/nginx:/etc".parse(), container("shop/web/nginx", "/etc"));
    assert_eq!("web:a:b".parse(), container("web", "a:b"));
    for path in ["/a:b", "./a:b", "../a:b", "a", ":a"] {
        assert_eq!(path.parse(), Ok(Place::Node(path.into())), "{path}");
    }
    assert!("web:".parse::<Place>().is_err());
    assert!("".parse::<Place>().is_err());
}

fn copy(from: &Path, to: &Path, to_node: bool) -> anyhow::Result<u64> {
    let open = |place: &Place, flags| openat(CWD, place.path(), flags | OFlags::CLOEXEC, Mode::empty());
    let root = Root::of_this_process();
    let mut copy = Copy {
        owner: (!to_node).then_some(&root),
        ..Copy::default()
    };
    let source = Source::open(&Place::Node(from.to_owned()), false, open)?;
    copy.to(&source, &Place::Node(to.to_owned()), open)?;
    Ok(copy.skipped)
}

#[test]
fn a_tree_is_copied_into_a_directory_or_to_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("sub/empty")).unwrap();
    fs::write(from.join("sub/file"), "text").unwrap();
    fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(from.join("sub/empty"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("/etc/passwd", from.join("link")).unwrap();
    rustix::fs::mknodat(CWD, from.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();

    let new = dir.path().join("new");
    assert_eq!(copy(&from, &new, true).unwrap(), 1);
    fs::create_dir(dir.path().join("into")).unwrap();
    copy(&from, &dir.path().join("into"), false).unwrap();
    let contents = PathBuf::from(format!("{}/.", from.display()));
    fs::create_dir(dir.path().join("contents")).unwrap();
    copy(&contents, &dir.path().join("contents"), false).unwrap();
    for (copy, mode) in [("new", 0o751), ("into/from", 0o4751), ("contents", 0o4751)] {
        let copy = dir.path().join(copy);
        let file = fs::metadata(copy.join("sub/file")).unwrap();
        assert_eq!(file.mode() & 0o7777, mode, "{copy:?}");
        assert_eq!(file.mtime(), fs::metadata(from.join("sub/file")).unwrap().mtime());
        assert_eq!(fs::read_to_string(copy.join("sub/file")).unwrap(), "text");
        assert_eq!(
            fs::metadata(copy.join("sub/empty")).unwrap().mode() & 0o7777,
            0o711
        );
        assert_eq!(
            fs::read_link(copy.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert!(!copy.join("pipe").exists());
        let names = fs::read_dir(&copy)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        assert!(
            names
                .into_iter()
                .all(|name| !name.to_string_lossy().starts_with(".pausa-cp-"))
        );
    }
}

#[test]
fn nothing_is_written_through_what_has_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let (victim, file) = (dir.path().join("victim"), dir.path().join("file"));
    fs::write(&victim, "untouched").unwrap();
    fs::write(&file, "new").unwrap();
    let to = dir.path().join("to");
    fs::create_dir(&to).unwrap();
    symlink(&victim, to.join("file")).unwrap();
    copy(&file, &to, false).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(fs::symlink_metadata(to.join("file")).unwrap().is_file());
    // A directory does not follow a link either, and is not replaced by a file.
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    let into = dir.path().join("into");
    fs::create_dir_all(into.join("tree")).unwrap();
    symlink(&to, into.join("tree/sub")).unwrap();
    let error = format!("{:#}", copy(&tree, &into, false).unwrap_err());
    assert!(
        error.contains("something else with the name of a directory"),
        "{error}"
    );
    fs::create_dir(to.join("victim")).unwrap();
    assert!(copy(&victim, &to, false).is_err());
    assert_eq!(
        fs::read_dir(&to).unwrap().count(),
        2,
        "nothing incomplete is left"
    );
}

#[test]
fn files_of_the_kernel_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        copy(Path::new("/proc"), &dir.path().join("proc"), false).unwrap(),
        1
    );
    let error = format!(
        "{:#}",
        copy(Path::new("/nonexistent"), dir.path(), false).unwrap_err()
    );
    assert!(error.contains("/nonexistent"), "{error}");
}
