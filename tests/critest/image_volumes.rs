//! Images mounted as volumes: CRI `Mount.image` and `image_sub_path` (KEP-4639).

use pausa::proto::v1;
use tonic::Code;

use crate::harness::node::{Node, reference, spec};
use crate::harness::{ok, on_node, on_pausa, refused, strings};

fn volume(sub_path: &str) -> v1::Mount {
    v1::Mount {
        container_path: "/volume".to_owned(),
        readonly: true,
        image: Some(spec(&reference("whiteouts"))),
        image_sub_path: sub_path.to_owned(),
        ..Default::default()
    }
}

/// What a script says in a container with the volume.
async fn said(node: &Node, sub_path: &str, script: &str) -> String {
    node.pull("whiteouts").await;
    let pod = node.pod().await;
    pod.sh_with(script, |config| config.mounts.push(volume(sub_path)))
        .await
}

/// All layers of the image, whiteouts applied, and read-only.
#[test]
#[ignore = "needs root"]
fn an_image_is_a_volume_that_nobody_can_write() {
    on_node(async |node| {
        let script = "cat /volume/replaced; ls /volume/kept; test ! -e /volume/gone && echo; \
                      touch /volume/new 2>&1 | grep -o 'Read-only file system'";
        assert_eq!(
            said(node, "", script).await,
            "secondtwo\n\nRead-only file system\n"
        );
    });
}

/// CRI `Mount.mount_options` (since 0.37) of an image volume: a program in it does not run, unless it may.
#[test]
#[ignore = "needs root"]
fn mount_options_are_in_force() {
    on_pausa(async |node| {
        node.pull("base").await;
        let pod = node.pod().await;
        let script =
            "/volume/bin/busybox echo ran 2>&1; grep ' /volume ' /proc/self/mountinfo | cut -d' ' -f6";
        let mut mount = volume("");
        mount.image = Some(spec(&reference("base")));
        let said = pod
            .sh_with(script, |config| config.mounts.push(mount.clone()))
            .await;
        assert!(said.starts_with("ran\n") && !said.contains("noexec"), "{said}");
        mount.mount_options = strings(&["noexec", "nosuid", "nodev"]);
        let said = pod
            .sh_with(script, |config| config.mounts.push(mount.clone()))
            .await;
        assert!(said.contains("Permission denied"), "{said}");
        for option in ["ro", "noexec", "nosuid", "nodev"] {
            assert!(
                said.lines()
                    .last()
                    .is_some_and(|line| line.split(',').any(|one| one == option)),
                "{said}"
            );
        }
        let mut config = pod.container_config();
        mount.mount_options = strings(&["exec"]);
        config.mounts.push(mount);
        let text = refused(Code::InvalidArgument, pod.try_create(&config).await);
        assert!(text.contains("mounts[0].mount_options"), "{text}");
    });
}

/// The image may be removed meanwhile: the volume stays what it is.
#[test]
#[ignore = "needs root"]
fn a_volume_survives_the_removal_of_its_image() {
    on_node(async |node| {
        node.pull("whiteouts").await;
        let pod = node.pod().await;
        let container = pod.start(|config| config.mounts.push(volume(""))).await;
        let request = v1::RemoveImageRequest {
            image: Some(spec(&reference("whiteouts"))),
        };
        ok("RemoveImage", node.images().remove_image(request).await);
        assert_eq!(container.sh("cat /volume/replaced").await, "second");
    });
}

/// `image_sub_path`: a directory of the image.
#[test]
#[ignore = "needs root"]
fn a_sub_path_is_what_is_mounted() {
    on_node(async |node| {
        assert_eq!(
            said(node, "opaque", "ls /volume; cat /volume/new").await,
            "new\nnew"
        );
    });
}

/// A sub path that is not there, or that leads out of the image, is an error and no empty mount. kubelet tells by the first word
/// (cri-api `pkg/errors`) that it is the volume.
#[test]
#[ignore = "needs root"]
fn a_sub_path_that_is_not_in_the_image_is_refused() {
    on_node(async |node| {
        node.pull("whiteouts").await;
        node.pull("base").await;
        let pod = node.pod().await;
        for sub_path in ["not/there", "../..", "/etc", "kept/../../.."] {
            let mut config = pod.container_config();
            config.mounts.push(volume(sub_path));
            let text = refused(Code::Unknown, pod.try_create(&config).await);
            assert!(text.starts_with("ImageVolumeMountFailed: "), "{text}");
            assert!(text.contains(sub_path), "{text}");
        }
        let mut config = pod.container_config();
        let mut absent = volume("");
        absent.image = Some(spec(&reference("never-pulled")));
        config.mounts.push(absent);
        let text = refused(Code::NotFound, pod.try_create(&config).await);
        assert!(text.contains("never-pulled"), "{text}");
    });
}
