//! The daemon dies at every step of an image's commit order, as by a power cut in the middle of a system call's return:
//! afterwards each image is whole or absent, a retry succeeds, and nothing of the attempt stays on disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pausa::proto::v1;

use crate::harness::daemon::Daemon;
use crate::harness::node::{Node, reference, spec};
use crate::harness::{die_at, eventually, ok, on_crashing_node, on_own_node};
use crate::images::{on_own_disk, used_bytes};

/// Steps of a pull, in order; a number says which time it is passed.
const PULL: [&str; 11] = [
    "layer-unpacked",
    "layer-installed",
    "layer-installed:3",
    "layers-synced",
    "manifests-written",
    "record-written",
    "config-written",
    "file-written",
    "file-written:3",
    "file-written:4",
    "file-written:5",
];
/// Steps of a removal.
const REMOVAL: [&str; 6] = [
    "removal-begun",
    "config-removed",
    "record-removed",
    "layer-moved-away",
    "layer-moved-away:3",
    "layer-unlinked",
];
const IMAGE: &str = "whiteouts";

fn pull_request() -> v1::PullImageRequest {
    v1::PullImageRequest {
        image: Some(spec(&reference(IMAGE))),
        ..Default::default()
    }
}

fn remove_request() -> v1::RemoveImageRequest {
    v1::RemoveImageRequest {
        image: Some(spec(&reference(IMAGE))),
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn store(node: &Node) -> PathBuf {
    node.dir().join("r/images")
}

/// Nothing is on disk that no image has: as many records as configs as images, no layer without one, nothing half done.
async fn nothing_leaks(node: &Node, images: usize, layers: usize) {
    let store = store(node);
    let found = eventually("the store is in order", async || {
        let count = |dir: &str| names(&store.join(dir)).len();
        let found = (
            count("images"),
            count("configs"),
            count("manifests"),
            count("layers"),
        );
        let clean = count("staging") == 0 && found == (images, images, images, layers);
        clean.then_some(found)
    })
    .await;
    assert_eq!(found.0, images);
    for dir in ["", "images", "configs", "manifests"] {
        let half: Vec<String> = names(&store.join(dir))
            .into_iter()
            .filter(|name| name.starts_with(".new"))
            .collect();
        assert!(half.is_empty(), "{dir}: {half:?}");
    }
}

/// Every file of the image is there and what it should be: a container runs from it.
async fn is_whole(node: &Node) {
    let pod = node.pod().await;
    let script = "cat /replaced /kept/two /opaque/new; test ! -e /gone && test ! -e /kept/one && test ! -e /opaque/old";
    let said = pod
        .sh_with(script, |config| config.image = Some(spec(&reference(IMAGE))))
        .await;
    assert_eq!(said, "secondtwonew");
    node.clean_up().await;
    // The pod's own image came along.
    let base = v1::RemoveImageRequest {
        image: Some(spec(&reference("base"))),
    };
    ok("RemoveImage", node.images().remove_image(base).await);
}

/// PullImage is cut off at every step: the image is absent or whole, and the next pull makes it whole.
#[test]
#[ignore = "needs root"]
fn a_pull_that_is_cut_off_leaves_the_image_whole_or_absent() {
    on_crashing_node(async |node| {
        for point in PULL {
            // The first file is the mark that the store is in use.
            node.daemon(Daemon::terminate);
            node.daemon(Daemon::restart);
            node.until_it_answers().await;
            die_at(node, point, async || {
                node.images().pull_image(pull_request()).await
            })
            .await;
            let there = node.image(&reference(IMAGE)).await;
            let expected = point == "config-written" || there.is_some();
            assert_eq!(there.is_some(), expected, "{point}");
            let (images, layers) = if there.is_some() { (1, 4) } else { (0, 0) };
            nothing_leaks(node, images, layers).await;
            if there.is_some() {
                is_whole(node).await;
            }
            ok("PullImage", node.images().pull_image(pull_request()).await);
            nothing_leaks(node, 1, 4).await;
            is_whole(node).await;
            ok("RemoveImage", node.images().remove_image(remove_request()).await);
            nothing_leaks(node, 0, 0).await;
        }
    });
}

/// RemoveImage is cut off at every step: the image is whole or absent, never a part of it, and nothing stays.
#[test]
#[ignore = "needs root"]
fn a_removal_that_is_cut_off_leaves_the_image_whole_or_absent() {
    on_crashing_node(async |node| {
        for point in REMOVAL {
            ok("PullImage", node.images().pull_image(pull_request()).await);
            die_at(node, point, async || {
                node.images().remove_image(remove_request()).await
            })
            .await;
            let there = node.image(&reference(IMAGE)).await.is_some();
            assert_eq!(there, point == "removal-begun", "{point}");
            if there {
                nothing_leaks(node, 1, 4).await;
                is_whole(node).await;
                ok("RemoveImage", node.images().remove_image(remove_request()).await);
            }
            nothing_leaks(node, 0, 0).await;
        }
    });
}

/// RemoveImage has answered, but the daemon dies before the files are gone: the next one counts them as used and removes
/// them, and a pull does not wait for that.
#[test]
#[ignore = "needs root"]
fn files_of_a_removed_image_are_removed_by_the_next_daemon() {
    on_own_disk(async |node, disk| {
        ok("PullImage", node.images().pull_image(pull_request()).await);
        let held = disk.hold_removals();
        let before = used_bytes(node).await;
        ok("RemoveImage", node.images().remove_image(remove_request()).await);
        eventually("the layers are out of the way", async || {
            names(&store(node).join("layers")).is_empty().then_some(())
        })
        .await;
        node.daemon(Daemon::kill);
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        assert_eq!(node.image(&reference(IMAGE)).await, None);
        let staging = names(&store(node).join("staging"));
        assert_eq!(staging.iter().filter(|name| name.starts_with("trash")).count(), 4);
        let left = used_bytes(node).await;
        assert!(left > before / 10 * 9, "{before} to {left}");
        ok("PullImage", node.images().pull_image(pull_request()).await);
        drop(held);
        nothing_leaks(node, 1, 4).await;
        is_whole(node).await;
    });
}

/// All the store's records are lost: images come back with their names.
#[test]
#[ignore = "needs root"]
fn a_store_without_records_is_rebuilt() {
    on_own_node(async |node| {
        ok("PullImage", node.images().pull_image(pull_request()).await);
        let before = node.image(&reference(IMAGE)).await;
        node.daemon(Daemon::kill);
        std::fs::remove_dir_all(store(node).join("images")).expect("records");
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        assert_eq!(node.image(&reference(IMAGE)).await, before);
        is_whole(node).await;
    });
}

/// A layer is damaged and the machine was restarted in the meantime: the image is not shown until it is whole again, and the
/// daemon mends it by itself.
#[test]
#[ignore = "needs root"]
fn a_layer_damaged_by_a_power_cut_is_fetched_again() {
    on_own_node(async |node| {
        ok("PullImage", node.images().pull_image(pull_request()).await);
        node.daemon(Daemon::kill);
        let damaged = names(&store(node).join("layers"))
            .into_iter()
            .map(|layer| store(node).join("layers").join(layer).join("fs/replaced"))
            .find(|file| file.exists())
            .expect("a layer with the file");
        std::fs::write(&damaged, "").expect("damage");
        let mark = store(node).join("mark.json");
        let text = std::fs::read_to_string(&mark).expect("a mark");
        let mut value: serde_json::Value = serde_json::from_str(&text).expect("a mark");
        value["boot"] = "another".into();
        std::fs::write(&mark, value.to_string()).expect("a mark");
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        eventually("the image is mended", async || {
            node.image(&reference(IMAGE)).await
        })
        .await;
        is_whole(node).await;
    });
}
