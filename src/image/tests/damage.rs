//! Damage of all kinds is found and reported, and repaired by fetching only what is missing.

use super::builder::{OCI, digest, image, tar};
use super::wait::until;
use super::*;
use crate::error::Kinded;

/// Three layers, one file each.
fn built(name: &str) -> builder::Built {
    let tars = ["one", "two", "three"].map(|part| tar(&[(part, &format!("{name} {part}"))]));
    image(OCI, &tars, &json!({"User": name}))
}

fn layer(root: &Path, built: &builder::Built, at: usize) -> PathBuf {
    let config: serde_json::Value = serde_json::from_slice(&built.config).unwrap();
    let diff_id = config["rootfs"]["diff_ids"][at].as_str().unwrap();
    Layout::new(root).layer(&diff_id[7..])
}

/// Changes a byte of a file, but nothing that stat(2) shows.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let time = path.metadata().unwrap().modified().unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

/// Makes the store look as if the machine had restarted.
pub(super) fn reboot(root: &Path) {
    let path = root.join("images/mark.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut mark: serde_json::Value = serde_json::from_str(&text).unwrap();
    mark["boot"] = json!("the boot before");
    std::fs::write(path, mark.to_string()).unwrap();
}

#[tokio::test]
#[ignore = "needs root"]
async fn verification_names_the_damage_and_repair_fetches_only_that_layer() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = built("a");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    images.pull(&name, None).await.unwrap();
    let report = images.verify(&name).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.layers.len(), report.documents.len()), (3, 2));
    assert!(
        report
            .layers
            .iter()
            .all(|layer| layer.method == VerifyMethod::Exact)
    );
    damage(&layer(dir.path(), &built, 1).join("fs/two"));
    let lease = images.lease(&name).unwrap();
    let report = images.verify(&name).await.unwrap();
    assert!(!report.is_whole());
    let damaged: Vec<bool> = report.layers.iter().map(|layer| layer.damage.is_some()).collect();
    assert_eq!(damaged, [false, true, false]);
    // Not while the layer is in use.
    let error = images.repair(&name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(status(&images, &name).is_some());
    drop(lease);
    assert!(!images.repair(&name).await.unwrap().is_whole());
    assert!(status(&images, &name).is_none());
    let incomplete = images.incomplete();
    assert_eq!(incomplete.len(), 1);
    assert_eq!(incomplete[0].names[0], name);
    assert_eq!(incomplete[0].missing, [report.layers[1].diff_id.clone()]);
    let counts = || {
        built
            .layers
            .iter()
            .map(|blob| registry.count(&digest(blob)))
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(), [1, 1, 1]);
    images.pull(&name, None).await.unwrap();
    assert_eq!(counts(), [1, 2, 1]);
    assert!(images.incomplete().is_empty());
    assert!(images.verify(&name).await.unwrap().is_whole());
    remove(&images, &name).await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn after_a_power_cut_new_layers_are_verified_and_only_the_damaged_one_is_fetched_again() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (old, whole, bad) = (built("old"), built("whole"), built("bad"));
    for (tag, built) in [("old", &old), ("whole", &whole), ("bad", &bad)] {
        registry.push("app", tag, built);
    }
    let name = |tag: &str| registry.name(&format!("app:{tag}"));
    {
        let images = open(dir.path());
        images.pull(&name("old"), None).await.unwrap();
        images.close();
    }
    {
        let images = open(dir.path());
        images.pull(&name("whole"), None).await.unwrap();
        images.pull(&name("bad"), None).await.unwrap();
    }
    // Older than the last clean shutdown, so not verified.
    damage(&layer(dir.path(), &old, 0).join("fs/one"));
    damage(&layer(dir.path(), &bad, 2).join("fs/three"));
    reboot(dir.path());
    let images = open(dir.path());
    assert!(status(&images, &name("old")).is_some());
    until("the whole image is listed", || {
        status(&images, &name("whole")).is_some()
    })
    .await;
    until("the damage is found", || images.incomplete().len() == 1).await;
    assert!(status(&images, &name("bad")).is_none());
    let before = registry.count("/blobs/");
    // The daemon repairs it itself.
    images.leases_restored();
    until("it is repaired", || status(&images, &name("bad")).is_some()).await;
    // The config and one layer.
    assert_eq!(registry.count("/blobs/"), before + 2);
    assert_eq!(registry.count(&digest(&bad.layers[2])), 2);
    assert!(images.verify(&name("bad")).await.unwrap().is_whole());
    drop(images);
    // After its verification a layer is not verified again, and not at all if the daemon was only killed.
    damage(&layer(dir.path(), &whole, 0).join("fs/one"));
    let images = open(dir.path());
    assert!(status(&images, &name("whole")).is_some());
    assert!(images.inner.verified.has_changed().is_err());
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_pull_of_an_unverified_image_waits_for_the_verification() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let built = built("unverified");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    open(dir.path()).pull(&name, None).await.unwrap();
    damage(&layer(dir.path(), &built, 0).join("fs/one"));
    reboot(dir.path());
    let images = open(dir.path());
    images.pull(&name, None).await.unwrap();
    assert_eq!(registry.count(&digest(&built.layers[0])), 2);
    assert_eq!(registry.count(&digest(&built.layers[1])), 1);
    assert!(images.verify(&name).await.unwrap().is_whole());
    until("nothing is missing", || images.incomplete().is_empty()).await;
    remove(&images, &name).await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn lost_records_come_back_from_the_copy_and_without_it_from_configs_and_layers() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let built = built("lost");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    open(dir.path()).pull(&name, None).await.unwrap();
    let base = dir.path().join("images");
    std::fs::remove_dir_all(base.join("images")).unwrap();
    {
        let images = open(dir.path());
        assert_eq!(status(&images, &name).unwrap().id, built.id());
        assert!(images.verify(&name).await.unwrap().is_whole());
    }
    std::fs::remove_dir_all(base.join("images")).unwrap();
    std::fs::write(base.join("names.json"), "{ rubbish").unwrap();
    let images = open(dir.path());
    assert!(status(&images, &name).is_none());
    assert_eq!(status(&images, &built.id()).unwrap().repo_tags.len(), 0);
    // To get its name back, only a manifest and a config are fetched.
    images.pull(&name, None).await.unwrap();
    assert!(built.layers.iter().all(|blob| registry.count(&digest(blob)) == 1));
    remove(&images, &name).await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_damaged_config_is_fetched_without_layers() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let built = built("config");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    open(dir.path()).pull(&name, None).await.unwrap();
    damage(&Layout::new(dir.path()).config(&built.id()[7..]));
    let images = open(dir.path());
    assert!(status(&images, &name).is_none());
    assert_eq!(images.incomplete()[0].names[0], name);
    images.pull(&name, None).await.unwrap();
    assert!(built.layers.iter().all(|blob| registry.count(&digest(blob)) == 1));
    assert!(images.verify(&name).await.unwrap().is_whole());
    remove(&images, &name).await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn an_incomplete_image_can_be_removed_by_name() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let built = built("gone");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    open(dir.path()).pull(&name, None).await.unwrap();
    std::fs::remove_dir_all(layer(dir.path(), &built, 1)).unwrap();
    let images = open(dir.path());
    assert_eq!(images.incomplete().len(), 1);
    remove(&images, &name).await;
    assert!(images.incomplete().is_empty());
    assert_empty(dir.path());
}

/// Damages a layer of an image that needs a password.
async fn damage_guarded(root: &Path, built: &builder::Built) -> Images {
    damage(&layer(root, built, 1).join("fs/two"));
    reboot(root);
    let images = open(root);
    until("the damage is found", || images.incomplete().len() == 1).await;
    images
}

#[tokio::test]
#[ignore = "needs root"]
async fn an_image_that_needs_a_password_is_repaired_with_it() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let built = built("guarded");
    registry.push("app", "v1", &built);
    registry.fail("HTTP/1.1", registry::Fault::Login);
    let name = registry.name("app:v1");
    let auth = v1::AuthConfig {
        username: "u".to_owned(),
        password: "s3cret".to_owned(),
        ..Default::default()
    };
    {
        let images = open(dir.path());
        images.pull(&name, None).await.unwrap_err();
        images.pull(&name, Some(&auth)).await.unwrap();
        // The daemon that pulled the image remembers the password.
        damage(&layer(dir.path(), &built, 0).join("fs/one"));
        images.repair(&name).await.unwrap();
        images.leases_restored();
        until("it is repaired", || status(&images, &name).is_some()).await;
        assert!(images.verify(&name).await.unwrap().is_whole());
    }
    {
        // A restarted daemon does not know it, since it is not stored. The next pull repairs the image with
        // its own credentials.
        let images = damage_guarded(dir.path(), &built).await;
        images.leases_restored();
        images.pull(&name, None).await.unwrap_err();
        assert!(status(&images, &name).is_none());
        images.pull(&name, Some(&auth)).await.unwrap();
        assert!(images.verify(&name).await.unwrap().is_whole());
        let counts = built.layers.iter().map(|blob| registry.count(&digest(blob)));
        assert_eq!(counts.collect::<Vec<_>>(), [2, 2, 1]);
    }
    // Unless it is in the configured file.
    let host = name.split('/').next().unwrap();
    let logins = json!({"auths": {host: {"username": "u", "password": "s3cret"}}});
    std::fs::write(dir.path().join("config.json"), logins.to_string()).unwrap();
    let images = damage_guarded(dir.path(), &built).await;
    images.leases_restored();
    until("it is repaired", || status(&images, &name).is_some()).await;
    assert!(images.verify(&name).await.unwrap().is_whole());
}

/// Names of temporary files repeat after a restart.
#[tokio::test]
#[ignore = "needs root"]
async fn leftovers_of_interrupted_writes_do_no_harm() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let built = built("x");
    registry.push("app", "v1", &built);
    drop(open(dir.path()));
    let base = dir.path().join("images");
    for place in ["", "images", "configs", "manifests"] {
        for at in 0..200 {
            std::fs::write(base.join(place).join(format!(".new-{at}")), "half").unwrap();
        }
    }
    let images = open(dir.path());
    images.pull(&registry.name("app:v1"), None).await.unwrap();
    remove(&images, &built.id()).await;
    assert_empty(dir.path());
    assert!(
        !listing(dir.path(), ".")
            .iter()
            .any(|name| name.starts_with(".new"))
    );
}
