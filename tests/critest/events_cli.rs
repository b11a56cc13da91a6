//! `pausa events`: what happens to pods and containers, as people and as programs read it.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use pausa::proto::v1;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::daemon::Daemon;
use crate::harness::terminal::Screen;
use crate::harness::{Container, Node, eventually, map, on_own_node, strings};

/// `pausa events` at a node.
struct Watching {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Watching {
    /// Returns once it has subscribed: a daemon says when it has answered.
    async fn start(node: &Node, arguments: &[&str]) -> Self {
        let subscribed = || {
            let log = node.daemon_log();
            let answers = log.lines().filter(|line| line.contains("answered"));
            answers.filter(|line| line.contains("GetContainerEvents")).count()
        };
        let before = subscribed();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pausa"))
            .arg("events")
            .arg("--address")
            .arg(node.socket())
            .args(arguments)
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pausa runs");
        let stdout = child.stdout.take().expect("a pipe");
        eventually("it subscribes", async || (subscribed() > before).then_some(())).await;
        Self {
            child,
            lines: Some(BufReader::new(stdout).lines()),
        }
    }

    /// The lines up to the one that `is_last`.
    fn until(&mut self, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut all = Vec::new();
        for line in self.lines.as_mut().expect("not closed") {
            all.push(line.expect("UTF-8"));
            if is_last(&all[all.len() - 1]) {
                return all;
            }
        }
        panic!("it ended: {all:#?}");
    }

    /// How it ends, and what it says then.
    async fn end(mut self) -> (ExitStatus, String) {
        let status = eventually("it ends", async || self.child.try_wait().expect("a status")).await;
        let stderr = self.child.stderr.take().expect("a pipe");
        (status, std::io::read_to_string(stderr).expect("UTF-8"))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn name(container: &Container<'_>) -> String {
    container.config.metadata.as_ref().expect("a name").name.clone()
}

/// docs/operations.md, "Events": everything once and in order, with how containers have ended.
#[test]
#[ignore = "needs root"]
fn a_pods_life_is_printed_in_order() {
    on_own_node(async |node| {
        let mut config = node.pod_config();
        config.labels.insert("app".to_owned(), "web".to_owned());
        let pod_name = config.metadata.as_ref().expect("a name").name.clone();
        node.pull("base").await;
        let mut text = Watching::start(node, &["--pod", &pod_name]).await;
        let mut json = Watching::start(node, &["-o", "json", "-n", "critest", "-l", "app=web"]).await;
        let mut nobody = Watching::start(node, &["-o", "json", "--namespace", "kube-system"]).await;

        // Nobody has asked for this one.
        let other = node.pod().await;
        let pod = node.run_pod(config).await;
        let mut config = pod.container_config();
        config.command = strings(&["sh", "-c", "exit 3"]);
        let fails = pod.create(config).await;
        fails.start().await;
        fails.end().await;
        fails.remove().await;
        let eats = pod
            .start(|config| {
                // tail keeps what it reads: a line without an end.
                config.command = strings(&["tail", "/dev/zero"]);
                config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
                    memory_limit_in_bytes: 24 << 20,
                    ..Default::default()
                });
            })
            .await;
        eats.end().await;
        pod.stop().await;
        pod.remove().await;
        other.stop().await;

        let (failed, ate) = (name(&fails), name(&eats));
        let expected = [
            ("created", None, None),
            ("started", None, None),
            ("created", Some((&failed, &fails.id)), None),
            ("started", Some((&failed, &fails.id)), None),
            ("stopped", Some((&failed, &fails.id)), Some((3, "Error"))),
            ("deleted", Some((&failed, &fails.id)), None),
            ("created", Some((&ate, &eats.id)), None),
            ("started", Some((&ate, &eats.id)), None),
            ("stopped", Some((&ate, &eats.id)), Some((137, "OOMKilled"))),
            ("stopped", None, None),
            ("deleted", Some((&ate, &eats.id)), None),
            ("deleted", None, None),
        ];

        let lines = text.until(|line| line.contains("   deleted   pod "));
        let (heading, lines) = lines.split_first().expect("a heading");
        let headings: Vec<_> = heading.split_whitespace().collect();
        assert_eq!(headings[..3], ["TIME", "EVENT", "OBJECT"]);
        let short = |id: &str| id[..13].to_owned();
        let rows = expected.map(|(event, container, end)| {
            let (object, id, path) = match container {
                Some((name, id)) => ("container", short(id), format!("/{name}")),
                None => ("pod", "-".to_owned(), String::new()),
            };
            let end = end.map(|(code, reason)| format!("exit code {code} ({reason})"));
            let mut row = strings(&[event, object]);
            row.extend([short(&pod.id), id, format!("critest/{pod_name}{path}")]);
            row.extend(end);
            row
        });
        let cells = |line: &String| -> Vec<String> {
            let cells = line.split("   ").map(|cell| cell.trim().to_owned());
            cells.filter(|cell| !cell.is_empty()).collect()
        };
        let seen: Vec<_> = lines.iter().map(cells).collect();
        assert_eq!(
            seen.iter().map(|row| &row[1..]).collect::<Vec<_>>(),
            rows,
            "{lines:#?}"
        );
        assert!(seen.is_sorted_by_key(|row| &row[0]), "{lines:#?}");
        assert!(seen[0][0].ends_with("+00:00"), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains('\x1b')), "{lines:#?}");

        let documents = json.until(|line| line.contains("\"event\":\"deleted\",\"object\":\"pod\""));
        let documents: Vec<Value> = documents
            .iter()
            .map(|line| serde_json::from_str(line).expect("a document a line"))
            .collect();
        assert_eq!(documents.len(), expected.len(), "{documents:#?}");
        for (document, (event, container, end)) in documents.iter().zip(expected) {
            let (name, id) = container.unzip();
            let (code, reason) = end.unzip();
            let object = if container.is_some() { "container" } else { "pod" };
            let expected = serde_json::json!({
                "time": document["time"],
                "event": event,
                "object": object,
                "namespace": "critest",
                "pod": pod_name,
                "podUid": pod.config.metadata.as_ref().expect("a uid").uid,
                "podId": pod.id,
                "container": name,
                "containerId": id,
                "attempt": 0,
                "exitCode": code,
                "reason": reason,
                "message": document["message"],
            });
            assert_eq!(*document, expected);
        }
        let time = |document: &Value| document["time"].as_str().expect("a time").to_owned();
        assert!(documents.is_sorted_by_key(time), "{documents:#?}");

        // What nobody has asked for is not printed: the first thing it says is about another pod.
        let mut config = node.pod_config();
        config.metadata.get_or_insert_default().namespace = "kube-system".to_owned();
        let system = node.run_pod(config).await;
        let first = nobody.until(|_| true);
        assert!(first[0].contains(&system.id), "{first:?}");
    });
}

/// docs/operations.md, "Events": a terminal gets colours.
#[test]
#[ignore = "needs root"]
fn lines_on_a_terminal_have_colours() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_pausa"));
        command.arg("events").arg("--address").arg(node.socket());
        let (mut child, mut screen) = Screen::run(&mut command, 24, 200);
        screen.until(|shown| shown.contains("NAMESPACE/POD/CONTAINER\r\n"));
        container.stop(0).await;
        let shown = screen.until(|shown| shown.contains("exit code 137 (Error)\x1b[0m\r\n"));
        let line = shown.lines().nth(1).unwrap_or_default();
        assert!(line.starts_with("\x1b[31m20"), "{shown:?}");
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    });
}

/// The names of a container of before are known when it goes.
#[test]
#[ignore = "needs root"]
fn names_of_before_are_known() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.create(pod.container_config()).await;
        let mut watching = Watching::start(node, &["--pod", &pod.id[..12]]).await;
        watching.until(|line| line.starts_with("TIME"));
        container.remove().await;
        let line = watching.until(|_| true).remove(0);
        assert!(line.contains("   deleted   container   "), "{line}");
        assert!(line.ends_with(&format!("/{}", name(&container))), "{line}");
    });
}

/// A daemon that stops, dies or is not there is exit code 69. The command does not subscribe again by itself.
#[test]
#[ignore = "needs root"]
fn the_end_of_the_daemon_is_the_end() {
    on_own_node(async |node| {
        for stops in [true, false] {
            let mut watching = Watching::start(node, &[]).await;
            // It has subscribed.
            watching.until(|line| line.starts_with("TIME"));
            node.daemon(|daemon| match stops {
                true => drop(daemon.terminate()),
                false => daemon.kill(),
            });
            let (status, said) = watching.end().await;
            assert_eq!(status.code(), Some(69), "{said}");
            assert!(said.contains(" sends no more events: "), "{said}");
            assert_eq!(said.contains("it is stopping"), stops, "{said}");
            let hint = "; what happens before `pausa events` runs again is not shown\n";
            assert!(said.ends_with(hint), "{said}");
            node.daemon(Daemon::restart);
            node.until_it_answers().await;
        }
        let nobody = Command::new(env!("CARGO_BIN_EXE_pausa"))
            .args(["events", "--address", "unix:///nowhere.sock"])
            .output()
            .expect("pausa runs");
        assert_eq!(nobody.status.code(), Some(69), "{nobody:?}");
    });
}

/// A reader that goes is noticed without an event, and is no failure; neither is Ctrl-C.
#[test]
#[ignore = "needs root"]
fn it_ends_quietly_with_its_reader() {
    on_own_node(async |node| {
        let mut watching = Watching::start(node, &[]).await;
        watching.until(|line| line.starts_with("TIME"));
        watching.lines = None;
        let (status, said) = watching.end().await;
        assert!(status.success(), "{said}");
        assert_eq!(said, "");

        let watching = Watching::start(node, &[]).await;
        kill_process(Pid::from_child(&watching.child), Signal::INT).expect("it runs");
        let (status, said) = watching.end().await;
        assert!(status.success(), "{said}");
    });
}

/// docs/operations.md, "Events": a client that does not read is cut off by the daemon, and told how much it has missed.
#[test]
#[ignore = "needs root"]
fn who_does_not_read_is_told_what_is_lost() {
    on_own_node(async |node| {
        // Every event carries it, so that few fill what is between the daemon and its client.
        let large = "x".repeat(200 << 10);
        let pod = node
            .pod_with(|config| config.annotations.extend(map(&[("large", &large)])))
            .await;
        let watching = Watching::start(node, &["-o", "json"]).await;
        let pid = Pid::from_child(&watching.child);
        kill_process(pid, Signal::STOP).expect("it runs");
        let cut_off = || node.daemon_log().contains("does not keep up and is cut off");
        let created_and_removed = async || {
            let mut config = pod.container_config();
            config.log_path = String::new();
            pod.create(config).await.remove().await;
        };
        for _ in 0..80 {
            futures_util::future::join_all((0..8).map(|_| created_and_removed())).await;
        }
        kill_process(pid, Signal::CONT).expect("it is there");
        let (status, said) = watching.end().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.starts_with(
                "pausa: events are lost, because `pausa events` or the reader of its output is too slow: "
            ),
            "{said}"
        );
        assert!(said.contains(" and has missed "), "{said}");
        assert!(cut_off());
    });
}
