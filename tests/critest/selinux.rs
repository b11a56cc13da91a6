//! SELinux: labels of processes, mounts, files and volumes, and nodes without it.
//!
//! Labels are the same in permissive mode, in which Debian's policy is tested: who may do what with them is the policy's.

use std::os::unix::fs::symlink;
use std::path::Path;

use pausa::proto::v1;
use rustix::fs::lgetxattr;
use tonic::Code;

use crate::harness::pod::{bind, pod_security, security};
use crate::harness::{Node, ok, on_own_node, on_pausa, refused, strings};
use crate::user_namespaces;

/// What the daemon says about SELinux.
async fn described(node: &Node) -> serde_json::Value {
    let status = node.runtime().status(v1::StatusRequest { verbose: true }).await;
    serde_json::from_str(&ok("Status", status).info["selinux"]).expect("JSON")
}

fn is_on() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Runs a test where SELinux is on. That containers are not labelled there is a failure.
fn with_selinux(test: impl AsyncFnOnce(&Node)) {
    if !is_on() {
        eprintln!("skipped: SELinux is not enabled in this kernel");
        return;
    }
    on_own_node(async |node| {
        let described = described(node).await;
        assert_eq!(described["labelsContainers"], true, "{described}");
        test(node).await;
    });
}

/// The label of a file on the node.
fn label(path: &Path) -> String {
    let mut value = [0_u8; 256];
    let length = lgetxattr(path, "security.selinux", &mut value).expect("a label");
    let value = String::from_utf8_lossy(value.get(..length).expect("its length"));
    value.trim_end_matches('\0').to_owned()
}

/// The level of a label.
fn level(label: &str) -> &str {
    label.trim().splitn(4, ':').nth(3).expect("a level")
}

fn options(kind: &str, level: &str) -> Option<v1::SeLinuxOption> {
    Some(v1::SeLinuxOption {
        r#type: kind.to_owned(),
        level: level.to_owned(),
        ..Default::default()
    })
}

const LABEL: &str = "cat /proc/1/attr/current | tr -d '\\0'; echo; cat /proc/self/attr/current | tr -d '\\0'";

/// CRI `selinux_options`, not given: `container_t` with a pair of categories that the containers of a pod share and no other
/// pod has, for the first process and for exec. It outlives the daemon.
#[test]
#[ignore = "needs root"]
fn a_pod_has_a_pair_of_categories() {
    with_selinux(async |node| {
        let (one, other) = (node.pod().await, node.pod().await);
        let (first, second) = (one.start(|_| {}).await, one.start(|_| {}).await);
        let stranger = other.start(|_| {}).await;
        let seen = first.sh(LABEL).await;
        let labels: Vec<&str> = seen.lines().collect();
        assert_eq!(labels.len(), 2, "{seen}");
        assert_eq!(labels[0], labels[1], "first process and exec");
        assert!(
            labels[0].starts_with("system_u:system_r:container_t:s0:c"),
            "{seen}"
        );
        assert_eq!(level(labels[0]).matches(",c").count(), 1, "{seen}");
        assert_eq!(second.sh(LABEL).await, seen);
        assert_ne!(stranger.sh(LABEL).await, seen);
        let record =
            std::fs::read(node.dir().join("s/pods").join(&one.id).join("pod.json")).expect("a record");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        assert_eq!(record["selinux"]["level"], level(labels[0]), "{record}");
        node.kill_and_restart_daemon().await;
        assert_eq!(first.sh(LABEL).await, seen, "exec after a restart");
        let later = one.start(|_| {}).await;
        assert_eq!(later.sh(LABEL).await, seen, "a container after a restart");
    });
}

/// Everything that is made for a container has its file label: root, /dev, /dev/shm, terminals, message queues, the pod's
/// files. The kernel shows `context=` with quotes, since a level has a comma.
#[test]
#[ignore = "needs root"]
fn mounts_and_files_of_a_pod_are_labelled() {
    with_selinux(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let process = container.sh(LABEL).await;
        let expected = format!(
            "system_u:object_r:container_file_t:{}",
            level(process.lines().next().expect("a label"))
        );
        let mounts = container.sh("cat /proc/self/mountinfo").await;
        for place in ["/", "/dev", "/dev/shm", "/dev/pts"] {
            let mount = mounts
                .lines()
                .find(|line| line.split(' ').nth(4) == Some(place))
                .expect(place);
            assert!(mount.contains(&format!("context=\"{expected}\"")), "{mount}");
        }
        let root = format!("/proc/{}/root", container.pid().await);
        for file in [
            "",
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/dev/null",
            "/dev/shm",
            "/dev/mqueue",
            "/bin/busybox",
        ] {
            let path = format!("{root}{file}");
            // The first is the magic link itself.
            let path = if file.is_empty() {
                format!("{root}/.")
            } else {
                path
            };
            assert_eq!(label(Path::new(&path)), expected, "{file}");
        }
        container
            .sh("echo text > /made && echo text > /dev/shm/made")
            .await;
        assert_eq!(label(Path::new(&format!("{root}/made"))), expected);
    });
}

/// Options of the pod, and the container's own over them. A level can be shared on purpose.
#[test]
#[ignore = "needs root"]
fn options_of_pod_and_container() {
    with_selinux(async |node| {
        let pod = node.pod_with(|config| pod_security(config).selinux_options = options("", "s0:c4,c5"));
        let pod = pod.await;
        let one = pod.start(|_| {}).await;
        assert_eq!(one.sh(LABEL).await.lines().next().map(level), Some("s0:c4,c5"));
        let other = pod.start(|config| security(config).selinux_options = options("spc_t", "s0:c7"));
        let seen = other.await.sh(LABEL).await;
        assert!(seen.starts_with("system_u:system_r:spc_t:s0:c7\n"), "{seen}");
        let mut config = pod.container_config();
        security(&mut config).selinux_options = options("no_such_type_t", "");
        let text = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert!(text.contains("no_such_type_t"), "{text}");
    });
}

/// A privileged container is `spc_t`; its files keep the pod's categories, so that other containers can use them.
#[test]
#[ignore = "needs root"]
fn a_privileged_container_is_not_separated() {
    with_selinux(async |node| {
        let pod = node
            .pod_with(|config| pod_security(config).privileged = true)
            .await;
        let container = pod.start(|config| security(config).privileged = true).await;
        let seen = container.sh(LABEL).await;
        assert!(seen.starts_with("system_u:system_r:spc_t:s0\n"), "{seen}");
        let root = format!("/proc/{}/root/bin", container.pid().await);
        assert!(label(Path::new(&root)).starts_with("system_u:object_r:container_file_t:s0:c"));
    });
}

/// CRI `Mount.selinux_relabel`: the volume gets the container's file label, with all that is in it and nothing else.
#[test]
#[ignore = "needs root"]
fn a_volume_is_relabelled_when_asked_for() {
    with_selinux(async |node| {
        let (asked, other) = (node.dir().join("asked"), node.dir().join("other"));
        for dir in [&asked, &other] {
            std::fs::create_dir_all(dir.join("below")).expect("a volume");
            std::fs::write(dir.join("below/file"), "text").expect("a file");
        }
        symlink(other.join("below/file"), asked.join("link")).expect("a link");
        let before = label(&other.join("below/file"));
        let pod = node.pod().await;
        let container = pod.start(|config| {
            config.mounts = [(&asked, "/asked", true), (&other, "/other", false)]
                .map(|(host, path, selinux_relabel)| v1::Mount {
                    selinux_relabel,
                    ..bind(host, path)
                })
                .into();
        });
        let container = container.await;
        let process = container.sh(LABEL).await;
        let expected = format!(
            "system_u:object_r:container_file_t:{}",
            level(process.lines().next().expect("a label"))
        );
        for path in ["", "below", "below/file", "link"] {
            assert_eq!(label(&asked.join(path)), expected, "{path}");
        }
        assert_eq!(label(&other.join("below/file")), before);
        let mut config = pod.container_config();
        config.mounts = vec![v1::Mount {
            selinux_relabel: true,
            ..bind(Path::new("/usr"), "/usr-of-node")
        }];
        let before = label(Path::new("/usr"));
        let text = refused(Code::InvalidArgument, pod.try_create(&config).await);
        assert!(text.contains("mounts[0].host_path /usr"), "{text}");
        assert_eq!(label(Path::new("/usr")), before);
    });
}

/// `hostUsers: false` (KEP-127): the file systems that are mounted inside are labelled as well.
#[test]
#[ignore = "needs root"]
fn a_pod_with_a_user_namespace_is_labelled() {
    with_selinux(async |node| {
        if !user_namespaces::can(node).await {
            return;
        }
        let pod = node.pod_with(user_namespaces::set_default).await;
        let container = pod.start(|_| {}).await;
        let seen = container.sh(LABEL).await;
        assert!(seen.starts_with("system_u:system_r:container_t:s0:c"), "{seen}");
        let mounts = container.sh("cat /proc/self/mountinfo").await;
        assert!(
            mounts
                .matches("context=\"system_u:object_r:container_file_t:s0:c")
                .count()
                >= 4,
            "{mounts}"
        );
    });
}

/// A wrong level is the request's fault, with SELinux and without.
#[test]
#[ignore = "needs root"]
fn wrong_options_are_refused() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let mut config = pod.container_config();
        security(&mut config).selinux_options = options("", "s0,c4,c5");
        let text = refused(Code::InvalidArgument, pod.try_create(&config).await);
        assert!(
            text.contains("selinux_options") && text.contains("s0,c4,c5"),
            "{text}"
        );
        let mut config = node.pod_config();
        pod_security(&mut config).selinux_options = options("container_t\"", "");
        let text = refused(Code::InvalidArgument, node.try_pod(&config).await);
        assert!(text.contains("selinux_options"), "{text}");
    });
}

/// Without SELinux, options have no effect, as in other runtimes. Status says so, and the log once.
#[test]
#[ignore = "needs root"]
fn a_node_without_selinux() {
    if is_on() {
        eprintln!("skipped: SELinux is enabled in this kernel");
        return;
    }
    on_own_node(async |node| {
        let pod = node.pod_with(|config| pod_security(config).selinux_options = options("", "s0:c1,c2"));
        let pod = pod.await;
        for _ in 0..2 {
            let seen = pod.sh_with("echo runs", |config| {
                config.command = strings(&["echo", "runs"]);
                security(config).selinux_options = options("container_t", "s0:c1,c2");
            });
            assert_eq!(seen.await, "runs\n");
        }
        let described = described(node).await;
        assert_eq!(described["labelsContainers"], false, "{described}");
        assert!(
            described["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty()),
            "{described}"
        );
        assert_eq!(node.daemon_log().matches("asks for an SELinux label").count(), 1);
    });
}
