//! `pausa top`: what pods and containers use, and what the daemon is doing.

use std::io::Read as _;
use std::process::{Command, Stdio};

use pausa::proto::v1;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::cgroup::is_v2;
use crate::harness::cni::use_plugin;
use crate::harness::terminal::{Screen, terminal, two_frames};
use crate::harness::{Container, Node, Pod, eventually, ok, on_own_node, strings};

fn pausa_top(node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pausa"));
    command.arg("top").arg("--address").arg(node.socket());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What it prints once.
fn text(node: &Node, arguments: &[&str]) -> String {
    let output = pausa_top(node, arguments).arg("--once").output();
    let output = output.expect("pausa runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(node: &Node, arguments: &[&str]) -> Value {
    serde_json::from_str(&text(node, &[&["-o", "json"], arguments].concat())).expect("JSON")
}

fn name<'a>(container: &'a Container<'_>) -> &'a str {
    let metadata = container.config.metadata.as_ref();
    &metadata.expect("a name").name
}

/// The cells of the only line that begins with these.
#[track_caller]
fn cells(text: &str, beginning: &[&str]) -> Vec<String> {
    let split = |line: &str| -> Vec<String> {
        let cells = line.split("   ").map(|cell| cell.trim().to_owned());
        cells.filter(|cell| !cell.is_empty()).collect()
    };
    let lines = text.lines().map(split);
    let mut lines = lines.filter(|cells| cells.starts_with(&strings(beginning)));
    let found = lines.next();
    assert!(found.is_some() && lines.next().is_none(), "{beginning:?}: {text}");
    found.expect("seen")
}

/// Whether the kernel tells of cgroups how long their tasks wait.
fn has_pressures() -> bool {
    is_v2() && std::path::Path::new("/proc/pressure").exists()
}

/// docs/operations.md, "What uses the node": numbers of a container that is busy, in both forms, and the order.
#[test]
#[ignore = "needs root"]
fn the_busiest_comes_first_with_what_it_uses() {
    on_own_node(async |node| {
        let (idle, pod) = (node.pod().await, node.pod().await);
        idle.start(|_| {}).await;
        let waits = pod.start(|_| {}).await;
        let busy = pod
            .start(|config| {
                config.command = strings(&["sh", "-c", "while :; do :; done"]);
                config.metadata.get_or_insert_default().attempt = 2;
                config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
                    memory_limit_in_bytes: 64 << 20,
                    ..Default::default()
                });
            })
            .await;
        let ended = pod.start(|config| config.command = strings(&["true"])).await;
        ended.end().await;
        let metadata = |pod: &v1::PodSandboxConfig| pod.metadata.clone().expect("metadata");
        let (pod_name, idle_name) = (metadata(&pod.config).name, metadata(&idle.config).name);

        let document = json(node, &[]);
        let pods = document["pods"].as_array().expect("a list");
        let ids: Vec<_> = pods.iter().map(|pod| &pod["id"]).collect();
        assert_eq!(ids, [&pod.id, &idle.id], "{document:#}");
        let first = &pods[0];
        assert_eq!(
            (&first["namespace"], &first["name"], &first["state"]),
            (&"critest".into(), &pod_name.as_str().into(), &"ready".into())
        );
        assert_eq!(first["uid"], metadata(&pod.config).uid.as_str());
        let containers = first["containers"].as_array().expect("a list");
        let ids: Vec<_> = containers.iter().map(|container| &container["id"]).collect();
        assert_eq!(ids, [&busy.id, &waits.id], "{document:#}");
        let spinning = &containers[0];
        let number = |of: &Value, key: &str| of[key].as_u64().unwrap_or_else(|| panic!("{key}: {of:#}"));
        // However slow the machine is, and one process on one CPU.
        let cpu = number(spinning, "cpuNanoCores");
        assert!((10_000_000..2_000_000_000).contains(&cpu), "{spinning:#}");
        assert!(number(first, "cpuNanoCores") >= 10_000_000, "{first:#}");
        assert!(number(&containers[1], "cpuNanoCores") < cpu, "{document:#}");
        assert_eq!(number(spinning, "memoryLimitBytes"), 64 << 20);
        assert!(number(spinning, "workingSetBytes") > 0);
        assert!(containers[1]["memoryLimitBytes"].is_null(), "{document:#}");
        assert_eq!(number(spinning, "pids"), 1);
        assert_eq!(number(&containers[1], "pids"), 2, "a shell and its sleep");
        assert_eq!(number(spinning, "attempt"), 2);
        assert_eq!(
            (&spinning["name"], &spinning["state"]),
            (&name(&busy).into(), &"running".into())
        );
        assert!(
            spinning["createdAt"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
        );
        // The bridge's neighbours talk or not; there is a rate.
        number(first, "receiveBytesPerSecond");
        number(first, "sendBytesPerSecond");
        assert!(
            spinning["receiveBytesPerSecond"].is_null(),
            "traffic is the pod's"
        );
        for of in [first, spinning] {
            for key in ["cpuPressure", "memoryPressure", "ioPressure"] {
                assert_eq!(of[key]["some"].is_f64(), has_pressures(), "{of:#}");
            }
        }
        assert_eq!(
            (&document["operations"], &document["pulls"]),
            (&Value::Array(vec![]), &Value::Array(vec![]))
        );

        let shown = text(node, &[]);
        assert!(shown.starts_with("2 pods, 3 containers, "), "{shown}");
        assert!(!shown.contains('\x1b'), "{shown}");
        let heading = cells(&shown, &["NAME"]);
        let row = cells(&shown, &[name(&busy)]);
        assert_eq!(heading.len(), row.len(), "{shown}");
        let cell = |column: &str| {
            let at = heading.iter().position(|name| name == column);
            &row[at.unwrap_or_else(|| panic!("{column}: {shown}"))]
        };
        assert!(cell("CPU").parse::<f64>().is_ok_and(|cpu| cpu > 0.0), "{shown}");
        assert_eq!(
            (cell("LIMIT").as_str(), cell("RESTARTS").as_str()),
            ("64.0 MiB", "2"),
            "{shown}"
        );
        let of_pod = |pod: &str| {
            shown
                .find(&format!("critest/{pod} "))
                .unwrap_or_else(|| panic!("{shown}"))
        };
        assert!(of_pod(&pod_name) < of_pod(&idle_name), "{shown}");

        let chosen = json(node, &["--sort", "name", "--pod", &pod_name, "--all"]);
        assert_eq!(chosen["pods"].as_array().map(Vec::len), Some(1), "{chosen:#}");
        let states = chosen["pods"][0]["containers"].as_array().expect("a list");
        let mut expected = [
            (name(&waits), "running"),
            (name(&busy), "running"),
            (name(&ended), "exited"),
        ];
        expected.sort_unstable();
        let states = states.iter().map(|one| {
            (
                one["name"].as_str().unwrap_or_default(),
                one["state"].as_str().unwrap_or_default(),
            )
        });
        assert_eq!(states.collect::<Vec<_>>(), expected);
        assert!(text(node, &["--all"]).contains("exited"));
    });
}

/// What goes to devices and networks is shown per second, and the pod with the most of it first.
#[test]
#[ignore = "needs root"]
fn traffic_has_rates() {
    on_own_node(async |node| {
        let (talks, writes) = (node.pod().await, node.pod().await);
        // Nobody listens; asking who has the address is traffic enough.
        let script = "gateway=$(ip route | awk '/^default/ {print $3}'); \
                      while :; do nc -w 1 $gateway 9 </dev/null; sleep 0.05; done";
        talks
            .start(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        // Past the page cache: on cgroup v1 the rest is nobody's.
        let script = "while dd if=/dev/zero of=/file bs=1M count=2 oflag=direct conv=fsync; do echo written; sleep 0.1; done";
        let writer = writes
            .start(|config| config.command = strings(&["sh", "-c", script]))
            .await;
        writer.says("written").await;

        // On a slow machine a second may have none of it.
        let first = async |sort: &str, pod: &Pod<'_>, key: &str| {
            eventually(&format!("there is {sort}"), async || {
                let document = json(node, &["--sort", sort]);
                let first = &document["pods"][0];
                (first["id"] == pod.id.as_str() && first[key].as_u64() > Some(0)).then_some(())
            })
            .await;
        };
        first("network", &talks, "sendBytesPerSecond").await;
        let document = json(node, &["--pod", &writes.id]);
        if document["pods"][0]["containers"][0]["writeBytesPerSecond"].is_null() {
            return eprintln!("skipped: the writable layers are on no block device that cgroups count");
        }
        first("io", &writes, "writeBytesPerSecond").await;
    });
}

/// What the daemon is doing is shown with the step it is in, whether a client waits for it or not.
#[test]
#[ignore = "needs root"]
fn operations_that_hang_are_shown_with_their_step() {
    on_own_node(async |node| {
        let script = r#"case $CNI_COMMAND in
ADD)
    touch asked
    while test ! -e go; do sleep 0.05; done
    echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.8.7/24"}]}' ;;
esac
"#;
        use_plugin(node, script).await;
        // A registry that listens and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = silent.local_addr().expect("an address");
        let dir = node.dir().join("hosts/silent.test");
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("hosts.toml"), format!("server = \"http://{server}\"\n")).expect("a file");
        let image = Some(v1::ImageSpec {
            image: "silent.test/x:1".to_owned(),
            ..Default::default()
        });
        let mut images = node.images();
        let pull = tokio::spawn(async move {
            let request = v1::PullImageRequest {
                image,
                ..Default::default()
            };
            drop(images.pull_image(request).await);
        });

        node.pull("base").await;
        let config = node.pod_config();
        let pod_name = config.metadata.as_ref().expect("a name").name.clone();
        std::fs::create_dir_all(&config.log_directory).expect("kubelet makes the log directory");
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        // This client goes away.
        let mut impatient = tonic::Request::new(request.clone());
        impatient.set_timeout(std::time::Duration::from_millis(200));
        node.runtime()
            .run_pod_sandbox(impatient)
            .await
            .expect_err("it hangs");
        eventually("the plugin is asked", async || {
            node.dir().join("asked").exists().then_some(())
        })
        .await;

        let document = json(node, &[]);
        let [operation] = document["operations"].as_array().expect("a list").as_slice() else {
            panic!("{document:#}")
        };
        for (key, value) in [
            ("operation", "RunPodSandbox"),
            ("namespace", "critest"),
            ("pod", &pod_name),
            ("step", "network"),
        ] {
            assert_eq!(operation[key], value, "{operation:#}");
        }
        assert!(operation["container"].is_null(), "{operation:#}");
        let (started, since) = (operation["started"].as_str(), operation["stepSince"].as_str());
        assert!(started.is_some() && started <= since, "{operation:#}");
        assert_eq!(
            document["pulls"][0]["reference"], "silent.test/x:1",
            "{document:#}"
        );
        let shown = text(node, &[]);
        assert!(shown.starts_with("0 pods, "), "{shown}");
        let object = format!("critest/{pod_name}");
        assert_eq!(
            cells(&shown, &["RunPodSandbox"])[1..3],
            [&*object, "network"],
            "{shown}"
        );
        assert_eq!(
            cells(&shown, &["Pull"])[1..3],
            ["silent.test/x:1", "resolving"],
            "{shown}"
        );

        std::fs::write(node.dir().join("go"), "").expect("a file");
        pull.abort();
        let id = ok("RunPodSandbox", node.runtime().run_pod_sandbox(request).await).pod_sandbox_id;
        node.remember(&id);
        let pod = Pod { node, id, config };
        let stubborn = pod
            .start(|config| {
                config.command = strings(&["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]);
            })
            .await;
        stubborn.says("up").await;
        let (mut runtime, container_id) = (node.runtime(), stubborn.id.clone());
        let stop = v1::StopContainerRequest {
            container_id,
            timeout: 600,
        };
        let stop = tokio::spawn(async move { runtime.stop_container(stop).await });
        let shown = eventually("the stop is shown", async || {
            let shown = text(node, &[]);
            shown.contains("StopContainer").then_some(shown)
        })
        .await;
        let object = format!("critest/{pod_name}/{}", name(&stubborn));
        assert_eq!(
            cells(&shown, &["StopContainer"])[1..3],
            [&*object, "grace period"],
            "{shown}"
        );
        stubborn.stop(0).await;
        ok("StopContainer", stop.await.expect("no panic"));
        assert!(!text(node, &[]).contains("StopContainer"));
    });
}

/// On a terminal in place and within it, as JSON a document a line, until somebody ends it.
#[test]
#[ignore = "needs root"]
fn it_goes_on_until_somebody_ends_it() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        let mut piped = pausa_top(node, &["-o", "json", "--interval", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("pausa runs");
        let mut documents =
            serde_json::Deserializer::from_reader(piped.stdout.take().expect("a pipe")).into_iter::<Value>();
        for document in documents.by_ref().take(2) {
            let document = document.expect("JSON");
            assert_eq!(
                document["pods"][0]["containers"][0]["id"],
                container.id.as_str(),
                "{document:#}"
            );
        }
        drop(documents);
        let ended = eventually("it ends", async || piped.try_wait().expect("a status")).await;
        assert!(ended.success());

        let (rows, columns) = (5, 50);
        let mut command = pausa_top(node, &["--interval", "1"]);
        let (mut watching, mut screen) = Screen::run(&mut command, rows, columns);
        for frame in two_frames(&mut screen) {
            let lines: Vec<&str> = frame.split("\r\n").collect();
            let [summary, _, heading, of_pod, of_container] = lines.as_slice() else {
                panic!("{frame:?}")
            };
            assert!(summary.starts_with("1 pod, 1 container, "), "{frame:?}");
            assert!(
                heading.starts_with("NAME ") && heading.ends_with("\x1b[K"),
                "{frame:?}"
            );
            assert!(heading.chars().count() <= usize::from(columns) + 3, "{frame:?}");
            assert!(of_pod.starts_with("\x1b[1mcritest/"), "{frame:?}");
            assert!(
                of_container.starts_with(&format!("  {} ", name(&container))),
                "{frame:?}"
            );
        }
        kill_process(Pid::from_child(&watching), Signal::INT).expect("it runs");
        let ended = eventually("it ends", async || watching.try_wait().expect("a status")).await;
        assert!(ended.success());
    });
}

/// Printed once, it fits into the terminal, too.
#[test]
#[ignore = "needs root"]
fn one_print_fits_into_the_terminal() {
    on_own_node(async |node| {
        let pod = node.pod().await;
        pod.start(|_| {}).await;
        let columns = 60;
        let (mut screen, side) = terminal(24, columns);
        let status = pausa_top(node, &["--once"]).stdout(side).status();
        assert!(status.expect("pausa runs").success());
        let mut shown = Vec::new();
        // EIO: nobody has the other side any more.
        screen.read_to_end(&mut shown).expect_err("the end of a terminal");
        let shown = String::from_utf8(shown).expect("UTF-8");
        let heading = shown.lines().find(|line| line.starts_with("NAME "));
        assert!(
            heading.is_some_and(|line| line.contains("CPU") && !line.contains("AGE")),
            "{shown}"
        );
        let plain = shown.replace("\x1b[1m", "").replace("\x1b[0m", "");
        assert!(
            plain.lines().all(|line| line.chars().count() <= columns.into()),
            "{shown}"
        );
    });
}

/// A daemon that is not there is exit code 69; one that goes away while it is watched, too.
#[test]
#[ignore = "needs root"]
fn without_a_daemon_there_is_nothing_to_see() {
    on_own_node(async |node| {
        let mut watching = pausa_top(node, &["-o", "json", "--interval", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("pausa runs");
        let mut first = [0];
        let mut stdout = watching.stdout.take().expect("a pipe");
        stdout.read_exact(&mut first).expect("a document");
        node.daemon(crate::harness::daemon::Daemon::kill);
        let reader = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let ended = eventually("it ends", async || watching.try_wait().expect("a status")).await;
        assert_eq!(ended.code(), Some(69));
        reader.join().expect("no panic").expect("the end");
        let output = pausa_top(node, &["--once"]).output().expect("pausa runs");
        assert_eq!(output.status.code(), Some(69), "{output:?}");
        node.daemon(crate::harness::daemon::Daemon::restart);
        node.until_it_answers().await;
    });
}
