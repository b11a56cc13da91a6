//! Which namespaces a container shares: with its pod, with another container, with the node.

use pausa::proto::v1;
use pausa::proto::v1::NamespaceMode;
use tonic::Code;

use crate::harness::pod::{pod_security, security};
use crate::harness::{Node, Pod, eventually, map, on_node, on_own_node, on_pausa, refused, strings};

fn own(kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("our namespace");
    link.display().to_string()
}

async fn inside(pod: &Pod<'_>, kind: &str) -> String {
    pod.sh(&format!("readlink /proc/self/ns/{kind}"))
        .await
        .trim_end()
        .to_owned()
}

async fn pod_with_pid(node: &Node, mode: NamespaceMode) -> Pod<'_> {
    node.pod_with(|config| pod_security(config).namespace_options.get_or_insert_default().pid = mode.into())
        .await
}

/// CRI `NamespaceMode.CONTAINER` for PIDs: each container is alone and its command is PID 1.
#[test]
#[ignore = "needs root"]
fn a_pid_namespace_for_every_container() {
    on_node(async |node| {
        let pod = node.pod().await;
        let one = pod.start(|_| {}).await;
        let two = pod.start(|_| {}).await;
        assert_ne!(
            one.sh("readlink /proc/self/ns/pid").await,
            two.sh("readlink /proc/self/ns/pid").await
        );
        let script = "tr '\\0' ' ' < /proc/1/cmdline";
        assert!(one.sh(script).await.contains("trap"), "the command is PID 1");
    });
}

/// CRI `NamespaceMode.POD` for PIDs (`shareProcessNamespace`): containers see each other, and none is PID 1.
#[test]
#[ignore = "needs root"]
fn one_pid_namespace_for_the_pod() {
    on_node(async |node| {
        let pod = pod_with_pid(node, NamespaceMode::Pod).await;
        let one = pod
            .start(|config| config.command = strings(&["sleep", "3611"]))
            .await;
        let two = pod
            .start(|config| config.command = strings(&["sleep", "3622"]))
            .await;
        let script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
        for container in [&one, &two] {
            let seen = container.sh(script).await;
            assert!(
                seen.contains("sleep 3611") && seen.contains("sleep 3622"),
                "{seen}"
            );
        }
        let first = one.sh("tr '\\0' ' ' < /proc/1/cmdline").await;
        assert!(!first.contains("sleep"), "PID 1 belongs to the pod: {first}");
    });
}

/// In a shared PID namespace orphans are reaped by the pod, not piled up.
#[test]
#[ignore = "needs root"]
fn orphans_are_reaped_in_a_shared_pid_namespace() {
    on_node(async |node| {
        let pod = pod_with_pid(node, NamespaceMode::Pod).await;
        let script = "for i in 1 2 3 4 5; do (sleep 0 & exec true); done; echo done; exec sleep 3600";
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        container.says("done").await;
        eventually("no zombie is left", async || {
            let seen = container
                .sh("grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l")
                .await;
            (seen == "0\n").then_some(())
        })
        .await;
    });
}

/// The end of the pause process is news only when nobody asked for it.
#[test]
#[ignore = "needs root"]
fn stopping_a_pod_with_shared_pids_is_no_incident() {
    on_own_node(async |node| {
        let pod = pod_with_pid(node, NamespaceMode::Pod).await;
        pod.start(|_| {}).await;
        pod.stop().await;
        let log = node.daemon_log();
        assert!(!log.contains("the pause process ended"), "{log}");
    });
}

/// A container's end ends all of it even where PIDs are shared, and only it.
#[test]
#[ignore = "needs root"]
fn stopping_one_container_spares_the_others_in_a_shared_pid_namespace() {
    on_node(async |node| {
        let pod = pod_with_pid(node, NamespaceMode::Pod).await;
        let stays = pod
            .start(|config| config.command = strings(&["sleep", "3633"]))
            .await;
        let goes = pod
            .start(|config| {
                config.command = strings(&["sh", "-c", "sleep 3644 & sleep 3655 & echo up; wait"]);
            })
            .await;
        goes.says("up").await;
        goes.stop(0).await;
        let seen = stays.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
        assert!(seen.contains("sleep 3633"), "{seen}");
        assert!(
            !seen.contains("sleep 3644") && !seen.contains("sleep 3655"),
            "{seen}"
        );
        assert_eq!(stays.status().await.state(), v1::ContainerState::ContainerRunning);
    });
}

/// CRI `NamespaceMode.NODE` for PIDs (`hostPID`).
#[test]
#[ignore = "needs root"]
fn the_pid_namespace_of_the_node() {
    on_node(async |node| {
        let pod = pod_with_pid(node, NamespaceMode::Node).await;
        assert_eq!(inside(&pod, "pid").await, own("pid"));
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", "sleep 3666 & echo up; wait"]))
            .await;
        container.says("up").await;
        container.stop(0).await;
        for pid in crate::harness::leaks::processes(node.slot()) {
            let command = crate::harness::leaks::command(pid);
            assert!(!command.contains("sleep 3666"), "process {pid}: {command}");
        }
    });
}

/// CRI `NamespaceMode.TARGET` (KEP-1441, ephemeral containers): kubectl debug sees its target's processes and, through
/// /proc/PID/root, its files.
#[test]
#[ignore = "needs root"]
fn the_pid_namespace_of_a_target() {
    on_node(async |node| {
        let pod = node.pod().await;
        let target = pod.start(|_| {}).await;
        target.sh("echo secret > /only-in-target").await;
        let debugger = pod.start(|config| {
            let options = security(config).namespace_options.get_or_insert_default();
            options.set_pid(NamespaceMode::Target);
            options.target_id.clone_from(&target.id);
        });
        let debugger = debugger.await;
        let seen = debugger
            .sh("tr '\\0' ' ' < /proc/1/cmdline; cat /proc/1/root/only-in-target")
            .await;
        assert!(seen.contains("trap") && seen.ends_with("secret\n"), "{seen}");
        debugger.stop(0).await;
        assert_eq!(
            target.status().await.state(),
            v1::ContainerState::ContainerRunning
        );
    });
}

/// CRI `NamespaceOption.target_id`: a container of this pod that runs, nothing else.
#[test]
#[ignore = "needs root"]
fn a_target_must_run_in_the_same_pod() {
    on_node(async |node| {
        let pod = node.pod().await;
        let other = node.pod().await;
        let foreign = other.start(|_| {}).await;
        for target in [foreign.id.as_str(), "0000000000000000", ""] {
            let mut config = pod.container_config();
            let options = security(&mut config).namespace_options.get_or_insert_default();
            options.set_pid(NamespaceMode::Target);
            options.target_id = target.to_owned();
            assert!(pod.try_create(&config).await.is_err(), "target {target:?}");
        }
    });
}

/// CRI `NamespaceOption.ipc`: POD is one for all containers, NODE is the node's.
#[test]
#[ignore = "needs root"]
fn ipc_namespaces() {
    on_node(async |node| {
        let pod = node.pod().await;
        let first = inside(&pod, "ipc").await;
        assert_eq!(first, inside(&pod, "ipc").await, "containers of one pod");
        assert_ne!(first, own("ipc"));
        let host = node.pod_with(|config| {
            pod_security(config)
                .namespace_options
                .get_or_insert_default()
                .set_ipc(NamespaceMode::Node);
        });
        assert_eq!(inside(&host.await, "ipc").await, own("ipc"));
    });
}

/// CRI `NamespaceOption.network`: POD is one for all containers, NODE is the node's, without an address of its own.
#[test]
#[ignore = "needs root"]
fn network_namespaces() {
    on_node(async |node| {
        let pod = node.pod().await;
        let first = inside(&pod, "net").await;
        assert_eq!(first, inside(&pod, "net").await, "containers of one pod");
        assert_ne!(first, own("net"));
        let host = node.pod_with(|config| {
            // kubelet names no host name here: it is the node's.
            config.hostname.clear();
            pod_security(config)
                .namespace_options
                .get_or_insert_default()
                .set_network(NamespaceMode::Node);
        });
        let host = host.await;
        assert_eq!(inside(&host, "net").await, own("net"));
        let ip = host
            .status()
            .await
            .network
            .map(|network| network.ip)
            .unwrap_or_default();
        assert_eq!(ip, "", "a pod on the node's network has no address of its own");
    });
}

/// Mounts and host name are never the node's in an ordinary pod; the host name is one for the pod.
#[test]
#[ignore = "needs root"]
fn mount_and_uts_namespaces() {
    on_node(async |node| {
        let pod = node.pod().await;
        assert_ne!(inside(&pod, "mnt").await, own("mnt"));
        let uts = inside(&pod, "uts").await;
        assert_eq!(uts, inside(&pod, "uts").await);
        assert_ne!(uts, own("uts"));
    });
}

/// The sysctl `kernel.domainname` belongs to the pod's UTS namespace.
#[test]
#[ignore = "needs root"]
fn the_domain_name_is_the_pods() {
    on_pausa(async |node| {
        let before = std::fs::read_to_string("/proc/sys/kernel/domainname").expect("the node's");
        let sysctls = map(&[("kernel.domainname", "example.test")]);
        let pod = node
            .pod_with(|config| config.linux.get_or_insert_default().sysctls = sysctls)
            .await;
        assert_eq!(pod.sh("cat /proc/sys/kernel/domainname").await, "example.test\n");
        let after = std::fs::read_to_string("/proc/sys/kernel/domainname").expect("the node's");
        assert_eq!(before, after);
        let refused_of = async |change: fn(&mut v1::PodSandboxConfig)| {
            let mut config = node.pod_config();
            change(&mut config);
            refused(Code::InvalidArgument, node.try_pod(&config).await)
        };
        let long = refused_of(|config| {
            config.linux.get_or_insert_default().sysctls = map(&[("kernel.domainname", &"x".repeat(65))]);
        });
        assert!(long.await.contains("setdomainname"));
        let of_nobody = refused_of(|config| {
            config.linux.get_or_insert_default().sysctls = map(&[("user.max_net_namespaces", "0")]);
        });
        assert!(of_nobody.await.contains("user namespace"));
    });
}

/// CRI ExecSync: the process joins everything the container is in.
#[test]
#[ignore = "needs root"]
fn exec_enters_all_namespaces() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                config.command = strings(&[
                    "sh",
                    "-c",
                    "for n in ipc mnt net pid uts cgroup; do readlink /proc/$$/ns/$n; done; sleep 3600",
                ]);
            })
            .await;
        container.says("cgroup").await;
        let inside = container
            .sh("for n in ipc mnt net pid uts cgroup; do readlink /proc/$$/ns/$n; done")
            .await;
        container.stop(0).await;
        assert_eq!(container.end().await.stdout(), inside);
    });
}
