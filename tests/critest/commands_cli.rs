//! The commands for pods and containers: `pausa ps`, `pods`, `inspect`, `logs`, `exec`, `attach`, `cp`, `debug`, `stop`, `rm`, `stats` and
//! `port-forward`. They use CRI only, so that these tests hold with other runtimes, too.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Output, Stdio};

use pausa::proto::v1;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::node::reference;
use crate::harness::terminal::{Screen, terminal};
use crate::harness::{Container, Node, Pod, eventually, ok, on_node, on_pausa, strings};
use crate::user_namespaces;

fn pausa(node: &Node, command: &str, arguments: &[&str]) -> Command {
    let mut pausa = Command::new(env!("CARGO_BIN_EXE_pausa"));
    pausa.arg(command).arg("--address").arg(node.socket());
    pausa.args(arguments).stdin(Stdio::null());
    pausa
}

fn output(node: &Node, command: &str, arguments: &[&str]) -> Output {
    pausa(node, command, arguments).output().expect("pausa runs")
}

fn stdout(node: &Node, command: &str, arguments: &[&str]) -> String {
    let output = output(node, command, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The error and the exit code of a command that fails.
fn failure(node: &Node, command: &str, arguments: &[&str]) -> (String, i32) {
    let output = output(node, command, arguments);
    let code = output.status.code().expect("it exits");
    assert_ne!(code, 0, "{output:?}");
    (String::from_utf8(output.stderr).expect("UTF-8"), code)
}

fn json(node: &Node, command: &str, arguments: &[&str]) -> Value {
    let text = stdout(node, command, &[&["-o", "json"], arguments].concat());
    serde_json::from_str(&text).expect("JSON")
}

fn name(container: &Container<'_>) -> String {
    container.config.metadata.clone().expect("a name").name
}

/// `NAMESPACE/POD`.
fn pod_name(pod: &Pod<'_>) -> String {
    let metadata = pod.config.metadata.clone().expect("a name");
    format!("{}/{}", metadata.namespace, metadata.name)
}

/// `NAMESPACE/POD/CONTAINER`.
fn full_name(pod: &Pod<'_>, container: &Container<'_>) -> String {
    format!("{}/{}", pod_name(pod), name(container))
}

/// In all formats, with filters, by all names.
#[test]
#[ignore = "needs root"]
fn lists_and_details_name_what_the_other_commands_take() {
    on_node(async |node| {
        let pod = node.pod().await;
        let runs = pod.start(|_| {}).await;
        let failed = pod
            .start(|config| config.command = strings(&["sh", "-c", "exit 7"]))
            .await;
        failed.end().await;
        let of_pod = ["--pod", &*pod.id];
        let list = |arguments: &[&str]| stdout(node, "ps", &[&of_pod, arguments].concat());
        let full = full_name(&pod, &runs);

        assert_eq!(list(&["-q"]), format!("{}\n", runs.id));
        assert_eq!(list(&["-o", "name"]), format!("{full}\n"));
        let table = list(&["-a"]);
        assert!(
            table
                .lines()
                .any(|line| line.contains(&full) && line.contains("running")),
            "{table}"
        );
        assert!(
            table.lines().any(|line| line.contains("exited 7 (Error)")),
            "{table}"
        );
        assert_eq!(list(&["-q", "-f", "state=exited"]), format!("{}\n", failed.id));
        assert_eq!(list(&["-q", "-f", &format!("name={}", name(&failed))]), "");
        assert!(list(&["-o", "wide"]).contains(&pod.id[..13]));
        let document = json(node, "ps", &[&of_pod[..], &["-a"]].concat());
        let [first, second] = document["containers"].as_array().expect("a list").as_slice() else {
            panic!("{document:#}")
        };
        assert_eq!(
            (&first["id"], &first["exitCode"]),
            (&failed.id.as_str().into(), &7.into())
        );
        assert_eq!(
            (&second["name"], &second["state"]),
            (&name(&runs).into(), &"running".into())
        );
        let yaml = list(&["-o", "yaml"]);
        assert!(
            yaml.starts_with("containers:\n") && yaml.contains("state: running"),
            "{yaml}"
        );

        let pods = json(node, "pods", &of_pod);
        let listed = &pods["pods"][0];
        assert_eq!(
            (&listed["running"], &listed["containers"]),
            (&1.into(), &2.into())
        );
        assert_eq!(listed["ips"][0], pod.ip().await.as_str());
        assert_eq!(
            stdout(node, "pods", &["-o", "name", "--pod", &pod.id]),
            format!("{}\n", pod_name(&pod))
        );

        for target in [&*full, &runs.id, &runs.id[..12], &name(&runs)] {
            let document = json(node, "inspect", &[target]);
            assert_eq!(
                document["containers"][0]["id"],
                runs.id.as_str(),
                "{target}: {document:#}"
            );
        }
        let document = json(node, "inspect", &[&pod_name(&pod), &failed.id]);
        assert_eq!(document["pods"][0]["containers"][name(&runs)], runs.id.as_str());
        assert_eq!(document["containers"][0]["exitCode"], 7);
        assert!(document["containers"][0]["info"]["runtimeSpec"]["process"].is_object());
        let text = stdout(node, "inspect", &[&full, &pod_name(&pod)]);
        assert!(
            text.contains(&format!("Process id       {}\n", runs.pid().await)),
            "{text}"
        );

        let (error, code) = failure(node, "inspect", &["no-such-thing"]);
        assert!(
            code == 66 && error.contains("no pod or container has the name"),
            "{code} {error}"
        );
        // The pod stands for its only container that runs.
        assert_eq!(stdout(node, "exec", &[&pod.id, "echo", "in"]), "in\n");
    });
}

/// A log as crictl and kubectl show it; what it has of control characters stays in it.
#[test]
#[ignore = "needs root"]
fn logs_are_shown_followed_and_cannot_drive_a_terminal() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script =
            "echo one; echo two >&2; echo three; printf 'a\\033[2Jb\\033[31mred\\n'; read line; echo last";
        let container = pod
            .start(|config| {
                config.command = strings(&["sh", "-c", script]);
                config.stdin = true;
            })
            .await;
        container.says("red").await;
        let full = full_name(&pod, &container);
        let all = output(node, "logs", &[&full]);
        assert_eq!(all.stdout, b"one\nthree\na\x1b[2Jb\x1b[31mred\n");
        assert_eq!(all.stderr, b"two\n");
        // Which of two streams comes last is not certain.
        let last = output(node, "logs", &["-n", "1", &full]);
        let last = [last.stdout, last.stderr].concat();
        assert_eq!(last.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(stdout(node, "logs", &["--stream", "stderr", &full]), "");
        assert_eq!(
            stdout(node, "logs", &["--since", "2999-01-01T00:00:00Z", &full]),
            ""
        );
        assert!(stdout(node, "logs", &["--since", "1h", "-n", "4", &full]).starts_with("one\n"));
        let timed = stdout(node, "logs", &["-t", "-n", "4", &full]);
        let time = timed.split(' ').next().expect("a time");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{timed}");

        let (mut shown, mut screen) = Screen::run(&mut pausa(node, "logs", &[&full]), 24, 80);
        let text = screen.until(|text| text.contains("red"));
        assert!(text.contains("a\\u{1b}[2Jb\x1b[31mred"), "{text:?}");
        shown.wait().expect("it ends");

        let mut following = pausa(node, "logs", &["-f", "-n", "4", "--stream", "stdout", &full]);
        let mut following = following.stdout(Stdio::piped()).spawn().expect("pausa runs");
        let mut lines = BufReader::new(following.stdout.take().expect("a pipe")).lines();
        let red = lines
            .by_ref()
            .find(|line| line.as_ref().is_ok_and(|line| line.ends_with("red")));
        assert!(red.is_some());
        // As kubelet rotates.
        let log = container.status().await.log_path;
        fs::rename(&log, format!("{log}.old")).expect("a log");
        let request = v1::ReopenContainerLogRequest {
            container_id: container.id.clone(),
        };
        ok(
            "ReopenContainerLog",
            node.runtime().reopen_container_log(request).await,
        );
        let mut typing = pausa(node, "attach", &[&full]);
        let mut typing = typing.stdin(Stdio::piped()).spawn().expect("pausa runs");
        typing
            .stdin
            .take()
            .expect("a pipe")
            .write_all(b"go on\n")
            .expect("it is read");
        assert_eq!(lines.next().expect("a line").expect("text"), "last");
        assert!(lines.next().is_none(), "it ends with the container");
        assert!(following.wait().expect("it ends").success());
        assert!(typing.wait().expect("it ends").success());

        fs::remove_file(&log).expect("a log");
        symlink("/etc/passwd", &log).expect("a link");
        let (error, code) = failure(node, "logs", &[&full]);
        assert!(
            code == 1 && error.contains("cannot open the log"),
            "{code} {error}"
        );
    });
}

/// Exit codes, pipes, a terminal with its size.
#[test]
#[ignore = "needs root"]
fn exec_and_attach_pass_on_everything_and_the_exit_code() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let full = full_name(&pod, &container);
        let ran = output(
            node,
            "exec",
            &[&full, "sh", "-c", "echo out; echo err >&2; exit 42"],
        );
        assert_eq!(
            (ran.status.code(), &*ran.stdout, &*ran.stderr),
            (Some(42), &b"out\n"[..], &b"err\n"[..])
        );
        let (error, code) = failure(node, "exec", &[&full, "/no/such/program"]);
        assert!(
            code >= 125 && error.contains("/no/such/program"),
            "{code} {error}"
        );
        let (error, code) = failure(node, "exec", &["no-such-container", "true"]);
        assert!(
            code == 125 && error.contains("no-such-container"),
            "{code} {error}"
        );

        let mut sum = pausa(node, "exec", &["-i", &full, "md5sum"]);
        let mut sum = sum
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("pausa runs");
        let data = vec![b'x'; 3 << 20];
        sum.stdin
            .take()
            .expect("a pipe")
            .write_all(&data)
            .expect("it is read");
        let sum = sum.wait_with_output().expect("it ends");
        assert_eq!(
            sum.stdout,
            b"c1887f0c970afa48194adf7f5c504696  -\n".to_vec(),
            "{sum:?}"
        );

        let (mut terminal_side, side) = terminal(33, 77);
        let mut shell = pausa(
            node,
            "exec",
            &[
                "-it",
                &full,
                "sh",
                "-c",
                "while [ \"$(stty size)\" != '33 77' ]; do sleep 0.1; done; stty size; read x; echo got $x; exit 3",
            ],
        );
        let mut shell = shell
            .stdin(side.try_clone().expect("a descriptor"))
            .stdout(side)
            .spawn()
            .expect("pausa runs");
        let mut seen = String::new();
        let mut until = |seen: &mut String, text: &str| {
            let mut buffer = [0; 256];
            while !seen.contains(text) {
                let count = terminal_side.read(&mut buffer).expect("output");
                seen.push_str(std::str::from_utf8(&buffer[..count]).expect("UTF-8"));
                if seen.contains("33 77") && !seen.contains("got") && !seen.contains("hello") {
                    terminal_side.write_all(b"hello\r").expect("it is typed");
                    seen.push_str("<hello>");
                }
            }
        };
        until(&mut seen, "got hello");
        let status = eventually("it ends", async || shell.try_wait().expect("a status")).await;
        assert_eq!(status.code(), Some(3), "{seen:?}");
    });
}

/// Ctrl-P Ctrl-Q leaves a container running; its own end is the end of an attach, with its exit code.
#[test]
#[ignore = "needs root"]
fn attach_can_be_left() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                config.command = strings(&["sh", "-c", "while read line; do echo got $line; done; exit 9"]);
                config.stdin = true;
            })
            .await;
        let full = full_name(&pod, &container);
        let attach = || {
            let mut attach = pausa(node, "attach", &[&full]);
            attach
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("pausa runs")
        };
        let mut left = attach();
        let mut stdin = left.stdin.take().expect("a pipe");
        stdin.write_all(b"one\n").expect("it is typed");
        container.says("got one").await;
        stdin.write_all(b"\x10\x11").expect("it is typed");
        let status = eventually("it is left", async || left.try_wait().expect("a status")).await;
        assert!(status.success());
        drop(stdin);
        assert_eq!(
            container.status().await.state(),
            v1::ContainerState::ContainerRunning
        );

        let stays = attach();
        let request = v1::StopContainerRequest {
            container_id: container.id.clone(),
            timeout: 0,
        };
        // Once it is attached, its end is noticed; before that, it is refused.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        ok("StopContainer", node.runtime().stop_container(request).await);
        let ended = stays.wait_with_output().expect("it ends");
        assert!(matches!(ended.status.code(), Some(137 | 125)), "{ended:?}");
    });
}

/// Several at once, containers and pods, and nothing that runs without `--force`.
#[test]
#[ignore = "needs root"]
fn stop_and_rm_end_what_was_named() {
    on_node(async |node| {
        let pod = node.pod().await;
        let first = pod.start(|_| {}).await;
        let second = pod.start(|_| {}).await;
        let (one, two) = (full_name(&pod, &first), full_name(&pod, &second));
        let (error, code) = failure(node, "rm", &[&one, &two]);
        assert!(
            code == 1 && error.contains("nothing was removed"),
            "{code} {error}"
        );
        let (error, code) = failure(node, "stop", &[&one, "no-such-container"]);
        assert!(code == 66, "{code} {error}");
        assert_eq!(first.status().await.state(), v1::ContainerState::ContainerRunning);

        let said = stdout(node, "stop", &["-t", "0", &one, &first.id]);
        assert_eq!(said, format!("{one} ({})\n", &first.id[..13]));
        assert_eq!(first.status().await.state(), v1::ContainerState::ContainerExited);
        stdout(node, "rm", &[&one]);
        assert!(first.try_status(false).await.is_err());
        let (error, _) = failure(node, "rm", &[&pod_name(&pod)]);
        assert!(error.contains("--force"), "{error}");
        stdout(node, "rm", &["--force", &pod_name(&pod)]);
        assert!(second.try_status(false).await.is_err());
        assert_eq!(stdout(node, "pods", &["-a", "-q", "--pod", &pod.id]), "");
    });
}

#[test]
#[ignore = "needs root"]
fn stats_say_what_containers_use() {
    on_node(async |node| {
        let pod = node.pod().await;
        let limited = pod.start_with(v1::LinuxContainerResources {
            memory_limit_in_bytes: 64 << 20,
            ..Default::default()
        });
        let limited = limited.await;
        let full = full_name(&pod, &limited);
        let used = eventually("there are numbers", async || {
            let document = json(node, "stats", &[&full]);
            document["containers"]
                .get(0)
                .filter(|one| one["workingSetBytes"].as_u64() > Some(0))
                .cloned()
        });
        let used = used.await;
        assert_eq!(used["id"], limited.id.as_str());
        assert_eq!(used["memoryLimitBytes"], 64 << 20, "{used:#}");
        let table = stdout(node, "stats", &["--pod", &pod.id]);
        assert!(table.contains(&full) && table.contains("64.0 MiB"), "{table}");
    });
}

/// A port of the node leads to the pod until it is interrupted.
#[test]
#[ignore = "needs root"]
fn port_forward_listens_and_leads_into_the_pod() {
    on_node(async |node| {
        let pod = node.pod().await;
        let server = "nc -ll -p 7007 -e cat & while ! netstat -tln | grep -q :7007; do sleep 0.02; done; echo up; wait";
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", server]))
            .await;
        container.says("up").await;
        let mut forward = pausa(node, "port-forward", &[&pod_name(&pod), ":7007", ":7009"]);
        let mut forward = forward
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pausa runs");
        let mut lines = BufReader::new(forward.stdout.take().expect("a pipe")).lines();
        let mut address = |port: &str| {
            let line = lines.next().expect("a line").expect("text");
            let address = line
                .strip_prefix("Forwarding from ")
                .expect("an address")
                .to_owned();
            address
                .strip_suffix(&format!(" -> {port}"))
                .expect("a port")
                .to_owned()
        };
        let (echo, nobody) = (address("7007"), address("7009"));
        for question in ["hello", "again"] {
            let mut connection = std::net::TcpStream::connect(&echo).expect("it listens");
            connection.write_all(question.as_bytes()).expect("it is sent");
            connection.shutdown(std::net::Shutdown::Write).expect("it ends");
            let mut answer = String::new();
            connection.read_to_string(&mut answer).expect("an answer");
            assert_eq!(answer, question);
        }
        let mut refused = std::net::TcpStream::connect(&nobody).expect("it listens");
        let mut nothing = Vec::new();
        // Closed or reset.
        drop(refused.read_to_end(&mut nothing));
        assert!(nothing.is_empty());
        let mut errors = BufReader::new(forward.stderr.take().expect("a pipe")).lines();
        let error = errors.next().expect("a line").expect("text");
        assert!(error.contains("to port 7009"), "{error}");
        kill_process(Pid::from_child(&forward), Signal::INT).expect("it runs");
        assert!(forward.wait().expect("it ends").success());
        assert!(std::net::TcpStream::connect(&echo).is_err());
    });
}

/// Trees in both directions; what a container prepared stays in its place.
#[test]
#[ignore = "needs root"]
fn cp_copies_in_both_directions_beneath_the_root() {
    on_node(async |node| {
        let pod = node.pod().await;
        let script = "mkdir -p /data/sub; echo text > /data/sub/file; chmod 4755 /data/sub/file; ln -s /etc/hostname /data/link; \
            mkfifo /data/pipe; ln -s / /out; ln -s /../../../../etc /data/up; echo up; while :; do sleep 1; done";
        let container = pod
            .start(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        container.says("up").await;
        let full = full_name(&pod, &container);
        let dir = node.dir().join("copies");
        fs::create_dir(&dir).expect("a directory");
        let path = |name: &str| dir.join(name).display().to_string();
        let out = output(node, "cp", &[&format!("{full}:/data"), &path("")]);
        assert!(out.status.success(), "{out:?}");
        assert!(
            String::from_utf8_lossy(&out.stderr).contains("left out 1 "),
            "{out:?}"
        );
        assert_eq!(
            fs::read_to_string(dir.join("data/sub/file")).expect("a file"),
            "text\n"
        );
        let mode = fs::metadata(dir.join("data/sub/file"))
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(
            fs::read_link(dir.join("data/link")).expect("a link").as_os_str(),
            "/etc/hostname"
        );
        // A link in the container leads to the container's own files.
        stdout(node, "cp", &["-L", &format!("{full}:/data/up"), &path("etc")]);
        assert!(!dir.join("etc/machine-id").exists() || !fs::exists("/etc/machine-id").unwrap_or(true));
        assert!(dir.join("etc/passwd").exists());

        fs::write(dir.join("mine"), "for the container").expect("a file");
        stdout(node, "cp", &[&path("mine"), &format!("{full}:/out/data")]);
        stdout(node, "cp", &[&path("data/."), &format!("{full}:/new")]);
        let seen = container
            .sh("cat /data/mine; stat -c '%u %g' /data/mine; cat /new/sub/file")
            .await;
        assert_eq!(seen, "for the container0 0\ntext\n");
        // As big as a file gets that is copied in several pieces.
        container
            .sh("dd if=/dev/urandom of=/big bs=1M count=20 2>/dev/null")
            .await;
        stdout(node, "cp", &[&format!("{full}:/big"), &path("big")]);
        stdout(node, "cp", &[&path("big"), &format!("{full}:/back")]);
        container.sh("cmp /big /back").await;

        let (error, code) = failure(node, "cp", &[&path("mine"), &path("twice")]);
        assert!(code == 64 && error.contains("CONTAINER:PATH"), "{code} {error}");
        let (error, _) = failure(node, "cp", &[&format!("{full}:/nonexistent"), &path("")]);
        assert!(error.contains("cannot open /nonexistent"), "{error}");
    });
}

/// A user namespace has its own root: what is copied belongs to it, also of files that only root of the node can read.
#[test]
#[ignore = "needs root"]
fn cp_gives_files_to_the_root_of_a_user_namespace() {
    on_node(async |node| {
        if !user_namespaces::can(node).await {
            return;
        }
        let pod = node.pod_with(user_namespaces::set_default).await;
        let container = pod.start(|_| {}).await;
        let full = full_name(&pod, &container);
        let dir = node.dir().join("private");
        fs::create_dir(&dir).expect("a directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("a mode");
        fs::write(dir.join("file"), "for root only").expect("a file");
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o600)).expect("a mode");
        let path = dir.display().to_string();
        stdout(node, "cp", &[&path, &format!("{full}:/")]);
        let seen = container
            .sh("stat -c '%u %g %a' /private /private/file; cat /private/file")
            .await;
        assert_eq!(seen, "0 0 700\n0 0 600\nfor root only");
        stdout(
            node,
            "cp",
            &[&format!("{full}:/private/file"), &format!("{path}/back")],
        );
        assert_eq!(
            fs::read_to_string(dir.join("back")).expect("a file"),
            "for root only"
        );
    });
}

/// kubelet ends every container of a pod that it does not know, and starts again or ends what its pod has in its specification; what
/// else is in a pod that it knows it leaves alone (`GetPods`, `HandlePodCleanups`, `computePodActions`).
async fn ended_by_kubelet(node: &Node, pods: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let request = v1::ListContainersRequest::default();
    let listed = ok("ListContainers", node.runtime().list_containers(request).await).containers;
    let is_known = |container: &v1::Container| {
        let uid = container.labels.get("io.kubernetes.pod.uid");
        uid.is_some_and(|uid| pods.contains_key(uid))
    };
    listed
        .iter()
        .filter(|one| !is_known(one))
        .map(|one| one.id.clone())
        .collect()
}

/// A target without a shell is looked into with another image's tools: its processes, its network, its files.
#[test]
#[ignore = "needs root"]
fn debug_looks_into_a_container_without_tools() {
    on_node(async |node| {
        let pod = node.pod().await;
        let container = pod
            .start(|config| {
                config.command = strings(&["sh", "-c", "echo secret > /only-here; exec sleep 1000"]);
            })
            .await;
        let full = full_name(&pod, &container);
        let image = reference("base");
        let debug = |arguments: &[&str], command: &[&str]| {
            let all = [&["--image", &image], arguments, &[&*full, "--"], command].concat();
            output(node, "debug", &all)
        };
        let look = "ps -o args | grep -c 'sleep 1000'; cat /target/only-here; ip -o addr show eth0; exit 5";
        let seen = eventually("the target sleeps", async || {
            let seen = debug(&["--mount"], &["sh", "-c", look]);
            String::from_utf8_lossy(&seen.stdout)
                .contains("secret")
                .then_some(seen)
        });
        let seen = seen.await;
        let text = String::from_utf8_lossy(&seen.stdout).into_owned();
        assert_eq!(seen.status.code(), Some(5), "{seen:?}");
        assert!(text.contains(&pod.ip().await), "{text}");
        let path = debug(&["--mount"], &["sh", "-c", "echo $PATH"]);
        assert!(
            String::from_utf8_lossy(&path.stdout)
                .trim_end()
                .ends_with("/target/bin"),
            "{path:?}"
        );

        let capabilities = |profile: &str| {
            let extra = if profile == "restricted" {
                "--user=1000"
            } else {
                "--user=0"
            };
            let seen = debug(
                &["--profile", profile, extra],
                &["grep", "-E", "CapBnd|NoNewPrivs", "/proc/self/status"],
            );
            assert!(seen.status.success(), "{seen:?}");
            let text = String::from_utf8_lossy(&seen.stdout).into_owned();
            let bounding = text.lines().find_map(|line| line.strip_prefix("CapBnd:"));
            let bounding = u64::from_str_radix(bounding.expect("a set").trim(), 16).expect("a number");
            (bounding, text.contains("NoNewPrivs:\t1"))
        };
        let (ptrace, net_admin) = (1 << 19, 1 << 12);
        let (baseline, _) = capabilities("baseline");
        assert_eq!(baseline & (ptrace | net_admin), 0);
        assert_eq!(capabilities("general").0, baseline | ptrace);
        assert_eq!(capabilities("netadmin").0 & net_admin, net_admin);
        assert_eq!(capabilities("restricted"), (0, true));
        let (sys_admin, _) = capabilities("sysadmin");
        assert!(sys_admin & (1 << 21) != 0, "{sys_admin:x}");
        let refused = debug(&["--profile", "restricted"], &["true"]);
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("--user"),
            "{refused:?}"
        );

        // Nothing is left.
        assert_eq!(
            stdout(node, "ps", &["-a", "-q", "--pod", &pod.id]),
            format!("{}\n", container.id)
        );
    });
}

/// kubelet takes a debug container for one of its pod, which it leaves alone, and removes it with the pod.
#[test]
#[ignore = "needs root"]
fn kubelet_leaves_a_debug_container_alone() {
    on_node(async |node| {
        let pod = node.pod().await;
        let labels = pod.config.labels.clone();
        let container = pod.start(|config| config.labels.extend(labels)).await;
        let full = full_name(&pod, &container);
        let kept = output(
            node,
            "debug",
            &["--keep", "--image", &reference("base"), &full, "--", "true"],
        );
        assert!(kept.status.success(), "{kept:?}");
        let said = String::from_utf8_lossy(&kept.stderr).into_owned();
        assert!(said.contains("kept critest/"), "{said}");
        let debug = json(node, "ps", &["-f", "name=*-debug-*", "--pod", &pod.id]);
        let debug = &debug["containers"][0];
        node.remember(debug["id"].as_str().expect("an id"));
        assert_eq!(debug["state"], "running", "{debug:#}");
        assert_eq!(debug["labels"]["io.pausa.debug-target"], container.id.as_str());
        assert_ne!(debug["labels"]["io.kubernetes.container.name"], name(&container));
        let uid = pod.config.metadata.clone().expect("metadata").uid;
        let known = [(uid, vec![name(&container)])].into();
        assert_eq!(ended_by_kubelet(node, &known).await, [""; 0]);
        // The lister does tell: without labels a container is one of no pod.
        let foreign = pod.start(|config| config.labels.clear()).await;
        assert_eq!(ended_by_kubelet(node, &known).await, [foreign.id.as_str()]);
        let name = format!("{}/{}", pod_name(&pod), debug["name"].as_str().expect("a name"));
        assert_eq!(stdout(node, "exec", &[&name, "echo", "in"]), "in\n");
        pod.remove().await;
        assert_eq!(stdout(node, "ps", &["-a", "-q", "--pod", &pod.id]), "");
    });
}

/// A container that ends as soon as it starts is looked into by a copy with another command.
#[test]
#[ignore = "needs root"]
fn a_copy_of_a_crashing_container_runs_another_command() {
    on_node(async |node| {
        let pod = node.pod().await;
        let volume = node.dir().join("volume");
        fs::create_dir(&volume).expect("a directory");
        fs::write(volume.join("settings"), "wrong\n").expect("a file");
        let crashing = pod
            .start(|config| {
                config.command = strings(&["sh", "-c", "exit 1"]);
                config.envs = vec![v1::KeyValue {
                    key: "MODE".to_owned(),
                    value: "strict".into(),
                }];
                config.mounts = vec![crate::harness::pod::bind(&volume, "/volume")];
            })
            .await;
        crashing.end().await;
        let full = full_name(&pod, &crashing);
        let (error, code) = failure(
            node,
            "debug",
            &["--image", &reference("base"), &full, "--", "true"],
        );
        assert!(code == 125 && error.contains("--clone"), "{code} {error}");
        let mut shell = pausa(node, "debug", &["--clone", &full]);
        let mut shell = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("pausa runs");
        let mut stdin = shell.stdin.take().expect("a pipe");
        stdin
            .write_all(b"echo $MODE; cat /volume/settings; exit 6\n")
            .expect("it is typed");
        let ended = shell.wait_with_output().expect("it ends");
        assert_eq!(ended.stdout, b"strict\nwrong\n", "{ended:?}");
        assert_eq!(ended.status.code(), Some(6), "{ended:?}");
        assert_eq!(
            stdout(node, "ps", &["-a", "-q", "--pod", &pod.id]),
            format!("{}\n", crashing.id)
        );
    });
}

/// A shell that completes asks for the names that there are.
#[test]
#[ignore = "needs root"]
fn completion_offers_what_there_is() {
    on_pausa(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let offers = |words: &[&str]| {
            let socket = node.socket().display().to_string();
            let line = [&["--", "pausa", words[0], "--address", &socket], &words[1..]].concat();
            let mut asked = Command::new(env!("CARGO_BIN_EXE_pausa"));
            asked
                .env("PAUSA_COMPLETE", "zsh")
                .env("_CLAP_COMPLETE_INDEX", (line.len() - 2).to_string());
            let output = asked.args(&line).output().expect("pausa runs");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        assert!(offers(&["exec", ""]).contains(&full_name(&pod, &container)));
        assert!(offers(&["port-forward", "crit"]).contains(&pod_name(&pod)));
        assert!(!offers(&["logs", "other"]).contains("critest"));
        assert!(offers(&["debug", "--image", ""]).contains("registry.test/critest/base"));
        let script = Command::new(env!("CARGO_BIN_EXE_pausa"))
            .args(["completion", "bash"])
            .output();
        assert!(
            String::from_utf8(script.expect("pausa runs").stdout)
                .expect("UTF-8")
                .contains("complete ")
        );
    });
}
