//! Progress of pulls, and removal of images meanwhile.

use super::builder::{OCI, digest, image, small, tar};
use super::registry::Fault;
use super::wait::{begin, found};
use super::*;
use crate::error::Kinded;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn pulls_in_progress_have_steps_layers_and_waiting_requests() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let shared = tar(&[("shared", &"x".repeat(100_000))]);
    let one = image(OCI, &[shared.clone(), tar(&[("one", "1")])], &json!({}));
    let two = image(OCI, &[shared, tar(&[("two", "2")])], &json!({}));
    registry.push("app", "one", &one);
    registry.push("app", "two", &two);
    assert!(images.pulls().is_empty());
    let start = |name: &str| begin(&images, registry.name(name));
    registry.hold_part(&digest(&one.layers[0]));
    let first = start("app:one");
    let second = start("app:one");
    let pull = found("both wait and the layer is fetched", || {
        let pull = images.pulls().into_iter().next()?;
        let fetching = pull.layers.first()?.state == LayerState::Fetching;
        (fetching && pull.waiting == 2).then_some(pull)
    })
    .await;
    assert_eq!(
        (pull.reference.as_str(), pull.step),
        (registry.name("app:one").as_str(), PullStep::Layers)
    );
    assert_eq!(pull.layers[0].digest, digest(&one.layers[0]));
    assert_eq!(pull.layers[0].bytes_total, one.layers[0].len() as u64);
    assert!(pull.started > 0 && pull.step_since >= pull.started && pull.layers[0].since >= pull.started);
    // Another image with the same layer joins that layer and fetches its own.
    let other = start("app:two");
    found("the other pull joins the layer", || {
        let pulls = images.pulls();
        let other = pulls.get(1)?;
        let states: Vec<LayerState> = other.layers.iter().map(|layer| layer.state).collect();
        (states == [LayerState::Joined, LayerState::Done]).then_some(())
    })
    .await;
    // All requests end, but the pull continues.
    first.abort();
    second.abort();
    found("nobody waits", || {
        (images.pulls().first()?.waiting == 0).then_some(())
    })
    .await;
    assert_eq!(images.pulls()[0].layers[0].state, LayerState::Fetching);
    registry.release();
    assert_eq!(other.await.unwrap().unwrap(), two.id());
    found("the first pull is over", || {
        images.pulls().is_empty().then_some(())
    })
    .await;
    assert!(status(&images, &one.id()).is_some());
    assert_eq!(registry.count(&digest(&one.layers[0])), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn an_image_may_be_removed_while_it_is_pulled_again() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let shared = tar(&[("shared", "x")]);
    let old = image(OCI, &[shared.clone(), tar(&[("old", "1")])], &json!({}));
    let new = image(OCI, &[shared, tar(&[("new", "2")])], &json!({}));
    registry.push("app", "v1", &old);
    let name = registry.name("app:v1");
    images.pull(&name, None).await.unwrap();
    registry.push("app", "v1", &new);
    registry.hold_part(&digest(&new.layers[1]));
    let pull = begin(&images, name.clone());
    found("the new layer is fetched", || {
        let pulls = images.pulls();
        let layers = &pulls.first()?.layers;
        (layers.get(1)?.state == LayerState::Fetching).then_some(())
    })
    .await;
    // The running pull holds the shared layer as well, so it stays. The other one is gone when this returns.
    remove(&images, &name).await;
    assert!(status(&images, &name).is_none());
    assert_eq!(listing(dir.path(), "layers").len(), 1);
    registry.release();
    assert_eq!(pull.await.unwrap().unwrap(), new.id());
    assert_eq!(status(&images, &name).unwrap().id, new.id());
    assert!(images.verify(&name).await.unwrap().is_whole());
    remove(&images, &name).await;
    assert_empty(dir.path());
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_leased_image_is_not_pruned_and_keeps_its_names() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let built = small("used");
    registry.push("app", "v1", &built);
    let name = registry.name("app:v1");
    images.pull(&name, None).await.unwrap();
    let lease = images.lease(&name).unwrap();
    assert!(!images.remove_unused(&built.id()).await.unwrap());
    assert_eq!(
        status(&images, &name).unwrap().repo_tags,
        std::slice::from_ref(&name)
    );
    drop(lease);
    assert!(images.remove_unused(&built.id()).await.unwrap());
    assert!(!images.remove_unused(&built.id()).await.unwrap());
    assert_empty(dir.path());
    // A lease during the removal gets the image with its names, or NotFound.
    for _ in 0..20 {
        images.pull(&name, None).await.unwrap();
        let (pruning, leasing) = (images.clone(), images.clone());
        let (id, wanted) = (built.id(), name.clone());
        let leased = tokio::task::spawn_blocking(move || leasing.lease(&wanted));
        let removed = pruning.remove_unused(&id).await.unwrap();
        match leased.await.unwrap() {
            Ok(lease) if !removed => drop((status(&images, &name).unwrap(), lease)),
            Ok(_) => panic!("removed although it is leased"),
            Err(error) => assert_eq!((error.kind(), removed), (ErrorKind::NotFound, true)),
        }
    }
}

#[tokio::test]
#[ignore = "needs root"]
async fn pinned_images_are_pinned_by_name_and_removable_on_request() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let (pinned, other) = (small("pinned"), small("other"));
    registry.push("team/pinned", "v1", &pinned);
    registry.push("team/other", "v1", &other);
    for name in ["team/pinned:v1", "team/other:v1"] {
        images.pull(&registry.name(name), None).await.unwrap();
    }
    let is_pinned = |id: &str| {
        images
            .list(None)
            .iter()
            .find(|image| image.id == id)
            .unwrap()
            .pinned
    };
    assert!(is_pinned(&pinned.id()) && !is_pinned(&other.id()));
    remove(&images, &pinned.id()).await;
    assert_eq!(images.list(None).len(), 1);
}

#[tokio::test]
#[ignore = "needs root"]
async fn prune_removes_images_that_are_neither_pinned_nor_leased() {
    let Some(registry) = Registry::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let images = open(dir.path());
    let (pinned, used, free) = (small("pinned"), small("used"), small("free"));
    for (name, built) in [("team/pinned", &pinned), ("app/used", &used), ("app/free", &free)] {
        registry.push(name, "v1", built);
        images
            .pull(&registry.name(&format!("{name}:v1")), None)
            .await
            .unwrap();
    }
    let broken = image(OCI, &[tar(&[("one", "1")]), tar(&[("two", "2")])], &json!({}));
    registry.push("app/broken", "v1", &broken);
    registry.fail(&digest(&broken.layers[1]), Fault::Refuse);
    images
        .pull(&registry.name("app/broken:v1"), None)
        .await
        .unwrap_err();
    let kept = images.retained_layers().len();
    let lease = images.lease(&used.id()).unwrap();
    let removed = |report: &PruneReport| -> Vec<String> {
        assert!(report.images.iter().all(|pruned| pruned.error.is_none()));
        report
            .images
            .iter()
            .map(|pruned| pruned.image.id.clone())
            .collect()
    };
    let planned = images.prune(true).await;
    assert_eq!(removed(&planned), [free.id()]);
    assert_eq!((planned.in_use, planned.pinned), (1, 1));
    assert_eq!(
        (images.list(None).len(), images.retained_layers().len()),
        (3, kept)
    );
    let report = images.prune(false).await;
    assert_eq!(removed(&report), [free.id()]);
    assert_eq!((report.in_use, report.pinned), (1, 1));
    assert_eq!(report.images[0].image, planned.images[0].image);
    assert_eq!(report.images[0].image.repo_tags, [registry.name("app/free:v1")]);
    assert!(images.retained_layers().is_empty());
    assert_eq!(listing(dir.path(), "layers").len(), 2);
    drop(lease);
    let report = images.prune(false).await;
    assert_eq!(removed(&report), [used.id()]);
    assert_eq!((report.in_use, report.pinned), (0, 1));
    assert_eq!(images.list(None)[0].id, pinned.id());
}
