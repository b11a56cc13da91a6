//! Limits of writable layers: quotas of projects on a file system of the test's own, where the kernel has them.
//!
//! Sources: `docs/configuration.md`; `docs/design/0014-writable-layer-quota.md`.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pausa::proto::v1;
use pausa_sys::{ProjectQuota, project_quota};
use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;

use crate::attacks::attacker;
use crate::harness::daemon::Daemon;
use crate::harness::pod::{bind, security};
use crate::harness::{
    Container, Node, Pod, die_at, eventually, map, ok, on_own_node, refused, strings, which,
};
use crate::user_namespaces;

const MIB: u64 = 1 << 20;
const EACH: &str = "pausa.io/writable-layer-limit";
const TOGETHER: &str = "pausa.io/pod-writable-layer-limit";

/// Fills the root file system until a write fails, and says how.
const FILL: &str = "dd if=/dev/zero of=/big bs=64k count=1024 2>&1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ext4,
    Xfs,
}

/// A file system with quotas for projects, in a file on a loop device.
#[derive(Debug)]
struct Volume {
    dir: TempDir,
}

impl Volume {
    /// None where the kernel has no such quotas.
    fn new(kind: Kind, options: &str) -> Option<Self> {
        let (program, package, arguments) = match kind {
            Kind::Ext4 => (
                "mkfs.ext4",
                "e2fsprogs",
                &["-q", "-O", "quota,project", "-E", "quotatype=prjquota"][..],
            ),
            Kind::Xfs => ("mkfs.xfs", "xfsprogs", &["-q"][..]),
        };
        let Some(mkfs) = which(program) else {
            let why = format!("needs {program}: apt-get install {package}");
            let ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!ci, "{why}");
            eprintln!("skipped: {why}");
            return None;
        };
        let volume = Self {
            dir: tempfile::Builder::new()
                .prefix("pctvolume")
                .tempdir()
                .expect("a directory"),
        };
        let image = volume.dir.path().join("image");
        std::fs::create_dir(volume.root()).expect("a mount point");
        let file = File::create(&image).expect("an image");
        // mkfs.xfs makes nothing smaller than 300 MiB.
        file.set_len(512 * MIB).expect("room");
        let made = Command::new(mkfs).args(arguments).arg(&image).status();
        assert!(made.expect("mkfs").success(), "{program} failed");
        let mounted = Command::new("mount")
            .args(["-o", options])
            .args([&image, &volume.root()])
            .stderr(Stdio::null())
            .status();
        if !mounted.expect("mount").success() {
            eprintln!("skipped: this kernel mounts no {kind:?} with quotas for projects");
            return None;
        }
        Some(volume)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    /// What the kernel counts for a project.
    fn quota(&self, id: u32) -> ProjectQuota {
        let root = File::open(self.root()).expect("the volume");
        project_quota(root.as_fd(), id).expect("its quota")
    }

    /// Waits until nothing has the id any more, xfs removes in the background.
    async fn has_back(&self, id: u32) {
        eventually("the id is given back", async || {
            (self.quota(id) == ProjectQuota::default()).then_some(())
        })
        .await;
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // It is not mounted if that was not possible. The loop device goes with the mount.
        for arguments in [&[][..], &["--lazy"]] {
            let unmounted = Command::new("umount")
                .args(arguments)
                .arg(self.root())
                .stderr(Stdio::null())
                .status();
            if unmounted.is_ok_and(|status| status.success()) {
                break;
            }
        }
    }
}

/// Runs a test on a node whose images and writable layers are on a volume, with a handler `""` as configured.
fn on_volume(kind: Kind, handler: &str, test: impl AsyncFnOnce(&Node, &Volume)) {
    if let Some(volume) = Volume::new(kind, "loop,prjquota") {
        with_root_on(&volume, handler, test);
    }
}

fn with_root_on(volume: &Volume, handler: &str, test: impl AsyncFnOnce(&Node, &Volume)) {
    on_own_node(async |node| {
        node.daemon(Daemon::kill);
        let root = node.dir().join("r");
        std::fs::remove_dir_all(&root).expect("the root that was there");
        symlink(volume.root(), &root).expect("another root");
        node.configure(Some(&with(handler)));
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        test(node, volume).await;
    });
}

/// The configuration of the default handler.
fn with(handler: &str) -> String {
    format!("[handlers.\"\"]\n{handler}\n")
}

async fn pod_of<'a>(node: &'a Node, annotations: &[(&str, &str)]) -> Pod<'a> {
    node.pod_with(|config| config.annotations = map(annotations))
        .await
}

async fn limited<'a>(pod: &'a Pod<'_>, limit: &str) -> Container<'a> {
    pod.start(|config| config.annotations = map(&[(EACH, limit)]))
        .await
}

/// What the verbose status says about the layer.
async fn layer(container: &Container<'_>) -> Value {
    container.details().await["writableLayer"].clone()
}

async fn project(container: &Container<'_>) -> u32 {
    let layer = layer(container).await;
    let id = layer["project"].as_u64().and_then(|id| u32::try_from(id).ok());
    id.unwrap_or_else(|| panic!("a project: {layer}"))
}

async fn used(container: &Container<'_>) -> u64 {
    let request = v1::ContainerStatsRequest {
        container_id: container.id.clone(),
    };
    let answer = container.node.runtime().container_stats(request).await;
    let stats = ok("ContainerStats", answer).stats.expect("stats");
    let layer = stats.writable_layer.expect("the writable layer");
    layer.used_bytes.expect("bytes").value
}

/// A write beyond the limit fails, with the error of the file system.
async fn is_full(container: &Container<'_>, kind: Kind) {
    let done = container.exec(&["sh", "-c", FILL]).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let error = match kind {
        Kind::Ext4 => "Disk quota exceeded",
        Kind::Xfs => "No space left on device",
    };
    assert!(done.exit_code != 0 && said.contains(error), "{said}");
}

/// Whether this process has CAP_SYS_RESOURCE, for which no quota holds.
fn has_resource_capability() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("our status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set & (1 << 24) != 0)
}

fn upper(volume: &Volume, pod: &Pod<'_>, container: &Container<'_>) -> PathBuf {
    let pod = volume.root().join("pods").join(&pod.id);
    pod.join("containers").join(&container.id).join("upper")
}

/// The limit holds for root, also where the daemon has CAP_SYS_RESOURCE; a sibling is not concerned; usage is known; it is
/// logged once; what is deleted can be written again.
fn the_limit_holds(kind: Kind) {
    on_volume(kind, "", async |node, volume| {
        let pod = pod_of(node, &[("writable-layer-limit.pausa.io/small", "16Mi")]).await;
        let small = pod.start(|config| {
            config.metadata.get_or_insert_default().name = "small".to_owned();
        });
        let small = small.await;
        let sibling = pod.start(|_| {}).await;
        if !has_resource_capability() {
            println!("without CAP_SYS_RESOURCE, quotas hold for the daemon in any case");
        } else if kind == Kind::Ext4 {
            let file = upper(volume, &pod, &small).join("of-the-node");
            std::fs::write(&file, vec![1; 20 << 20]).expect("no quota holds for root on the node");
            std::fs::remove_file(file).expect("the file");
        }
        is_full(&small, kind).await;
        // Space that is reserved, and a file of the image that is copied, count as well.
        let reserved = small.exec(&["fallocate", "-l", "20M", "/reserved"]).await;
        assert_ne!(reserved.exit_code, 0);
        let copied = small.exec(&["sh", "-c", "touch /bin/busybox"]).await;
        assert_ne!(copied.exit_code, 0);
        // df(1) shows it.
        assert_eq!(small.sh("stat -f -c '%b %S' /").await, "4096 4096\n");
        sibling.sh("dd if=/dev/zero of=/big bs=1M count=40").await;

        let bytes = used(&small).await;
        assert!((15 * MIB..=16 * MIB).contains(&bytes), "{bytes}");
        assert!(used(&sibling).await >= 40 * MIB);
        used(&small).await;
        let log = node.daemon_log();
        let warnings = log.matches("writable layer has reached its limit").count();
        assert_eq!(warnings, 1, "{log}");
        let said = layer(&small).await;
        assert_eq!(said["limitBytes"], 16 * MIB);
        assert_eq!(said["sharedByPod"], false);
        assert_eq!(layer(&sibling).await["limitBytes"], Value::Null);
        let info = node.images().image_fs_info(v1::ImageFsInfoRequest {}).await;
        let info = ok("ImageFsInfo", info).container_filesystems;
        let all = info[0].used_bytes.as_ref().expect("bytes").value;
        assert!(all >= 55 * MIB, "{all}");

        small
            .sh("rm /big && dd if=/dev/zero of=/again bs=64k count=64")
            .await;
        let (id, other) = (project(&small).await, project(&sibling).await);
        assert_ne!(id, other);
        small.remove().await;
        volume.has_back(id).await;
        assert!(volume.quota(other).bytes >= 40 * MIB);
    });
}

#[test]
#[ignore = "needs root"]
fn the_limit_holds_on_ext4() {
    the_limit_holds(Kind::Ext4);
}

#[test]
#[ignore = "needs root"]
fn the_limit_holds_on_xfs() {
    the_limit_holds(Kind::Xfs);
}

/// Containers of a pod with a limit share it, and it stays until the pod goes.
#[test]
#[ignore = "needs root"]
fn a_pods_limit_is_for_all_its_containers_together() {
    on_volume(Kind::Ext4, "", async |node, volume| {
        let pod = pod_of(node, &[(TOGETHER, "16Mi")]).await;
        let configs = [pod.container_config(), pod.container_config()];
        // At the same time: they must find the same project.
        let (one, other) = tokio::join!(pod.create(configs[0].clone()), pod.create(configs[1].clone()));
        one.start().await;
        other.start().await;
        let id = project(&one).await;
        assert_eq!(id, project(&other).await);
        assert_eq!(layer(&one).await["sharedByPod"], true);
        one.sh("dd if=/dev/zero of=/big bs=1M count=10").await;
        is_full(&other, Kind::Ext4).await;
        // Each is counted by itself.
        let bytes = eventually("the layer is measured", async || {
            let bytes = used(&one).await;
            (bytes >= 10 * MIB).then_some(bytes)
        });
        let bytes = bytes.await;
        assert!(bytes < 11 * MIB, "{bytes}");
        let log = node.daemon_log();
        assert!(log.contains("have reached their limit together"), "{log}");
        one.remove().await;
        assert_eq!(volume.quota(id).limit, 16 * MIB);
        other.sh("dd if=/dev/zero of=/more bs=1M count=8").await;
        is_full(&other, Kind::Ext4).await;
        pod.remove().await;
        volume.has_back(id).await;
    });
}

/// What makes pods may lower the limit of the handler, and not raise it.
#[test]
#[ignore = "needs root"]
fn an_annotation_cannot_raise_the_handlers_limit() {
    on_volume(Kind::Ext4, "writable_layer_limit = \"8Mi\"", async |node, _| {
        let pod = pod_of(node, &[]).await;
        for (annotation, limit) in [(None, 8), (Some("1Gi"), 8), (Some("4Mi"), 4)] {
            let container = pod.start(|config| {
                config.annotations = map(&annotation
                    .map(|value| (EACH, value))
                    .into_iter()
                    .collect::<Vec<_>>());
            });
            let container = container.await;
            assert_eq!(layer(&container).await["limitBytes"], limit * MIB);
            is_full(&container, Kind::Ext4).await;
        }
        let pod = pod_of(node, &[(TOGETHER, "1Gi")]).await;
        let container = pod.start(|_| {}).await;
        assert_eq!(layer(&container).await["limitBytes"], 8 * MIB);
    });
}

/// The daemon's death changes nothing about limits and ids; a container that was created before it is limited as well.
#[test]
#[ignore = "needs root"]
fn limits_and_ids_outlive_the_daemon() {
    on_volume(Kind::Ext4, "", async |node, volume| {
        let pod = pod_of(node, &[(EACH, "8Mi")]).await;
        let running = pod.start(|_| {}).await;
        let created = pod.create(pod.container_config()).await;
        let mut ids = vec![project(&running).await, project(&created).await];
        node.kill_and_restart_daemon().await;
        is_full(&running, Kind::Ext4).await;
        created.start().await;
        is_full(&created, Kind::Ext4).await;
        assert_eq!(ids, [project(&running).await, project(&created).await]);
        node.kill_and_restart_daemon().await;
        for _ in 0..5 {
            let another = pod.create(pod.container_config()).await;
            ids.push(project(&another).await);
        }
        let mut different = ids.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), ids.len(), "{ids:?}");
        pod.remove().await;
        for id in ids {
            volume.has_back(id).await;
        }
    });
}

/// A container whose creation the daemon's death cuts off leaves no id behind, and none whose removal is cut off.
#[test]
#[ignore = "needs root"]
fn a_crash_leaves_no_id_behind() {
    on_volume(Kind::Ext4, "", async |node, volume| {
        if cfg!(not(debug_assertions)) {
            println!("there are no failpoints in this build");
            return;
        }
        let pod = pod_of(node, &[(EACH, "8Mi")]).await;
        let config = pod.container_config();
        node.daemon(Daemon::kill);
        let failpoint = ("PAUSA_FAILPOINT", "create_container.spec");
        node.daemon(|daemon| daemon.restart_with(&[failpoint]));
        node.until_it_answers().await;
        drop(pod.try_create(&config).await);
        let dead = async || node.daemon(Daemon::ended);
        eventually("the daemon dies", dead).await;
        let id = only_project(&volume.root().join("pods").join(&pod.id).join("containers"));
        assert_eq!(volume.quota(id).limit, 8 * MIB);
        node.daemon(Daemon::forget);
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        volume.has_back(id).await;

        let container = pod.create(config).await;
        let id = project(&container).await;
        die_at(node, "remove_container.record", async || {
            let request = v1::RemoveContainerRequest {
                container_id: container.id.clone(),
            };
            node.runtime().remove_container(request).await
        })
        .await;
        volume.has_back(id).await;
        container.remove().await;
    });
}

/// The project of the only container in a pod's directory.
fn only_project(containers: &Path) -> u32 {
    let mut containers = std::fs::read_dir(containers).expect("the containers");
    let container = containers.next().expect("a container").expect("its directory");
    let work = File::open(container.path().join("work")).expect("its work directory");
    pausa_sys::project_of(work.as_fd()).expect("its project")
}

/// Where the file system counts projects and enforces nothing, usage is known at once, and limits are refused.
#[test]
#[ignore = "needs root"]
fn usage_is_counted_where_limits_are_not_enforced() {
    let Some(volume) = Volume::new(Kind::Ext4, "loop") else {
        return;
    };
    with_root_on(&volume, "", async |node, volume| {
        let pod = pod_of(node, &[]).await;
        let container = pod.start(|_| {}).await;
        let id = project(&container).await;
        container.sh("dd if=/dev/zero of=/big bs=1M count=5; sync").await;
        let bytes = used(&container).await;
        assert!((5 * MIB..6 * MIB).contains(&bytes), "{bytes}");
        let mut config = pod.container_config();
        config.annotations = map(&[(EACH, "16Mi")]);
        let said = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert!(said.contains("ext4") && said.contains("prjquota"), "{said}");
        container.remove().await;
        volume.has_back(id).await;
    });
}

/// Whatever the seccomp profile: who could take files out of their project has no limit.
#[test]
#[ignore = "needs root"]
fn a_container_cannot_leave_its_project() {
    use v1::security_profile::ProfileType;
    on_volume(Kind::Ext4, "", async |node, _| {
        let program = attacker("projects");
        let attack = async |pod: &Pod<'_>, limit: Option<&str>, profile: ProfileType| {
            let ended = pod.run(|config| {
                config.command = strings(&["/attack"]);
                config.mounts.push(v1::Mount {
                    readonly: true,
                    ..bind(&program, "/attack")
                });
                config.annotations = map(&limit.map(|limit| (EACH, limit)).into_iter().collect::<Vec<_>>());
                security(config).seccomp = Some(v1::SecurityProfile {
                    profile_type: profile.into(),
                    ..Default::default()
                });
            });
            ended.await.stdout()
        };
        let denied = "get 0\nproject 95\nproject 95\ninheritance 95\nfile_setattr 95\n";
        let pod = pod_of(node, &[]).await;
        for profile in [ProfileType::RuntimeDefault, ProfileType::Unconfined] {
            assert_eq!(attack(&pod, Some("16Mi"), profile).await, denied, "{profile:?}");
            // Otherwise the calls are the container's own business.
            let said = attack(&pod, None, profile).await;
            assert!(said.starts_with("get 0\n") && !said.contains("95"), "{said}");
        }
        if user_namespaces::can(node).await {
            let pod = node.pod_with(user_namespaces::set_default).await;
            let said = attack(&pod, Some("16Mi"), ProfileType::Unconfined).await;
            let kernel = "get 0\nproject 22\nproject 22\ninheritance 22\n";
            assert!(said.starts_with(kernel), "{said}");
        }
    });
}

/// Root of a user namespace is limited like any other.
#[test]
#[ignore = "needs root"]
fn the_limit_holds_in_a_user_namespace() {
    on_volume(Kind::Ext4, "", async |node, _| {
        if user_namespaces::can(node).await {
            let pod = node.pod_with(user_namespaces::set_default).await;
            let container = limited(&pod, "8Mi").await;
            is_full(&container, Kind::Ext4).await;
            container.sh("rm /big && touch /small").await;
        }
    });
}

/// A limit that cannot be enforced is never ignored, and what makes it possible is said.
#[test]
#[ignore = "needs root"]
fn a_limit_is_refused_on_a_file_system_without_quotas() {
    on_own_node(async |node| {
        let pod = pod_of(node, &[]).await;
        let mut config = pod.container_config();
        config.annotations = map(&[(EACH, "16Mi")]);
        let said = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        let root = node.dir().join("r/pods");
        assert!(
            said.contains(&root.display().to_string()) && said.contains("prjquota"),
            "{said}"
        );
        assert_eq!(entries(&root.join(&pod.id).join("containers")), 0);
        let shared = pod_of(node, &[(TOGETHER, "16Mi")]).await;
        let config = shared.container_config();
        refused(Code::FailedPrecondition, shared.try_create(&config).await);
        assert_eq!(layer(&pod.start(|_| {}).await).await, Value::Null);

        node.restart_with(Some(&with("writable_layer_limit = \"1Gi\"")))
            .await;
        let log = node.daemon_log();
        assert!(log.contains("its containers are refused"), "{log}");
        let config = pod.container_config();
        refused(Code::FailedPrecondition, pod.try_create(&config).await);
    });
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// A wrong annotation names itself, and fails the pod rather than its containers later.
#[test]
#[ignore = "needs root"]
fn wrong_limits_are_refused_by_name() {
    on_own_node(async |node| {
        for key in [EACH, TOGETHER, "writable-layer-limit.pausa.io/web"] {
            let mut config = node.pod_config();
            config.annotations = map(&[(key, "plenty")]);
            let said = refused(Code::InvalidArgument, node.try_pod(&config).await);
            assert!(said.contains(key), "{said}");
        }
        let pod = pod_of(node, &[]).await;
        let mut config = pod.container_config();
        config.annotations = map(&[(EACH, "0")]);
        let said = refused(Code::InvalidArgument, pod.try_create(&config).await);
        assert!(said.contains(EACH), "{said}");
    });
}
