use std::fs::File;
use std::os::fd::AsFd;

use crate::testing::{Site, Tar, privileged};
use crate::{Packed, Unpacked, pack};

fn packed(site: &Site) -> (Packed, Vec<u8>) {
    let dir = File::open(&site.root).unwrap();
    let mut bytes = Vec::new();
    let packed = pack(dir.as_fd(), &mut bytes).unwrap();
    assert_eq!(packed.bytes, bytes.len() as u64);
    (packed, bytes)
}

/// Unpacks what was packed, which must make the same tree: packed again it is the same archive.
fn round_trip(archive: &[u8]) -> (Unpacked, Unpacked) {
    let first = Site::new();
    let unpacked = first.unpack(archive).unwrap();
    let (packed_once, bytes) = packed(&first);
    let second = Site::new();
    let again = second.unpack(&bytes).unwrap();
    assert_eq!(again.diff_id, packed_once.diff_id);
    assert!(again.reproducible);
    let (packed_twice, _) = packed(&second);
    assert_eq!(packed_once, packed_twice);
    (unpacked, again)
}

#[test]
#[ignore = "needs root"]
fn everything_a_layer_can_hold_survives_packing() {
    if !privileged() {
        return;
    }
    let long = format!("{}/{}", "d".repeat(90), "e".repeat(90));
    let archive = Tar::new()
        .directory("./")
        .file("plain", b"content")
        .hardlink("linked", "plain")
        .symlink("soft", &"x".repeat(90))
        .char_device("null", 1, 3)
        .raw(Tar::header(b'6', b"fifo", b"", 0, 0o640), b"")
        .raw(Tar::header(b'0', b"setuid", b"", 0, 0o4755), b"")
        .file(".wh.gone", b"")
        .file("opaque/.wh..wh..opq", b"")
        .pax(&[
            ("path", long.as_bytes()),
            ("uid", b"4000000000"),
            ("gid", b"3000000"),
            ("mtime", b"-5.25"),
            ("SCHILY.xattr.user.x", b"a=b\nc"),
            (
                "SCHILY.xattr.security.capability",
                b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
        ])
        .file("short", b"far")
        .pax(&[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", b"1000000"),
            ("GNU.sparse.map", b"65536,3,500000,2"),
        ])
        .file("sparse", b"abcde")
        .end();
    let (before, after) = round_trip(&archive);
    assert_eq!(before.files, after.files);
    assert_eq!(before.opaque_root, after.opaque_root);
    assert_eq!(before.dropped_xattrs, after.dropped_xattrs);
    // Holes are not filled with data on the way.
    assert!(after.archive_bytes < 100_000, "{}", after.archive_bytes);
}

#[test]
#[ignore = "needs root"]
fn access_lists_survive_packing() {
    if !privileged() {
        return;
    }
    // Version 2: owner rwx, user 1000 r--, group r-x, mask rwx, others ---.
    let access = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x05\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let list = ("SCHILY.xattr.system.posix_acl_access", &access[..]);
    let default = ("SCHILY.xattr.system.posix_acl_default", &access[..]);
    let archive = Tar::new()
        .pax(&[list, default])
        .directory("shared")
        .file("shared/plain", b"x")
        .pax(&[list])
        .file("listed", b"y")
        .end();
    let (before, after) = round_trip(&archive);
    if before.dropped_xattrs > 0 {
        eprintln!("skipped: needs access lists");
        return;
    }
    assert_eq!(after.dropped_xattrs, 0);
    let site = Site::new();
    site.unpack(&archive).unwrap();
    let again = Site::new();
    again.unpack(&packed(&site).1).unwrap();
    for (path, name) in [
        ("shared", "system.posix_acl_access"),
        ("shared", "system.posix_acl_default"),
        ("listed", "system.posix_acl_access"),
    ] {
        assert_eq!(
            again.xattr(path, name).as_deref(),
            Some(&access[..]),
            "{path} {name}"
        );
    }
    assert_eq!(again.xattr("shared/plain", "system.posix_acl_access"), None);
}

#[test]
#[ignore = "needs root"]
fn what_is_packed_does_not_depend_on_the_order_in_which_it_was_made() {
    if !privileged() {
        return;
    }
    let (one, other) = (Site::new(), Site::new());
    one.unpack(
        &Tar::new()
            .directory("d/")
            .file("a", b"1")
            .file("b", b"2")
            .file("d/c", b"3")
            .end(),
    )
    .unwrap();
    other
        .unpack(
            &Tar::new()
                .directory("d/")
                .file("d/c", b"3")
                .file("b", b"2")
                .file("a", b"1")
                .end(),
        )
        .unwrap();
    for site in [&one, &other] {
        let time = std::time::UNIX_EPOCH;
        File::open(&site.root).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(packed(&one), packed(&other));
}
