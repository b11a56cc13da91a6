//! Whole layers: streams, formats, metadata. Hostile ones are in `hostile` and `bombs`, foreign writers in `peers`.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::testing::{Site, Tar, privileged};
use crate::{Compression, Error, ErrorKind, Limits};

mod bombs;
mod hostile;
mod overlay;
mod peers;
mod random;

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn big_archive() -> Vec<u8> {
    let noise: Vec<u8> = (0u32..700_001)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut bytes = Tar::new()
        .directory("d")
        .file("d/big", &noise)
        .file("d/small", b"small")
        .end();
    // Padding after the end belongs to the digest.
    bytes.extend_from_slice(&[0; 10_240]);
    bytes.extend_from_slice(b"trailing");
    bytes
}

#[test]
#[ignore = "needs root"]
fn every_compression_yields_the_same_tree_and_the_digest_of_the_whole_stream() {
    if !privileged() {
        return;
    }
    let plain = big_archive();
    let (front, back) = plain.split_at(100_000);
    let skippable = [&[0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(&plain)].concat();
    for stream in [
        plain.clone(),
        gzip(&plain),
        [gzip(front), gzip(back)].concat(),
        zstd(&plain),
        [zstd(front), zstd(back)].concat(),
        skippable,
    ] {
        let site = Site::new();
        let unpacked = site.unpack(&stream).unwrap();
        assert_eq!(unpacked.diff_id.to_string(), digest(&plain));
        assert_eq!(unpacked.archive_bytes, plain.len() as u64);
        assert_eq!(unpacked.files, 4);
        assert_eq!(std::fs::metadata(site.root.join("d/big")).unwrap().len(), 700_001);
        assert_eq!(site.read("d/small"), "small");
    }
}

#[test]
fn an_empty_stream_and_an_empty_archive_are_empty_layers() {
    for stream in [&[][..], &[0; 512], &[0; 1024]] {
        let site = Site::new();
        let unpacked = site.unpack(stream).unwrap();
        assert_eq!(unpacked.diff_id.to_string(), digest(stream));
        assert_eq!(unpacked.files, 1);
    }
}

#[test]
fn damaged_compression_is_told_from_a_failing_source() {
    struct Broken<'a>(&'a [u8]);
    impl std::io::Read for Broken<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(std::io::ErrorKind::ConnectionReset.into()),
                read => Ok(read),
            }
        }
    }
    let plain = big_archive();
    for whole in [gzip(&plain), zstd(&plain)] {
        let site = Site::new();
        let cut = site.unpack(&whole[..whole.len() / 2]).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::Corrupt, "{cut}");
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 64].fill(0xa5);
        assert_eq!(
            Site::new().unpack(&damaged).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        let site = Site::new();
        let dir = std::fs::File::open(&site.root).unwrap();
        let half = Broken(&whole[..whole.len() / 2]);
        let error = crate::unpack(
            half,
            Compression::Detect,
            std::os::fd::AsFd::as_fd(&dir),
            &Limits::default(),
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
    }
}

#[test]
fn archives_cut_short_are_corrupt_and_say_where() {
    let plain = big_archive();
    for length in [100, 700, 1024 + 600, 500_000] {
        let error = Site::new().unpack(&plain[..length]).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "{length}: {error}");
    }
    let mut flipped = plain;
    flipped[3] ^= 1;
    assert!(matches!(
        Site::new().unpack(&flipped),
        Err(Error::Header { offset: 0, .. })
    ));
}

#[test]
#[ignore = "needs root"]
fn metadata_of_every_kind_is_kept() {
    if !privileged() {
        return;
    }
    let setuid = Tar::header(b'0', b"suid", b"", 2, 0o6755);
    let mut owned = Tar::header(b'0', b"cap", b"", 2, 0o755);
    owned.set_uid(1000);
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let sticky = Tar::header(b'5', b"tmp/", b"", 0, 0o1777);
    let archive = Tar::new()
        .raw(sticky, b"")
        .pax(&[
            ("uid", b"4294967294"),
            ("gid", b"3000000000"),
            ("mtime", b"1500000000.123456789"),
        ])
        .raw(setuid, b"ab")
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.n", b"a\n\0b"),
        ])
        .raw(owned, b"cd")
        .pax(&[("mtime", b"-5.25"), ("uid", b"7")])
        .symlink("tmp/link", "/nowhere")
        .raw(Tar::header(b'6', b"fifo", b"", 0, 0o622), b"")
        .char_device("null", 1, 3)
        .end();
    let site = Site::new();
    site.unpack(&archive).unwrap();
    let stat = |name: &str| std::fs::symlink_metadata(site.root.join(name)).unwrap();
    assert_eq!(
        (stat("suid").uid(), stat("suid").gid()),
        (4_294_967_294, 3_000_000_000)
    );
    assert_eq!(stat("suid").mode() & 0o7777, 0o6755);
    assert_eq!(
        (stat("suid").mtime(), stat("suid").mtime_nsec()),
        (1_500_000_000, 123_456_789)
    );
    assert_eq!(stat("cap").uid(), 1000);
    assert_eq!(
        site.xattr("cap", "security.capability").as_deref(),
        Some(&capability[..])
    );
    assert_eq!(site.xattr("cap", "user.n").as_deref(), Some(&b"a\n\0b"[..]));
    assert_eq!(
        (stat("tmp").mode() & 0o7777, stat("tmp").mtime()),
        (0o1777, 1_000_000_000)
    );
    assert_eq!(
        (stat("tmp/link").mtime(), stat("tmp/link").mtime_nsec()),
        (-6, 750_000_000)
    );
    assert_eq!(stat("tmp/link").uid(), 7);
    assert_eq!(stat("fifo").mode(), 0o10622);
    assert_eq!(
        (stat("null").mode(), stat("null").rdev()),
        (0o20600, rustix::fs::makedev(1, 3))
    );
}

#[test]
#[ignore = "needs root"]
fn what_lies_in_a_setgid_directory_does_not_inherit_its_group() {
    if !privileged() {
        return;
    }
    let mut staff = Tar::header(b'5', b"local/", b"", 0, 0o2775);
    staff.set_gid(50);
    let archive = Tar::new()
        .raw(staff, b"")
        .file("local/f", b"")
        .directory("local/d")
        .file("local/e/f", b"")
        .end();
    let site = Site::new();
    site.unpack(&archive).unwrap();
    for name in ["local/f", "local/d", "local/e", "local/e/f"] {
        let stat = std::fs::metadata(site.root.join(name)).unwrap();
        assert_eq!((stat.gid(), stat.mode() & 0o2000), (0, 0), "{name}");
    }
}

#[test]
#[ignore = "needs root"]
fn long_names_come_from_gnu_and_from_pax() {
    let (gnu, pax) = (format!("{}/g", "n".repeat(200)), format!("{}/p", "m".repeat(250)));
    let target = "t".repeat(3000);
    let archive = Tar::new()
        .long(b'L', gnu.as_bytes())
        .file("short", b"gnu")
        .pax(&[("path", pax.as_bytes())])
        .file("short", b"pax")
        .long(b'K', target.as_bytes())
        .symlink("link", "short")
        .end();
    if !privileged() {
        return;
    }
    let site = Site::new();
    let unpacked = site.unpack(&archive).unwrap();
    assert_eq!(
        (site.read(&gnu).as_str(), site.read(&pax).as_str()),
        ("gnu", "pax")
    );
    assert_eq!(
        std::fs::read_link(site.root.join("link")).unwrap().to_str(),
        Some(target.as_str())
    );
    assert_eq!(unpacked.implied.len(), 2);
}

#[test]
#[ignore = "needs root"]
fn sparse_files_keep_their_holes_in_every_format() {
    if !privileged() {
        return;
    }
    let size = 10u64 << 20;
    let mut old = Tar::header(b'S', b"old", b"", 4, 0o644);
    old.as_gnu_mut().unwrap().sparse[0].set_offset(1 << 20);
    old.as_gnu_mut().unwrap().sparse[0].set_length(4);
    old.as_gnu_mut().unwrap().set_real_size(size);
    let text = size.to_string();
    let mut mapped = b"1\n1048576\n4\n".to_vec();
    mapped.resize(512, 0);
    mapped.extend_from_slice(b"data");
    let archive = Tar::new()
        .raw(old, b"data")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"v10"),
            ("GNU.sparse.realsize", text.as_bytes()),
        ])
        .file("GNUSparseFile.0/v10", &mapped)
        .pax(&[
            ("GNU.sparse.size", text.as_bytes()),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.map", b"1048576,4"),
        ])
        .file("v01", b"data")
        .end();
    let site = Site::new();
    site.unpack(&archive).unwrap();
    for name in ["old", "v10", "v01"] {
        let bytes = std::fs::read(site.root.join(name)).unwrap();
        assert_eq!(bytes.len() as u64, size, "{name}");
        assert_eq!(&bytes[(1 << 20) - 1..(1 << 20) + 5], b"\0data\0", "{name}");
        assert!(
            std::fs::metadata(site.root.join(name)).unwrap().blocks() < 1024,
            "{name}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn a_default_access_list_is_kept_but_not_inherited_while_unpacking() {
    if !privileged() {
        return;
    }
    // Version 2; owner rwx, group rwx, others rwx.
    let acl =
        b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x07\0\xff\xff\xff\xff\x20\0\x07\0\xff\xff\xff\xff";
    let archive = Tar::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", acl)])
        .directory("d")
        .directory("d/e")
        .file("d/f", b"")
        .end();
    let site = Site::new();
    let unpacked = site.unpack(&archive).unwrap();
    if unpacked.dropped_xattrs > 0 {
        eprintln!("skipped: needs access lists");
        return;
    }
    assert_eq!(
        site.xattr("d", "system.posix_acl_default").as_deref(),
        Some(&acl[..])
    );
    assert_eq!(site.xattr("d/e", "system.posix_acl_default"), None);
    assert_eq!(
        std::fs::metadata(site.root.join("d/f")).unwrap().mode() & 0o7777,
        0o644
    );
    assert_eq!(
        std::fs::metadata(site.root.join("d")).unwrap().mtime(),
        1_000_000_000
    );
}

#[test]
#[ignore = "needs root"]
fn modes_do_not_depend_on_the_umask() {
    if !privileged() {
        return;
    }
    for umask in ["000", "077", "777"] {
        let tests = [
            "unpack::tests::metadata_of_every_kind_is_kept",
            "unpack::tests::what_lies_in_a_setgid_directory_does_not_inherit_its_group",
        ];
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--include-ignored", "--exact"])
            .args(tests)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("2 passed"),
            "{umask}: {said}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn links_and_devices_keep_attributes_without_being_opened() {
    if !privileged() {
        return;
    }
    let attribute = ("SCHILY.xattr.trusted.t", &b"1"[..]);
    let archive = Tar::new()
        .pax(&[attribute, ("SCHILY.xattr.user.u", b"not on links")])
        .symlink("link", "/etc/passwd")
        .pax(&[attribute])
        .char_device("null", 1, 3)
        .end();
    let site = Site::new();
    assert_eq!(site.unpack(&archive).unwrap().dropped_xattrs, 1);
    for name in ["link", "null"] {
        assert_eq!(
            site.xattr(name, "trusted.t").as_deref(),
            Some(&b"1"[..]),
            "{name}"
        );
    }
}
