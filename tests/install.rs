//! The Debian package on a machine of its own: installed, asked what kubeadm asks, upgraded under a running pod, removed,
//! purged. `scripts/vm-test.sh install` runs it; `PAUSA_PACKAGES` names a directory with `first.deb` and `second.deb`, which
//! are of different versions. Without that it is skipped: it changes the machine.
//!
//! Where the rules come from: Debian Policy 6 and 9.3, and the preflight checks of kubeadm (`cmd/kubeadm/app/preflight`).
#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use pausa::proto::v1;
use pausa::proto::v1::runtime_service_client::RuntimeServiceClient;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tonic::transport::{Channel, Endpoint};

const SOCKET: &str = "/run/pausa/pausa.sock";
const IMAGE: &str = "install.test/busybox:1";
const LOGS: &str = "/var/log/pods/install";
/// How long anything may take on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
#[ignore = "needs root"]
fn installed_upgraded_removed_and_purged() {
    let Some(packages) = std::env::var_os("PAUSA_PACKAGES").map(PathBuf::from) else {
        println!(
            "skipped: needs a machine of its own, and the packages in PAUSA_PACKAGES; see `make vm-test`"
        );
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(life_of_a_package(&packages));
}

async fn life_of_a_package(packages: &Path) {
    let (first, second) = (packages.join("first.deb"), packages.join("second.deb"));
    // What the machine's image leaves out of packages.
    fs::remove_file("/etc/dpkg/dpkg.cfg.d/99mmdebstrap").ok();
    let before = traces();
    assert_eq!(before, [""; 0], "a machine without pausa");

    println!("--- install");
    install(&first);
    is_installed();
    // All comments: as if it were not there.
    let differs = run("pausa", &["config", "diff", "-o", "json"]);
    let differs: serde_json::Value = serde_json::from_str(&differs).expect("JSON");
    assert_eq!(differs["defaults"], json!([]), "{differs:#}");
    let old = version();
    fs::write(
        "/etc/pausa/config.d/bridge.toml",
        "[network]\nmode = \"bridge\"\n",
    )
    .expect("a drop-in");
    run("systemctl", &["restart", "pausa"]);
    let daemon = main_pid();
    let drop_in = Path::new("/etc/pausa/config.d/log.toml");
    fs::write(drop_in, "[log]\nlevel = \"debug\"\n").expect("a drop-in");
    run("systemctl", &["reload", "pausa"]);
    assert!(run("pausa", &["log-level"]).starts_with("debug"));
    fs::write(drop_in, "[log]\nlevel = 1\n").expect("a drop-in");
    let refused = Command::new("systemctl").args(["reload", "pausa"]).status();
    assert!(
        !refused.expect("systemctl").success(),
        "what is wrong is not taken"
    );
    fs::remove_file(drop_in).expect("a drop-in");
    run("systemctl", &["reload", "pausa"]);
    assert_eq!(main_pid(), daemon);
    preflight().await;

    println!("--- a pod");
    import_image();
    let (pod, container) = run_pod("before-upgrade").await;
    assert_eq!(read("/proc/sys/net/ipv4/ip_forward"), "1");
    let pid = pid_of(&container).await;
    let (daemon, lines) = (main_pid(), log_lines("before-upgrade"));
    assert!(lines > 0);

    println!("--- upgrade");
    install(&second);
    assert_ne!(version(), old);
    assert_ne!(main_pid(), daemon, "the new daemon runs");
    assert_eq!(pid_of(&container).await, pid, "the container has not noticed");
    assert!(Path::new("/etc/pausa/config.d/bridge.toml").exists());
    eventually("the log goes on", || log_lines("before-upgrade") > lines + 2).await;
    let mut client = client().await;
    let exec = v1::ExecSyncRequest {
        container_id: container.clone(),
        cmd: words("/bin/busybox echo here"),
        timeout: 60,
    };
    let answer = client.exec_sync(exec).await.expect("ExecSync").into_inner();
    assert_eq!(answer.stdout, b"here\n");
    let list = v1::ListPodSandboxRequest::default();
    let pods = client
        .list_pod_sandbox(list)
        .await
        .expect("List")
        .into_inner()
        .items;
    assert_eq!(pods.iter().map(|item| &item.id).collect::<Vec<_>>(), [&pod]);

    println!("--- remove");
    run("apt-get", &["remove", "-y", "pausa"]);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the pod has ended");
    for stays in [
        "/etc/pausa/config.toml",
        "/etc/pausa/config.d/bridge.toml",
        "/var/lib/pausa/images",
    ] {
        assert!(Path::new(stays).exists(), "{stays}");
    }
    for gone in ["/usr/bin/pausa", "/etc/crictl.yaml"] {
        assert!(!Path::new(gone).exists(), "{gone}");
    }
    // Until it is purged, data and configuration stay, and the unit is masked.
    let mut left = traces();
    left.retain(|trace| !trace.starts_with('/') && !trace.starts_with("unit pausa.service "));
    assert_eq!(left, [""; 0]);

    println!("--- install again, and purge under a running pod");
    install(&second);
    is_installed();
    let (_, container) = run_pod("before-purge").await;
    let pid = pid_of(&container).await;
    fs::write("/etc/crictl.yaml", "runtime-endpoint: unix:///run/other.sock\n").expect("crictl's file");
    run("apt-get", &["purge", "-y", "pausa"]);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the pod has ended");
    assert_eq!(traces(), [""; 0]);
    assert_eq!(
        read("/etc/crictl.yaml"),
        "runtime-endpoint: unix:///run/other.sock",
        "somebody's own file stays"
    );
}

fn install(package: &Path) {
    let package = package.to_str().expect("UTF-8");
    run("apt-get", &["install", "-y", "--no-install-recommends", package]);
}

/// Files with their modes, the unit, what the program says.
fn is_installed() {
    for (path, mode) in [
        ("/usr/bin/pausa", 0o755),
        ("/usr/lib/systemd/system/pausa.service", 0o644),
        ("/etc/pausa/config.toml", 0o644),
        ("/etc/pausa/config.d", 0o755),
        ("/etc/pausa/certs.d", 0o755),
        ("/etc/crictl.yaml", 0o644),
        ("/usr/share/man/man1/pausa.1.gz", 0o644),
        ("/usr/share/man/man1/pausa-image-pull.1.gz", 0o644),
        ("/usr/share/bash-completion/completions/pausa", 0o644),
        ("/usr/share/zsh/vendor-completions/_pausa", 0o644),
        ("/usr/share/fish/vendor_completions.d/pausa.fish", 0o644),
        ("/usr/share/doc/pausa/copyright", 0o644),
        ("/usr/share/pausa/prometheus/pausa.rules.yml", 0o644),
        (SOCKET, 0o660),
    ] {
        let found = fs::metadata(path).map(|found| found.permissions().mode() & 0o7777);
        assert_eq!(found.ok(), Some(mode), "{path}");
    }
    assert!(read("/etc/crictl.yaml").contains(&format!("runtime-endpoint: unix://{SOCKET}")));
    assert_eq!(run("systemctl", &["is-active", "pausa"]), "active");
    assert_eq!(run("systemctl", &["is-enabled", "pausa"]), "enabled");
    assert_eq!(run("dpkg", &["--verify", "pausa"]), "");
}

/// What kubeadm wants of a node, as far as a runtime and its package have to do with it.
async fn preflight() {
    let mut client = client().await;
    let version = client
        .version(v1::VersionRequest::default())
        .await
        .expect("Version")
        .into_inner();
    assert_eq!(
        (
            version.runtime_name.as_str(),
            version.runtime_api_version.as_str()
        ),
        ("pausa", "v1")
    );
    let status = client
        .status(v1::StatusRequest::default())
        .await
        .expect("Status")
        .into_inner();
    let conditions = status.status.expect("a status").conditions;
    let ready: BTreeMap<_, _> = conditions
        .iter()
        .map(|is| (is.r#type.as_str(), is.status))
        .collect();
    assert_eq!(
        ready,
        BTreeMap::from([("RuntimeReady", true), ("NetworkReady", true)]),
        "{conditions:?}"
    );
    let config = client
        .runtime_config(v1::RuntimeConfigRequest {})
        .await
        .expect("RuntimeConfig")
        .into_inner();
    let driver = config.linux.expect("of Linux").cgroup_driver();
    assert_eq!(driver, v1::CgroupDriver::Systemd, "kubeadm's cgroupDriver");
    let controllers = read("/sys/fs/cgroup/cgroup.controllers");
    for needed in ["cpu", "cpuset", "memory", "pids"] {
        assert!(controllers.split(' ').any(|has| has == needed), "{controllers}");
    }
    assert!(
        read("/proc/filesystems")
            .lines()
            .any(|line| line.ends_with("overlay"))
    );
    assert_eq!(read("/proc/swaps").lines().count(), 1, "no swap");
    for program in ["ip", "iptables", "mount", "nsenter", "touch"] {
        run("sh", &["-c", &format!("command -v {program}")]);
    }
}

/// A busybox as `docker save` writes it.
fn import_image() {
    let mut layer = tar::Builder::new(Vec::new());
    let busybox = fs::read("/bin/busybox").expect("busybox-static");
    append(&mut layer, "bin/busybox", 0o755, &busybox);
    let layer = layer.into_inner().expect("a tar");
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    append(
        &mut archive,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    );
    append(&mut archive, "config.json", 0o644, config.to_string().as_bytes());
    append(&mut archive, "layer.tar", 0o644, &layer);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("image.tar");
    fs::write(&file, archive.into_inner().expect("a tar")).expect("the archive is written");
    run("pausa", &["image", "import", file.to_str().expect("UTF-8")]);
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len().try_into().expect("a size"));
    header.set_mode(mode);
    archive.append_data(&mut header, name, data).expect("an entry");
}

/// A pod with one container that writes to its log for ever. Returns their ids.
async fn run_pod(name: &str) -> (String, String) {
    let mut client = client().await;
    fs::create_dir_all(LOGS).expect("a directory for logs");
    let sandbox_config = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: name.to_owned(),
            namespace: "install".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: LOGS.to_owned(),
        port_mappings: vec![v1::PortMapping {
            container_port: 80,
            host_port: 8080,
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = v1::RunPodSandboxRequest {
        config: Some(sandbox_config.clone()),
        ..Default::default()
    };
    let pod = client
        .run_pod_sandbox(request)
        .await
        .expect("RunPodSandbox")
        .into_inner()
        .pod_sandbox_id;
    let script = "while /bin/busybox true; do echo tick; /bin/busybox sleep 0.1; done";
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: name.to_owned(),
                attempt: 0,
            }),
            image: Some(v1::ImageSpec {
                image: IMAGE.to_owned(),
                ..Default::default()
            }),
            command: ["/bin/busybox", "sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: format!("{name}.log"),
            ..Default::default()
        }),
        sandbox_config: Some(sandbox_config),
    };
    let container = client
        .create_container(request)
        .await
        .expect("CreateContainer")
        .into_inner()
        .container_id;
    let request = v1::StartContainerRequest {
        container_id: container.clone(),
    };
    client.start_container(request).await.expect("StartContainer");
    eventually("the container writes", || log_lines(name) > 0).await;
    (pod, container)
}

async fn client() -> RuntimeServiceClient<Channel> {
    let connect = || async { tokio::net::UnixStream::connect(SOCKET).await.map(TokioIo::new) };
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(tower::service_fn(move |_| connect()));
    RuntimeServiceClient::new(channel.await.expect("the socket answers"))
}

async fn pid_of(container: &str) -> u64 {
    let request = v1::ContainerStatusRequest {
        container_id: container.to_owned(),
        verbose: true,
    };
    let answer = client()
        .await
        .container_status(request)
        .await
        .expect("ContainerStatus")
        .into_inner();
    assert_eq!(
        answer.status.expect("a status").state(),
        v1::ContainerState::ContainerRunning
    );
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).expect("JSON");
    info["pid"].as_u64().expect("a process id")
}

fn main_pid() -> String {
    run(
        "systemctl",
        &["show", "--property", "MainPID", "--value", "pausa"],
    )
}

fn version() -> String {
    run("dpkg-query", &["--show", "--showformat", "${Version}", "pausa"])
}

fn log_lines(name: &str) -> usize {
    fs::read_to_string(format!("{LOGS}/{name}.log"))
        .unwrap_or_default()
        .lines()
        .count()
}

/// Everything on the machine that has to do with pausa, but log files of pods, which are kubelet's.
fn traces() -> Vec<String> {
    let mut found = Vec::new();
    let numbers = fs::read_dir("/proc").expect("procfs").flatten();
    for process in numbers.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()) {
        let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if command.starts_with("pausa") || command.starts_with("pause") {
            found.push(format!(
                "process {} ({})",
                process.file_name().display(),
                command.trim()
            ));
        }
    }
    let mounts = read("/proc/self/mountinfo");
    let is_ours = |line: &&str| line.contains("pausa") || line.contains("/run/netns");
    // Where the machine has the sources of these tests.
    let mounts = mounts
        .lines()
        .filter(is_ours)
        .filter(|line| !line.contains("/tree/"));
    found.extend(mounts.map(|line| format!("mount {line}")));
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        let below = fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        dirs.extend(below.filter(|path| path.is_dir()));
        if dir
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("pausa"))
        {
            found.push(format!("cgroup {}", dir.display()));
        }
    }
    let links = fs::read_dir("/sys/class/net").expect("sysfs").flatten();
    let links = links.map(|link| link.file_name().display().to_string());
    found.extend(links.filter(|name| name.starts_with("pausa") || name.starts_with("veth")));
    let tables = run("nft", &["list", "tables"]);
    found.extend(
        tables
            .lines()
            .filter(|table| table.contains("pausa"))
            .map(str::to_owned),
    );
    let units = run(
        "systemctl",
        &["list-units", "--all", "--plain", "--no-legend", "pausa*"],
    );
    found.extend(units.lines().map(|unit| format!("unit {unit}")));
    for path in [
        "/run/pausa",
        "/var/lib/pausa",
        "/etc/pausa",
        "/usr/share/pausa",
        "/usr/share/doc/pausa",
        "/usr/lib/systemd/system/pausa.service",
        "/etc/systemd/system/multi-user.target.wants/pausa.service",
        "/etc/systemd/system/pausa.service",
    ] {
        // A unit that is masked is a link to nothing.
        if Path::new(path).symlink_metadata().is_ok() {
            found.push(path.to_owned());
        }
    }
    found
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .trim()
        .to_owned()
}

/// Runs a program that must succeed, and returns what it has printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

async fn eventually(what: &str, ready: impl Fn() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
