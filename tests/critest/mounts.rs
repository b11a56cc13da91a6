//! What is mounted into a container: the request's mounts, and the files every pod has.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pausa::proto::v1;
use pausa::proto::v1::MountPropagation;
use rustix::mount::MountPropagationFlags;
use tonic::Code;

use crate::harness::pod::{bind, pod_security, security};
use crate::harness::tmpfs::Tmpfs;
use crate::harness::{on_node, on_pausa, refused, strings};

/// CRI `Mount.readonly`: both ways, for directories and for files.
#[test]
#[ignore = "needs root"]
fn binds_of_directories_and_files() {
    on_node(async |node| {
        let dir = node.dir().join("volume");
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::write(dir.join("file"), "content").expect("a file");
        let pod = node.pod().await;
        let script = "cat /rw/file; echo; cat /one; echo; echo more > /rw/new; \
                      (echo x > /ro/new2) 2>/dev/null || echo ro; (echo x > /one) 2>/dev/null || echo ro";
        let seen = pod.sh_with(script, |config| {
            let read_only = |mount| v1::Mount {
                readonly: true,
                ..mount
            };
            config.mounts = vec![
                bind(&dir, "/rw"),
                read_only(bind(&dir, "/ro")),
                read_only(bind(&dir.join("file"), "/one")),
            ];
        });
        assert_eq!(seen.await, "content\ncontent\nro\nro\n");
        assert_eq!(
            std::fs::read_to_string(dir.join("new")).expect("written through"),
            "more\n"
        );
        assert!(!dir.join("new2").exists());
    });
}

/// A missing source is made, as a directory 0755 (kubelet's hostPath of type "" relies on it).
#[test]
#[ignore = "needs root"]
fn a_missing_source_is_made() {
    on_node(async |node| {
        let dir = node.dir().join("not/yet/there");
        let pod = node.pod().await;
        pod.sh_with("echo x > /v/file", |config| {
            config.mounts = vec![bind(&dir, "/v")];
        })
        .await;
        assert!(dir.join("file").is_file());
        let mode = dir.metadata().expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    });
}

/// A source that is a symbolic link is followed on the node, before the container exists.
#[test]
#[ignore = "needs root"]
fn a_source_may_be_a_link() {
    on_node(async |node| {
        let dir = node.dir().join("target");
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::write(dir.join("file"), "linked").expect("a file");
        let link = node.dir().join("link");
        std::os::unix::fs::symlink(&dir, &link).expect("a link");
        let pod = node.pod().await;
        let seen = pod
            .sh_with("cat /v/file", |config| config.mounts = vec![bind(&link, "/v")])
            .await;
        assert_eq!(seen, "linked");
    });
}

/// A destination below a link of the image stays in the container (CVE-2019-16884 and its kin).
#[test]
#[ignore = "needs root"]
fn a_destination_cannot_leave_the_container() {
    on_node(async |node| {
        let dir = node.dir().join("inside");
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::write(dir.join("file"), "inside").expect("a file");
        let pod = node.pod().await;
        let seen = pod.sh_with("cat /tmp/deep/er/file", |config| {
            config.mounts = vec![bind(&dir, "/tmp/../../../../tmp/deep/er")];
        });
        assert_eq!(seen.await, "inside");
        assert!(!Path::new("/tmp/deep").exists(), "made on the node");
    });
}

/// Mounts are made outer ones first, whatever their order in the request.
#[test]
#[ignore = "needs root"]
fn the_order_of_the_request_does_not_matter() {
    on_node(async |node| {
        let make = |name: &str| {
            let dir = node.dir().join(name);
            std::fs::create_dir_all(dir.join("below")).expect("a directory");
            std::fs::write(dir.join(name), "").expect("a file");
            dir
        };
        let (outer, inner) = (make("outer"), make("inner"));
        let pod = node.pod().await;
        let seen = pod.sh_with("ls /v /v/below", |config| {
            config.mounts = vec![bind(&inner, "/v/below"), bind(&outer, "/v")];
        });
        assert_eq!(seen.await, "/v:\nbelow\nouter\n\n/v/below:\nbelow\ninner\n");
    });
}

/// CRI `ContainerStatus.mounts`: as requested, in the request's words.
#[test]
#[ignore = "needs root"]
fn the_status_repeats_the_mounts() {
    on_node(async |node| {
        let dir = node.dir().join("v");
        let pod = node.pod().await;
        let mounts = vec![
            bind(&dir, "/a"),
            v1::Mount {
                readonly: true,
                ..bind(&dir, "/b")
            },
        ];
        let container = pod.start(|config| config.mounts = mounts.clone()).await;
        assert_eq!(container.status().await.mounts, mounts);
    });
}

/// CRI `Mount.recursive_read_only` (KEP-3857): submounts too, and only with `readonly` and private propagation.
#[test]
#[ignore = "needs root"]
fn read_only_all_the_way_down() {
    on_node(async |node| {
        let outer = node.dir().join("outer");
        std::fs::create_dir_all(outer.join("sub")).expect("a directory");
        let _sub = Tmpfs::new(outer.join("sub"), MountPropagationFlags::PRIVATE);
        let pod = node.pod().await;
        let script = "touch /v/sub/x 2>/dev/null && echo written || echo read-only";
        let plain = v1::Mount {
            readonly: true,
            ..bind(&outer, "/v")
        };
        let recursive = v1::Mount {
            recursive_read_only: true,
            ..plain.clone()
        };
        assert_eq!(
            pod.sh_with(script, |config| config.mounts = vec![plain]).await,
            "written\n"
        );
        assert_eq!(
            pod.sh_with(script, |config| config.mounts = vec![recursive.clone()])
                .await,
            "read-only\n"
        );
        let wrong = [
            v1::Mount {
                readonly: false,
                ..recursive.clone()
            },
            v1::Mount {
                propagation: MountPropagation::PropagationHostToContainer.into(),
                ..recursive
            },
        ];
        for mount in wrong {
            let mut config = pod.container_config();
            config.mounts = vec![mount];
            let status = pod
                .try_create(&config)
                .await
                .expect_err("recursive_read_only does not go with this");
            assert!(
                !node.is_pausa() || status.code() == Code::InvalidArgument,
                "{status:?}"
            );
        }
    });
}

/// CRI `Mount.mount_options` (since 0.37): noexec, nodev, nosuid and nothing else.
#[test]
#[ignore = "needs root"]
fn mount_options() {
    on_pausa(async |node| {
        let dir = node.dir().join("v");
        let pod = node.pod().await;
        let script = "cp /bin/busybox /v/true; /v/true 2>/dev/null || echo no execution";
        let options = |words: &[&str]| v1::Mount {
            mount_options: strings(words),
            ..bind(&dir, "/v")
        };
        let seen = pod
            .sh_with(script, |config| {
                config.mounts = vec![options(&["noexec", "nosuid", "nodev"])];
            })
            .await;
        assert_eq!(seen, "no execution\n");
        let mut config = pod.container_config();
        config.mounts = vec![options(&["bind"])];
        let text = refused(Code::InvalidArgument, pod.try_create(&config).await);
        assert!(text.contains("mount_options"), "{text}");
    });
}

/// CRI `MountPropagation`: PRIVATE sees nothing new, HOST_TO_CONTAINER sees the node's later mounts.
#[test]
#[ignore = "needs root"]
fn mounts_of_the_node_propagate_when_asked_for() {
    on_node(async |node| {
        let shared = Tmpfs::new(node.dir().join("shared"), MountPropagationFlags::SHARED);
        let pod = node.pod().await;
        let start = async |propagation: MountPropagation| {
            let mount = v1::Mount {
                propagation: propagation.into(),
                ..bind(shared.path(), "/v")
            };
            pod.start(|config| config.mounts = vec![mount]).await
        };
        let private = start(MountPropagation::PropagationPrivate).await;
        let slave = start(MountPropagation::PropagationHostToContainer).await;
        let late = Tmpfs::new(shared.path().join("late"), MountPropagationFlags::SHARED);
        std::fs::write(late.path().join("file"), "late").expect("a file");
        assert_eq!(slave.sh("cat /v/late/file").await, "late");
        assert_eq!(private.sh("ls /v/late").await, "");
    });
}

/// CRI `PROPAGATION_BIDIRECTIONAL`: what the container mounts, the node has; only where the source is shared.
#[test]
#[ignore = "needs root"]
fn mounts_of_the_container_propagate_when_asked_for() {
    on_node(async |node| {
        let shared = Tmpfs::new(node.dir().join("shared"), MountPropagationFlags::SHARED);
        let private = Tmpfs::new(node.dir().join("private"), MountPropagationFlags::PRIVATE);
        let pod = node
            .pod_with(|config| pod_security(config).privileged = true)
            .await;
        let mount = |source: &Tmpfs| v1::Mount {
            propagation: MountPropagation::PropagationBidirectional.into(),
            ..bind(source.path(), "/v")
        };
        let container = pod.start(|config| {
            security(config).privileged = true;
            config.mounts = vec![mount(&shared)];
        });
        let container = container.await;
        container
            .sh("mkdir /v/new && mount -t tmpfs none /v/new && echo x > /v/new/file")
            .await;
        assert!(shared.path().join("new/file").is_file(), "the node has it too");
        container.sh("umount /v/new").await;
        let mut config = pod.container_config();
        security(&mut config).privileged = true;
        config.mounts = vec![mount(&private)];
        assert!(pod.try_create(&config).await.is_err(), "the source is not shared");
    });
}

/// Files of the pod: /etc/hostname, /etc/hosts, /etc/resolv.conf, unless the request mounts its own.
#[test]
#[ignore = "needs root"]
fn the_files_of_the_pod() {
    on_node(async |node| {
        let own = node.dir().join("hosts-of-kubelet");
        std::fs::write(&own, "127.0.0.1 localhost\n# Kubernetes-managed hosts file.\n").expect("a file");
        let pod = node.pod_with(|config| config.hostname = "named".to_owned()).await;
        let seen = pod.sh("cat /etc/hostname; hostname; grep -c localhost /etc/hosts; test -f /etc/resolv.conf && echo dns").await;
        let lines: Vec<_> = seen.lines().collect();
        assert_eq!(&lines[..2], ["named", "named"]);
        assert_ne!(lines[2], "0", "localhost in /etc/hosts");
        assert_eq!(lines[3], "dns");
        let seen = pod
            .sh_with("cat /etc/hosts", |config| {
                config.mounts = vec![bind(&own, "/etc/hosts")];
            })
            .await;
        assert!(
            seen.contains("Kubernetes-managed"),
            "the request's mount wins: {seen}"
        );
    });
}

/// /dev/shm is the pod's: 64 MiB, shared by its containers, not by other pods.
#[test]
#[ignore = "needs root"]
fn shared_memory_is_shared_in_the_pod() {
    on_node(async |node| {
        let pod = node.pod().await;
        let other = node.pod().await;
        let writer = pod.start(|_| {}).await;
        writer.sh("echo shared > /dev/shm/file").await;
        assert_eq!(
            pod.sh("cat /dev/shm/file; df -m /dev/shm | tail -1 | awk '{print $2}'")
                .await,
            "shared\n64\n"
        );
        assert_eq!(other.sh("ls /dev/shm").await, "");
    });
}

/// OCI runtime spec, default filesystems: /proc, /sys read-only, /dev/pts, /dev/mqueue.
#[test]
#[ignore = "needs root"]
fn the_default_filesystems() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "awk '{print $2, $3, substr($4, 1, 2)}' /proc/mounts | sort -u";
        let seen = pod.sh(script).await;
        for line in [
            "/proc proc rw",
            "/sys sysfs ro",
            "/dev tmpfs rw",
            "/dev/pts devpts rw",
            "/dev/mqueue mqueue rw",
        ] {
            assert!(seen.lines().any(|found| found == line), "{line} in\n{seen}");
        }
    });
}

/// A mount on one of the defaults replaces it.
#[test]
#[ignore = "needs root"]
fn a_mount_replaces_a_default() {
    on_node(async |node| {
        let dir = node.dir().join("mine");
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::write(dir.join("file"), "mine").expect("a file");
        let pod = node.pod().await;
        let seen = pod
            .sh_with("cat /dev/shm/file", |config| {
                config.mounts = vec![bind(&dir, "/dev/shm")];
            })
            .await;
        assert_eq!(seen, "mine");
    });
}

/// OCI runtime-spec, "cgroup": a container sees each hierarchy once, read-only, and on version 1 none of version 2, as with
/// runc. Kubernetes' end-to-end tests take `/sys/fs/cgroup/unified` for a node with version 2.
#[test]
#[ignore = "needs root"]
fn each_cgroup_hierarchy_is_mounted_once() {
    on_node(async |node| {
        let pod = node.pod().await;
        let mounts = pod
            .sh("grep ' /sys/fs/cgroup' /proc/self/mounts; ! mkdir /sys/fs/cgroup/x 2>/dev/null")
            .await;
        let targets: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        let different: std::collections::BTreeSet<&str> = targets.iter().copied().collect();
        assert_eq!(targets.len(), different.len(), "{mounts}");
        assert!(different.contains("/sys/fs/cgroup"), "{mounts}");
        assert!(!different.contains("/sys/fs/cgroup/unified"), "{mounts}");
    });
}
