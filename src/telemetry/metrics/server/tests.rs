use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::{Build, ImageStates, Operation, Rpc, layer, plugin_call, pull, pulled, step};
use super::*;
use crate::error::ErrorKind;

async fn ask(io: impl AsyncRead + AsyncWrite, request: &str) -> String {
    let mut io = std::pin::pin!(io);
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n");
    io.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_scraper_gets_what_was_counted() {
    let listening = Listening::begin(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listening.address().to_string();
    let states = || States {
        build: Build {
            cgroup_version: "2",
            cgroup_driver: "SYSTEMD",
        },
        images: ImageStates {
            pulls: 2,
            kept_layers: 3,
            kept_parts: 1,
            kept_bytes: 4096,
            ..ImageStates::default()
        },
        ..States::default()
    };
    let serving = tokio::spawn(listening.serve(states));
    Rpc::begin("ExecSync").end("OK");
    Rpc::begin("ExecSync").end("NOT_FOUND");
    let waiting = Rpc::begin("Version");
    let running = Operation::begin("StartContainer");
    Operation::begin("StopPodSandbox").ended(Some(ErrorKind::Unavailable));
    let mut well = Operation::begin("StopPodSandbox");
    well.ended(None);
    drop(well);
    drop(Operation::begin("StopPodSandbox"));
    plugin_call(
        "calico",
        "ADD",
        Some(ErrorKind::DeadlineExceeded),
        Duration::from_secs(4),
    );
    layer("fetched", 700);
    step("RunPodSandbox", "network", Duration::from_millis(40));
    pull(None, Duration::from_secs(2));
    pull(Some(ErrorKind::Unavailable), Duration::from_secs(5));
    pulled(1000);
    let connect = || tokio::net::TcpStream::connect(&address);
    let answer = ask(connect().await.unwrap(), "GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(FORMAT), "{answer}");
    for line in [
        "pausa_rpcs_total{rpc=\"ExecSync\",code=\"NOT_FOUND\"} 1",
        "pausa_rpc_duration_seconds_bucket{le=\"100.0\",rpc=\"ExecSync\"} 2",
        "pausa_rpc_duration_seconds_count{rpc=\"ExecSync\"} 2",
        "pausa_step_duration_seconds_count{operation=\"RunPodSandbox\",step=\"network\"} 1",
        "pausa_image_pulls_total{outcome=\"unavailable\"} 1",
        "pausa_image_pull_duration_seconds_count 2",
        "pausa_image_pull_bytes_total 1000",
        "pausa_image_pulls_in_flight 2",
        "pausa_image_kept_layers{state=\"part\"} 1",
        "pausa_image_kept_bytes 4096",
        "pausa_rpcs_in_flight{rpc=\"ExecSync\"} 0",
        "pausa_rpcs_in_flight{rpc=\"Version\"} 1",
        "pausa_operations_in_flight{operation=\"StartContainer\"} 1",
        "pausa_operations_in_flight{operation=\"StopPodSandbox\"} 0",
        "pausa_operations_total{operation=\"StopPodSandbox\",outcome=\"ok\"} 1",
        "pausa_operations_total{operation=\"StopPodSandbox\",outcome=\"unavailable\"} 1",
        "pausa_operations_total{operation=\"StopPodSandbox\",outcome=\"aborted\"} 1",
        "pausa_operation_duration_seconds_count{operation=\"StopPodSandbox\"} 3",
        "pausa_cni_plugin_calls_total{plugin=\"calico\",command=\"ADD\",outcome=\"deadline_exceeded\"} 1",
        "pausa_cni_plugin_call_duration_seconds_sum{plugin=\"calico\",command=\"ADD\"} 4.0",
        "pausa_image_pull_layers_total{source=\"fetched\"} 1",
        "pausa_image_pull_layer_bytes_total{source=\"fetched\"} 700",
        // From the start on.
        "pausa_container_exits_total{reason=\"OOMKilled\"} 0",
        "cgroup_version=\"2\",cgroup_driver=\"SYSTEMD\"} 1",
        "process_start_time_seconds 1",
        "process_cpu_seconds_total ",
        "pausa_tasks ",
        "# EOF",
    ] {
        assert!(answer.contains(line), "{line} is not in\n{answer}");
    }
    drop((waiting, running));
    let answer = ask(connect().await.unwrap(), "GET /").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let answer = ask(connect().await.unwrap(), "POST /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    serving.abort();
}

#[tokio::test]
async fn a_socket_that_was_left_is_taken_and_a_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    let address: MetricsAddress = format!("unix://{}", path.display()).parse().unwrap();
    drop(Listening::begin(&address).await.unwrap());
    let listening = Listening::begin(&address).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let serving = tokio::spawn(listening.serve(States::default));
    let answer = ask(
        tokio::net::UnixStream::connect(&path).await.unwrap(),
        "HEAD /metrics",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serving.abort();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "mine").unwrap();
    let error = Listening::begin(&address).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}
