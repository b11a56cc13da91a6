//! Classes of block I/O and of caches, by the annotations that containerd and CRI-O know.
//!
//! Sources: `docs/configuration.md`; `docs/design/0015-io-and-cache-classes.md`.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pausa::proto::v1;
use tonic::Code;

use crate::harness::cgroup::value;
use crate::harness::{Container, Node, map, ok, on_own_node, refused};

const CONTAINER: &str = "io.kubernetes.cri.blockio-class";
const POD: &str = "blockio.resources.beta.kubernetes.io/pod";
const NAMED: &str = "blockio.resources.beta.kubernetes.io/container.";

/// A disk of the test's own, with a link that looks like one by its id.
struct Disk {
    device: PathBuf,
    directory: PathBuf,
}

impl Disk {
    fn new(node: &Node) -> Self {
        let directory = node.dir().join("disks");
        std::fs::create_dir_all(&directory).expect("a directory");
        let image = directory.join("image");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(1 << 20).expect("room");
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&image)
            .output();
        let made = made.expect("losetup");
        assert!(made.status.success(), "{made:?}");
        let device = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim());
        symlink(&device, directory.join("ata-VendorSSD-1")).expect("a link");
        Self { device, directory }
    }

    /// Its number, `MAJOR:MINOR`.
    fn number(&self) -> String {
        let file = self.queue().join("../dev");
        let text = std::fs::read_to_string(file).expect("its number");
        text.trim().to_owned()
    }

    fn queue(&self) -> PathBuf {
        let name = self.device.file_name().expect("a name");
        Path::new("/sys/block").join(name).join("queue")
    }

    /// Whether the kernel has this scheduler.
    fn schedule(&self, by: &str) -> bool {
        std::fs::write(self.queue().join("scheduler"), by).is_ok()
    }

    /// Writes a file of classes and gives the configuration with it. `slow` writes 1 MiB/s at the most, `light` gives way.
    fn classes(&self) -> String {
        let disk = format!("{}/*SSD*", self.directory.display());
        let text = format!(
            "Classes:\n  slow:\n    - Devices: [{disk}]\n      ThrottleWriteBps: 2Mi\n    - Devices: [{disk}, /dev/nothing*]\n      \
             ThrottleWriteBps: 1Mi # of the two, the later counts\n      ThrottleReadIOPS: 2k\n  light:\n    - Devices: [{disk}]\n      \
             Weight: 50\n      ThrottleWriteBps: 3Mi\n"
        );
        let file = self.directory.join("blockio.yaml");
        std::fs::write(&file, text).expect("a file of classes");
        format!("[blockio]\nconfig_file = \"{}\"\n", file.display())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.schedule("none");
        let detached = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .stderr(Stdio::inherit())
            .status();
        assert!(detached.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// How many bytes a second a container may write to the disk, and how often it may read.
async fn throttles(container: &Container<'_>, disk: &Disk) -> [Option<String>; 2] {
    let pid = container.pid().await;
    let number = disk.number();
    let limit = |v1_file: &str, v2_key: &str| {
        let text = value(pid, "blkio", v1_file, "io.max");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{number} ")))?;
        let v2 = line.split(' ').find_map(|pair| pair.strip_prefix(v2_key));
        Some(v2.unwrap_or(line).to_owned()).filter(|limit| limit != "max")
    };
    [
        limit("blkio.throttle.write_bps_device", "wbps="),
        limit("blkio.throttle.read_iops_device", "riops="),
    ]
}

fn slow() -> [Option<String>; 2] {
    [Some("1048576".to_owned()), Some("2000".to_owned())]
}

/// A class reaches the kernel and config.json, and stays what it was when the container was created.
#[test]
#[ignore = "needs root"]
fn a_block_io_class_is_in_force() {
    on_own_node(async |node| {
        let disk = Disk::new(node);
        node.pull("base").await;
        node.restart_with(Some(&disk.classes())).await;
        let pod = node
            .pod_with(|config| config.annotations = map(&[(POD, "slow")]))
            .await;
        let container = pod.start(|_| {}).await;
        assert_eq!(throttles(&container, &disk).await, slow());
        let details = container.details().await;
        assert_eq!(details["blockIOClass"], "slow");
        let spec = &details["runtimeSpec"]["linux"]["resources"]["blockIO"];
        assert_eq!(spec["throttleWriteBpsDevice"][0]["rate"], 1 << 20);
        assert_eq!(spec["throttleReadIOPSDevice"][0]["rate"], 2000);
        // Out of the pod's class, by name and by CRI.
        let mut config = pod.container_config();
        config.annotations = map(&[(CONTAINER, "")]);
        let plain = pod.create(config).await;
        plain.start().await;
        assert_eq!(throttles(&plain, &disk).await, [None, None]);
        let created = pod.create(pod.container_config()).await;

        node.restart_with(None).await;
        created.start().await;
        for container in [&container, &created] {
            let change = v1::LinuxContainerResources {
                cpu_shares: 200,
                ..Default::default()
            };
            ok("Update", container.try_update(change).await);
            assert_eq!(throttles(container, &disk).await, slow());
            let details = container.details().await;
            let spec = &details["runtimeSpec"]["linux"]["resources"];
            assert_eq!(spec["blockIO"]["throttleWriteBpsDevice"][0]["rate"], 1 << 20);
        }
    });
}

/// One container of a pod can have a class, named by the pod.
#[test]
#[ignore = "needs root"]
fn a_pod_names_the_class_of_one_container() {
    on_own_node(async |node| {
        let disk = Disk::new(node);
        node.pull("base").await;
        node.restart_with(Some(&disk.classes())).await;
        let pod = node
            .pod_with(|config| config.annotations = map(&[(&format!("{NAMED}web"), "slow")]))
            .await;
        let named = |name: &str| {
            let mut config = pod.container_config();
            config.metadata.get_or_insert_default().name = name.to_owned();
            config
        };
        let [web, other] = [pod.create(named("web")).await, pod.create(named("other")).await];
        web.start().await;
        other.start().await;
        assert_eq!(throttles(&web, &disk).await, slow());
        assert_eq!(throttles(&other, &disk).await, [None, None]);
    });
}

/// What cannot be had is refused when the container is created, and said in full; nothing of it is left.
#[test]
#[ignore = "needs root"]
fn a_class_that_cannot_be_had_is_refused() {
    on_own_node(async |node| {
        let disk = Disk::new(node);
        let pod = node.pod().await;
        let mut config = pod.container_config();
        config.annotations = map(&[(CONTAINER, "slow")]);
        let said = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert!(said.contains("config_file in [blockio]"), "{said}");

        let configuration = disk.classes();
        node.restart_with(Some(&configuration)).await;
        config.annotations = map(&[(CONTAINER, "fast")]);
        let said = refused(Code::InvalidArgument, pod.try_create(&config).await);
        assert!(said.contains("light, slow"), "{said}");
        // The device's scheduler has no weights.
        config.annotations = map(&[(CONTAINER, "light")]);
        let said = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert!(said.contains("light") && said.contains("bfq"), "{said}");
        let list = node
            .runtime()
            .list_containers(v1::ListContainersRequest::default())
            .await;
        assert!(ok("ListContainers", list).containers.is_empty());

        std::fs::write(
            disk.directory.join("blockio.yaml"),
            "Classes:\n  slow: [{Speed: 1}]\n",
        )
        .expect("a file");
        config.annotations = map(&[(CONTAINER, "slow")]);
        let said = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert!(said.contains("blockio.yaml") && said.contains("Speed"), "{said}");
        node.kill_and_restart_daemon().await;
        let log = node.daemon_log();
        assert!(log.contains("refused until its file is right"), "{log}");

        node.restart_with(Some("[blockio]\nignore_not_enabled = true\n"))
            .await;
        let container = pod.create(config.clone()).await;
        container.start().await;
        assert!(container.details().await["blockIOClass"].is_null());
        let log = node.daemon_log();
        assert!(log.contains("does without its block I/O class"), "{log}");
    });
}

/// Weights of single disks need BFQ. Where that may be ignored, the rest of the class is in force.
#[test]
#[ignore = "needs root"]
fn weights_need_a_scheduler_that_has_them() {
    on_own_node(async |node| {
        let disk = Disk::new(node);
        node.pull("base").await;
        let configuration = format!("{}ignore_not_enabled = true\n", disk.classes());
        node.restart_with(Some(&configuration)).await;
        let light = [Some((3 << 20).to_string()), None];
        let pod = node.pod().await;
        let without = pod
            .start(|config| config.annotations = map(&[(CONTAINER, "light")]))
            .await;
        assert_eq!(throttles(&without, &disk).await, light);
        let log = node.daemon_log();
        assert!(
            log.contains("does without a part of its block I/O class"),
            "{log}"
        );
        if !disk.schedule("bfq") {
            println!("skipped: this kernel has no BFQ");
            return;
        }
        let with = pod
            .start(|config| config.annotations = map(&[(CONTAINER, "light")]))
            .await;
        assert_eq!(throttles(&with, &disk).await, light);
        let weights = value(
            with.pid().await,
            "blkio",
            "blkio.bfq.weight_device",
            "io.bfq.weight",
        );
        let line = format!("{} 50", disk.number());
        assert!(weights.lines().any(|one| one == line), "{weights}");
    });
}

/// A directory that looks like a resctrl file system with these classes, and the configuration with it.
fn resctrl(node: &Node, classes: &[&str]) -> (PathBuf, String) {
    let root = node.dir().join("resctrl");
    for directory in ["info", "mon_groups"].iter().chain(classes) {
        std::fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    for class in classes {
        std::fs::write(root.join(class).join("tasks"), "").expect("a file");
    }
    let configuration = format!("[rdt]\nmount_point = \"{}\"\n", root.display());
    (root, configuration)
}

/// The first process joins the class before it runs, and so does each exec, also with a later daemon. This node may have no
/// such hardware: a file takes what the kernel would.
#[test]
#[ignore = "needs root"]
fn processes_join_their_rdt_class() {
    on_own_node(async |node| {
        node.pull("base").await;
        let (root, configuration) = resctrl(node, &["gold", "silver"]);
        node.restart_with(Some(&configuration)).await;
        // Each process writes a 0 for itself.
        let joined = |class: &str| std::fs::read_to_string(root.join(class).join("tasks")).expect("tasks");
        let pod = node
            .pod_with(|config| {
                config.annotations = map(&[("rdt.resources.beta.kubernetes.io/pod", "gold")]);
            })
            .await;
        let created = pod.create(pod.container_config()).await;
        assert_eq!(joined("gold"), "");
        let details = created.details().await;
        assert_eq!(details["rdtClass"], "gold");
        assert_eq!(details["runtimeSpec"]["linux"]["intelRdt"]["closID"], "gold");
        node.kill_and_restart_daemon().await;
        created.start().await;
        assert_eq!(joined("gold"), "0");
        created.sh("true").await;
        node.kill_and_restart_daemon().await;
        created.sh("true").await;
        assert_eq!(joined("gold"), "000");
        let own = pod.start(|config| config.annotations = map(&[("io.kubernetes.cri.rdt-class", "silver")]));
        own.await;
        assert_eq!((joined("gold").as_str(), joined("silver").as_str()), ("000", "0"));
    });
}

/// A class that is not there is refused, with those that are; where there is no resctrl, that can be ignored.
#[test]
#[ignore = "needs root"]
fn an_rdt_class_that_is_not_there_is_refused() {
    on_own_node(async |node| {
        node.pull("base").await;
        let (root, configuration) = resctrl(node, &["gold", "silver"]);
        let configuration = format!("{configuration}ignore_not_enabled = true\n");
        node.restart_with(Some(&configuration)).await;
        let pod = node.pod().await;
        let with = |class: &str| {
            let mut config = pod.container_config();
            config.annotations = map(&[("io.kubernetes.cri.rdt-class", class)]);
            config
        };
        for (class, hint) in [("bronze", "gold, silver"), ("../gold", "name of a directory")] {
            let said = refused(Code::InvalidArgument, pod.try_create(&with(class)).await);
            assert!(said.contains(class) && said.contains(hint), "{said}");
        }
        let created = pod.create(with("gold")).await;
        std::fs::remove_dir_all(root.join("gold")).expect("a class");
        let said = refused(Code::InvalidArgument, created.try_start().await);
        assert!(said.contains("gold") && said.contains("silver"), "{said}");

        std::fs::remove_dir_all(&root).expect("the mount point");
        let without = pod.create(with("silver")).await;
        without.start().await;
        assert!(without.details().await["rdtClass"].is_null());
        let log = node.daemon_log();
        assert!(log.contains("does without its RDT class"), "{log}");
        node.restart_with(Some(&configuration.replace("enabled = true", "enabled = false")))
            .await;
        let said = refused(Code::FailedPrecondition, pod.try_create(&with("silver")).await);
        assert!(
            said.contains("not mounted") && said.contains("CONFIG_X86_CPU_RESCTRL"),
            "{said}"
        );
    });
}
