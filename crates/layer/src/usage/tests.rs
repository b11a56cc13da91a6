use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

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
