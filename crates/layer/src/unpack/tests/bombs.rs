//! Archives that want more than they should get: sizes that lie, and something too large for each limit.

use super::gzip;
use crate::error::Limit;
use crate::testing::{Site, Tar, privileged};
use crate::{Error, Limits};

#[test]
#[ignore = "needs root"]
fn sizes_are_taken_from_pax_so_that_no_data_is_read_as_headers() {
    if !privileged() {
        return;
    }
    let hidden = Tar::new().file("evil", b"").0;
    let mut header = Tar::header(b'0', b"carrier", b"", 0, 0o644);
    header.set_size(0);
    let size = hidden.len().to_string();
    let archive = Tar::new()
        .pax(&[("size", size.as_bytes())])
        .raw(header, &hidden)
        .end();
    let site = Site::new();
    site.unpack(&archive).unwrap();
    assert!(!site.root.join("evil").exists());
    assert_eq!(
        std::fs::metadata(site.root.join("carrier")).unwrap().len(),
        hidden.len() as u64
    );
}

#[test]
fn sizes_beyond_all_bounds_do_not_overflow() {
    for size in [u64::MAX, u64::MAX - 511, i64::MAX as u64] {
        let archive = Tar::new()
            .pax(&[("size", size.to_string().as_bytes())])
            .file("x", b"")
            .end();
        assert!(Site::new().unpack(&archive).is_err());
        let archive = Tar::new().raw(Tar::header(b'x', b"x", b"", size, 0), b"").end();
        assert!(Site::new().unpack(&archive).is_err());
        let archive = Tar::new().raw(Tar::header(b'g', b"x", b"", size, 0), b"").end();
        assert!(Site::new().unpack(&archive).is_err());
    }
}

fn exceeds(archive: &[u8], limits: Limits, expected: Limit) {
    match Site::new().unpack_with(archive, &limits) {
        Err(Error::Limit { limit, .. }) => assert_eq!(limit, expected),
        other => panic!("{expected:?}: {other:?}"),
    }
}

#[test]
#[ignore = "needs root"]
fn every_limit_stops_its_bomb() {
    if !privileged() {
        return;
    }
    let normal = Limits::default();
    let zeros = gzip(&Tar::new().file("zeros", &vec![0; 4 << 20]).end());
    exceeds(
        &zeros,
        Limits {
            archive_bytes: 1 << 20,
            ..normal
        },
        Limit::ArchiveBytes,
    );
    exceeds(
        &zeros,
        Limits {
            content_bytes: 1 << 20,
            ..normal
        },
        Limit::ContentBytes,
    );
    let many = (0..50)
        .fold(Tar::new(), |tar, n| tar.directory(&format!("d{n}")))
        .end();
    exceeds(
        &many,
        Limits {
            entries: 49,
            ..normal
        },
        Limit::Entries,
    );
    exceeds(
        &many,
        Limits {
            directory_memory: 1000,
            ..normal
        },
        Limit::DirectoryMemory,
    );
    let nested = Tar::new().file(&"d/".repeat(40), b"").end();
    exceeds(&nested, Limits { depth: 39, ..normal }, Limit::Depth);
    exceeds(
        &nested,
        Limits {
            path_bytes: 79,
            ..normal
        },
        Limit::PathBytes,
    );
    let extension = Tar::header(b'x', b"x", b"", 1 << 40, 0);
    exceeds(
        &Tar::new().raw(extension, b"").end(),
        normal,
        Limit::ExtensionBytes,
    );
    let value = vec![b'v'; 1000];
    let attributes = Tar::new()
        .pax(&[("SCHILY.xattr.user.a", &value), ("SCHILY.xattr.user.b", b"")])
        .file("x", b"")
        .end();
    exceeds(
        &attributes,
        Limits {
            xattr_bytes: 999,
            ..normal
        },
        Limit::XattrBytes,
    );
    exceeds(&attributes, Limits { xattrs: 1, ..normal }, Limit::Xattrs);
    let map = "0,0,".repeat(20);
    let sparse = Tar::new()
        .pax(&[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"0")])
        .file("x", b"")
        .end();
    exceeds(
        &sparse,
        Limits {
            sparse_regions: 19,
            ..normal
        },
        Limit::SparseRegions,
    );
    let hole = Tar::new()
        .pax(&[
            ("GNU.sparse.map", b"0,0"),
            ("GNU.sparse.size", b"9000000000000000000"),
        ])
        .file("x", b"")
        .end();
    exceeds(&hole, normal, Limit::ContentBytes);
}

#[test]
#[ignore = "needs root"]
fn links_cannot_be_used_to_nest_deeper_than_allowed() {
    if !privileged() {
        return;
    }
    let limits = Limits {
        depth: 12,
        ..Limits::default()
    };
    let deep = "a/b/c/d/e/f/g/h";
    let archive = Tar::new()
        .directory(deep)
        .symlink("s", deep)
        .directory("s/1/2/3/4")
        .directory("s/1/2/3/4/5")
        .end();
    exceeds(&archive, limits, Limit::Depth);
}
