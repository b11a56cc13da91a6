use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::testing::{Site, Tar, privileged};
use crate::{Compression, Error, Expected, Limits, TarSplitReader, Unpacked, check, unpack_recorded};

fn unpack(site: &Site, archive: &[u8]) -> Result<Unpacked, Error> {
    let dir = File::open(&site.root).unwrap();
    let tar_split = File::create(site.temp.path().join("tar-split")).unwrap();
    unpack_recorded(
        archive,
        Compression::Detect,
        dir.as_fd(),
        &Limits::default(),
        tar_split,
    )
}

fn tar_split(site: &Site) -> File {
    File::open(site.temp.path().join("tar-split")).unwrap()
}

fn again(site: &Site) -> Vec<u8> {
    let dir = File::open(&site.root).unwrap();
    let mut bytes = Vec::new();
    TarSplitReader::new(tar_split(site), dir.as_fd())
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

fn verdict(site: &Site, unpacked: &Unpacked) -> Result<(), Error> {
    let dir = File::open(&site.root).unwrap();
    check(
        dir.as_fd(),
        tar_split(site),
        &Expected::from(unpacked),
        &Limits::default(),
    )
}

fn everything() -> Vec<u8> {
    let mut large = vec![0; 300_000];
    for (at, byte) in large.iter_mut().enumerate() {
        *byte = u8::try_from(at % 251).unwrap();
    }
    Tar::new()
        .directory("d/")
        .file("d/empty", b"")
        .file("d/large", &large)
        .pax(&[("SCHILY.xattr.user.x", b"value"), ("mtime", b"1234567.25")])
        .file("d/attributes", b"x")
        .hardlink("linked", "d/large")
        .symlink("soft", "d/large")
        .symlink("way", "d")
        .file("way/through", b"through a link")
        .char_device("null", 1, 3)
        .file(".wh.gone", b"")
        .file("d/.wh..wh..opq", b"")
        .file("below/nothing/described", b"y")
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", b"100000"),
            ("GNU.sparse.map", b"4096,3,50000,2"),
        ])
        .file("sparse", b"abcde")
        .directory("d/")
        .end()
}

#[test]
#[ignore = "needs root"]
fn an_archive_is_made_again_byte_by_byte_and_whole_layers_are_whole() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let mut archive = everything();
    archive.extend_from_slice(b"what follows an archive counts too");
    let unpacked = unpack(&site, &archive).unwrap();
    assert!(unpacked.reproducible);
    assert!(again(&site) == archive);
    verdict(&site, &unpacked).unwrap();
    // Far smaller than the headers alone.
    let length = tar_split(&site).metadata().unwrap().len();
    assert!(length < 2048, "{length}");
}

#[test]
#[ignore = "needs root"]
fn every_damage_is_found_and_named() {
    if !privileged() {
        return;
    }
    type Damage = fn(&Path);
    let damages: [(&str, &str, Damage); 14] = [
        ("d/large", "is shorter", |root| {
            truncate(&root.join("d/large"), 1000);
        }),
        ("d/large", "another size", |root| {
            truncate(&root.join("d/large"), 300_001);
        }),
        ("d/empty", "another size", |root| {
            truncate(&root.join("d/empty"), 1);
        }),
        (".", "has changed since", |root| {
            let path = root.join("d/large");
            let mut bytes = fs::read(&path).unwrap();
            bytes[150_000] ^= 1;
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, bytes).unwrap();
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }),
        ("d/attributes", "is gone", |root| {
            fs::remove_file(root.join("d/attributes")).unwrap();
        }),
        ("soft", "points elsewhere", |root| {
            fs::remove_file(root.join("soft")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", root.join("soft")).unwrap();
        }),
        ("null", "is gone", |root| {
            fs::remove_file(root.join("null")).unwrap();
        }),
        ("linked", "is not a link", |root| {
            fs::remove_file(root.join("linked")).unwrap();
            fs::copy(root.join("d/large"), root.join("linked")).unwrap();
        }),
        (".wh.gone", "is gone", |root| {
            fs::remove_file(root.join("gone")).unwrap();
        }),
        ("d", "mode 0700 instead of 0755", |root| {
            fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("d/attributes", "another value of user.x", |root| {
            rustix::fs::setxattr(
                root.join("d/attributes"),
                "user.x",
                b"other",
                rustix::fs::XattrFlags::empty(),
            )
            .unwrap();
        }),
        (".", "lost extended attributes", |root| {
            rustix::fs::removexattr(root.join("d/attributes"), "user.x").unwrap();
        }),
        ("d/.wh..wh..opq", "does not hide", |root| {
            rustix::fs::removexattr(root.join("d"), "trusted.overlay.opaque").unwrap();
        }),
        (".", "files instead of", |root| {
            fs::write(root.join("below/more"), b"").unwrap();
        }),
    ];
    for (path, what, damage) in damages {
        let site = Site::new();
        let unpacked = unpack(&site, &everything()).unwrap();
        damage(&site.root);
        let said = verdict(&site, &unpacked).unwrap_err().to_string();
        assert!(
            said.contains(&format!("\"{path}\" ")) && said.contains(what),
            "{path}, {what}: {said}"
        );
    }
}

fn truncate(path: &Path, length: u64) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_damaged_tar_split_is_damage_and_never_a_whole_layer() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let unpacked = unpack(&site, &everything()).unwrap();
    let path = site.temp.path().join("tar-split");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, &bytes).unwrap();
        // A bit nobody reads may have been hit; then the archive must still be the same.
        if verdict(&site, &unpacked).is_ok() {
            assert!(again(&site) == everything());
        }
        fs::write(&path, &whole[..at]).unwrap();
        verdict(&site, &unpacked).unwrap_err();
    }
}

#[test]
#[ignore = "needs root"]
fn an_archive_whose_entries_replace_each_other_is_not_called_reproducible() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let archive = Tar::new().file("twice", b"first").file("twice", b"second").end();
    assert!(!unpack(&site, &archive).unwrap().reproducible);
    let site = Site::new();
    let archive = Tar::new().file("a", b"first").file(".wh.a", b"").end();
    assert!(!unpack(&site, &archive).unwrap().reproducible);
}

/// A directory that replaces a whiteout hides no contents: the archive is reproducible, and the counts are right.
#[test]
#[ignore = "needs root"]
fn a_whiteout_below_which_something_lies_is_whole() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let archive = Tar::new().file(".wh.dir", b"").file("dir/new", b"x").end();
    let unpacked = unpack(&site, &archive).unwrap();
    assert!(unpacked.reproducible);
    assert_eq!(unpacked.files, 3);
    verdict(&site, &unpacked).unwrap();
    assert!(again(&site) == archive);
}
