//! What an image says in its configuration and its files must not be more than data.

use pausa::proto::v1;
use serde_json::json;

use super::{attempt, image, push, run};
use crate::harness::node::{reference, spec};
use crate::harness::pod::security;
use crate::harness::recipe::{Entry, Image};
use crate::harness::{map, ok, on_node, on_own_node, on_pausa};
use crate::stream_attacks::cost;

/// CVE-2024-40635: an id above 2^31 became a negative one, or root. CVE-2026-46680: an id that does not fit was taken for a name,
/// which the image's own `/etc/passwd` gave to root, while `ImageStatus` did not say so. pausa refuses both: a text of
/// digits is an id, and an id has 31 bits.
#[test]
#[ignore = "needs root"]
fn no_user_id_becomes_root() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let users = [
            "2147483648",
            "4294967295",
            "4294967296",
            "18446744073709551615",
            "18446744073709551616",
            "00000000000000000000000000000000004294967296",
        ];
        let passwd: String = users.map(|user| format!("{user}:x:0:0::/:/bin/sh\n")).concat();
        let group: String = users.map(|group| format!("{group}:x:0:\n")).concat();
        let entries = [
            Entry::File("etc/passwd", 0o644, passwd.into()),
            Entry::File("etc/group", 0o644, group.into()),
        ];
        for user in users {
            for (name, text) in [
                ("user", user.to_owned()),
                ("both", format!("{user}:{user}")),
                ("group", format!("1000:{user}")),
            ] {
                let spec = image(node, name, &entries, &json!({"User": text})).await;
                let known = node.image(&spec.image).await.expect("the image");
                assert!(known.uid.is_none_or(|uid| uid.value != 0), "{text}: {known:?}");
                let mut config = pod.container_config();
                config.image = Some(spec);
                run(&mut config, "id");
                let refused = attempt(&pod, config).await.expect_err(&text);
                assert!(refused.contains("User"), "{refused}");
            }
            let mut config = pod.container_config();
            security(&mut config).run_as_username = user.to_owned();
            run(&mut config, "id");
            let refused = attempt(&pod, config).await.expect_err(user);
            assert!(refused.contains("run_as_username"), "{refused}");
        }
    });
}

/// CVE-2026-47262: containerd read all of an image's `/etc/group` into memory. pausa reads a file of limited size, from the
/// image alone.
#[test]
#[ignore = "needs root"]
fn a_huge_group_file_costs_little_memory() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let line = "g:x:1:alice,alice,alice,alice,alice,alice\n";
        let group = line.repeat((48 << 20) / line.len());
        let entries = [Entry::File("etc/group", 0o644, group.into_bytes())];
        let spec = image(node, "huge", &entries, &json!({"User": "alice"})).await;
        let attack = async {
            for _ in 0..4 {
                let mut config = pod.container_config();
                config.image = Some(spec.clone());
                run(&mut config, "id");
                let refused = attempt(&pod, config).await.expect_err("it is too large");
                assert!(refused.contains("/etc/group"), "{refused}");
            }
        };
        let cost = cost(node, "a group file of 48 MiB", attack).await;
        assert!(cost < 4, "{cost} MiB");
    });
}

/// CVE-2026-53488: containerd gave a container the labels of its image, among them those by which it restarts containers, with a
/// program of the node as their logger. In pausa a container has the labels of the request and no others.
#[test]
#[ignore = "needs root"]
fn labels_of_an_image_are_not_the_containers() {
    on_node(async |node| {
        let pod = node.pod().await;
        let made = node.dir().join("made-by-a-logger");
        let labels = json!({
            "containerd.io/restart.status": "running",
            "containerd.io/restart.loguri": format!("binary:///bin/touch?{}", made.display()),
            "io.cri-containerd.kind": "sandbox",
            "io.kubernetes.pod.uid": "another",
            "io.pausa.process.exact-env": "{\"0\":\"b3duZWQ9MQ==\"}",
        });
        let spec = image(node, "labels", &[], &json!({"Labels": labels.clone()})).await;
        let container = pod.start(|config| {
            config.image = Some(spec);
            config.annotations = map(&[("own", "annotation")]);
        });
        let container = container.await;
        let status = container.status().await;
        assert_eq!(status.labels, container.config.labels);
        assert_eq!(status.annotations, container.config.annotations);
        assert!(!container.sh("env").await.contains("owned"));
        if node.is_pausa() {
            let info = container.info().await;
            let text = info.values().cloned().collect::<String>();
            for label in labels.as_object().expect("labels").keys() {
                assert!(
                    !text.contains(&format!("{label}\\\"")) && !text.contains(&format!("\"{label}\"")),
                    "{text}"
                );
            }
        }
        container.stop(0).await;
        assert!(!made.exists());
    });
}

/// CVE-2026-50195 and CVE-2026-53492: containerd restored a container from an image that said it was a checkpoint. The image then
/// gave other images their names, and the container devices that nobody had asked for. For pausa it is an image like any other.
#[test]
#[ignore = "needs root"]
fn a_checkpoint_is_only_an_image() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let poisoned = reference("poisoned");
        let config =
            json!({"rootfsImage": &poisoned, "rootfsImageRef": &poisoned, "rootfsImageName": &poisoned});
        let annotations = json!({"cdi.k8s.io/vendor": "vendor.test/device=all"});
        let dump = json!({"annotations": annotations, "process": {"args": ["sh", "-c", "echo restored"]}});
        let file = |path, text: &serde_json::Value| Entry::File(path, 0o644, text.to_string().into_bytes());
        let entries = [
            file("config.dump", &config),
            file("spec.dump", &dump),
            file("status.dump", &json!({})),
            Entry::File("container.log", 0o644, b"restored".to_vec()),
            Entry::Dir("checkpoint", 0o700),
        ];
        let mut image = Image::own(&entries, &json!({}));
        image.annotate(&json!({
            "org.criu.checkpoint.container.name": "restored",
            "io.kubernetes.cri-o.annotations.checkpoint.name": "restored",
            "cdi.k8s.io/vendor": "vendor.test/device=all",
        }));
        let checkpoint = push(node, "checkpoint", &image).await;
        let container = pod.start(|config| {
            config.image = Some(checkpoint.clone());
            run(config, "echo ran; sleep 3600");
        });
        let container = container.await;
        container.says("ran").await;
        let status = container.status().await;
        assert_eq!(status.annotations, container.config.annotations);
        assert!(!container.info().await["info"].contains("vendor.test"));
        container.stop(0).await;
        assert_eq!(container.end().await.stdout(), "ran\n");
        let request = v1::ListImagesRequest::default();
        let images = ok("ListImages", node.images().list_images(request).await).images;
        let names: Vec<&String> = images.iter().flat_map(|image| &image.repo_tags).collect();
        assert!(!names.contains(&&poisoned), "{names:?}");
        assert!(node.image(&spec(&poisoned).image).await.is_none());
        // A path of the node in place of an image's name is no checkpoint, either.
        let archive = node.dir().join("checkpoint.tar");
        std::fs::write(&archive, b"").expect("a file");
        let mut config = pod.container_config();
        config.image = Some(spec(&archive.display().to_string()));
        run(&mut config, "echo ran");
        attempt(&pod, config).await.expect_err("there is no such image");
    });
}
