//! Paths that another container exchanges while they are used: a directory of a shared volume with a link that leads to
//! the node's files where it is not resolved beneath the container's root.
//!
//! Whoever loses the race starts or is refused, as it happens. What must never happen is something in the bait.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use pausa::proto::v1;
use pausa::proto::v1::ContainerState;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::{Bait, SECRET, attempt, run};
use crate::attacks::attacker;
use crate::harness::pod::{bind, security};
use crate::harness::{Container, Node, Pod, on_node, strings};

/// How many containers start in each race.
const ROUNDS: usize = 20;

/// A container that exchanges two files of a directory of the node as fast as it can.
struct Swapper<'a>(Container<'a>);

impl<'a> Swapper<'a> {
    async fn start(pod: &'a Pod<'a>, directory: &Path, one: &str, other: &str) -> Self {
        let program = attacker("swap");
        let container = pod.start(|config| {
            config.command = strings(&[
                "/attack",
                &format!("/swapped/{one}"),
                &format!("/swapped/{other}"),
            ]);
            config.mounts = vec![bind(&program, "/attack"), bind(directory, "/swapped")];
        });
        let container = container.await;
        container.says("swapped").await;
        Self(container)
    }

    /// Ends the swapping, which must have gone on until now.
    async fn ends(self) {
        let status = self.0.status().await;
        assert_eq!(status.state(), ContainerState::ContainerRunning, "{status:?}");
        self.0.stop(0).await;
        let swaps = self.0.end().await.stdout().lines().count() * 5000;
        println!("{swaps} swaps");
        assert!(swaps > ROUNDS * 10, "{swaps} swaps");
    }
}

/// A volume with the directory `one` and the link `other` to the bait, which are exchanged.
fn shared(node: &Node, bait: &Bait) -> PathBuf {
    let shared = node.dir().join("shared");
    std::fs::create_dir_all(shared.join("one")).expect("a directory");
    for file in ["masked", "readonly"] {
        std::fs::write(shared.join("one").join(file), "").expect("a file");
    }
    symlink(&bait.directory, shared.join("other")).expect("a link");
    shared
}

/// Starts containers with the shared volume, changed as `change` says, while its paths are exchanged.
fn race(change: impl Fn(&Node, &mut v1::ContainerConfig)) {
    on_node(async |node| {
        let (bait, pod) = (Bait::new(node), node.pod().await);
        let shared = shared(node, &bait);
        let swapper = Swapper::start(&pod, &shared, "one", "other").await;
        let mut refused = Vec::new();
        for _ in 0..ROUNDS {
            let mut config = pod.container_config();
            config.mounts = vec![bind(&shared, "/shared")];
            change(node, &mut config);
            let secrets = ["/shared/one", "/shared/other", &bait.path()];
            let secrets =
                secrets.map(|directory| format!("cat {directory}/secret {directory}/directory/secret; "));
            run(&mut config, &format!("{}echo ran", secrets.concat()));
            match attempt(&pod, config).await {
                Ok(said) => assert!(said.contains("ran") && !said.contains(SECRET), "{said}"),
                Err(message) => refused.push(message),
            }
            bait.is_untouched();
        }
        println!("refused: {refused:#?}");
        assert!(refused.len() < ROUNDS, "none has started: {}", refused[0]);
        swapper.ends().await;
        bait.is_untouched();
    });
}

/// CVE-2021-30465: runc looked at a mount target by name again after it had made sure that it is in the container. pausa opens it
/// once, beneath the root, and mounts onto the handle.
#[test]
#[ignore = "needs root"]
fn mount_targets() {
    race(|node, config| {
        let inner = node.dir().join("inner");
        std::fs::create_dir_all(&inner).expect("a directory");
        config.mounts.push(bind(&inner, "/shared/one/directory/target"));
        config.mounts.push(bind(&inner, "/shared/one/directory"));
    });
}

/// Masked and read-only paths are opened once, too.
#[test]
#[ignore = "needs root"]
fn hidden_paths() {
    race(|_, config| {
        let security = security(config);
        security.masked_paths = strings(&[
            "/shared/one/masked",
            "/shared/one/secret",
            "/shared/one/directory",
        ]);
        security.readonly_paths = strings(&["/shared/one/readonly", "/shared/one/directory/secret"]);
    });
}

/// CVE-2026-55686 with a race: the working directory is made where the link leads beneath the container's root.
#[test]
#[ignore = "needs root"]
fn working_directories() {
    race(|_, config| config.working_dir = "/shared/one/made/here".to_owned());
}

/// Nodes of devices are made relative to a handle of their directory, and nothing is removed elsewhere for them.
#[test]
#[ignore = "needs root"]
fn device_nodes() {
    race(|_, config| {
        config.devices = ["/shared/one/null", "/shared/one/directory/zero"]
            .map(|path| v1::Device {
                container_path: path.to_owned(),
                host_path: "/dev/zero".to_owned(),
                permissions: "r".to_owned(),
            })
            .to_vec();
    });
}

/// CVE-2025-31133 and CVE-2025-52565 as races: another container exchanges the null device, or the console, of a volume that
/// takes the place of `/dev`, with a link to a file of procfs.
#[test]
#[ignore = "needs root"]
fn devices() {
    on_node(async |node| {
        let pod = node.pod().await;
        let dev = node.dir().join("dev");
        std::fs::create_dir_all(dev.join("pts")).expect("a directory");
        for (name, minor) in [("null", 3), ("console", 3)] {
            let mode = Mode::from_raw_mode(0o666);
            mknodat(
                CWD,
                dev.join(name),
                FileType::CharacterDevice,
                mode,
                makedev(1, minor),
            )
            .expect("a device");
            // Harmless to write to: it is of the pod's own UTS namespace.
            symlink("/proc/sys/kernel/domainname", dev.join(format!("false-{name}"))).expect("a link");
        }
        for name in ["null", "console"] {
            let swapper = Swapper::start(&pod, &dev, name, &format!("false-{name}")).await;
            let mut ran = 0;
            for _ in 0..ROUNDS {
                let mut config = pod.container_config();
                config.mounts = vec![bind(&dev, "/dev")];
                config.tty = name == "console" && !node.is_pausa();
                security(&mut config).masked_paths = strings(&["/etc/group", "/proc/kcore"]);
                let script = "echo owned > /etc/group; echo owned > /proc/kcore; \
                              cat /etc/group /proc/kcore /proc/sys/kernel/domainname; echo ran";
                run(&mut config, script);
                if let Ok(said) = attempt(&pod, config).await {
                    assert!(!said.contains("owned"), "{said}");
                    ran += usize::from(said.contains("ran"));
                }
            }
            assert!(ran > 0);
            swapper.ends().await;
        }
    });
}

/// CVE-2026-53489 and its kin: a container that may write to the directory of the pod's logs exchanges a directory there, or
/// the file, with a link. Nothing is written or made where it leads.
#[test]
#[ignore = "needs root"]
fn logs() {
    on_node(async |node| {
        let (bait, pod) = (Bait::new(node), node.pod().await);
        let logs = PathBuf::from(&pod.config.log_directory);
        std::fs::create_dir_all(logs.join("one")).expect("a directory");
        symlink(&bait.directory, logs.join("other")).expect("a link");
        std::fs::write(logs.join("file"), "").expect("a file");
        symlink(bait.directory.join("secret"), logs.join("link")).expect("a link");
        for (one, other, path) in [("one", "other", "one/secret"), ("file", "link", "file")] {
            let swapper = Swapper::start(&pod, &logs, one, other).await;
            let mut opened = 0;
            for _ in 0..ROUNDS {
                let mut config = pod.container_config();
                config.log_path = path.to_owned();
                run(&mut config, "while :; do echo line; sleep 0.01; done");
                let container = pod.create(config).await;
                if container.try_start().await.is_ok() {
                    opened += 1;
                    for _ in 0..3 {
                        let container_id = container.id.clone();
                        let request = v1::ReopenContainerLogRequest { container_id };
                        let reopened = node.runtime().reopen_container_log(request).await;
                        opened += usize::from(reopened.is_ok());
                    }
                }
                container.remove().await;
            }
            println!("opened {opened} times");
            assert!(
                opened > 0 && opened < ROUNDS * 4,
                "the link was never in the way: {opened}"
            );
            swapper.ends().await;
        }
        bait.is_untouched();
    });
}
