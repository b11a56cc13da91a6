//! A failed pull leaves only what its retry can use, and only for a limited time.

use super::builder::{OCI, digest, image, small, tar};
use super::registry::Fault;
use super::wait::{begin, until};
use super::*;
use crate::error::Kinded;

/// A file system that only this thread and those it starts see. Nothing is retained on a disk that is nearly full, which
/// the machine's may be.
pub(super) struct Disk(tempfile::TempDir);

impl Disk {
    pub(super) fn mount(options: &str) -> Self {
        use nix::mount::{MsFlags, mount};
        let dir = tempfile::tempdir().unwrap();
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        mount(none, "/", none, flags, none).unwrap();
        let tmpfs = Some("tmpfs");
        mount(tmpfs, dir.path(), tmpfs, MsFlags::empty(), Some(options)).unwrap();
        Self(dir)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

/// Large enough for its ingest to be retained, even when compressed.
pub(super) fn large(seed: u64) -> String {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        char::from(letters[usize::try_from(state >> 58).unwrap()])
    };
    (0..4 << 20).map(|_| next()).collect()
}

/// Bytes of the large layer before the connection ends.
const PART: u64 = 2 << 20;

/// A small layer, a large one, a small one.
fn built(name: &str) -> builder::Built {
    let tars = [
        tar(&[("one", name)]),
        tar(&[("large", &large(7))]),
        tar(&[("three", name)]),
    ];
    image(OCI, &tars, &json!({"User": name}))
}

fn counts(registry: &Registry, built: &builder::Built) -> Vec<usize> {
    let blobs = built.layers.iter();
    blobs.map(|blob| registry.count(&digest(blob))).collect()
}

#[tokio::test]
#[ignore = "needs root"]
async fn complete_layers_are_retained_and_a_retry_fetches_only_the_others() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let images = open(dir.path());
    let built = built("a");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    registry.hold_part(&digest(&built.layers[2]));
    registry.fail(&digest(&built.layers[2]), Fault::Unavailable);
    let pull = begin(&images, name.clone());
    until("the first two are there", || {
        let pulls = images.pulls();
        let layers = pulls.first().map(|pull| pull.layers.clone()).unwrap_or_default();
        layers.len() == 3 && layers[..2].iter().all(|layer| layer.state == LayerState::Done)
    })
    .await;
    registry.release();
    let error = pull.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let tries = registry.count(&digest(&built.layers[2]));
    assert!(tries > 1);
    assert_eq!(counts(&registry, &built), [1, 1, tries]);
    // There is no image, but two layers.
    assert!(images.list(None).is_empty());
    assert_eq!(listing(dir.path(), "images"), Vec::<String>::new());
    assert_eq!(listing(dir.path(), "staging"), Vec::<String>::new());
    let kept = images.retained_layers();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|part| part.complete && part.bytes > 0));
    registry.heal();
    images.pull(&name, None).await.unwrap();
    assert_eq!(counts(&registry, &built), [1, 1, tries + 1]);
    assert!(images.retained_layers().is_empty());
    assert!(images.verify(&name).await.unwrap().is_whole());
    remove(&images, &name).await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn an_interrupted_layer_is_resumed_where_it_stopped() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let images = open(dir.path());
    let built = built("a");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    let large = digest(&built.layers[1]);
    registry.fail(&large, Fault::Cut(PART));
    images.pull(&name, None).await.unwrap_err();
    let kept = images.retained_layers();
    let part = kept.iter().find(|part| !part.complete).unwrap();
    assert!(part.bytes > PART - 4096 && part.bytes < PART, "{part:?}");
    assert_eq!(part.bytes_total, built.layers[1].len() as u64);
    // Further failures lose nothing.
    images.pull(&name, None).await.unwrap_err();
    let still = images.retained_layers();
    assert!(
        still
            .iter()
            .any(|other| (other.complete, other.bytes) == (false, part.bytes)),
        "{still:?}"
    );
    registry.heal();
    images.pull(&name, None).await.unwrap();
    let asked = registry.last(&large);
    assert!(asked.contains(&format!("bytes={}-", part.bytes)), "{asked}");
    assert!(images.verify(&name).await.unwrap().is_whole());
    remove(&images, &name).await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn an_unfinished_layer_is_retained_when_another_one_fails() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let images = open(dir.path());
    let (one, two) = (built("one"), built("two"));
    registry.push("app", "one", &one);
    registry.push("app", "two", &two);
    let large = digest(&one.layers[1]);
    registry.fail(&large, Fault::Stall(PART));
    let start = |name: &str| begin(&images, registry.name(name));
    registry.hold_part(&digest(&one.layers[2]));
    registry.fail(&digest(&one.layers[2]), Fault::Refuse);
    let failing = start("app:one");
    until("the large layer is being received", || {
        let pulls = images.pulls();
        let layer = pulls.first().and_then(|pull| pull.layers.get(1).cloned());
        layer.is_some_and(|layer| layer.bytes_done > PART - 4096)
    })
    .await;
    // Another pull waits for the same layer.
    let joined = start("app:two");
    until("it is joined", || {
        let pulls = images.pulls();
        let layer = pulls.get(1).and_then(|pull| pull.layers.get(1).cloned());
        layer.is_some_and(|layer| layer.state == LayerState::Joined)
    })
    .await;
    // Unfinished layers are measured.
    let way = images.staging_usage().await;
    assert!(way.bytes > 1 << 20 && way.inodes >= 3, "{way:?}");
    registry.release();
    failing.await.unwrap().unwrap_err();
    // The other pull continues it. Its request stalls as well, and is resumed.
    until("the other pull continues it", || registry.count(&large) == 2).await;
    registry.heal();
    assert_eq!(joined.await.unwrap().unwrap(), two.id());
    assert!(
        registry.last(&large).contains("bytes="),
        "{}",
        registry.last(&large)
    );
    assert!(images.verify(&two.id()).await.unwrap().is_whole());
    remove(&images, &two.id()).await;
    assert_empty(dir.path());
    assert_eq!(images.staging_usage().await, Usage::default());
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_resumed_layer_that_is_damaged_is_fetched_from_its_first_byte() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let images = open(dir.path());
    let built = built("a");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    let large = digest(&built.layers[1]);
    registry.fail(&large, Fault::Spoil(PART));
    images.pull(&name, None).await.unwrap_err();
    registry.heal();
    images.pull(&name, None).await.unwrap();
    assert!(
        !registry.last(&large).contains("bytes="),
        "{}",
        registry.last(&large)
    );
    assert!(images.verify(&name).await.unwrap().is_whole());
}

/// Fails a pull, so that two layers and an ingest are retained.
async fn fail(registry: &Registry, images: &Images) -> (String, builder::Built) {
    let built = built("a");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    registry.hold_part(&digest(&built.layers[1]));
    registry.fail(&digest(&built.layers[1]), Fault::Cut(PART));
    let pull = begin(images, name.clone());
    until("the small ones are there", || {
        let pulls = images.pulls();
        let layers = pulls.first().map(|pull| pull.layers.clone()).unwrap_or_default();
        let done = layers.iter().filter(|layer| layer.state == LayerState::Done);
        done.count() == 2
    })
    .await;
    registry.release();
    pull.await.unwrap().unwrap_err();
    assert_eq!(images.retained_layers().len(), 3);
    (name, built)
}

#[tokio::test]
#[ignore = "needs root"]
async fn retained_data_expires() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let images = open(dir.path());
    fail(&registry, &images).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3500)).await;
    assert_eq!(images.retained_layers().len(), 3);
    tokio::time::advance(Duration::from_secs(200)).await;
    until("it has expired", || images.retained_layers().is_empty()).await;
    tokio::time::resume();
    until("it is gone", || listing(dir.path(), "staging").is_empty()).await;
    images.flush().await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn removing_an_image_frees_the_space_of_retained_data() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let images = open(dir.path());
    let other = small("other");
    registry.push("other", "v1", &other);
    images.pull(&registry.name("other:v1"), None).await.unwrap();
    fail(&registry, &images).await;
    remove(&images, &other.id()).await;
    until("the ingest is gone", || listing(dir.path(), "staging").is_empty()).await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn retained_layers_survive_the_daemon_but_not_a_power_cut() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=256m");
    let (name, built) = fail(&registry, &open(dir.path())).await;
    {
        let images = open(dir.path());
        assert_eq!(images.retained_layers().len(), 2);
        images.flush().await;
        registry.heal();
        images.pull(&name, None).await.unwrap();
        assert_eq!(registry.count(&digest(&built.layers[0])), 1);
        assert_eq!(registry.count(&digest(&built.layers[2])), 1);
        assert!(images.verify(&name).await.unwrap().is_whole());
        remove(&images, &name).await;
        assert_empty(dir.path());
        fail(&registry, &images).await;
    }
    damage::reboot(dir.path());
    let images = open(dir.path());
    assert!(images.retained_layers().is_empty());
    images.flush().await;
    assert_empty(dir.path());
    // A clean shutdown makes everything durable.
    registry.heal();
    fail(&registry, &images).await;
    images.close();
    drop(images);
    damage::reboot(dir.path());
    let images = open(dir.path());
    assert_eq!(images.retained_layers().len(), 2);
    remove(&images, "whatever").await;
    images.flush().await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_pull_that_fills_the_disk_gets_the_space_of_retained_data() {
    let Some(registry) = Registry::start() else { return };
    let dir = Disk::mount("size=22m");
    let images = open(dir.path());
    fail(&registry, &images).await;
    // It fits only without the retained data.
    let big = image(OCI, &[tar(&[("big", &large(3).repeat(5))])], &json!({}));
    registry.push("big", "v1", &big);
    images.pull(&registry.name("big:v1"), None).await.unwrap();
    assert!(images.retained_layers().is_empty());
    // An image that does not fit at all gives an error and leaves nothing.
    let tars = [
        tar(&[("a", &large(4).repeat(3))]),
        tar(&[("b", &large(5).repeat(5))]),
    ];
    let bigger = image(OCI, &tars, &json!({}));
    registry.push("bigger", "v1", &bigger);
    let error = images.pull(&registry.name("bigger:v1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    assert!(images.retained_layers().is_empty());
    remove(&images, &big.id()).await;
    assert_empty(dir.path());
}
