use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;

use crate::testing::{Site, Tar, privileged};
use crate::{Stacked, describe_implied};

/// Unpacks `archives` (lowest first) and yields the directories on top: path, mode, owner.
fn merged(archives: &[Vec<u8>]) -> Vec<(String, u32, u32)> {
    let sites: Vec<Site> = archives.iter().map(|_| Site::new()).collect();
    let unpacked: Vec<_> = sites
        .iter()
        .zip(archives)
        .map(|(site, archive)| site.unpack(archive).unwrap())
        .collect();
    let dirs: Vec<File> = sites.iter().map(|site| File::open(&site.root).unwrap()).collect();
    let layers: Vec<Stacked<'_>> = dirs
        .iter()
        .zip(&unpacked)
        .map(|(dir, unpacked)| Stacked {
            dir: dir.as_fd(),
            implied: &unpacked.implied,
        })
        .collect();
    let top = tempfile::tempdir().unwrap();
    let made = describe_implied(&layers, File::open(top.path()).unwrap().as_fd()).unwrap();
    let mut found = Vec::new();
    let mut todo = vec![top.path().to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            assert!(stat.is_dir());
            let name = path.strip_prefix(top.path()).unwrap().display().to_string();
            found.push((name, stat.mode() & 0o7777, stat.uid()));
            todo.push(path);
        }
    }
    assert_eq!(made, found.len() as u64);
    found.sort();
    found
}

fn directory(path: &str, mode: u32, uid: u64) -> Vec<u8> {
    let mut header = Tar::header(b'5', path.as_bytes(), b"", 0, mode);
    header.set_uid(uid);
    Tar::new().raw(header, b"").end()
}

#[test]
#[ignore = "needs root"]
fn the_lower_layers_description_shows_through_what_is_only_implied() {
    if !privileged() {
        return;
    }
    let tmp = directory("tmp/", 0o1777, 7);
    let implying = Tar::new().file("tmp/file", b"x").end();
    let expected = vec![("tmp".to_owned(), 0o1777, 7)];
    assert_eq!(merged(&[tmp.clone(), implying.clone()]), expected);
    assert_eq!(
        merged(&[tmp.clone(), implying.clone(), implying.clone()]),
        expected
    );
    // Between them somebody describes it anew: that counts.
    let anew = directory("tmp/", 0o700, 8);
    assert_eq!(
        merged(&[tmp.clone(), anew.clone(), implying.clone()]),
        [("tmp".to_owned(), 0o700, 8)]
    );
    // On top of all: nothing is wrong.
    assert_eq!(merged(&[tmp, implying, anew]), []);
}

#[test]
#[ignore = "needs root"]
fn parents_of_what_is_on_top_are_what_they_are_below() {
    if !privileged() {
        return;
    }
    let mut header = Tar::header(b'5', b"var/lib/app/", b"", 0, 0o2750);
    header.set_uid(9);
    let low = Tar::new()
        .raw(Tar::header(b'5', b"var/", b"", 0, 0o711), b"")
        .raw(header, b"")
        .end();
    let high = Tar::new().file("var/lib/app/data/file", b"x").end();
    assert_eq!(
        merged(&[low, high]),
        [
            ("var".to_owned(), 0o711, 0),
            ("var/lib".to_owned(), 0o755, 0),
            ("var/lib/app".to_owned(), 0o2750, 9),
        ]
    );
}

#[test]
#[ignore = "needs root"]
fn what_is_hidden_below_does_not_show_through() {
    if !privileged() {
        return;
    }
    let low = directory("a/b/", 0o700, 3);
    let implying = Tar::new().file("a/b/file", b"x").end();
    for between in [
        Tar::new().file(".wh.a", b"").end(),
        Tar::new().file("a/.wh.b", b"").end(),
        Tar::new().file("a/.wh..wh..opq", b"").end(),
        Tar::new().file("a/b", b"a file").end(),
        Tar::new().symlink("a", "/etc").end(),
    ] {
        assert_eq!(merged(&[low.clone(), between, implying.clone()]), []);
    }
    // The implied directory itself may hide what is below, or be hidden.
    let opaque = Tar::new()
        .file("a/b/.wh..wh..opq", b"")
        .file("a/b/file", b"x")
        .end();
    assert_eq!(merged(&[low.clone(), opaque]), []);
    let gone = Tar::new().file(".wh.a", b"").end();
    assert_eq!(merged(&[low, implying, gone]), []);
}

#[test]
#[ignore = "needs root"]
fn nothing_is_made_where_nothing_is_wrong() {
    if !privileged() {
        return;
    }
    let low = directory("usr/", 0o755, 0);
    let implying = Tar::new().file("usr/bin/tool", b"x").end();
    assert_eq!(merged(&[low, implying.clone()]), []);
    assert_eq!(merged(&[implying]), []);
    assert_eq!(merged(&[]), []);
}
