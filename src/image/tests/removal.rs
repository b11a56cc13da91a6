//! Removals, whose files may still be there after the answer: what counts as used, pulls, restarts.

use super::retained::{Disk, large};
use super::wait::{begin, until};
use super::*;

/// Keeps the files of removed layers on disk as long as it exists.
struct Hold(PathBuf);

impl Hold {
    fn begin(root: &Path) -> Self {
        let file = root.join("images/hold-removals");
        std::fs::write(&file, "").unwrap();
        Self(file)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// As ImageFsInfo says: bytes and inodes.
async fn used(images: &Images) -> (u64, u64) {
    let usage = images.fs_info(images.staging_usage().await).image_filesystems;
    let [bytes, inodes] = [&usage[0].used_bytes, &usage[0].inodes_used];
    (bytes.unwrap().value, inodes.unwrap().value)
}

/// Layers that are out of the way.
fn removed(root: &Path) -> usize {
    let staging = listing(root, "staging").into_iter();
    staging.filter(|name| name.starts_with("trash")).count()
}

fn three_layers() -> builder::Built {
    let tars: Vec<Vec<u8>> = (0..3)
        .map(|at| tar(&[(&format!("file-{at}"), &"x".repeat(8192))]))
        .collect();
    image(OCI, &tars, &json!({}))
}

#[tokio::test]
#[ignore = "needs root"]
async fn with_space_enough_the_answer_comes_before_the_files_are_gone() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let images = open(dir.path());
    let built = three_layers();
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    images.pull(&name, None).await.unwrap();
    let once = used(&images).await;
    let hold = Hold::begin(dir.path());
    images.remove(&name).await.unwrap();
    assert!(status(&images, &name).is_none());
    // All layers are out of the way, not only those that are being unlinked, and all of them count.
    until("they are out of the way", || removed(dir.path()) == 3).await;
    assert_eq!(used(&images).await, once);
    assert_eq!(images.states().bytes_dying, images.states().bytes);
    // A pull waits for nothing, and takes nothing of the old files.
    images.pull(&name, None).await.unwrap();
    assert_eq!(registry.count(&digest(&built.layers[0])), 2);
    assert_eq!(used(&images).await, (2 * once.0, 2 * once.1));
    drop(hold);
    images.flush().await;
    assert_eq!(used(&images).await, once);
    assert_eq!(images.states().bytes_dying, 0);
    assert_eq!(listing(dir.path(), "staging"), Vec::<String>::new());
    assert!(images.verify(&name).await.unwrap().is_whole());
    remove(&images, &name).await;
    assert_empty(dir.path());
}

/// kubelet evicts pods if the space is not free when the last image is removed.
#[tokio::test]
#[ignore = "needs root"]
async fn with_little_space_the_answer_comes_when_it_is_free() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=16m");
    let images = open(dir.path());
    let built = three_layers();
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    images.pull(&name, None).await.unwrap();
    std::fs::write(dir.path().join("ballast"), large(1).repeat(3)).unwrap();
    let hold = Hold::begin(dir.path());
    let removing = {
        let (images, name) = (images.clone(), name.clone());
        tokio::spawn(async move { images.remove(&name).await })
    };
    // So does one that has nothing to remove: others may be under way.
    let nothing = {
        let images = images.clone();
        tokio::spawn(async move { images.remove("nothing").await })
    };
    until("the files are out of the way", || removed(dir.path()) == 3).await;
    tokio::time::sleep(5 * REMOVAL_WAIT).await;
    assert!(!removing.is_finished() && !nothing.is_finished());
    drop(hold);
    removing.await.unwrap().unwrap();
    assert_eq!(used(&images).await, (0, 0));
    assert_empty(dir.path());
    nothing.await.unwrap().unwrap();
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_pull_that_fills_the_disk_waits_for_removals() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=22m");
    let images = open(dir.path());
    let [old, new] = [1, 2].map(|seed| image(OCI, &[tar(&[("big", &large(seed).repeat(3))])], &json!({})));
    registry.push("app", "old", &old);
    registry.push("app", "new", &new);
    images.pull(&registry.name("app:old"), None).await.unwrap();
    let hold = Hold::begin(dir.path());
    images.remove(&old.id()).await.unwrap();
    until("it does not wait any more", || {
        !images.inner.layers.gc().is_awaited()
    })
    .await;
    let pull = begin(&images, registry.name("app:new"));
    until("the pull waits", || images.inner.layers.gc().is_awaited()).await;
    drop(hold);
    assert_eq!(pull.await.unwrap().unwrap(), new.id());
    assert!(images.verify(&new.id()).await.unwrap().is_whole());
}

#[tokio::test]
#[ignore = "needs root"]
async fn files_that_a_daemon_has_left_count_and_are_removed_by_the_next_one() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let built = three_layers();
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    let images = open(dir.path());
    images.pull(&name, None).await.unwrap();
    let once = used(&images).await;
    let hold = Hold::begin(dir.path());
    images.remove(&name).await.unwrap();
    until("the files are out of the way", || removed(dir.path()) == 3).await;
    // It is killed.
    std::mem::forget(images);
    let images = open(dir.path());
    assert!(images.list(None).is_empty());
    let left = used(&images).await;
    assert_eq!(left.1, once.1, "{left:?} {once:?}");
    images.pull(&name, None).await.unwrap();
    assert!(images.verify(&name).await.unwrap().is_whole());
    assert_eq!(used(&images).await.1, 2 * once.1);
    drop(hold);
    images.flush().await;
    until("nothing is left", || listing(dir.path(), "staging").is_empty()).await;
    assert_eq!(used(&images).await, once);
    remove(&images, &name).await;
    assert_empty(dir.path());
}

/// Here because of a mount in the layer. It counts as used, and is removed when that is possible, at the next start.
#[tokio::test]
#[ignore = "needs root"]
async fn what_cannot_be_removed_counts_as_used() {
    use nix::mount::{MsFlags, mount, umount};
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let built = image(OCI, &[tar(&[("in/", ""), ("in/file", "content")])], &json!({}));
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    {
        let images = open(dir.path());
        images.pull(&name, None).await.unwrap();
        let inside = Layout::new(dir.path()).layer_fs(&layer_of(&built)).join("in");
        let tmpfs = Some("tmpfs");
        mount(tmpfs, &inside, tmpfs, MsFlags::empty(), None::<&str>).unwrap();
        let once = used(&images).await;
        remove(&images, &name).await;
        assert!(status(&images, &name).is_none());
        assert_eq!(used(&images).await, once);
        // The others do not wait for it.
        images.pull(&name, None).await.unwrap();
        remove(&images, &name).await;
        assert_eq!(used(&images).await, once);
    }
    let [left] = &listing(dir.path(), "staging")[..] else {
        panic!("one tree is left")
    };
    umount(&dir.path().join("images/staging").join(left).join("fs/in")).unwrap();
    let images = open(dir.path());
    images.flush().await;
    assert_empty(dir.path());
    assert_eq!(used(&images).await, (0, 0));
}
