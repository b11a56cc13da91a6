//! `pausa doctor`: what is wrong with the node, found without help. Nothing here asks a server outside of the node.

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::read::GzDecoder;
use pausa::proto::v1;
use rustix::mount::MountPropagationFlags;
use serde_json::{Value, json};

use crate::harness::pod::bind;
use crate::harness::tmpfs::Tmpfs;
use crate::harness::{Node, on_own_node, strings};

/// Part of every secret that is planted.
const SECRET: &str = "s3cretCANARY";

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pausa"));
    command.arg("doctor").args(arguments).stdin(Stdio::null());
    command.output().expect("pausa runs")
}

/// Exit code and document.
fn doctor(arguments: &[&str]) -> (i32, Value) {
    let output = run(&[&["-o", "json"], arguments].concat());
    let document = serde_json::from_slice(&output.stdout);
    let document: Value = document.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let code = output.status.code().expect("no signal");
    // Whatever else is wrong with the machine, the code says it.
    let count = |verdict: &str| document["summary"][verdict].as_u64().expect("a number");
    let expected = match (count("problem"), count("unknown")) {
        (0, 0) => 0,
        (0, _) => 2,
        _ => 1,
    };
    assert_eq!(code, expected, "{output:?}");
    (code, document)
}

/// Verdict and text of each finding of a check.
fn findings<'a>(document: &'a Value, check: &str) -> Vec<(&'a str, &'a str)> {
    let all = document["findings"].as_array().expect("findings");
    let of_check = all.iter().filter(|finding| finding["check"] == check);
    let text = |value: &'a Value| value.as_str().expect("a text");
    of_check
        .map(|finding| (text(&finding["verdict"]), text(&finding["found"])))
        .collect()
}

/// The text of a finding with this verdict, which has to contain the words.
#[track_caller]
fn assert_found(document: &Value, check: &str, verdict: &str, words: &str) {
    let found = findings(document, check);
    assert!(
        found
            .iter()
            .any(|(is, text)| *is == verdict && text.contains(words)),
        "{check} {verdict} {words:?}: {found:?}"
    );
}

/// A configuration file for the node's directories, with more in front and behind.
fn configuration(dir: &Path, top: &str, tables: &str) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        "listen = \"unix://{}\"\nstate = \"{}\"\nregistry_config_dir = \"{}\"\nregistries_conf = \"\"\n{top}\n{tables}\n",
        path("s/pausa.sock"),
        path("s"),
        path("no-hosts"),
    );
    // In a directory without drop-ins.
    std::fs::create_dir_all(dir.join("doctor")).expect("a directory");
    let file = dir.join("doctor/config.toml");
    std::fs::write(&file, text).expect("a configuration");
    file.display().to_string()
}

fn address(node: &Node) -> String {
    format!("unix://{}", node.socket().display())
}

/// docs/operations.md, "Doctor": the running daemon is found, asked, and believed about its configuration.
#[test]
#[ignore = "needs root"]
fn a_running_daemon_is_well() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let (_, document) = doctor(&["--address", &address(node)]);
        let pid = node.daemon(|daemon| daemon.pid());
        let origin = format!("the command line of process {pid}");
        assert_eq!(document["config"], origin.as_str(), "{document:#}");
        for (check, words) in [
            ("config.valid", origin.as_str()),
            ("daemon.running", &pid.to_string()),
            ("daemon.socket", "mode 0660"),
            ("daemon.version", env!("CARGO_PKG_VERSION")),
            ("daemon.cri", "NetworkReady is true"),
            ("daemon.operations", "none of them is stuck"),
            ("network.pods", "1 pods"),
            ("network.config", "built-in"),
            ("network.plugins", "bridge runs in process"),
            ("network.subnet", &node.slot().subnet().to_string()),
            // The harness's registry, over the daemon's own hosts.toml.
            ("registry.reachable", "answers 200"),
            ("kernel.version", "Linux"),
            ("cgroups.driver", "the driver is"),
            ("disk.writable", &node.dir().join("r").display().to_string()),
        ] {
            assert_found(&document, check, "ok", words);
        }
        assert!(
            findings(&document, "dns.lookup").is_empty(),
            "an address needs no name"
        );
        // The same for people: what is well only with -v.
        let plain = run(&["--address", &address(node), "--offline"]);
        let text = String::from_utf8(plain.stdout).expect("UTF-8");
        assert!(
            !text.contains("daemon.running") && !text.contains('\x1b'),
            "{text}"
        );
        let all = run(&["--address", &address(node), "--offline", "-v"]);
        let text = String::from_utf8(all.stdout).expect("UTF-8");
        assert!(text.contains("ok        daemon.running: "), "{text}");
        assert!(!text.contains("registry.reachable"), "{text}");
        // The alias.
        let mut alias = Command::new(env!("CARGO_BIN_EXE_pausa"));
        let alias = alias.args(["check", "--offline", "-o", "json", "--address", &address(node)]);
        let alias = alias.stdin(Stdio::null()).output().expect("pausa runs");
        assert!(
            serde_json::from_slice::<Value>(&alias.stdout).is_ok(),
            "{alias:?}"
        );
        pod.remove().await;
    });
}

/// docs/operations.md, "Doctor": a daemon that is gone, its socket, and one that everybody may use.
#[test]
#[ignore = "needs root"]
fn a_daemon_that_does_not_run_is_the_first_finding() {
    on_own_node(async |node| {
        let socket = address(node);
        let arguments = ["--offline", "--address", &socket];
        std::fs::set_permissions(node.socket(), std::fs::Permissions::from_mode(0o666)).expect("a mode");
        assert_found(&doctor(&arguments).1, "daemon.socket", "warning", "mode 0666");
        std::fs::set_permissions(node.socket(), std::fs::Permissions::from_mode(0o660)).expect("a mode");
        node.daemon(|daemon| daemon.kill());
        let (code, document) = doctor(&arguments);
        assert_eq!(code, 1);
        assert_found(
            &document,
            "daemon.running",
            "problem",
            "a daemon that is gone has left",
        );
        let output = run(&arguments);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.contains("`systemctl start pausa`"), "{text}");
        let nowhere = format!("unix://{}", node.dir().join("nothing.sock").display());
        let (_, document) = doctor(&["--offline", "--address", &nowhere]);
        assert_found(&document, "daemon.running", "problem", "does not exist");
        node.daemon(|daemon| daemon.restart());
        node.until_it_answers().await;
    });
}

/// docs/operations.md, "Doctor": what the configuration and the files it names get wrong.
#[test]
#[ignore = "needs root"]
fn mistakes_in_configurations_are_named() {
    on_own_node(async |node| {
        let dir = node.dir();
        let check = |top: &str, tables: &str| {
            let config = configuration(dir, top, tables);
            doctor(&["--offline", "--config", &config]).1
        };
        let document = check("rooot = \"/x\"", "");
        assert_found(&document, "config.valid", "problem", "rooot");
        assert_found(&document, "config.valid", "problem", "root");
        let document = check("", "[streaming]\ncert = \"/no/cert\"\nkey = \"/no/key\"");
        assert_found(&document, "config.files", "problem", "/no/cert");

        // CNI: no file, a bad one, a plugin that is missing, one that speaks another version.
        let (conf, bin) = (dir.join("net.d"), dir.join("bin"));
        for path in [&conf, &bin] {
            std::fs::create_dir(path).expect("a directory");
        }
        let cni = format!(
            "[cni]\nconf_dir = \"{}\"\nbin_dir = [\"{}\"]\n",
            conf.display(),
            bin.display()
        );
        assert_found(
            &check("", &cni),
            "network.config",
            "problem",
            "no network configuration",
        );
        let list = conf.join("10-net.conflist");
        std::fs::write(&list, "{\"name\": ").expect("a file");
        assert_found(&check("", &cni), "network.config", "problem", "10-net.conflist");
        let text = r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "calico-like", "ipam": {"type": "calico-ipam"}}, {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
        std::fs::write(&list, text).expect("a file");
        let document = check("", &cni);
        assert_found(&document, "network.config", "ok", "10-net.conflist");
        assert_found(&document, "network.plugins", "problem", "\"calico-like\"");
        assert_found(&document, "network.plugins", "problem", "\"calico-ipam\"");
        assert_found(&document, "network.plugins", "ok", "portmap runs in process");
        let plugin = |name: &str, versions: &str| {
            let calls = dir.join("calls");
            let script = format!(
                "#!/bin/sh\necho $CNI_COMMAND >> {}\ncat > /dev/null\necho '{{\"cniVersion\": \"1.0.0\", \"supportedVersions\": [{versions}]}}'\n",
                calls.display()
            );
            std::fs::write(bin.join(name), script).expect("a plugin");
            std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        };
        plugin("calico-like", "\"0.3.1\", \"1.0.0\"");
        plugin("calico-ipam", "\"0.3.1\"");
        let document = check("", &cni);
        assert_found(&document, "network.plugins", "ok", "calico-like");
        assert_found(&document, "network.plugins", "problem", "speaks CNI 0.3.1");
        let calls = std::fs::read_to_string(dir.join("calls")).expect("calls");
        assert_eq!(calls, "VERSION\nVERSION\n", "a dry run");
        // A file that is skipped is not what is used.
        std::fs::write(conf.join("05-old.conf"), "[]").expect("a file");
        assert_found(&check("", &cni), "network.config", "warning", "05-old.conf");

        // Registries.
        let hosts = dir.join("broken-hosts/r.example");
        std::fs::create_dir_all(&hosts).expect("a directory");
        std::fs::write(hosts.join("hosts.toml"), "skip = true\n").expect("a file");
        let text = std::fs::read_to_string(dir.join("doctor/config.toml")).expect("a configuration");
        let text = text.replace("no-hosts", "broken-hosts");
        std::fs::write(dir.join("doctor/config.toml"), text).expect("a configuration");
        let config = dir.join("doctor/config.toml").display().to_string();
        let (_, document) = doctor(&["--offline", "--config", &config]);
        assert_found(&document, "registry.config", "problem", "r.example/hosts.toml");
    });
}

/// docs/operations.md, "Doctor": kubelet with another cgroup driver, another runtime and a stub for DNS.
#[test]
#[ignore = "needs root"]
fn kubelet_has_to_agree() {
    on_own_node(async |node| {
        let dir = node.dir();
        std::fs::write(dir.join("resolv.conf"), "nameserver 127.0.0.53\n").expect("a file");
        let kubelet = dir.join("kubelet.yaml");
        let check = |driver: &str, endpoint: &str| {
            let text = format!(
                "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\ncgroupDriver: {driver}\n\
                 containerRuntimeEndpoint: {endpoint}\nresolvConf: {}\nmaxPods: 300\nfailSwapOn: false\n",
                dir.join("resolv.conf").display()
            );
            std::fs::write(&kubelet, text).expect("a file");
            let file = kubelet.display().to_string();
            doctor(&[
                "--offline",
                "--address",
                &address(node),
                "--kubelet-config",
                &file,
            ])
            .1
        };
        let own = check("cgroupfs", &address(node));
        let (driver, other) = match findings(&own, "cgroups.driver")[0].1.ends_with("systemd") {
            true => ("systemd", "cgroupfs"),
            false => ("cgroupfs", "systemd"),
        };
        let good = check(driver, &address(node));
        assert_found(&good, "kubelet.cgroup-driver", "ok", driver);
        assert_found(&good, "kubelet.endpoint", "ok", "pausa.sock");
        // 253 addresses in the harness's subnet.
        assert_found(&good, "kubelet.max-pods", "warning", "maxPods is 300");
        assert_found(&good, "dns.pods", "problem", "127.0.0.53");
        let bad = check(other, "unix:///run/containerd/containerd.sock");
        assert_found(&bad, "kubelet.cgroup-driver", "problem", other);
        assert_found(&bad, "kubelet.endpoint", "problem", "containerd.sock");
        std::fs::write(&kubelet, "a: [").expect("a file");
        let file = kubelet.display().to_string();
        let (_, document) = doctor(&[
            "--offline",
            "--address",
            &address(node),
            "--kubelet-config",
            &file,
        ]);
        assert_found(&document, "kubelet.config", "problem", "is not YAML");
    });
}

/// docs/operations.md, "Doctor": a full disk.
#[test]
#[ignore = "needs root"]
fn a_full_disk_is_found() {
    on_own_node(async |node| {
        let disk = node.dir().join("disk");
        let mounted = Tmpfs::new(disk.clone(), MountPropagationFlags::PRIVATE);
        let resize = Command::new("mount")
            .args(["-o", "remount,size=4m"])
            .arg(&disk)
            .status();
        assert!(resize.expect("mount runs").success());
        let config = configuration(node.dir(), &format!("root = \"{}\"", disk.display()), "");
        let check = || doctor(&["--offline", "--config", &config]).1;
        let root = format!("root {}", disk.display());
        // tmpfs is small, and it is gone after a reboot.
        assert_found(&check(), "disk.persistent", "warning", &root);
        std::fs::write(disk.join("fill"), vec![1; 3 << 20]).expect("room");
        let mut file = std::fs::File::options()
            .append(true)
            .open(disk.join("fill"))
            .expect("a file");
        while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
        let document = check();
        assert_found(
            &document,
            "disk.space",
            "problem",
            &format!("{root}: 0 B of 4.0 MiB free"),
        );
        drop(file);
        let remount = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&disk)
            .status();
        assert!(remount.expect("mount runs").success());
        assert_found(&check(), "disk.writable", "problem", &root);
        drop(mounted);
    });
}

/// docs/operations.md, "Doctor": a registry that refuses connections, and one that has a mirror.
#[test]
#[ignore = "needs root"]
fn a_registry_that_is_down_is_found() {
    on_own_node(async |node| {
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
        let closed_at = closed.local_addr().expect("an address").to_string();
        drop(closed);
        let (code, document) = doctor(&["--address", &address(node), "--registry", &closed_at]);
        assert_eq!(code, 1);
        assert_found(&document, "registry.reachable", "problem", &closed_at);
        assert_found(&document, "registry.reachable", "problem", "refused");
        // The harness's registry goes on to be well.
        assert_found(&document, "registry.reachable", "ok", "answers 200");
        // As its mirror, the closed port only costs time.
        let hosts = node.dir().join("hosts");
        let entry = std::fs::read_dir(&hosts)
            .expect("hosts")
            .next()
            .expect("a host")
            .expect("a host");
        let file = entry.path().join("hosts.toml");
        let before = std::fs::read_to_string(&file).expect("a file");
        std::fs::write(&file, format!("{before}[host.\"http://{closed_at}\"]\n")).expect("a file");
        let (_, document) = doctor(&["--address", &address(node)]);
        assert_found(&document, "registry.reachable", "warning", &closed_at);
        std::fs::write(&file, before).expect("a file");
    });
}

/// Names and contents of the files in a bundle.
fn unpack(path: &Path) -> Vec<(PathBuf, String)> {
    let file = std::fs::File::open(path).expect("a bundle");
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let entries = archive.entries().expect("entries");
    entries
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").into_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("UTF-8");
            (path, text)
        })
        .collect()
}

/// docs/operations.md, "Support bundle": secrets in every place, and none of them in the bundle.
#[test]
#[ignore = "needs root"]
fn a_support_bundle_has_no_secrets() {
    on_own_node(async |node| {
        let dir = node.dir();
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(&path, text).expect("a file");
            path
        };
        let auth = write(
            "auth.json",
            &format!("{{\"auths\": {{\"r.example\": {{\"auth\": \"{SECRET}\"}}}}}}"),
        );
        node.restart_with(Some(&format!(
            "[images]\nauth_file = \"{}\"\n[handlers.\"\"]\ndefault_env = [\"A={SECRET}\"]\n",
            auth.display()
        )))
        .await;
        write(
            "hosts/127.0.0.1:1/hosts.toml",
            &format!(
                "server = \"http://me:{SECRET}@127.0.0.1:1\"\n[header]\nx-plain = [\"{SECRET}\"]\nAuthorization = \"Basic {SECRET}\"\n[host.\"http://me:{SECRET}@127.0.0.1:1\"]\ncapabilities = [\"pull\"]\n"
            ),
        );
        let volume = write("volume/password", SECRET);
        let notes = || {
            std::collections::BTreeMap::from([
                ("token".to_owned(), SECRET.to_owned()),
                ("vault.example/x".to_owned(), format!("{SECRET}0123456789")),
                ("plain".to_owned(), "worth-knowing".to_owned()),
            ])
        };
        let pod = node
            .pod_with(|config| config.annotations = notes().into_iter().collect())
            .await;
        let container = pod
            .start(|config| {
                config.annotations = notes().into_iter().collect();
                config.envs = vec![v1::KeyValue {
                    key: "X".to_owned(),
                    value: SECRET.into(),
                }];
                config.command = strings(&["sh", "-c", &format!(": {SECRET}; sleep 1000")]);
                config.mounts = vec![bind(volume.parent().expect("a directory"), "/secret")];
            })
            .await;
        let kubelet = write(
            "kubelet.yaml",
            &format!("cgroupDriver: cgroupfs\nstaticPodURLHeader:\n  Authorization: [\"{SECRET}\"]\n"),
        );
        let bundle = dir.join("bundle.tar.gz");
        let path = bundle.display().to_string();
        let kubelet = kubelet.display().to_string();
        let arguments = [
            "--offline",
            "--address",
            &address(node),
            "--kubelet-config",
            &kubelet,
            "--support-bundle",
            &path,
        ];
        let (_, document) = doctor(&arguments);
        assert_found(&document, "daemon.running", "ok", "somebody listens");
        let mode = std::fs::metadata(&bundle).expect("a bundle").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = unpack(&bundle);
        for (name, text) in &files {
            assert!(!text.contains(SECRET), "{}: {text}", name.display());
            assert!(!name.to_string_lossy().contains(SECRET), "{}", name.display());
        }
        let text = |name: &str| {
            let path = Path::new("pausa-support").join(name);
            let found = files.iter().find(|(name, _)| *name == path);
            &found
                .unwrap_or_else(|| panic!("{name}: {:?}", files.iter().map(|(name, _)| name)))
                .1
        };
        let json = |name: &str| serde_json::from_str::<Value>(text(name)).expect("JSON");
        assert!(json("doctor.json")["findings"].is_array());
        assert_eq!(
            json("config.json")["images"]["auth_file"],
            auth.display().to_string().as_str()
        );
        assert_eq!(json("pods.json")[0]["id"], pod.id.as_str());
        assert_eq!(json("containers.json")[0]["id"], container.id.as_str());
        assert_eq!(json("operations.json"), json!([]));
        assert!(text(&format!("records/{}/pod.json", pod.id)).contains("worth-knowing"));
        let record = text(&format!("records/{}/{}.json", pod.id, container.id));
        assert!(
            record.contains("/secret") && record.contains("[redacted]"),
            "{record}"
        );
        assert!(text("registries/127.0.0.1:1.json").contains("x-plain"));
        assert!(text("kernel.txt").contains("== /proc/cmdline"));
        assert!(
            text("cgroups.txt").contains(&container.id),
            "{}",
            text("cgroups.txt")
        );
        assert!(text("mountinfo.txt").contains(" - proc "));
        assert_eq!(json("kubelet.json")["cgroupDriver"], "cgroupfs");
        for name in [
            "nft.txt",
            "journal.txt",
            "resolv.conf",
            "status.json",
            "network-check.json",
        ] {
            text(name);
        }
        // Never overwritten.
        let before = std::fs::read(&bundle).expect("a bundle");
        let again = run(&arguments);
        assert_eq!(again.status.code(), Some(1), "{again:?}");
        let said = String::from_utf8(again.stderr).expect("UTF-8");
        assert!(said.contains("it must not exist yet"), "{said}");
        assert_eq!(std::fs::read(&bundle).expect("a bundle"), before);
    });
}
