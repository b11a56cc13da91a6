//! Images and volumes with paths that lead where they should not.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::{Bait, SECRET, attempt, image, link, run};
use crate::harness::pod::{bind, security};
use crate::harness::recipe::Entry;
use crate::harness::{Node, Pod, on_node, on_pausa, strings};
use pausa::proto::v1;

/// Runs a container of an image with these links and this configuration. It must run, as `script` says with `ran` at the end,
/// and do nothing to the bait.
async fn harmless(
    pod: &Pod<'_>,
    spec: v1::ImageSpec,
    bait: &Bait,
    script: &str,
    change: impl FnOnce(&mut v1::ContainerConfig),
) {
    let mut config = pod.container_config();
    config.image = Some(spec);
    let secret = format!("cat {}/secret 2>/dev/null; ", bait.path());
    run(&mut config, &format!("{secret}{script}; echo ran"));
    change(&mut config);
    let said = attempt(pod, config).await.expect("it starts");
    assert!(said.ends_with("ran\n") && !said.contains(SECRET), "{said}");
    bait.is_untouched();
}

/// CVE-2026-41579: runc removed and made `ptmx` and other names in the directory of the node that the `/dev` of an image was
/// a link to. pausa resolves it beneath the container's root.
#[test]
#[ignore = "needs root"]
fn an_image_whose_dev_is_a_link() {
    on_pausa(async |node| {
        let (bait, pod) = (Bait::new(node), node.pod().await);
        for target in [bait.path(), format!("../../../../../..{}", bait.path())] {
            let image = image(node, "dev", &[link("dev", target)], &json!({})).await;
            harmless(&pod, image, &bait, "test -c /dev/zero && ls -l /dev", |_| {}).await;
        }
    });
}

/// CVE-2024-5154: CRI-O made `mtab` in the directory of the node that the `/etc` of an image was a link to. The files of the
/// pod in `/etc` are such a case in pausa; their targets are made beneath the container's root.
#[test]
#[ignore = "needs root"]
fn an_image_whose_etc_is_a_link() {
    on_pausa(async |node| {
        let (bait, pod) = (Bait::new(node), node.pod().await);
        let elsewhere = bait.path();
        // The base image has /etc as a directory, so it is replaced.
        let image = image(node, "etc", &[link("etc", &*elsewhere)], &json!({})).await;
        harmless(
            &pod,
            image,
            &bait,
            "grep -c nameserver /etc/resolv.conf; cat /etc/hosts",
            |_| {},
        )
        .await;
    });
}

/// CVE-2026-55686: Podman made the working directory on the node if the image had a link on the way. pausa makes it
/// beneath the container's root, one handle after the other.
#[test]
#[ignore = "needs root"]
fn an_image_whose_working_directory_is_below_a_link() {
    on_pausa(async |node| {
        let (bait, pod) = (Bait::new(node), node.pod().await);
        let config = json!({"WorkingDir": "/work/made/here"});
        let image = image(node, "work", &[link("work", bait.path())], &config).await;
        let script = format!("test \"$(pwd -P)\" = {}/made/here || exit 1", bait.path());
        harmless(&pod, image, &bait, &script, |_| {}).await;
    });
}

/// CVE-2022-23648: containerd copied files of the node into a volume that an image declared with a path that leads out of
/// its root. pausa copies nothing: a volume is a part of the container's own root.
#[test]
#[ignore = "needs root"]
fn an_image_whose_volumes_lead_out() {
    on_pausa(async |node| {
        let (bait, pod) = (Bait::new(node), node.pod().await);
        let up = format!("/../../../../../../../..{}", bait.path());
        let config = json!({"Volumes": {&up: {}, "/link": {}, "/link/directory": {}, "/..": {}}});
        let image = image(node, "volume", &[link("link", bait.path())], &config).await;
        let script = format!("cat {up}/secret /link/secret 2>/dev/null; touch {up}/new /link/new");
        harmless(&pod, image, &bait, &script, |_| {}).await;
    });
}

/// A volume of the node with what looks like procfs, and whether it still looks the same.
fn false_proc(directory: &std::path::Path) {
    for below in [
        "self/attr/apparmor",
        "thread-self/attr/apparmor",
        "sys/kernel",
        "1",
    ] {
        std::fs::create_dir_all(directory.join(below)).expect("a directory");
    }
    for file in [
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "self/attr/keycreate",
        "self/oom_score_adj",
        "self/uid_map",
        "self/setgroups",
        "thread-self/attr/exec",
        "thread-self/attr/apparmor/exec",
        "thread-self/attr/keycreate",
        "sysrq-trigger",
        "sys/kernel/hostname",
        "kcore",
    ] {
        std::fs::write(directory.join(file), "untouched").expect("a file");
    }
}

/// An image whose `/proc` is a link to `target` must not start: what is read and written there later would not be the kernel's.
async fn is_refused(node: &Node, pod: &Pod<'_>, name: &str, target: &str, mounts: &[v1::Mount]) {
    for path in ["proc", "sys"] {
        let entries = [link(path, target), Entry::Dir("elsewhere", 0o755)];
        let image = image(node, &format!("{name}-{path}"), &entries, &json!({})).await;
        let mut config = pod.container_config();
        config.image = Some(image);
        config.mounts = mounts.to_vec();
        run(&mut config, "mount; echo x > /proc/sysrq-trigger");
        let refused = attempt(pod, config).await.expect_err("it must not start");
        assert!(refused.contains(&format!("/{path}")), "{refused}");
    }
}

/// CVE-2023-27561: with `/proc` as a link to another directory of the image, runc mounted procfs there, and neither masks nor
/// labels were in force. pausa mounts procfs and sysfs only on a plain path.
#[test]
#[ignore = "needs root"]
fn an_image_whose_proc_is_a_link() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        is_refused(node, &pod, "proc", "/elsewhere", &[]).await;
    });
}

/// CVE-2019-19921: the same with a link into a volume that another container could change at that moment.
#[test]
#[ignore = "needs root"]
fn an_image_whose_proc_leads_into_a_volume() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let shared = node.dir().join("shared");
        false_proc(&shared.join("proc"));
        let before = super::listed(&shared);
        let mounts = [bind(&shared, "/shared")];
        is_refused(node, &pod, "shared", "/shared/proc", &mounts).await;
        assert_eq!(super::listed(&shared), before);
    });
}

/// CVE-2025-52881: runc wrote labels and sysctls to files that were mounted over those of procfs. pausa writes them while
/// only the node's procfs can be seen. Here a volume takes the place of the whole container's procfs.
#[test]
#[ignore = "needs root"]
fn a_false_proc_is_not_written_to() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let directory = node.dir().join("proc");
        false_proc(&directory);
        let before = super::listed(&directory);
        let container = pod.start(|config| {
            config.mounts = vec![bind(&directory, "/proc")];
            let linux = config.linux.get_or_insert_default();
            linux.resources.get_or_insert_default().oom_score_adj = 777;
            // They would be masked in the volume.
            security(config).masked_paths.clear();
            security(config).readonly_paths.clear();
        });
        let container = container.await;
        container.exec(&["true"]).await;
        let pid = container.pid().await;
        let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
        assert_eq!(score.expect("it runs").trim(), "777");
        assert_eq!(super::listed(&directory), before);
    });
}

/// CVE-2025-52881: whoever may choose mounts must not put anything into procfs, whatever way leads there.
#[test]
#[ignore = "needs root"]
fn nothing_is_mounted_in_procfs() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let directory = node.dir().join("fake");
        false_proc(&directory);
        let before = super::listed(&directory);
        let entries = [
            link("attributes", "/proc/self/attr"),
            link("process", "proc/thread-self"),
        ];
        let image = image(node, "in-proc", &entries, &json!({})).await;
        for (source, target) in [
            ("self/attr", "/proc/self/attr"),
            ("self/attr/exec", "/proc/self/attr/exec"),
            ("self/attr", "/attributes"),
            ("self/attr/exec", "/attributes/exec"),
            ("thread-self/attr/exec", "/process/attr/exec"),
            ("sys/kernel", "/proc/sys/kernel"),
            ("1", "/proc/1"),
            ("self", "/proc/../proc/self"),
        ] {
            let mut config = pod.container_config();
            config.image = Some(image.clone());
            config.mounts = vec![bind(&directory.join(source), target)];
            run(&mut config, "echo ran");
            let refused = attempt(&pod, config).await.expect_err(target);
            assert!(refused.contains("procfs"), "{target}: {refused}");
        }
        assert_eq!(super::listed(&directory), before);
    });
}

/// CVE-2025-31133: runc masked files with the container's `/dev/null`. If that was a link to a file of procfs, the container
/// got the file, and could write to it. Here `/dev` is a volume, where another container may have put such a link.
#[test]
#[ignore = "needs root"]
fn a_false_null_device_masks_nothing() {
    on_node(async |node| {
        let pod = node.pod().await;
        let dev = node.dir().join("dev");
        std::fs::create_dir(&dev).expect("a directory");
        // Harmless to write to: it is of the pod's own UTS namespace.
        symlink("/proc/sys/kernel/domainname", dev.join("null")).expect("a link");
        let mut config = pod.container_config();
        config.mounts = vec![bind(&dev, "/dev")];
        security(&mut config).masked_paths = strings(&["/etc/group", "/proc/kcore"]);
        let script = "echo owned > /etc/group; echo owned > /proc/kcore; cat /etc/group /proc/kcore /proc/sys/kernel/domainname";
        run(&mut config, script);
        match attempt(&pod, config).await {
            Ok(said) => assert!(!said.contains("owned"), "{said}"),
            Err(refused) => assert!(!node.is_pausa(), "{refused}"),
        }
    });
}

/// CVE-2025-52565: runc mounted what `/dev/pts/0` led to onto what `/dev/console` led to. A volume takes the place of `/dev`, with
/// links in place of both.
#[test]
#[ignore = "needs root"]
fn a_false_console_is_not_mounted_over() {
    on_node(async |node| {
        let bait = Bait::new(node);
        let pod = node.pod().await;
        let dev = node.dir().join("dev");
        std::fs::create_dir_all(dev.join("pts")).expect("a directory");
        for name in ["console", "pts/0", "pts/ptmx"] {
            symlink("/proc/sys/kernel/domainname", dev.join(name)).expect("a link");
        }
        for console in ["/proc/sys/kernel/domainname", "/etc/passwd", &bait.path()] {
            std::fs::remove_file(dev.join("console")).expect("the link");
            symlink(console, dev.join("console")).expect("a link");
            let mut config = pod.container_config();
            config.mounts = vec![bind(&dev, "/dev")];
            config.tty = true;
            let script = "echo owned > /dev/console; cat /proc/sys/kernel/domainname; test -f /etc/passwd || echo owned; \
                          grep -E ' /sys/kernel/domainname | /dev/console ' /proc/self/mountinfo && echo owned";
            run(&mut config, script);
            if let Ok(said) = attempt(&pod, config).await {
                assert!(!said.contains("owned"), "{said}");
            }
            bait.is_untouched();
        }
    });
}
