//! ImageService: pull, list, status, remove, and the filesystem they are on.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pausa::proto::v1;
use tempfile::TempDir;
use tonic::Code;

use crate::harness::daemon::Daemon;
use crate::harness::node::{Node, reference, spec};
use crate::harness::registry::{HOST, Registry, named};
use crate::harness::{eventually, ok, on_crashing_node, on_node, on_own_node, on_pausa, refused};

async fn list(node: &Node, filter: Option<&str>) -> Vec<v1::Image> {
    let filter = filter.map(|name| v1::ImageFilter {
        image: Some(spec(name)),
    });
    ok(
        "ListImages",
        node.images().list_images(v1::ListImagesRequest { filter }).await,
    )
    .images
}

async fn remove(node: &Node, name: &str) {
    let request = v1::RemoveImageRequest {
        image: Some(spec(name)),
    };
    ok("RemoveImage", node.images().remove_image(request).await);
}

/// A file system in memory, with nothing on it but the images of one node.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: TempDir,
}

impl Disk {
    const SIZE: usize = 64 << 20;

    fn mount() -> Self {
        let dir = tempfile::Builder::new().prefix("pctdisk").tempdir();
        let disk = Self {
            dir: dir.expect("a directory"),
        };
        std::fs::create_dir(disk.root()).expect("a mount point");
        let options = format!("size={},mode=0755", Self::SIZE);
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "pctdisk"])
            .arg(disk.root())
            .status();
        assert!(mounted.expect("mount").success(), "no tmpfs");
        disk
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    /// Leaves less than a third of it.
    fn fill(&self) {
        let ballast = vec![0; Self::SIZE / 4 * 3];
        std::fs::write(self.root().join("ballast"), ballast).expect("room");
    }

    /// Keeps the files of removed images until the returned object is dropped. Builds with debug assertions know this.
    pub(crate) fn hold_removals(&self) -> Held {
        let file = self.root().join("images/hold-removals");
        std::fs::write(&file, "").expect("a file");
        Held(file)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for arguments in [&[][..], &["--lazy"]] {
            let unmounted = Command::new("umount")
                .args(arguments)
                .arg(self.root())
                .stderr(Stdio::null())
                .status();
            if unmounted.is_ok_and(|status| status.success()) {
                break;
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Held(PathBuf);

impl Drop for Held {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// Runs a test on a node that keeps its images on a disk of its own. Builds without debug assertions skip it.
pub(crate) fn on_own_disk(test: impl AsyncFnOnce(&Node, &Disk)) {
    // The node is cleaned up before the disk goes.
    let disk = std::cell::OnceCell::new();
    on_crashing_node(async |node| {
        let disk = disk.get_or_init(Disk::mount);
        node.daemon(Daemon::kill);
        let root = node.dir().join("r");
        std::fs::remove_dir_all(&root).expect("the root that was there");
        symlink(disk.root(), &root).expect("another root");
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        test(node, disk).await;
    });
}

pub(crate) async fn used_bytes(node: &Node) -> u64 {
    let info = ok(
        "ImageFsInfo",
        node.images().image_fs_info(v1::ImageFsInfoRequest {}).await,
    );
    info.image_filesystems[0].used_bytes.expect("used bytes").value
}

/// CRI `PullImageResponse.image_ref` is the image's id (KEP-4216 wording since 0.36: all ids agree).
#[test]
#[ignore = "needs root"]
fn a_pull_by_tag_returns_the_id_that_status_gives() {
    on_node(async |node| {
        let id = node.pull("base").await;
        let image = node.image(&reference("base")).await.expect("the pulled image");
        assert_eq!(
            image.id,
            Registry::get().image("base").id,
            "sha256 and digest of the configuration"
        );
        assert_eq!(id, image.id);
        assert_eq!(image.repo_tags, [reference("base")]);
        let digest = &Registry::get().image("base").manifest;
        assert_eq!(image.repo_digests, [format!("{}@{digest}", named("base"))]);
    });
}

/// CRI `Image.repo_tags`: a pull by digest gives no tag, and the digest as it was asked for.
#[test]
#[ignore = "needs root"]
fn a_pull_by_digest_has_no_tag() {
    on_node(async |node| {
        let name = format!("spare@{}", Registry::get().image("spare").manifest);
        remove(node, &reference("spare:1")).await;
        node.pull(&name).await;
        let image = node.image(&reference(&name)).await.expect("the pulled image");
        assert_eq!(image.repo_digests, [reference(&name)]);
        assert!(image.repo_tags.is_empty(), "{:?}", image.repo_tags);
        remove(node, &reference(&name)).await;
    });
}

/// Docker-style references, which users write: with tag and digest both, the digest decides.
#[test]
#[ignore = "needs root"]
fn with_tag_and_digest_the_digest_decides() {
    on_node(async |node| {
        let digest = &Registry::get().image("base").manifest;
        let id = node.pull(&format!("base:nosuchtag@{digest}")).await;
        assert_eq!(id, Registry::get().image("base").id);
    });
}

/// CRI ImageStatus: "If the image is not present, returns a response with ImageStatusResponse.Image set to nil".
#[test]
#[ignore = "needs root"]
fn the_status_of_an_unknown_image_is_empty() {
    on_node(async |node| {
        let unknown = format!("sha256:{}", "0".repeat(64));
        for name in [
            &reference("never-pulled"),
            "docker.io/library/nothing:1",
            &unknown,
        ] {
            assert_eq!(node.image(name).await, None, "{name}");
        }
    });
}

/// CRI ImageStatus by tag, digest, id and bare hex id: crictl and kubelet use all of them.
#[test]
#[ignore = "needs root"]
fn every_name_of_an_image_finds_it() {
    on_node(async |node| {
        let id = node.pull("base").await;
        let by_digest = format!("{}@{}", named("base"), Registry::get().image("base").manifest);
        let hex = id.trim_start_matches("sha256:");
        for name in [&reference("base"), &by_digest, &id, hex, &hex[..13]] {
            let found = node.image(name).await;
            assert_eq!(found.map(|image| image.id), Some(id.clone()), "{name}");
        }
    });
}

/// CRI `Image.size`: kubelet refuses an image whose size is 0, and plans garbage collection with the sum.
#[test]
#[ignore = "needs root"]
fn the_size_is_of_real_bytes() {
    on_node(async |node| {
        node.pull("base").await;
        let base = node.image(&reference("base")).await.expect("base").size;
        assert!(base > 500_000, "busybox alone is more than {base}");
        node.pull("spare").await;
        let spare = node.image(&reference("spare")).await.expect("spare").size;
        assert!(
            spare > 4_000_000,
            "4 MiB that do not compress are more than {spare}"
        );
        let base = node.image(&reference("base")).await.expect("base").size;
        assert!(
            base > 0,
            "what is shared is freed with the last, but 0 is no size"
        );
    });
}

/// CRI `Image.uid` and `Image.username`: what kubelet judges runAsNonRoot by (`verifyRunAsNonRoot`).
#[test]
#[ignore = "needs root"]
fn the_user_of_the_image_is_told_apart_by_kind() {
    on_node(async |node| {
        for (name, uid, username) in [
            ("base", Some(0), ""),
            ("user-name", None, "alice"),
            ("user-number", Some(1000), ""),
        ] {
            node.pull(name).await;
            let image = node.image(&reference(name)).await.expect("the image");
            assert_eq!(image.username, username, "{name}");
            // Root may be said as 0 or, for an image without USER, not at all.
            let said = image.uid.map(|uid| uid.value);
            assert!(
                said == uid || (name == "base" && said.is_none()),
                "{name}: {said:?}"
            );
        }
    });
}

/// CRI ListImages: one image with three tags is one entry with three names.
#[test]
#[ignore = "needs root"]
fn three_tags_of_one_image_are_one_entry() {
    on_node(async |node| {
        for tag in ["tags:a", "tags:b", "tags:c"] {
            node.pull(tag).await;
        }
        let id = &Registry::get().image("tags").id;
        let images = list(node, None).await;
        let [image] = images.iter().filter(|image| image.id == *id).collect::<Vec<_>>()[..] else {
            panic!("one entry, not {images:?}");
        };
        let tags: BTreeSet<_> = image.repo_tags.iter().cloned().collect();
        assert_eq!(tags, ["tags:a", "tags:b", "tags:c"].map(reference).into());
        assert_eq!(image.repo_digests.len(), 1, "{:?}", image.repo_digests);
    });
}

/// CRI RemoveImage (wording since 0.36): by whichever name, the image goes with all its names.
#[test]
#[ignore = "needs root"]
fn removal_by_one_name_removes_all_names() {
    on_node(async |node| {
        let id = Registry::get().image("tags").id.clone();
        let digest = format!("{}@{}", named("tags"), Registry::get().image("tags").manifest);
        for name in [reference("tags:b"), id.clone(), digest] {
            for tag in ["tags:a", "tags:b", "tags:c"] {
                node.pull(tag).await;
            }
            remove(node, &name).await;
            assert_eq!(node.image(&id).await, None, "removed by {name}");
            assert_eq!(node.image(&reference("tags:a")).await, None, "removed by {name}");
        }
    });
}

/// CRI RemoveImage: "This call is idempotent, and must not return an error if the image has already been removed."
#[test]
#[ignore = "needs root"]
fn removing_what_is_not_there_succeeds() {
    on_node(async |node| {
        node.pull("spare").await;
        remove(node, &reference("spare")).await;
        remove(node, &reference("spare")).await;
        remove(node, &reference("never-pulled")).await;
    });
}

/// CRI ListImages with `ImageFilter.image`: that image or nothing.
#[test]
#[ignore = "needs root"]
fn the_list_can_be_filtered_by_name() {
    on_pausa(async |node| {
        node.pull("base").await;
        node.pull("silent").await;
        let found = list(node, Some(&reference("base"))).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].repo_tags, [reference("base")]);
        assert!(list(node, Some(&reference("never-pulled"))).await.is_empty());
        assert!(list(node, None).await.len() >= 2);
    });
}

/// CRI `ImageStatusResponse.info` for verbose requests: JSON with the image's specification, as crictl inspecti shows it.
#[test]
#[ignore = "needs root"]
fn verbose_status_has_the_image_specification() {
    on_node(async |node| {
        node.pull("rich").await;
        let request = v1::ImageStatusRequest {
            image: Some(spec(&reference("rich"))),
            verbose: true,
        };
        let info = ok("ImageStatus", node.images().image_status(request).await).info;
        let json: serde_json::Value = serde_json::from_str(&info["info"]).expect("JSON");
        assert_eq!(
            json["imageSpec"]["config"]["WorkingDir"], "/made/by/image",
            "{json}"
        );
    });
}

/// CRI ImageFsInfo: kubelet resolves capacity through `mountpoint` and calls it when it connects.
#[test]
#[ignore = "needs root"]
fn the_image_filesystem_is_real() {
    on_pausa(async |node| {
        node.pull("base").await;
        let info = ok(
            "ImageFsInfo",
            node.images().image_fs_info(v1::ImageFsInfoRequest {}).await,
        );
        for filesystem in info.image_filesystems.iter().chain(&info.container_filesystems) {
            assert!(filesystem.timestamp > 0);
            let place = &filesystem.fs_id.as_ref().expect("a filesystem").mountpoint;
            assert!(std::path::Path::new(place).is_dir(), "{place}");
        }
        assert!(!info.container_filesystems.is_empty());
        assert!(used_bytes(node).await > 0);
    });
}

/// CRI ImageFsInfo: what is removed is not used any more, at once or, where there is space enough, soon.
#[test]
#[ignore = "needs root"]
fn removal_frees_the_space() {
    on_own_node(async |node| {
        node.pull("base").await;
        let before = used_bytes(node).await;
        node.pull("spare").await;
        let between = used_bytes(node).await;
        assert!(between > before + 4_000_000, "{before} to {between}");
        remove(node, &reference("spare")).await;
        eventually("the space is free", async || {
            (used_bytes(node).await < between - 4_000_000).then_some(())
        })
        .await;
    });
}

/// Where there is space enough, RemoveImage does not wait until a large image is unlinked. Until then its space counts as
/// used, and it can be pulled again.
#[test]
#[ignore = "needs root"]
fn a_removal_is_answered_before_the_files_are_gone() {
    on_own_disk(async |node, disk| {
        let id = node.pull("spare").await;
        let before = used_bytes(node).await;
        let held = disk.hold_removals();
        remove(node, &reference("spare")).await;
        assert_eq!(node.image(&id).await, None);
        assert_eq!(used_bytes(node).await, before);
        assert_eq!(node.pull("spare").await, id);
        let twice = used_bytes(node).await;
        assert!(twice > before + 4_000_000, "{before} to {twice}");
        drop(held);
        eventually("the space is free", async || {
            (used_bytes(node).await == before).then_some(())
        })
        .await;
    });
}

/// kubelet's eviction manager removes all unused images, measures, and evicts pods if there is not enough space
/// (`reclaimNodeLevelResources`).
#[test]
#[ignore = "needs root"]
fn where_space_is_short_a_removal_has_freed_it_when_it_is_answered() {
    on_own_disk(async |node, disk| {
        node.pull("spare").await;
        let before = used_bytes(node).await;
        disk.fill();
        let held = disk.hold_removals();
        let request = v1::RemoveImageRequest {
            image: Some(spec(&reference("spare"))),
        };
        let mut client = node.images();
        let removal = tokio::spawn(async move { client.remove_image(request).await });
        let layers = disk.root().join("images/layers");
        eventually("the layers are out of the way", async || {
            let mut left = std::fs::read_dir(&layers).expect("the layers");
            left.next().is_none().then_some(())
        })
        .await;
        assert_eq!(used_bytes(node).await, before);
        assert!(!removal.is_finished());
        drop(held);
        ok("RemoveImage", removal.await.expect("an answer"));
        let after = used_bytes(node).await;
        assert!(after < before - 4_000_000, "{before} to {after}");
    });
}

/// CRI PullImage again: the same id, and still one image.
#[test]
#[ignore = "needs root"]
fn pulling_again_changes_nothing() {
    on_node(async |node| {
        let first = node.pull("base").await;
        assert_eq!(node.pull("base").await, first);
        let images = list(node, None).await;
        assert_eq!(
            images.iter().filter(|image| image.id == first).count(),
            1,
            "{images:?}"
        );
    });
}

/// kubelet with `serializeImagePulls: false` pulls one image for many pods at once.
#[test]
#[ignore = "needs root"]
fn pulls_of_one_image_at_the_same_time_agree() {
    on_node(async |node| {
        remove(node, &reference("spare")).await;
        let pulls = (0..8).map(|_| node.pull("spare"));
        let ids: BTreeSet<_> = futures_util::future::join_all(pulls).await.into_iter().collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
    });
}

/// OCI image spec, layer.md "Whiteouts": files and directories of lower layers go, opaque directories start anew.
#[test]
#[ignore = "needs root"]
fn whiteouts_hide_what_lower_layers_have() {
    on_node(async |node| {
        node.pull("whiteouts").await;
        let pod = node.pod().await;
        let script =
            "ls -A /kept /opaque; cat /replaced; test ! -e /gone && echo; ls -A / | grep -c '^[.]wh' || true";
        let seen = pod
            .sh_with(script, |config| {
                config.image = Some(spec(&reference("whiteouts")));
            })
            .await;
        assert_eq!(seen, "/kept:\ntwo\n\n/opaque:\nnew\nsecond\n0\n");
    });
}

/// kubelet shows the text in the pod's events; NotFound tells a name that is not there from a registry that is down.
#[test]
#[ignore = "needs root"]
fn pulling_an_unknown_image_is_not_found() {
    on_node(async |node| {
        for name in [reference("no-such-repository"), reference("base:no-such-tag")] {
            let request = v1::PullImageRequest {
                image: Some(spec(&name)),
                ..Default::default()
            };
            let text = refused(Code::NotFound, node.images().pull_image(request).await);
            assert!(text.contains(HOST), "{text}");
            assert_eq!(node.image(&name).await, None);
        }
    });
}

/// Distribution spec and Docker reference grammar: upper case, spaces and bad digests are no names.
#[test]
#[ignore = "needs root"]
fn an_invalid_reference_is_an_invalid_argument() {
    on_pausa(async |node| {
        for name in [
            "UPPER/case:1",
            "a b",
            "x@sha256:short",
            "http://registry.test/x",
            ":tag",
            "x:y:z",
            "",
        ] {
            let request = v1::PullImageRequest {
                image: Some(spec(name)),
                ..Default::default()
            };
            refused(Code::InvalidArgument, node.images().pull_image(request).await);
        }
    });
}

/// A registry that does not answer is a registry's fault: kubelet looks for this word (cri-api `pkg/errors`).
#[test]
#[ignore = "needs root"]
fn a_dead_registry_is_called_unavailable() {
    on_own_node(async |node| {
        let dir = node.dir().join("hosts/dead.test");
        std::fs::create_dir_all(&dir).expect("a directory");
        // Port 9 of loopback: nobody listens there.
        std::fs::write(dir.join("hosts.toml"), "server = \"http://127.0.0.1:9\"\n").expect("a file");
        let request = v1::PullImageRequest {
            image: Some(spec("dead.test/x:1")),
            ..Default::default()
        };
        let text = refused(Code::Unknown, node.images().pull_image(request).await);
        assert!(text.starts_with("RegistryUnavailable"), "{text}");
        assert!(
            text.contains("127.0.0.1:9") || text.contains("dead.test"),
            "{text}"
        );
    });
}

/// Removing an image in use drops its names; containers keep running on its data.
#[test]
#[ignore = "needs root"]
fn a_running_container_survives_the_removal_of_its_image() {
    on_node(async |node| {
        node.pull("whiteouts").await;
        let pod = node.pod().await;
        let image = Some(spec(&reference("whiteouts")));
        let container = pod.start(|config| config.image = image).await;
        remove(node, &reference("whiteouts")).await;
        assert_eq!(node.image(&reference("whiteouts")).await, None);
        assert_eq!(container.sh("cat /replaced").await, "second");
    });
}
