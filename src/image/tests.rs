//! The store against a real registry.

pub(crate) mod builder;
mod damage;
mod directories;
mod export;
mod progress;
pub(crate) mod registry;
mod removal;
mod retained;
mod wait;

use pausa_layer::Usage;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::error::{ErrorKind, Kinded};
use crate::proto::v1;
use builder::{DOCKER, OCI, digest, image, layer_of, small, tar};
use registry::{Fault, Registry};

pub(crate) fn open(root: &Path) -> Images {
    Images::open(ImagesConfig {
        root: root.to_owned(),
        registry_config_dir: root.join("certs.d"),
        registries_conf: PathBuf::new(),
        max_parallel_downloads: 3,
        stall_timeout: Duration::from_secs(30),
        platform: Platform::host(),
        keep_failed: Duration::from_secs(3600),
        auth_file: Some(root.join("config.json")).filter(|file| file.exists()),
        pinned: vec!["*/pinned:*".to_owned()],
    })
    .unwrap()
}

fn spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    }
}

fn status(images: &Images, name: &str) -> Option<v1::Image> {
    images.status(&spec(name), false).unwrap().map(|(image, _)| image)
}

fn listing(root: &Path, dir: &str) -> Vec<String> {
    let names = files::names(&root.join("images").join(dir)).unwrap();
    names
        .into_iter()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// Removes an image and waits until its files are gone.
async fn remove(images: &Images, name: &str) {
    images.remove(name).await.unwrap();
    images.flush().await;
}

/// Asserts that the store has no data of any image.
pub(crate) fn assert_empty(root: &Path) {
    for dir in ["layers", "images", "configs", "manifests", "tops", "staging"] {
        assert_eq!(listing(root, dir), Vec::<String>::new(), "{dir}");
    }
}

#[tokio::test]
#[ignore = "needs root"]
async fn pulls_an_image_under_several_names_and_finds_it_by_each() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = image(
        OCI,
        &[tar(&[("a", "1")]), tar(&[("b", "2")])],
        &json!({"User": "1000:5", "Env": ["X=y"]}),
    );
    registry.push("team/app", "v1", &built);
    registry.push("team/app", "v2", &built);
    let (one, two) = (registry.name("team/app:v1"), registry.name("team/app:v2"));
    assert_eq!(images.pull(&one, None).await.unwrap(), built.id());
    let blobs = registry.count("/blobs/");
    assert_eq!(blobs, 3);
    assert_eq!(images.pull(&two, None).await.unwrap(), built.id());
    // Only the config is fetched again, since the layers are in the store.
    assert_eq!(registry.count("/blobs/"), blobs + 1);
    let by_digest = format!("{}@{}", registry.name("team/app"), digest(&built.manifest));
    let hex = built.id().split_off(7);
    for name in [
        &one,
        &two,
        &by_digest,
        &built.id(),
        &hex,
        &hex[..13].to_owned(),
        &format!("{two}@{}", digest(&built.manifest)),
    ] {
        let found = status(&images, name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.id, built.id());
        assert_eq!(found.repo_tags, [one.clone(), two.clone()]);
        assert_eq!(found.repo_digests, std::slice::from_ref(&by_digest));
        assert_eq!((found.uid.unwrap().value, found.username.as_str()), (1000, ""));
        assert!(found.size > 8192, "{}", found.size);
    }
    assert_eq!(images.list(None).len(), 1);
    assert_eq!(images.list(Some(&spec(&two))).len(), 1);
    assert_eq!(images.list(Some(&spec("other"))).len(), 0);
    assert!(status(&images, "UPPER").is_none());
    let (_, info) = images.status(&spec(&one), true).unwrap().unwrap();
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    assert_eq!(info["imageSpec"]["config"]["Env"][0], "X=y");
    assert!(info["chainID"].as_str().unwrap().starts_with("sha256:"));
    let used = images.fs_info(Usage::default()).image_filesystems[0]
        .used_bytes
        .unwrap()
        .value;
    assert!(used >= 8192, "{used}");
    remove(&images, &two).await;
    assert!(images.list(None).is_empty());
    assert_empty(dir.path());
    remove(&images, &two).await;
    assert_eq!(
        images.fs_info(Usage::default()).image_filesystems[0]
            .used_bytes
            .unwrap()
            .value,
        0
    );
}

#[tokio::test]
#[ignore = "needs root"]
async fn whiteouts_hide_across_layers_of_docker_images() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = image(
        DOCKER,
        &[
            tar(&[("keep", "low"), ("gone", "low"), ("dir/", ""), ("dir/old", "low")]),
            tar(&[
                (".wh.gone", ""),
                ("dir/", ""),
                ("dir/.wh..wh..opq", ""),
                ("dir/new", "high"),
            ]),
        ],
        &json!({}),
    );
    registry.push("app", "latest", &built);
    // The default tag is latest.
    images.pull(&registry.name("app"), None).await.unwrap();
    let lease = images.lease(&registry.name("app:latest")).unwrap();
    assert_eq!(lease.layers().len(), 2);
    let scratch = tempfile::tempdir_in(dir.path()).unwrap();
    let (upper, work) = (scratch.path().join("upper"), scratch.path().join("work"));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    for mount in [
        super::overlay::mount(&lease.layers(), &upper, &work, None, None).unwrap(),
        lease.mount_readonly(None, None).unwrap(),
    ] {
        assert_eq!(read_in(&mount, "keep").unwrap(), "low");
        assert_eq!(read_in(&mount, "dir/new").unwrap(), "high");
        for path in ["gone", "dir/old"] {
            assert_eq!(
                read_in(&mount, path).unwrap_err().kind(),
                std::io::ErrorKind::NotFound,
                "{path}"
            );
        }
    }
}

fn read_in(root: &std::os::fd::OwnedFd, path: &str) -> std::io::Result<String> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    let file = openat2(
        root,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    )?;
    std::io::read_to_string(std::fs::File::from(file))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn concurrent_pulls_share_one_transfer_and_outlive_their_callers() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let shared = tar(&[("shared", "x")]);
    let one = image(OCI, &[shared.clone(), tar(&[("one", "1")])], &json!({}));
    let two = image(OCI, &[shared.clone(), tar(&[("two", "2")])], &json!({}));
    registry.push("app", "one", &one);
    registry.push("app", "two", &two);
    registry.hold(true);
    let start = |name: String| wait::begin(&images, name);
    let gone = start(registry.name("app:one"));
    let same = start(registry.name("app:one"));
    let other = start(registry.name("app:two"));
    tokio::task::block_in_place(|| registry.wait_for(&digest(&one.config)));
    gone.abort();
    registry.hold(false);
    assert_eq!(same.await.unwrap().unwrap(), one.id());
    assert_eq!(other.await.unwrap().unwrap(), two.id());
    assert_eq!(registry.count(&digest(&one.layers[0])), 1);
    assert_eq!(registry.count(&digest(&one.layers[1])), 1);
    assert_eq!(registry.count("manifests/one"), 1);
    assert_eq!(listing(dir.path(), "layers").len(), 3);
    // The shared layer stays until its last image is removed.
    remove(&images, &one.id()).await;
    assert_eq!(listing(dir.path(), "layers").len(), 2);
    remove(&images, &two.id()).await;
    assert_empty(dir.path());
}

/// Images declare their layers themselves: one whose registry never sends a layer must not keep it from everybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn nobody_waits_for_a_registry_that_was_not_asked_for() {
    let (Some(slow), Some(own)) = (Registry::start(), Registry::start()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let shared = tar(&[("shared", "x")]);
    let one = image(OCI, &[shared.clone(), tar(&[("one", "1")])], &json!({}));
    let two = image(OCI, &[shared, tar(&[("two", "2")])], &json!({}));
    slow.push("app", "one", &one);
    own.push("app", "two", &two);
    let layer = digest(&one.layers[0]);
    slow.fail(&layer, Fault::Stall(10));
    let first = wait::begin(&images, slow.name("app:one"));
    wait::until("the layer is asked for", || slow.count(&layer) == 1).await;
    let name = own.name("app:two");
    let second = tokio::time::timeout(Duration::from_secs(20), images.pull(&name, None));
    assert_eq!(second.await.expect("waits for the other").unwrap(), two.id());
    assert!(images.verify(&name).await.unwrap().is_whole());
    // The first one gets its own bytes at last, and takes the layer that is there.
    slow.heal();
    assert_eq!(first.await.unwrap().unwrap(), one.id());
    assert_eq!(listing(dir.path(), "layers").len(), 3);
    remove(&images, &one.id()).await;
    remove(&images, &two.id()).await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_pull_continues_without_its_caller() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = small("x");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    // It is polled once, so that it starts, and then dropped.
    let pull = images.pull(&name, None);
    tokio::select! { biased; _ = pull => panic!("the pull cannot be done yet"), () = std::future::ready(()) => {} }
    wait::until("the image is pulled", || status(&images, &name).is_some()).await;
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_lease_keeps_a_removed_image_even_across_a_restart() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let built = small("kept");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    {
        let images = open(dir.path());
        images.pull(&name, None).await.unwrap();
        let lease = images.lease(&name).unwrap();
        assert_eq!((lease.id(), lease.name()), (built.id(), name.as_str()));
        assert!(lease.reference().contains("@sha256:"));
        remove(&images, &name).await;
        assert!(images.list(None).is_empty());
        assert_eq!(images.lease(&name).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(lease.layers()[0].join("file").exists());
        // A killed daemon drops no lease.
        std::mem::forget(lease);
    }
    let images = open(dir.path());
    assert!(images.list(None).is_empty());
    let lease = images.lease(&built.id()).unwrap();
    images.leases_restored();
    images.flush().await;
    assert!(lease.layers()[0].join("file").exists());
    // If it is pulled again while the lease lasts, its layers are used.
    images.pull(&name, None).await.unwrap();
    assert_eq!(registry.count(&digest(&built.layers[0])), 1);
    remove(&images, &name).await;
    assert_eq!(listing(dir.path(), "layers").len(), 1);
    drop(lease);
    images.flush().await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_removed_image_without_a_lease_after_a_restart_is_freed() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let built = small("kept");
    registry.push("app", "v1", &built);
    {
        let images = open(dir.path());
        let id = images.pull(&registry.name("app:v1"), None).await.unwrap();
        let lease = images.lease(&id).unwrap();
        remove(&images, &id).await;
        // A daemon closes the store before it drops the leases.
        images.close();
        drop(lease);
        images.flush().await;
    }
    let images = open(dir.path());
    assert_eq!(listing(dir.path(), "layers").len(), 1);
    images.leases_restored();
    images.flush().await;
    assert_empty(dir.path());
}

/// Nor does it sync anything: every write of the store goes to a new file.
#[tokio::test]
#[ignore = "needs root"]
async fn a_restart_without_pulls_writes_nothing() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    registry.push("app", "v1", &small("app"));
    let files = || {
        ["mark.json", "names.json"].map(|name| {
            use std::os::unix::fs::MetadataExt as _;
            let stat = std::fs::metadata(dir.path().join("images").join(name)).unwrap();
            (stat.ino(), stat.mtime(), stat.mtime_nsec())
        })
    };
    let images = open(dir.path());
    images.pull(&registry.name("app:v1"), None).await.unwrap();
    images.close();
    drop(images);
    let before = files();
    for _ in 0..2 {
        open(dir.path()).close();
    }
    assert_eq!(files(), before);
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_moved_tag_leaves_the_old_image_its_digest() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let name = registry.name("app:v1");
    let (old, new) = (small("old"), small("new"));
    {
        let images = open(dir.path());
        registry.push("app", "v1", &old);
        images.pull(&name, None).await.unwrap();
        registry.push("app", "v1", &new);
        assert_eq!(images.pull(&name, None).await.unwrap(), new.id());
    }
    // The records say the same.
    let images = open(dir.path());
    assert_eq!(status(&images, &name).unwrap().id, new.id());
    let old = status(&images, &old.id()).unwrap();
    assert_eq!((old.repo_tags.len(), old.repo_digests.len()), (0, 1));
    assert_eq!(images.list(None).len(), 2);
}

#[tokio::test]
#[ignore = "needs root"]
async fn remains_of_a_killed_daemon_are_removed_and_damage_is_left_out() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (good, bad, lost) = (small("good"), small("bad"), small("lost"));
    for (tag, built) in [("good", &good), ("bad", &bad), ("lost", &lost)] {
        registry.push("app", tag, built);
        open(dir.path())
            .pull(&registry.name(&format!("app:{tag}")), None)
            .await
            .unwrap();
    }
    let base = dir.path().join("images");
    // An unfinished layer, a layer without a record, an unfinished record.
    std::fs::create_dir_all(base.join("staging/layer-7/fs/deep")).unwrap();
    std::fs::create_dir_all(base.join("layers").join("ab".repeat(32)).join("fs")).unwrap();
    std::fs::write(base.join("images/.new-3"), "{").unwrap();
    // A damaged record is restored from its copy. An image that lacks a layer is absent until it is repaired.
    std::fs::write(base.join("images").join(format!("{}.json", &bad.id()[7..])), "{").unwrap();
    let layer = Layout::new(dir.path()).layer(&layer_of(&lost));
    std::fs::remove_dir_all(layer).unwrap();
    let images = open(dir.path());
    images.flush().await;
    assert_eq!(listing(dir.path(), "staging"), Vec::<String>::new());
    assert_eq!(listing(dir.path(), "layers").len(), 2);
    assert!(status(&images, &registry.name("app:good")).is_some());
    assert_eq!(
        status(&images, &bad.id()).unwrap().repo_tags,
        [registry.name("app:bad")]
    );
    assert!(status(&images, &lost.id()).is_none());
    assert_eq!(images.incomplete().len(), 1);
    // It can be pulled again.
    let name = registry.name("app:lost");
    images.pull(&name, None).await.unwrap();
    assert!(images.lease(&name).unwrap().layers()[0].join("file").exists());
}

#[tokio::test]
#[ignore = "needs root"]
async fn wrong_data_leaves_only_an_error() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    // A blob that matches the manifest, but not the config.
    let mut built = image(OCI, &[tar(&[("a", "1")]), tar(&[("b", "2")])], &json!({}));
    let text = String::from_utf8(built.config.clone()).unwrap();
    built.config = text.replace(&layer_of(&built), &"0".repeat(64)).into_bytes();
    let mut manifest: serde_json::Value = serde_json::from_slice(&built.manifest).unwrap();
    manifest["config"]["digest"] = json!(built.id());
    manifest["config"]["size"] = json!(built.config.len());
    built.manifest = manifest.to_string().into_bytes();
    registry.push("app", "diff", &built);
    let error = images.pull(&registry.name("app:diff"), None).await.unwrap_err();
    assert!(
        error.to_string().contains("where the image config says"),
        "{error}"
    );
    assert_empty(dir.path());
    // A layer that is not an archive.
    manifest["layers"][0]["digest"] = json!(digest(&built.config));
    manifest["layers"][0]["size"] = json!(built.config.len());
    built.manifest = manifest.to_string().into_bytes();
    registry.push("app", "odd", &built);
    let error = images.pull(&registry.name("app:odd"), None).await.unwrap_err();
    assert!(
        crate::error::chain(&error).contains("cannot unpack layer"),
        "{}",
        crate::error::chain(&error)
    );
    assert_empty(dir.path());
    // An artifact.
    manifest["config"]["mediaType"] = json!("application/vnd.example.thing+json");
    built.manifest = manifest.to_string().into_bytes();
    registry.push("app", "thing", &built);
    let error = images.pull(&registry.name("app:thing"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    let error = images
        .pull(&registry.name("app:nowhere"), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        images.pull("UPPER/x", None).await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert_empty(dir.path());
}
