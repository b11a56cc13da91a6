//! Pods with a user namespace (KEP-127, `hostUsers: false`).

mod refused;

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use crate::harness::node::{reference, spec};
use crate::harness::pod::{bind, pod_security, security};
use crate::harness::{Node, Pod, ok, on_node, on_own_node, strings};
use pausa::proto::v1;
use pausa::proto::v1::NamespaceMode;

/// How many ids kubelet gives a pod.
const LENGTH: u32 = 65_536;
/// Where the first pod of a test begins.
const FIRST: u32 = 7 * LENGTH;

fn mappings(first: u32) -> Vec<v1::IdMapping> {
    vec![v1::IdMapping {
        host_id: first,
        container_id: 0,
        length: LENGTH,
    }]
}

fn users(first: u32) -> v1::UserNamespace {
    v1::UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: mappings(first),
        gids: mappings(first),
    }
}

fn set(config: &mut v1::PodSandboxConfig, users: v1::UserNamespace) {
    let options = pod_security(config).namespace_options.get_or_insert_default();
    options.userns_options = Some(users);
}

/// Gives a pod a user namespace of its own.
pub(crate) fn set_default(config: &mut v1::PodSandboxConfig) {
    set(config, users(FIRST));
}

async fn pod_of(node: &Node, first: u32) -> Pod<'_> {
    node.pod_with(|config| set(config, users(first))).await
}

/// A volume as kubelet mounts it into such a pod.
fn volume(host: &Path, container: &str, first: u32) -> v1::Mount {
    v1::Mount {
        uid_mappings: mappings(first),
        gid_mappings: mappings(first),
        ..bind(host, container)
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Whether the handler says that it can (CRI `RuntimeHandlerFeatures.user_namespaces`); kubelet asks before it tries.
pub(crate) async fn can(node: &Node) -> bool {
    let request = v1::StatusRequest::default();
    let status = ok("Status", node.runtime().status(request).await);
    let default = status.runtime_handlers.iter().find(|one| one.name.is_empty());
    let can = default
        .and_then(|handler| handler.features)
        .is_some_and(|features| features.user_namespaces);
    if !can {
        eprintln!("skipped: this node has no user namespaces");
    }
    can
}

fn on_able_node(test: impl AsyncFnOnce(&Node)) {
    on_node(async |node| {
        if can(node).await {
            test(node).await;
        }
    });
}

/// CRI `UserNamespace`: 0 inside is `host_id` outside, for all a pod's processes.
#[test]
#[ignore = "needs root"]
fn root_inside_is_somebody_else_outside() {
    on_able_node(async |node| {
        let pod = pod_of(node, FIRST).await;
        let container = pod.start(|_| {}).await;
        let seen = container
            .sh("id -u; cat /proc/self/uid_map /proc/self/gid_map; readlink /proc/self/ns/user")
            .await;
        let pid = container.pid().await;
        let (first, length) = (FIRST.to_string(), LENGTH.to_string());
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/user")).expect("its namespace");
        let map = ["0", &first, &length];
        let namespace = [namespace.to_str().expect("a name")];
        assert_eq!(words(&seen), [&["0"][..], &map, &map, &namespace].concat());
        let process = std::fs::metadata(format!("/proc/{pid}")).expect("its process");
        assert_eq!((process.uid(), process.gid()), (FIRST, FIRST));
        let status = pod.status().await;
        let options = status.linux.and_then(|linux| linux.namespaces?.options);
        assert_eq!(
            options.and_then(|options| options.userns_options),
            Some(users(FIRST))
        );
    });
}

/// An image's files belong to whom the image says, and may be changed by its root.
#[test]
#[ignore = "needs root"]
fn the_images_files_have_their_owners() {
    on_able_node(async |node| {
        let pod = pod_of(node, FIRST).await;
        let script = "stat -c %u:%g / /bin /etc/passwd; echo x >> /etc/passwd; mkdir /made && touch /made/file; \
                      stat -c %u:%g /etc/passwd /made/file; chown 1000:2000 /made/file && stat -c %u:%g /made/file; \
                      rm -r /made && ls -d /made 2>/dev/null || echo gone";
        let seen = pod.sh(script).await;
        let root = "0:0";
        assert_eq!(words(&seen), [root, root, root, root, root, "1000:2000", "gone"]);
    });
}

/// The same image, two pods with other ids: neither sees the other's, nor what it changed.
#[test]
#[ignore = "needs root"]
fn two_pods_of_one_image_have_ids_of_their_own() {
    on_able_node(async |node| {
        let one = pod_of(node, FIRST).await;
        let two = pod_of(node, FIRST + LENGTH).await;
        let script = "cat /proc/self/uid_map; stat -c %u /bin; touch /only-here; ls / | grep -c only-here";
        for (pod, first) in [(&one, FIRST), (&two, FIRST + LENGTH)] {
            let (first, length) = (first.to_string(), LENGTH.to_string());
            assert_eq!(words(&pod.sh(script).await), ["0", &first, &length, "0", "1"]);
        }
    });
}

/// CRI `Mount.uidMappings`: whoever is 1000 on the volume is 1000 inside, both ways; without, it is nobody's.
#[test]
#[ignore = "needs root"]
fn owners_on_a_volume_are_the_same_on_both_sides() {
    on_able_node(async |node| {
        let dir = node.dir().join("volume");
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::write(dir.join("file"), "content").expect("a file");
        chown(dir.join("file"), Some(1000), Some(2000)).expect("an owner");
        let pod = pod_of(node, FIRST).await;
        let script = "stat -c %u:%g /v /v/file /plain; cat /v/file; echo; touch /v/root; touch /v/given; \
                      chown 33:44 /v/given; touch /plain/x 2>/dev/null || echo refused; \
                      touch /ro/x 2>/dev/null || echo read-only";
        let seen = pod.sh_with(script, |config| {
            let plain = bind(&dir, "/plain");
            let read_only = v1::Mount {
                readonly: true,
                ..volume(&dir, "/ro", FIRST)
            };
            config.mounts = vec![volume(&dir, "/v", FIRST), plain, read_only];
        });
        let expected = [
            "0:0",
            "1000:2000",
            "65534:65534",
            "content",
            "refused",
            "read-only",
        ];
        assert_eq!(words(&seen.await), expected);
        let owner = |name: &str| {
            let found = std::fs::metadata(dir.join(name)).expect("written through");
            (found.uid(), found.gid())
        };
        assert_eq!((owner("root"), owner("given")), ((0, 0), (33, 44)));
    });
}

/// A file system whose owners cannot be mapped is named, and what to do.
#[test]
#[ignore = "needs root"]
fn a_volume_that_cannot_be_mapped_is_named() {
    on_able_node(async |node| {
        let pod = pod_of(node, FIRST).await;
        let mut config = pod.container_config();
        config.mounts = vec![volume(Path::new("/proc/sys/kernel"), "/v", FIRST)];
        let container = pod.create(config).await;
        let status = container.try_start().await.expect_err("procfs has no maps");
        let text = status.message();
        assert!(
            !node.is_pausa() || text.contains("/proc/sys/kernel") && text.contains("IDMAP"),
            "{text}"
        );
    });
}

/// The files and the shared memory of the pod belong to its root.
#[test]
#[ignore = "needs root"]
fn the_pods_files_belong_to_its_root() {
    on_able_node(async |node| {
        let pod = pod_of(node, FIRST).await;
        let script = "stat -c %u:%g:%a /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm; \
                      grep -c localhost /etc/hosts >/dev/null && echo '# more' >> /etc/hosts && \
                      echo x > /dev/shm/x && echo written";
        let seen = pod.sh(script).await;
        assert_eq!(
            words(&seen),
            ["0:0:644", "0:0:644", "0:0:644", "0:0:1777", "written"]
        );
    });
}

/// Everything of the kernel's is there: devices, mqueue, cgroups, read-only and masked paths.
#[test]
#[ignore = "needs root"]
fn the_kernels_file_systems_and_devices_are_there() {
    on_able_node(async |node| {
        let pod = pod_of(node, FIRST).await;
        let script = "grep -cE ' /(proc|sys|dev|dev/pts|dev/mqueue|dev/shm) ' /proc/mounts; ls /sys/fs/cgroup | grep -c .; \
                      stat -c %t:%T:%u /dev/null /dev/odd; echo x > /dev/null && head -c 3 /dev/odd | wc -c; \
                      mknod /tmp-null c 1 3 2>/dev/null || echo no-mknod; \
                      echo 1 2>/dev/null > /proc/sys/kernel/panic || echo read-only; cat /proc/keys | wc -c";
        let seen = pod.sh_with(script, |config| {
            config.devices = vec![v1::Device {
                host_path: "/dev/zero".to_owned(),
                container_path: "/dev/odd".to_owned(),
                permissions: "rwm".to_owned(),
            }];
        });
        let seen = seen.await;
        let seen = words(&seen);
        assert_eq!(seen[0], "6");
        assert_ne!(seen[1], "0", "cgroups");
        assert_eq!(
            seen[2..],
            ["1:3:0", "1:5:0", "3", "no-mknod", "read-only", "0"],
            "{seen:?}"
        );
    });
}

/// CRI `sysctls` and the defaults of the node: the pod's namespaces belong to its root.
#[test]
#[ignore = "needs root"]
fn sysctls_are_set_inside() {
    on_able_node(async |node| {
        let pod = node.pod_with(|config| {
            set(config, users(FIRST));
            let linux = config.linux.get_or_insert_default();
            linux.sysctls = [
                ("net.core.somaxconn", "777"),
                ("kernel.shm_rmid_forced", "1"),
                ("fs.mqueue.msg_max", "12"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        });
        let pod = pod.await;
        let script = "cd /proc/sys; cat net/core/somaxconn kernel/shm_rmid_forced fs/mqueue/msg_max";
        assert_eq!(words(&pod.sh(script).await), ["777", "1", "12"]);
        if node.is_pausa() {
            // What the peers leave out here.
            let script =
                "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start";
            assert_eq!(words(&pod.sh(script).await), ["0", "65535", "0"]);
        }
    });
}

/// Sysctls of the UTS and the user namespace. The latter limit what the pod may make: with no new network namespaces, for
/// example, `unshare -n` fails.
#[test]
#[ignore = "needs root"]
fn sysctls_of_uts_and_users_are_set_inside() {
    on_able_node(async |node| {
        if !node.is_pausa() {
            return;
        }
        let before = std::fs::read_to_string("/proc/sys/user/max_net_namespaces").expect("the node's");
        let pod = node.pod_with(|config| {
            set(config, users(FIRST));
            let linux = config.linux.get_or_insert_default();
            linux.sysctls = [
                ("kernel.domainname", "example.test"),
                ("user.max_net_namespaces", "0"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        });
        let pod = pod.await;
        let script = "cd /proc/sys; cat kernel/domainname user/max_net_namespaces; unshare -n true 2>/dev/null || echo none";
        let seen = pod.sh_with(script, |config| {
            security(config).capabilities = Some(v1::Capability {
                add_capabilities: strings(&["SYS_ADMIN"]),
                ..Default::default()
            });
        });
        assert_eq!(words(&seen.await), ["example.test", "0", "none"]);
        let after = std::fs::read_to_string("/proc/sys/user/max_net_namespaces").expect("the node's");
        assert_eq!(before, after);
    });
}

/// A capability is about the pod's own namespaces: CAP_NET_ADMIN for its network, CAP_SYS_ADMIN for its mounts.
#[test]
#[ignore = "needs root"]
fn capabilities_count_inside_only() {
    on_able_node(async |node| {
        let pod = pod_of(node, FIRST).await;
        let script = "ip link set lo down && echo net; mkdir /m && mount -t tmpfs x /m && echo mount; \
                      hostname other 2>/dev/null && hostname; \
                      mount -t devtmpfs x /m 2>/dev/null || echo no-devices";
        let seen = pod.sh_with(script, |config| {
            security(config).capabilities = Some(v1::Capability {
                add_capabilities: strings(&["NET_ADMIN", "SYS_ADMIN"]),
                ..Default::default()
            });
            // AppArmor's default profile allows no mounts, whatever the capabilities.
            security(config).apparmor = Some(v1::SecurityProfile {
                profile_type: v1::security_profile::ProfileType::Unconfined.into(),
                ..Default::default()
            });
        });
        assert_eq!(words(&seen.await), ["net", "mount", "other", "no-devices"]);
    });
}

/// ExecSync is in the container's user namespace, and may open its own streams again.
#[test]
#[ignore = "needs root"]
fn exec_is_inside_too() {
    on_able_node(async |node| {
        let pod = pod_of(node, FIRST).await;
        for uid in [0, 1000] {
            let container = pod.start(|config| {
                security(config).run_as_user = Some(v1::Int64Value { value: uid });
                config.command = strings(&["sh", "-c", "echo out > /dev/stdout; exec sleep 3600"]);
            });
            let container = container.await;
            container.says("stdout F out").await;
            let seen = container
                .sh("id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user; echo again > /dev/stdout")
                .await;
            let link = format!("/proc/{}/ns/user", container.pid().await);
            let link = std::fs::read_link(link).expect("its namespace");
            let (uid, first) = (uid.to_string(), FIRST.to_string());
            let link = link.to_str().expect("a name");
            assert_eq!(words(&seen), [&uid, "0", &first, "65536", link, "again"]);
        }
    });
}

/// CRI `NamespaceMode.POD` and `TARGET` for PIDs: shared processes, also for kubectl debug.
#[test]
#[ignore = "needs root"]
fn pid_namespaces_are_shared_inside() {
    on_able_node(async |node| {
        let shared = node.pod_with(|config| {
            set(config, users(FIRST));
            let options = pod_security(config).namespace_options.get_or_insert_default();
            options.set_pid(NamespaceMode::Pod);
        });
        let shared = shared.await;
        let start = async |pod: &Pod<'_>, seconds: &str| {
            let config = |config: &mut v1::ContainerConfig| config.command = strings(&["sleep", seconds]);
            pod.start(config).await.id
        };
        start(&shared, "3711").await;
        let seen = shared
            .sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; stat -c %u /proc/1")
            .await;
        assert!(
            seen.contains("sleep 3711") && !seen.ends_with("65534\n"),
            "{seen}"
        );

        let pod = pod_of(node, FIRST + LENGTH).await;
        let target = start(&pod, "3722").await;
        let debugger = pod.sh_with(
            "tr '\\0' ' ' < /proc/1/cmdline; ls /proc/1/root/bin/busybox; stat -c %u /proc/1",
            |config| {
                let options = security(config).namespace_options.get_or_insert_default();
                options.set_pid(NamespaceMode::Target);
                options.target_id = target;
            },
        );
        let seen = debugger.await;
        assert!(
            seen.contains("sleep 3722") && seen.ends_with("busybox\n0\n"),
            "{seen}"
        );
    });
}

/// An image as a volume (KEP-4639) has its owners as well.
#[test]
#[ignore = "needs root"]
fn image_volumes_have_their_owners() {
    on_able_node(async |node| {
        let pod = pod_of(node, FIRST).await;
        node.pull("rich").await;
        let script = "stat -c %u:%g /image /image/bin/busybox; test -x /image/bin/sh && echo there";
        let seen = pod.sh_with(script, |config| {
            config.mounts = vec![v1::Mount {
                container_path: "/image".to_owned(),
                readonly: true,
                image: Some(spec(&reference("rich"))),
                ..Default::default()
            }];
        });
        assert_eq!(words(&seen.await), ["0:0", "0:0", "there"]);
    });
}

/// A pod with a user namespace on the host's network (CRI since 1.36, `RuntimeFeatures.user_namespaces_host_network`): it has
/// the node's interfaces and no power over them, and sees `/sys` of the node, read-only. Exec and a new daemon find its user
/// namespace, too.
#[test]
#[ignore = "needs root"]
fn the_hosts_network_is_there_and_cannot_be_changed() {
    on_own_node(async |node| {
        if !can(node).await {
            return;
        }
        let status = ok(
            "Status",
            node.runtime().status(v1::StatusRequest::default()).await,
        );
        assert!(
            status
                .features
                .is_some_and(|features| features.user_namespaces_host_network)
        );
        let pod = node.pod_with(|config| {
            set(config, users(FIRST));
            let options = pod_security(config).namespace_options.get_or_insert_default();
            options.set_network(v1::NamespaceMode::Node);
        });
        let pod = pod.await;
        let privileged = |config: &mut v1::ContainerConfig| {
            security(config).capabilities = Some(v1::Capability {
                add_capabilities: strings(&["NET_ADMIN", "SYS_ADMIN"]),
                ..Default::default()
            });
        };
        let running = pod.start(privileged).await;
        let created = pod.create(pod.container_config()).await;
        let own = std::fs::read_link("/proc/self/ns/net").expect("our network namespace");
        let seen = running
            .sh("readlink /proc/self/ns/net; cat /proc/self/uid_map; hostname")
            .await;
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("our name");
        let first = FIRST.to_string();
        assert_eq!(
            words(&seen),
            [own.to_str().expect("text"), "0", &first, "65536", name.trim()]
        );
        // The bridge is there from the first pod on that needs it.
        node.pod().await;
        let names = running.sh("ls /sys/class/net").await;
        assert!(words(&names).contains(&node.slot().bridge().as_str()), "{names}");
        let refused = "ip link add x type dummy 2>&1 | grep -o 'not permitted'; hostname x 2>&1 | grep -o 'not permitted'; \
                       touch /sys/x 2>&1 | grep -o 'Read-only file system'; \
                       grep ' /sys[ /]' /proc/self/mountinfo | grep -v ' /sys/fs/cgroup' | cut -d' ' -f6 | grep -v '^ro' | head -1";
        assert_eq!(
            running.sh(refused).await,
            "not permitted\nnot permitted\nRead-only file system\n"
        );
        node.kill_and_restart_daemon().await;
        created.start().await;
        let later = pod.start(|_| {}).await;
        for container in [&running, &created, &later] {
            let seen = container.sh("stat -c %u /bin; cat /proc/self/uid_map").await;
            assert_eq!(words(&seen), ["0", "0", &first, "65536"]);
        }
    });
}

/// A daemon that was killed finds the pod's user namespace again.
#[test]
#[ignore = "needs root"]
fn a_new_daemon_starts_what_the_old_one_made() {
    on_own_node(async |node| {
        if !can(node).await {
            return;
        }
        let pod = pod_of(node, FIRST).await;
        let running = pod.start(|_| {}).await;
        let created = pod.create(pod.container_config()).await;
        node.kill_and_restart_daemon().await;
        created.start().await;
        let later = pod.start(|_| {}).await;
        for container in [&running, &created, &later] {
            let seen = container.sh("stat -c %u /bin; cat /proc/self/uid_map").await;
            let first = FIRST.to_string();
            assert_eq!(words(&seen), ["0", "0", &first, "65536"]);
        }
    });
}
