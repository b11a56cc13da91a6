//! Metrics over HTTP, as Prometheus reads them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use pausa::proto::v1;
use rustix::process::{Signal, kill_process};
use tonic::Code;

use crate::harness::cni::use_plugin;
use crate::harness::daemon::Daemon;
use crate::harness::node::{Node, reference, spec};
use crate::harness::pod::monitor_of;
use crate::harness::stream::{Transport, Want, answer_to, connect};
use crate::harness::{eventually, ok, on_own_node, refused, strings};

fn configuration(node: &Node) -> String {
    let socket = node.dir().join("s/metrics.sock");
    format!("[metrics]\naddress = \"unix://{}\"\n", socket.display())
}

fn scrape(node: &Node) -> String {
    let mut socket = UnixStream::connect(node.dir().join("s/metrics.sock")).expect("metrics are served");
    socket
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer
}

/// The number of a line that begins so.
fn number(text: &str, line: &str) -> f64 {
    let found = text
        .lines()
        .find_map(|other| other.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0.0, |number| number.parse().expect("a number"))
}

/// docs/operations.md, "Metrics": requests by code, steps, pulls; counted from the daemon's start on.
#[test]
#[ignore = "needs root"]
fn what_a_daemon_does_is_counted() {
    on_own_node(async |node| {
        node.restart_with(Some(&configuration(node))).await;
        let before = scrape(node);
        assert_eq!(number(&before, "pausa_image_pulls_total{outcome=\"ok\"}"), 0.0);
        node.pull("base").await;
        let unknown = v1::PullImageRequest {
            image: Some(spec(&reference("never-pushed"))),
            ..Default::default()
        };
        refused(Code::NotFound, node.images().pull_image(unknown).await);
        let pod = node.pod().await;
        let container = pod.start(|_| {}).await;
        container.sh("true").await;
        let gone = v1::ContainerStatusRequest {
            container_id: "0".repeat(64),
            verbose: false,
        };
        refused(Code::NotFound, node.runtime().container_status(gone).await);
        ok(
            "Version",
            node.runtime().version(v1::VersionRequest::default()).await,
        );

        // The first round goes on in the background.
        let after = eventually("the node is reconciled", async || {
            let after = scrape(node);
            (number(&after, "pausa_reconciliations_total") >= 1.0).then_some(after)
        })
        .await;
        for (line, least) in [
            ("pausa_image_pulls_total{outcome=\"ok\"}", 1.0),
            ("pausa_image_pulls_total{outcome=\"not_found\"}", 1.0),
            ("pausa_image_pull_duration_seconds_count", 2.0),
            ("pausa_image_pull_bytes_total", 100_000.0),
            ("pausa_rpcs_total{rpc=\"RunPodSandbox\",code=\"OK\"}", 1.0),
            (
                "pausa_rpcs_total{rpc=\"ContainerStatus\",code=\"NOT_FOUND\"}",
                1.0,
            ),
            ("pausa_rpc_duration_seconds_count{rpc=\"ExecSync\"}", 1.0),
            (
                "pausa_operations_total{operation=\"StartContainer\",outcome=\"ok\"}",
                1.0,
            ),
            (
                "pausa_operation_duration_seconds_count{operation=\"ExecSync\"}",
                1.0,
            ),
            (
                "pausa_network_calls_total{backend=\"bridge\",command=\"ADD\",outcome=\"ok\"}",
                1.0,
            ),
            ("pausa_image_pull_layers_total{source=\"fetched\"}", 1.0),
            // `node.pod()` has pulled the image again.
            ("pausa_image_pull_layers_total{source=\"present\"}", 1.0),
            ("pausa_images{state=\"complete\"}", 1.0),
            ("pausa_images_bytes", 100_000.0),
            ("pausa_pods{state=\"ready\"}", 1.0),
            ("pausa_containers{state=\"running\"}", 1.0),
            ("pausa_container_starts_total", 1.0),
            ("pausa_monitors{state=\"connected\"}", 1.0),
            ("pausa_cpus{share=\"pool\"}", 1.0),
            ("pausa_network_ready", 1.0),
            ("pausa_cri_connections", 1.0),
            ("pausa_reconciliations_total", 1.0),
            ("process_open_fds", 10.0),
            ("pausa_tasks", 3.0),
        ] {
            assert!(number(&after, line) >= least, "{line} in\n{after}");
        }
        for none in [
            "pausa_image_pulls_in_flight",
            "pausa_operations_in_flight{operation=\"RunPodSandbox\"}",
            "pausa_rpcs_in_flight{rpc=\"RunPodSandbox\"}",
            "pausa_pod_turns_waiting",
            "pausa_monitors{state=\"silent\"}",
            "pausa_network_detaches_pending",
            "pausa_records_broken",
        ] {
            assert!(after.contains(&format!("{none} 0\n")), "{none} in\n{after}");
        }
        assert_eq!(number(&after, "pausa_image_kept_layers{state=\"complete\"}"), 0.0);
        let steps = "pausa_step_duration_seconds_count{operation=\"RunPodSandbox\"";
        assert!(after.contains(steps), "{after}");
        assert!(after.ends_with("# EOF\n"), "{after}");
        // Nothing of what was pulled or run is in it.
        assert!(!after.contains("critest") && !after.contains(&pod.id), "{after}");
    });
}

/// docs/metrics.md: what an operator is told of when something goes wrong.
#[test]
#[ignore = "needs root"]
fn what_goes_wrong_is_counted() {
    on_own_node(async |node| {
        let configured = configuration(node) + "[streaming]\nmax_sessions_per_pod = 1\n";
        node.configure(Some(&configured));
        let script = r#"case $CNI_COMMAND in
ADD) echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.9.8.7/24"}]}' ;;
DEL) test ! -e stuck || { echo '{"code": 11, "msg": "it is stuck"}'; exit 1; } ;;
esac
"#;
        use_plugin(node, script).await;
        let counted = async |line: &str, value: f64| {
            eventually(&format!("{line} is {value}"), async || {
                (number(&scrape(node), line) == value).then_some(())
            })
            .await;
        };

        let pod = node.pod().await;
        let greedy = pod.run(|config| {
            config.command = strings(&["tail", "/dev/zero"]);
            config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
                memory_limit_in_bytes: 24 << 20,
                ..Default::default()
            });
        });
        greedy.await;
        counted("pausa_container_exits_total{reason=\"OOMKilled\"}", 1.0).await;

        let container = pod.start(|_| {}).await;
        let session = container.exec_stream(Transport::SPDY, &["cat"], Want::ALL).await;
        counted("pausa_streaming_sessions", 1.0).await;
        let request = v1::ExecRequest {
            container_id: container.id.clone(),
            cmd: strings(&["cat"]),
            stdout: true,
            ..Default::default()
        };
        let url = ok("Exec", node.runtime().exec(request).await).url;
        counted("pausa_streaming_tickets", 1.0).await;
        let mut second = connect(&url, None).await;
        let answer = answer_to(&mut *second, &url, "").await;
        assert!(answer.contains(" 429 "), "{answer}");
        counted("pausa_streaming_refusals_total{limit=\"pod\"}", 1.0).await;
        counted("pausa_streaming_sessions_started_total{kind=\"exec\"}", 1.0).await;
        drop(session);
        counted("pausa_streaming_sessions", 0.0).await;

        kill_process(monitor_of(node, &pod), Signal::KILL).expect("a monitor");
        counted("pausa_monitors_lost_total{reason=\"died\"}", 1.0).await;
        counted("pausa_container_exits_total{reason=\"Unknown\"}", 1.0).await;
        counted("pausa_pods{state=\"not_ready\"}", 1.0).await;

        std::fs::write(node.dir().join("stuck"), "").expect("a file");
        let stop = v1::StopPodSandboxRequest {
            pod_sandbox_id: pod.id.clone(),
        };
        refused(Code::Unavailable, node.runtime().stop_pod_sandbox(stop).await);
        counted("pausa_network_detaches_pending", 1.0).await;
        let failed = "outcome=\"unavailable\"}";
        counted(
            &format!("pausa_cni_plugin_calls_total{{plugin=\"scripted\",command=\"DEL\",{failed}"),
            1.0,
        )
        .await;
        counted(
            &format!("pausa_operations_total{{operation=\"StopPodSandbox\",{failed}"),
            1.0,
        )
        .await;
        std::fs::remove_file(node.dir().join("stuck")).expect("a file");
        counted("pausa_network_detaches_pending", 0.0).await;

        // A record that nobody can read, and a monitor that dies while no daemon runs.
        let other = node.pod().await;
        node.daemon(Daemon::kill);
        kill_process(monitor_of(node, &other), Signal::KILL).expect("a monitor");
        let broken = node.dir().join("s/pods").join("0".repeat(64));
        std::fs::create_dir(&broken).expect("a directory");
        std::fs::write(broken.join("pod.json"), "{").expect("a file");
        node.daemon(Daemon::restart);
        node.until_it_answers().await;
        counted("pausa_records_broken", 1.0).await;
        counted("pausa_monitors_lost_total{reason=\"died\"}", 1.0).await;
        std::fs::remove_dir_all(broken).expect("a directory");
    });
}
