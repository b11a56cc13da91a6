//! A daemon gets another configuration while it runs, and the commands about it.

use std::process::{Command, Output};

use pausa::proto::v1;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::node::{Node, reference};
use crate::harness::{Pod, eventually, ok, on_own_node};
use crate::warm;

fn pausa(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pausa"));
    command.args(arguments).output().expect("pausa runs")
}

fn said(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(all).expect("UTF-8")
}

fn log(node: &Node) -> String {
    std::fs::read_to_string(node.dir().join("daemon.log")).expect("the daemon's log")
}

/// Writes a drop-in, or removes it, sends SIGHUP, and returns what the daemon says until it says one of these.
async fn reload(node: &Node, configuration: Option<&str>, ends: &str) -> String {
    node.configure(configuration);
    let before = log(node).len();
    let pid = node.daemon(|daemon| daemon.pid());
    kill_process(Pid::from_raw(pid).expect("a process id"), Signal::HUP).expect("SIGHUP");
    eventually("the daemon reloads", async || {
        let said = log(node)[before..].to_owned();
        said.contains(ends).then_some(said)
    })
    .await
}

const DONE: &str = "reloaded the configuration";
const FAILED: &str = "cannot reload the configuration";

async fn status(node: &Node) -> Value {
    let request = v1::StatusRequest { verbose: true };
    let status = ok("Status", node.runtime().status(request).await);
    serde_json::from_str(&status.info["config"]).expect("JSON")
}

async fn is_pinned(node: &Node) -> bool {
    node.image(&reference("base")).await.expect("the image").pinned
}

/// `pausa config diff` as the daemon was started.
fn diff(node: &Node, format: &str) -> Output {
    let (file, listen) = (
        node.dir().join("config.toml"),
        format!("unix://{}", node.socket().display()),
    );
    let file = file.to_str().expect("UTF-8");
    pausa(&[
        "config", "diff", "-o", format, "--config", file, "--listen", &listen,
    ])
}

async fn pod_of<'a>(node: &'a Node, handler: &str) -> Pod<'a> {
    let config = node.pod_config();
    std::fs::create_dir_all(&config.log_directory).expect("a log directory");
    let request = v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: handler.to_owned(),
    };
    let answer = node.runtime().run_pod_sandbox(request).await;
    let id = ok("RunPodSandbox", answer).pod_sandbox_id;
    node.remember(&id);
    Pod { node, id, config }
}

/// docs/configuration.md, "Changing the configuration": what needs no restart is in force, what needs one is named and
/// stays as it was, and nothing that runs notices.
#[test]
#[ignore = "needs root"]
fn a_reload_changes_what_needs_no_restart() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let begun = container.sh("cut -d ' ' -f 22 /proc/1/stat").await;
        let daemon = node.daemon(|daemon| daemon.pid());
        assert!(!is_pinned(node).await);
        let configuration = format!(
            "enable_unprivileged_ports = false\n[log]\nlevel = \"warn\"\n[images]\npinned = [\"{}\"]\n\
             stall_timeout_seconds = 61\n[sandbox]\nwarm = 1\n\
             [handlers.later]\npids_limit = 7\n[metrics]\naddress = \"127.0.0.1:0\"\n",
            reference("base")
        );
        let said = reload(node, Some(&configuration), DONE).await;
        for (key, what) in [
            ("log.level", "has changed old"),
            ("images.pinned", "has changed old"),
            ("sandbox.warm", "has changed old"),
            ("handlers.later.pids_limit", "has changed old"),
            ("enable_unprivileged_ports", "has changed old"),
            ("metrics.address", "needs a restart"),
        ] {
            let what = what.split(" old").next().unwrap_or_default();
            let named = |line: &&str| line.contains(&format!("\"{key}\"")) && line.contains(what);
            assert_eq!(said.lines().filter(named).count(), 1, "{key}: {said}");
        }
        let of_level = said
            .lines()
            .find(|line| line.contains("\"log.level\""))
            .expect("seen");
        assert!(
            of_level.contains("debug") && of_level.contains("warn"),
            "{of_level}"
        );

        // In force.
        let quiet = log(node).len();
        assert!(is_pinned(node).await);
        // By a client for registries that is new.
        node.pull("rich").await;
        let waiting = warm::waiting(node, &[&pod], 1).await;
        let later = pod_of(node, "later").await;
        assert!(waiting.values().any(|id| *id == later.id), "{waiting:?}");
        let limited = later.start(|_| {}).await;
        let port = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
        assert_eq!(limited.sh(port).await, "1024\n");
        let bundle = format!("s/pods/{}/containers/{}/bundle/config.json", later.id, limited.id);
        let bundle = std::fs::read_to_string(node.dir().join(bundle)).expect("a bundle");
        let spec: Value = serde_json::from_str(&bundle).expect("JSON");
        assert_eq!(spec["linux"]["resources"]["pids"]["limit"], 7);
        let shown = &log(node)[quiet..];
        assert!(!shown.contains("DEBUG") && !shown.contains("INFO"), "{shown}");

        // Not in force, and known to be pending.
        let config = status(node).await;
        assert_eq!(config["metrics"], json!({}));
        assert_eq!(config["sandbox"]["warm"], 1);
        let differences: Value = serde_json::from_slice(&diff(node, "json").stdout).expect("JSON");
        let pending = differences["pending"].as_array().expect("a list");
        assert_eq!(
            pending,
            &[
                json!({"key": "metrics.address", "running": null, "files": "\"127.0.0.1:0\"", "needsRestart": true})
            ],
            "{differences:#}"
        );
        let keys = differences["defaults"].as_array().expect("a list");
        assert!(
            keys.iter()
                .any(|key| key["key"] == "images.pinned" && key["default"] == "[]")
        );
        let table = said_by(&diff(node, "table"));
        assert!(
            table.contains("TAKES EFFECT WITH") && table.contains("restart"),
            "{table}"
        );

        // Undisturbed.
        assert_eq!(container.sh("cut -d ' ' -f 22 /proc/1/stat").await, begun);
        assert_eq!(container.sh(port).await, "0\n");
        assert_eq!(node.daemon(|daemon| daemon.pid()), daemon);

        // And back.
        reload(node, None, DONE).await;
        assert!(!is_pinned(node).await);
        warm::waiting(node, &[&pod, &later], 0).await;
        let table = said_by(&diff(node, "table"));
        assert!(
            table.contains("The daemon runs with this configuration."),
            "{table}"
        );
        // A pod whose handler is not configured any more goes on.
        assert_eq!(limited.sh("echo alive").await, "alive\n");
    });
}

fn said_by(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    said(output)
}

/// docs/configuration.md: an invalid file, and one that names a profile that cannot be used, change nothing at all.
#[test]
#[ignore = "needs root"]
fn a_reload_that_fails_changes_nothing() {
    on_own_node(async |node| {
        node.pull("base").await;
        let before = status(node).await;
        let pinned = format!("[images]\npinned = [\"{}\"]\n", reference("base"));
        for (wrong, named) in [
            ("max_log_line = 1\n", "max_log_line"),
            ("max_log_lime = 1000\n", "max_log_line"),
            ("max_log_line = \n", "test.toml"),
            ("[seccomp]\ndefault_profile = \"/nonexistent\"\n", "/nonexistent"),
            ("[streaming]\nmax_sessions = 0\n", "streaming.max_sessions"),
            ("[images]\nauth_file = \"credential:login\"\n", "credential:login"),
        ] {
            let configuration = match wrong.contains("[images]") {
                true => format!("{wrong}{}", pinned.replace("[images]\n", "")),
                false => format!("{wrong}{pinned}"),
            };
            let said = reload(node, Some(&configuration), FAILED).await;
            assert!(said.contains(named), "{named}: {said}");
            assert!(!said.contains("has changed"), "{said}");
            assert!(!is_pinned(node).await, "{wrong}");
            assert_eq!(status(node).await, before, "{wrong}");
        }
        reload(node, Some(&pinned), DONE).await;
        assert!(is_pinned(node).await);
    });
}

/// docs/operations.md, "Logs": the level can be changed without the configuration, until the next reload.
#[test]
#[ignore = "needs root"]
fn the_log_level_can_be_set() {
    on_own_node(async |node| {
        let address = format!("unix://{}", node.socket().display());
        let level = |level: &[&str]| pausa(&[&["log-level", "--address", &address], level].concat());
        assert_eq!(said_by(&level(&[])), "debug\n");
        let set = said_by(&level(&["warn"]));
        assert!(
            set.starts_with("warn until the next reload") && set.ends_with("configured: debug\n"),
            "{set}"
        );
        let quiet = log(node).len();
        node.pull("base").await;
        assert!(!log(node)[quiet..].contains("DEBUG"));
        said_by(&level(&["warn,pausa::cri=debug"]));
        let loud = log(node).len();
        is_pinned(node).await;
        assert!(log(node)[loud..].contains("answered"));
        let wrong = level(&["pausa=loud"]);
        assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
        assert!(said(&wrong).contains("pausa=loud"), "{wrong:?}");
        assert!(said_by(&level(&[])).starts_with("warn,pausa::cri=debug"));
        reload(node, Some(""), DONE).await;
        assert_eq!(said_by(&level(&[])), "debug\n");
    });
}

/// docs/configuration.md: all errors, warnings, and exit codes.
#[test]
#[ignore = "part of the suite"]
fn validate_finds_all_errors() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        std::fs::write(&file, text).expect("a file");
        file.to_str().expect("UTF-8").to_owned()
    };
    let file = write(
        "config.toml",
        "root = 1\nrot = \"/x\"\n[network.bridge]\nmtu = 1400\n",
    );
    write("config.d/a.toml", "max_log_line = 1\n");
    write("config.d/b.conf", "");
    let checked = pausa(&["config", "validate", &file]);
    assert_eq!(checked.status.code(), Some(64), "{checked:?}");
    let text = said(&checked);
    for expected in [
        "\"rot\"",
        "line 1",
        "max_log_line",
        "errors: 3",
        "warning: network.bridge.mtu has no effect",
        "b.conf is ignored",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let defaults = pausa(&["config", "default"]);
    let valid = write("valid/config.toml", &said_by(&defaults));
    let checked = pausa(&["config", "validate", "--config", &valid]);
    assert_eq!(said_by(&checked), "The configuration is valid.\n");
    let both = pausa(&["config", "validate", "--config", &valid, &valid]);
    assert_eq!(both.status.code(), Some(64));
    let listen = format!("unix://{}", dir.path().join("none.sock").display());
    let alone = said_by(&pausa(&[
        "config", "diff", "--config", &valid, "--listen", &listen,
    ]));
    assert!(
        alone.contains("listen") && alone.contains("No daemon runs."),
        "{alone}"
    );
    assert!(said_by(&pausa(&["config", "manual"])).contains(".TH pausa.toml 5"));
}
