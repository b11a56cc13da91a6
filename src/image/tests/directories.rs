//! Implied directories keep the attributes that lower layers give them.

use std::os::fd::OwnedFd;

use super::builder::{OCI, image, tar};
use super::*;

/// An archive with one directory.
fn directory(path: &str, mode: u32, uid: u64) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(::tar::EntryType::Directory);
    header.set_mode(mode);
    header.set_uid(uid);
    header.set_gid(0);
    header.set_size(0);
    builder.append_data(&mut header, path, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

fn stat(mount: &OwnedFd, path: &str) -> (u32, u32) {
    let stat = rustix::fs::statat(mount, path, rustix::fs::AtFlags::empty()).unwrap();
    (stat.st_mode & 0o7777, stat.st_uid)
}

fn mounts(images: &Images, name: &str, dir: &Path) -> Vec<OwnedFd> {
    let lease = images.lease(name).unwrap();
    let scratch = tempfile::tempdir_in(dir).unwrap().keep();
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    vec![
        crate::image::overlay::mount(&lease.layers(), &upper, &work, None, None).unwrap(),
        lease.mount_readonly(None, None).unwrap(),
    ]
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_file_in_tmp_does_not_take_the_sticky_bit_away() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let implying = tar(&[("tmp/file", "x"), ("usr/bin/tool", "y")]);
    let sticky = image(OCI, &[directory("tmp", 0o1777, 3), implying.clone()], &json!({}));
    // The same layer above another base, and alone.
    let closed = image(OCI, &[directory("tmp", 0o700, 4), implying.clone()], &json!({}));
    let alone = image(OCI, &[implying], &json!({}));
    let hidden = image(
        OCI,
        &[
            directory("tmp", 0o1777, 3),
            tar(&[(".wh.tmp", "")]),
            tar(&[("tmp/new", "z")]),
        ],
        &json!({}),
    );
    for (tag, built) in [
        ("sticky", &sticky),
        ("closed", &closed),
        ("alone", &alone),
        ("hidden", &hidden),
    ] {
        registry.push("app", tag, built);
        images
            .pull(&registry.name(&format!("app:{tag}")), None)
            .await
            .unwrap();
    }
    let expect = |images: &Images, tag: &str, expected: (u32, u32)| {
        for mount in mounts(images, &registry.name(&format!("app:{tag}")), dir.path()) {
            assert_eq!(stat(&mount, "tmp"), expected, "{tag}");
        }
    };
    let all = |images: &Images| {
        expect(images, "sticky", (0o1777, 3));
        expect(images, "closed", (0o700, 4));
        expect(images, "alone", (0o755, 0));
        expect(images, "hidden", (0o755, 0));
    };
    all(&images);
    assert_eq!(listing(dir.path(), "tops").len(), 2);
    drop(images);
    // The same after a restart, and if they are lost.
    all(&open(dir.path()));
    std::fs::remove_dir_all(dir.path().join("images/tops")).unwrap();
    let images = open(dir.path());
    all(&images);
    for built in [&sticky, &closed, &alone, &hidden] {
        remove(&images, &built.id()).await;
    }
    assert_empty(dir.path());
    assert_eq!(used(&images), (0, 0));
}

fn used(images: &Images) -> (u64, u64) {
    let info = images.fs_info(Usage::default());
    let usage = &info.image_filesystems[0];
    (usage.used_bytes.unwrap().value, usage.inodes_used.unwrap().value)
}

/// kubelet adds up the sizes of what it removes until enough is free.
#[tokio::test]
#[ignore = "needs root"]
async fn the_size_of_an_image_is_what_its_removal_frees() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let base = tar(&[("base", &"b".repeat(300_000))]);
    let one = image(OCI, &[base.clone(), tar(&[("one", "1")])], &json!({}));
    let two = image(
        OCI,
        &[base.clone(), tar(&[("two", "2")]), tar(&[("two", "2")])],
        &json!({}),
    );
    for (tag, built) in [("one", &one), ("two", &two)] {
        registry.push("app", tag, built);
    }
    let (one_name, two_name) = (registry.name("app:one"), registry.name("app:two"));
    images.pull(&one_name, None).await.unwrap();
    let size = |name: &str| status(&images, name).unwrap().size;
    let alone = size(&one_name);
    assert!(alone > 300_000, "{alone}");
    images.pull(&two_name, None).await.unwrap();
    assert!(size(&one_name) < 100_000 && size(&two_name) < 100_000);
    let (_, info) = images.status(&spec(&one_name), true).unwrap().unwrap();
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    let sizes = &info["sizes"];
    assert_eq!(sizes["total"].as_u64().unwrap(), alone);
    assert_eq!(sizes["freed"].as_u64().unwrap(), size(&one_name));
    assert!(sizes["shared"].as_u64().unwrap() > 300_000);
    // The size is what is freed, except for the config, which ImageFsInfo does not count.
    for (name, other) in [(&one_name, Some(&two_name)), (&two_name, None)] {
        let before = used(&images).0;
        let promised = size(name);
        let config = i64::try_from(promised).unwrap();
        remove(&images, name).await;
        let freed = i64::try_from(before - used(&images).0).unwrap();
        assert!((config - freed).abs() < 4096, "{promised} {freed}");
        if let Some(other) = other {
            assert!(size(other) > 300_000);
        }
    }
    assert_eq!(used(&images), (0, 0));
}

/// Bytes (except for rounding) and inodes are those on disk.
#[tokio::test]
#[ignore = "needs root"]
async fn image_fs_info_counts_what_is_on_disk() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let names: Vec<String> = (0..50).map(|at| format!("some/where/{at}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "content")).collect();
    let built = image(OCI, &[directory("some", 0o1777, 0), tar(&files)], &json!({}));
    registry.push("app", "v1", &built);
    images.pull(&registry.name("app:v1"), None).await.unwrap();
    images.flush().await;
    let mut there = Usage::default();
    for part in ["layers", "tops"] {
        let opened = files::open_dir(&dir.path().join("images").join(part)).unwrap();
        pausa_layer::sync_tree(std::os::fd::AsFd::as_fd(&opened)).unwrap();
        let usage = pausa_layer::usage(std::os::fd::AsFd::as_fd(&opened)).unwrap();
        there.bytes += usage.bytes;
        // The directory itself does not count.
        there.inodes += usage.inodes - 1;
    }
    let (bytes, inodes) = used(&images);
    assert_eq!(inodes, there.inodes);
    assert!(bytes.abs_diff(there.bytes) < 64 << 10, "{bytes} {there:?}");
}
