//! Metrics over HTTP, as Prometheus reads them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use pausa::proto::v1;
use tonic::Code;

use crate::harness::daemon::Daemon;
use crate::harness::node::{Node, reference, spec};
use crate::harness::{ok, on_own_node, refused};

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
        node.daemon(Daemon::kill);
        let drop_in = node.dir().join("config.d/metrics.toml");
        std::fs::create_dir_all(drop_in.parent().expect("a directory")).expect("a directory");
        let socket = node.dir().join("s/metrics.sock");
        let text = format!("[metrics]\naddress = \"unix://{}\"\n", socket.display());
        std::fs::write(drop_in, text).expect("a drop-in");
        node.daemon(Daemon::restart);
        node.until_it_answers().await;

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

        let after = scrape(node);
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
        ] {
            assert!(number(&after, line) >= least, "{line} in\n{after}");
        }
        assert_eq!(number(&after, "pausa_image_pulls_in_flight"), 0.0);
        assert_eq!(number(&after, "pausa_image_kept_layers{state=\"complete\"}"), 0.0);
        let steps = "pausa_step_duration_seconds_count{operation=\"RunPodSandbox\"";
        assert!(after.contains(steps), "{after}");
        assert!(after.ends_with("# EOF\n"), "{after}");
        // Nothing of what was pulled or run is in it.
        assert!(!after.contains("critest") && !after.contains(&pod.id), "{after}");
    });
}
