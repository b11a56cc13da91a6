//! Archives written by other programs, held against what those programs make of them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::XattrFlags;

use super::gzip;
use crate::testing::{Site, listing, privileged};

/// A tree with something of everything.
fn populate(root: &Path) {
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/file"), vec![7; 300_000]).unwrap();
    fs::write(root.join(format!("d/{}", "long".repeat(60))), "x").unwrap();
    fs::hard_link(root.join("d/file"), root.join("d/e/linked")).unwrap();
    symlink("/".to_owned() + &"far/".repeat(80), root.join("d/link")).unwrap();
    fs::set_permissions(root.join("d/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(root.join("d/e"), Some(3_000_000_000), Some(70_000)).unwrap();
    fs::set_permissions(root.join("d/e"), fs::Permissions::from_mode(0o2770)).unwrap();
    for (name, value) in [("user.binary", &b"a\0\nb"[..]), ("trusted.t", b"1")] {
        rustix::fs::lsetxattr(root.join("d/file"), name, value, XattrFlags::empty()).unwrap();
    }
    let hole = File::create(root.join("hole")).unwrap();
    for n in 0..40u64 {
        hole.write_all_at(b"data", n * 200_000).unwrap();
    }
    hole.set_len(9_000_000).unwrap();
    let fifo = rustix::fs::Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        fifo,
        0,
    )
    .unwrap();
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: needs {program}");
    }
    found
}

#[test]
#[ignore = "needs root"]
fn gnu_tar_and_we_read_gnu_tars_archives_alike() {
    if !privileged() || !has("tar") {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    populate(source.path());
    for format in [
        &["--format=gnu", "--sparse"][..],
        &["--format=gnu"],
        &["--format=pax", "--xattrs", "--xattrs-include=*"],
        &[
            "--format=pax",
            "--xattrs",
            "--xattrs-include=*",
            "--sparse",
            "--sparse-version=1.0",
        ],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
    ] {
        let output = Command::new("tar")
            .args(format)
            .arg("-cC")
            .arg(source.path())
            .arg(".")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let oracle = tempfile::tempdir().unwrap();
        let file = oracle.path().join("archive");
        fs::write(&file, &output.stdout).unwrap();
        let theirs = oracle.path().join("tree");
        fs::create_dir(&theirs).unwrap();
        let options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"];
        let status = Command::new("tar")
            .args(options)
            .arg(&file)
            .arg("-C")
            .arg(&theirs)
            .status()
            .unwrap();
        assert!(status.success());
        let ours = Site::new();
        let unpacked = ours.unpack(&gzip(&output.stdout)).unwrap();
        assert_eq!(listing(&ours.root), listing(&theirs), "{format:?}");
        assert_eq!(unpacked.files, 8, "{format:?}");
        if format.contains(&"--sparse") {
            assert!(
                fs::metadata(ours.root.join("hole")).unwrap().blocks() * 512 < 1 << 20,
                "{format:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs root"]
fn pythons_archives_are_read_in_all_of_its_formats() {
    if !privileged() || !has("python3") {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    populate(source.path());
    // ustar can hold neither this owner nor such a long link.
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        let script = format!(
            "import sys, tarfile\n\
             t = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.{format})\n\
             t.add(sys.argv[1], arcname='.')\nt.close()"
        );
        let output = Command::new("python3")
            .arg("-c")
            .arg(script)
            .arg(source.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let ours = Site::new();
        ours.unpack(&output.stdout).unwrap();
        let strip = |tree: &Path| -> Vec<String> {
            // Python stores no attributes, and GNU format no fractions of seconds.
            let plain = |line: &String| line.split(" mtime").next().unwrap_or_default().to_owned();
            listing(tree).iter().map(plain).collect()
        };
        assert_eq!(strip(&ours.root), strip(source.path()), "{format}");
    }
}

#[test]
#[ignore = "needs root"]
fn zstd_the_program_and_several_gzip_members_are_understood() {
    if !privileged() || !has("zstd") {
        return;
    }
    let plain = crate::testing::Tar::new().file("f", &vec![b'z'; 2_000_000]).end();
    let mut child = Command::new("zstd")
        .args(["-19", "--long=27", "-c"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&plain).unwrap();
    drop(input);
    let packed = child.wait_with_output().unwrap().stdout;
    let site = Site::new();
    site.unpack(&packed).unwrap();
    assert_eq!(fs::metadata(site.root.join("f")).unwrap().len(), 2_000_000);
}
