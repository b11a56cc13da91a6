//! OCI hooks of the node's `hooks_dirs`, as oci-hooks(5) describes them.
//!
//! Sources: the OCI runtime specification, "POSIX-platform Hooks"; `docs/design/0022-devices-and-hooks.md`.

use std::path::Path;

use rustix::process::{Signal, kill_process};
use serde_json::json;
use tonic::Code;

use crate::harness::pod::monitor_of;
use crate::harness::{Node, eventually, map, on_own_node, refused};

/// A directory of the node with a hook that runs a script of the host for containers with the annotation `hook=NAME`.
/// Gives the configuration with it.
pub(crate) fn hook(node: &Node, name: &str, stages: &[&str], script: &str) -> String {
    let directory = node.dir().join("hooks");
    std::fs::create_dir_all(&directory).expect("a directory");
    let text = json!({
        "version": "1.0.0",
        "hook": {
            "path": "/bin/sh",
            "args": ["sh", "-ec", script],
            "env": ["PATH=/usr/bin:/bin"],
        },
        "when": {"annotations": {"^hook$": format!("^{name}$")}},
        "stages": stages,
    });
    std::fs::write(directory.join(format!("{name}.json")), text.to_string()).expect("a hook");
    format!("hooks_dirs = [\"{}\"]\n", directory.display())
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Only containers that it is for get a hook, from the moment in which its file is there. The state is that of the
/// container, and the bundle can be read.
#[test]
#[ignore = "needs root"]
fn a_hook_changes_the_containers_it_is_for() {
    on_own_node(async |node| {
        let states = node.dir().join("states");
        let script = format!(
            "state=$(cat); echo $state >> {}; test -f config.json; echo from the hook > rootfs/hooked",
            states.display()
        );
        node.restart_with(Some(&hook(node, "mark", &["createContainer"], &script)))
            .await;
        let pod = node.pod().await;
        let plain = pod.run(|config| config.command = vec!["ls".into(), "/hooked".into()]);
        assert_ne!(plain.await.status.exit_code, 0);
        let marked = pod
            .start(|config| {
                config.annotations = map(&[("hook", "mark")]);
                config.command = ["cat", "/hooked"].map(str::to_owned).to_vec();
            })
            .await;
        assert_eq!(marked.end().await.stdout(), "from the hook\n");
        let lines = lines(&states);
        let [state] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        let state: serde_json::Value = serde_json::from_str(state).expect("JSON");
        assert_eq!(state["id"], marked.id.as_str());
        assert_eq!(state["status"], "creating");
        assert!(Path::new(state["bundle"].as_str().expect("a path")).ends_with("bundle"));
    });
}

/// The container is exited with the reason, as after any failed start, and another one of its pod starts.
#[test]
#[ignore = "needs root"]
fn a_failing_hook_is_a_failed_start() {
    on_own_node(async |node| {
        let undone = node.dir().join("undone");
        hook(
            node,
            "fail",
            &["poststop"],
            &format!("echo undone >> {}", undone.display()),
        );
        std::fs::rename(
            node.dir().join("hooks/fail.json"),
            node.dir().join("hooks/undo.json"),
        )
        .expect("renamed");
        node.restart_with(Some(&hook(
            node,
            "fail",
            &["createRuntime"],
            "echo no such GPU >&2; exit 4",
        )))
        .await;
        let pod = node.pod().await;
        let mut config = pod.container_config();
        config.annotations = map(&[("hook", "fail")]);
        let container = pod.create(config).await;
        let message = refused(Code::Internal, container.try_start().await);
        let expected = "the createRuntime hook /bin/sh has failed: exit code 4: no such GPU";
        assert!(message.contains(expected), "{message}");
        let status = container.status().await;
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        assert!(status.message.contains(expected), "{}", status.message);
        assert_eq!(lines(&undone), ["undone"]);
        assert_eq!(pod.sh("echo next").await, "next\n");
        // A file that cannot be used refuses containers, whichever they are.
        std::fs::write(node.dir().join("hooks/broken.json"), "{").expect("written");
        let mut config = pod.container_config();
        if let Some(metadata) = &mut config.metadata {
            metadata.name = "refused".to_owned();
        }
        let message = refused(Code::FailedPrecondition, pod.try_create(&config).await);
        assert!(message.contains("broken.json"), "{message}");
    });
}

/// Hooks of the stage `poststop` run once: by the monitor, also while there is no daemon, or when it was lost, by another
/// before the container is removed.
#[test]
#[ignore = "needs root"]
fn poststop_hooks_run_whoever_dies() {
    on_own_node(async |node| {
        let ended = node.dir().join("ended");
        let script = format!("grep -o 'status\":\"[a-z]*' >> {}", ended.display());
        node.restart_with(Some(&hook(node, "end", &["poststop"], &script)))
            .await;
        let pod = node.pod().await;
        let sleeper = |config: &mut pausa::proto::v1::ContainerConfig| {
            config.annotations = map(&[("hook", "end")]);
            config.command = ["sleep", "1000"].map(str::to_owned).to_vec();
        };
        let first = pod.start(sleeper).await;
        let process = rustix::process::Pid::from_raw(first.pid().await).expect("a process");
        node.daemon(super::harness::daemon::Daemon::kill);
        kill_process(process, Signal::KILL).expect("killed");
        eventually("the hook, without a daemon", async || {
            (lines(&ended).len() == 1).then_some(())
        })
        .await;
        node.daemon(super::harness::daemon::Daemon::restart);
        node.until_it_answers().await;
        assert_eq!(first.end().await.status.exit_code, 137);
        first.remove().await;
        assert_eq!(lines(&ended), ["status\":\"stopped"]);
        let second = pod
            .start(|config| {
                sleeper(config);
                if let Some(metadata) = &mut config.metadata {
                    metadata.name = "second".to_owned();
                }
            })
            .await;
        kill_process(monitor_of(node, &pod), Signal::KILL).expect("killed");
        eventually("the container's end", async || {
            (second.status().await.reason == "Unknown").then_some(())
        })
        .await;
        assert_eq!(lines(&ended).len(), 1);
        second.remove().await;
        assert_eq!(lines(&ended), ["status\":\"stopped"; 2]);
    });
}
