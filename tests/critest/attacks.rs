//! What a hostile container tries. The attackers are programs in `attacks/`, which run as a container's command.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use pausa::proto::v1;
use pausa::proto::v1::NamespaceMode;

use crate::harness::pod::{bind, pod_security, security, separate};
use crate::harness::{Container, Node, Pod, eventually, map, on_node, on_own_node, strings};
use crate::hooks::hook;
use crate::user_namespaces;

/// How often a test runs something under the attacker's eyes.
const EXECS: usize = 100;
const STARTS: usize = 50;

/// A word that is in another container's environment, and so in the plans that the monitor has read.
const SECRET: [&str; 2] = ["correcthorse", "batterystaple"];

/// Compiles a program of `attacks/` as a static one, which runs in any image. Tests in other processes may do the same at
/// the same time; those in this process take turns.
pub(crate) fn attacker(name: &str) -> PathBuf {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/critest/attacks/{name}.rs"));
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = directory.join(format!("attack-{name}"));
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    // Where tests run without their sources and without a compiler, somebody has compiled it before.
    if modified(&program).is_some_and(|built| Some(built) >= modified(&source)) {
        return program;
    }
    // rustc names its object files after this name up to a dot.
    let own = directory.join(format!("attack-{name}-{}", std::process::id()));
    let compiled = Command::new(option_env!("RUSTC").unwrap_or("rustc"))
        .args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-o",
        ])
        .arg(&own)
        .arg(source)
        .status();
    assert!(compiled.expect("rustc").success(), "cannot compile {name}");
    std::fs::rename(own, &program).expect("rename the attacker");
    program
}

/// A container that watches all new processes in its PID namespace.
struct Watcher<'a>(Container<'a>);

impl<'a> Watcher<'a> {
    async fn start(pod: &'a Pod<'a>) -> Self {
        let neighbour = pod.start(|config| {
            config.envs.push(v1::KeyValue {
                key: "SECRET".to_owned(),
                value: SECRET.concat().into(),
            });
        });
        let neighbour = neighbour.await;
        let root = std::fs::metadata("/").expect("the root");
        let dev = std::fs::metadata("/dev/null").expect("a device").dev();
        let mounts = std::fs::read_link("/proc/self/ns/mnt").expect("our namespace");
        let file = pod.node.dir().join("only-on-the-host");
        std::fs::write(&file, "").expect("a file");
        let arguments = [
            "/attack".to_owned(),
            root.dev().to_string(),
            root.ino().to_string(),
            dev.to_string(),
            mounts.display().to_string(),
            file.display().to_string(),
            SECRET.join("-"),
        ];
        let program = attacker("watch");
        let watcher = pod.start(|config| {
            config.command = arguments.to_vec();
            config.mounts.push(v1::Mount {
                readonly: true,
                ..bind(&program, "/attack")
            });
            may_trace(config);
        });
        let watcher = watcher.await;
        watcher.says("watching").await;
        drop(neighbour);
        Self(watcher)
    }

    /// Ends the watching, which must have seen a good part of `expected` processes and nothing of the host.
    async fn finds_nothing(self, expected: usize) {
        self.0.stop(0).await;
        let log = self.0.end().await.stdout();
        let found: Vec<&str> = log
            .lines()
            .filter(|line| line.starts_with("FOUND"))
            .take(20)
            .collect();
        assert_eq!(found, Vec::<&str>::new());
        let seen = log.lines().filter(|line| line.starts_with("seen")).count();
        // It shares the CPUs with what it watches.
        assert!(seen > expected / 5, "it has seen {seen} of {expected} processes");
    }
}

fn may_trace(config: &mut v1::ContainerConfig) {
    let capabilities = security(config).capabilities.get_or_insert_default();
    capabilities.add_capabilities.push("SYS_PTRACE".to_owned());
    security(config).seccomp = Some(v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::RuntimeDefault.into(),
        ..Default::default()
    });
}

async fn pod_with_pids(node: &Node, mode: NamespaceMode, in_user_namespace: bool) -> Pod<'_> {
    node.pod_with(|config| {
        pod_security(config).namespace_options.get_or_insert_default().pid = mode.into();
        if in_user_namespace {
            user_namespaces::set_default(config);
        }
    })
    .await
}

/// CAP_SYS_PTRACE lets a container look into each process that it can see: an exec must never be anything of the host's.
async fn execs(pod: &Pod<'_>) {
    let watcher = Watcher::start(pod).await;
    for _ in 0..EXECS {
        watcher.0.exec(&["true"]).await;
    }
    watcher.finds_nothing(EXECS).await;
}

/// The same for containers that start in a PID namespace with other processes.
async fn starts(pod: &Pod<'_>, target: bool) {
    let watcher = Watcher::start(pod).await;
    for _ in 0..STARTS {
        let ended = pod.run(|config| {
            config.command = strings(&["true"]);
            config.annotations = map(&[("hook", "watched")]);
            may_trace(config);
            if target {
                let options = security(config).namespace_options.get_or_insert_with(separate);
                options.set_pid(NamespaceMode::Target);
                options.target_id.clone_from(&watcher.0.id);
            }
        });
        assert_eq!(ended.await.status.exit_code, 0);
    }
    watcher.finds_nothing(STARTS).await;
}

/// CRI `ExecSync` in a PID namespace of the container's own (runc nsexec; CVE-2016-9962 is of this kind).
#[test]
#[ignore = "needs root"]
fn a_tracer_sees_nothing_of_the_host_in_an_exec() {
    on_node(async |node| execs(&pod_with_pids(node, NamespaceMode::Container, false).await).await);
}

/// CRI `ExecSync` and `StartContainer` with `NamespaceMode.POD` for PIDs.
#[test]
#[ignore = "needs root"]
fn a_tracer_sees_nothing_of_the_host_in_a_shared_pid_namespace() {
    on_node(async |node| {
        let pod = pod_with_pids(node, NamespaceMode::Pod, false).await;
        execs(&pod).await;
        starts(&pod, false).await;
    });
}

/// The same with hooks of the container's namespaces, one of which is a program of the host with the host's root.
#[test]
#[ignore = "needs root"]
fn a_tracer_sees_nothing_of_the_hosts_hooks() {
    on_own_node(async |node| {
        let stages = ["createContainer", "startContainer"];
        node.restart_with(Some(&hook(node, "watched", &stages, "true")))
            .await;
        starts(&pod_with_pids(node, NamespaceMode::Pod, false).await, false).await;
        starts(&pod_with_pids(node, NamespaceMode::Container, false).await, true).await;
    });
}

/// CRI `StartContainer` with `NamespaceMode.TARGET` for PIDs: ephemeral debug containers.
#[test]
#[ignore = "needs root"]
fn a_tracer_sees_nothing_of_the_host_when_it_is_the_target() {
    on_node(async |node| starts(&pod_with_pids(node, NamespaceMode::Container, false).await, true).await);
}

/// The same in a user namespace.
#[test]
#[ignore = "needs root"]
fn a_tracer_in_a_user_namespace_sees_nothing_of_the_host() {
    on_node(async |node| {
        if !user_namespaces::can(node).await {
            return;
        }
        let pod = pod_with_pids(node, NamespaceMode::Container, true).await;
        execs(&pod).await;
        starts(&pod, true).await;
        let pod = pod_with_pids(node, NamespaceMode::Pod, true).await;
        execs(&pod).await;
        starts(&pod, false).await;
    });
}

/// The pause process is process 1 of a shared PID namespace, where a container can trace it. It must be of no use: not for
/// system calls that the container's own filter forbids, nor for devices.
#[test]
#[ignore = "needs root"]
fn pause_can_be_made_to_do_nothing() {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("skipped: the attacker is written for x86_64");
        return;
    }
    on_own_node(async |node| {
        let pod = pod_with_pids(node, NamespaceMode::Pod, false).await;
        let program = attacker("drive");
        let attack = pod.start(|config| {
            config.command = strings(&["/attack"]);
            config.mounts.push(v1::Mount {
                readonly: true,
                ..bind(&program, "/attack")
            });
            may_trace(config);
            // AppArmor's default profile does not even let it attach.
            security(config).apparmor = Some(v1::SecurityProfile {
                profile_type: v1::security_profile::ProfileType::Unconfined.into(),
                ..Default::default()
            });
        });
        // The kernel kills process 1 for the call, and with it the namespace.
        let attack = attack.await;
        let ended = attack.end().await;
        let log = ended.stdout();
        assert!(log.contains("attached") && !log.contains("done"), "{ended:?}");
    });
}

/// CVE-2016-9962, as far as it is about devices: a container that has removed its null device must not get hold of the host's.
#[test]
#[ignore = "needs root"]
fn an_exec_never_has_the_hosts_null_device() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        container.sh("rm /dev/null").await;
        let before = std::fs::metadata("/dev/null").expect("the null device");
        let seen = container
            .sh("stat -Lc '%t:%T\n%d' /proc/self/fd/0; chmod 0 /proc/self/fd/0 2>&1; exit 0")
            .await;
        let after = std::fs::metadata("/dev/null").expect("the null device");
        if before.mode() != after.mode() {
            // The test must not leave the node like that.
            std::fs::set_permissions("/dev/null", before.permissions()).expect("its mode");
        }
        assert_eq!(before.mode(), after.mode());
        let mut lines = seen.lines();
        assert_eq!(lines.next(), Some("1:3"));
        assert_ne!(lines.next(), Some(before.dev().to_string().as_str()));
        eventually("an exec still works", async || {
            (container.sh("echo still").await == "still\n").then_some(())
        })
        .await;
    });
}

/// A masked file is a null device that nothing else uses: its mode, owner and times are the container's to change.
#[test]
#[ignore = "needs root"]
fn a_masked_path_never_is_the_hosts_null_device() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container =
            pod.start(|config| security(config).masked_paths = strings(&["/proc/keys", "/etc/group"]));
        let container = container.await;
        let before = std::fs::metadata("/dev/null").expect("the null device");
        let script = "chmod 0 /proc/keys /etc/group; chown 1:1 /proc/keys /etc/group; \
                      stat -c '%t:%T %d' /proc/keys /etc/group; cat /etc/group; exit 0";
        let seen = container.sh(script).await;
        let after = std::fs::metadata("/dev/null").expect("the null device");
        if (before.mode(), before.uid(), before.gid()) != (after.mode(), after.uid(), after.gid()) {
            // The test must not leave the node like that.
            std::fs::set_permissions("/dev/null", before.permissions()).expect("its mode");
            std::os::unix::fs::chown("/dev/null", Some(before.uid()), Some(before.gid())).expect("its owner");
        }
        let changed = |file: &std::fs::Metadata| {
            (
                file.mode(),
                file.uid(),
                file.gid(),
                file.ctime(),
                file.ctime_nsec(),
            )
        };
        assert_eq!(changed(&after), changed(&before));
        assert_eq!(seen.matches("1:3 ").count(), 2, "{seen}");
    });
}
