use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Stat;

use crate::walk::{self, Visitor};
use crate::{sync_tree, usage};

#[test]
fn hard_links_count_once_and_holes_not_at_all() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("d")).unwrap();
    fs::write(temp.path().join("a"), vec![1; 100_000]).unwrap();
    fs::hard_link(temp.path().join("a"), temp.path().join("d/b")).unwrap();
    File::create(temp.path().join("hole"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let dir = File::open(temp.path()).unwrap();
    // Delayed allocation would make the blocks move under the comparison.
    sync_tree(dir.as_fd()).unwrap();
    let measured = usage(dir.as_fd()).unwrap();
    let blocks = |name: &str| fs::metadata(temp.path().join(name)).unwrap().blocks();
    assert_eq!(measured.inodes, 4);
    assert_eq!(
        measured.bytes,
        512 * (blocks(".") + blocks("d") + blocks("a") + blocks("hole"))
    );
    assert!(measured.bytes >= 100_000 && measured.bytes < 1 << 20);
}

/// A container that writes while it is measured: files and whole directories come, go and move about.
#[test]
fn a_tree_that_changes_is_measured_all_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    for at in 0..20 {
        fs::create_dir_all(root.join(format!("still/{at}"))).unwrap();
        fs::write(root.join(format!("still/{at}/file")), b"x").unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::create_dir_all(root.join("busy/a/b/c/d")).unwrap();
                for at in 0..50 {
                    fs::write(root.join(format!("busy/a/b/c/{at}")), b"x").unwrap();
                }
                fs::rename(root.join("busy/a/b"), root.join("moved")).unwrap();
                fs::remove_dir_all(root.join("moved")).unwrap();
                fs::remove_dir_all(root.join("busy")).unwrap();
            }
        });
        let dir = File::open(root).unwrap();
        let measured: Vec<_> = (0..300).map(|_| usage(dir.as_fd())).collect();
        stop.store(true, Ordering::Relaxed);
        for measured in measured {
            // The root, "still", its 20 directories and their files.
            assert!(measured.unwrap().inodes >= 42);
        }
    });
}

#[test]
fn a_directory_moved_away_while_it_is_measured_does_not_hide_its_siblings() {
    struct Mover<'a> {
        root: &'a std::path::Path,
        seen: Vec<String>,
    }
    impl Visitor for Mover<'_> {
        fn file(&mut self, _: BorrowedFd<'_>, name: &CStr) -> Result<(), crate::Error> {
            let name = name.to_str().unwrap().to_owned();
            if name == "deep" {
                fs::rename(self.root.join("1/2/3"), self.root.join("elsewhere")).unwrap();
                fs::rename(self.root.join("1/2"), self.root.join("gone")).unwrap();
            }
            self.seen.push(name);
            Ok(())
        }
        fn enter(&mut self, _: &Stat) -> Result<(), crate::Error> {
            Ok(())
        }
        fn leave(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Result<bool, crate::Error> {
            Ok(false)
        }
        fn is_lenient(&self) -> bool {
            true
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    fs::create_dir_all(root.join("1/2/3")).unwrap();
    fs::write(root.join("1/2/3/deep"), b"").unwrap();
    for sibling in ["1/a", "1/z", "0", "2"] {
        fs::create_dir(root.join(sibling)).unwrap();
        fs::write(
            root.join(sibling).join(format!("in {sibling}").replace('/', " ")),
            b"",
        )
        .unwrap();
    }
    let dir = File::open(root).unwrap();
    let mut mover = Mover {
        root,
        seen: Vec::new(),
    };
    walk::walk(walk::open(dir.as_fd(), c".").unwrap(), &mut mover).unwrap();
    mover.seen.retain(|name| name != "deep");
    mover.seen.sort();
    mover.seen.dedup();
    assert_eq!(mover.seen, ["in 0", "in 1 a", "in 1 z", "in 2"]);
}
