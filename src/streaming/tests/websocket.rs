//! Exec over WebSockets: every version, in both forms.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::*;

type Socket = WebSocketStream<TcpStream>;

/// What came on the channels 1, 2 and 3 until the server closed.
type Got = [Vec<u8>; 3];

pub(super) async fn connect(url: &str, protocol: &str) -> Socket {
    let socket = TcpStream::connect(split(url).0).await.unwrap();
    let mut request = url.replace("http:", "ws:").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_str(protocol).unwrap());
    let (socket, answer) = tokio_tungstenite::client_async(request, socket).await.unwrap();
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], protocol);
    socket
}

async fn send(socket: &mut Socket, channel: u8, bytes: &[u8]) {
    let message = [&[channel], bytes].concat();
    socket.send(Message::Binary(message.into())).await.unwrap();
}

async fn rest(socket: &mut Socket) -> Got {
    let mut got = Got::default();
    soon(async {
        while let Some(message) = socket.next().await {
            match message.unwrap() {
                Message::Binary(bytes) => got[usize::from(bytes[0]) - 1].extend_from_slice(&bytes[1..]),
                Message::Close(frame) => assert_eq!(u16::from(frame.unwrap().code), 1000),
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    got
}

fn status(got: &Got) -> serde_json::Value {
    serde_json::from_slice(&got[2]).unwrap()
}

#[tokio::test]
async fn output_and_exit_code() {
    let server = start().await;
    for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io"] {
        let url = exec_url(&server, "printf out; printf err >&2; exit 42", OUTPUT, false);
        let got = rest(&mut connect(&url, protocol).await).await;
        assert_eq!((&got[0][..], &got[1][..]), (&b"out"[..], &b"err"[..]));
        assert_eq!(status(&got)["details"]["causes"][0]["message"], "42");
    }
    for protocol in ["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"] {
        let url = exec_url(&server, "printf out; exit 7", OUTPUT, false);
        let got = rest(&mut connect(&url, protocol).await).await;
        assert_eq!(&got[0][..], b"out");
        assert!(got[2].ends_with(b"7"), "{got:?}");
        let url = exec_url(&server, "true", OUTPUT, false);
        let got = rest(&mut connect(&url, protocol).await).await;
        assert_eq!(got, Got::default(), "success says nothing");
    }
}

#[tokio::test]
async fn all_is_text_in_the_base64_form() {
    let server = start().await;
    for protocol in ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"] {
        let url = exec_url(&server, "read line; echo got $line", ALL, false);
        let mut socket = connect(&url, protocol).await;
        socket.send(Message::Text("0eAo=".into())).await.unwrap();
        let mut got = String::new();
        while let Some(Ok(Message::Text(text))) = soon(socket.next()).await {
            got.push_str(&text);
        }
        assert!(
            got.starts_with("11Z290IHgK"),
            "an empty message, then the output: {got}"
        );
    }
}

#[tokio::test]
async fn version_5_ends_stdin() {
    let server = start().await;
    let url = exec_url(&server, "cat; echo over", ALL, false);
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    send(&mut socket, 0, b"typed\n").await;
    socket.send(Message::Binary(vec![255, 0].into())).await.unwrap();
    let got = rest(&mut socket).await;
    assert_eq!(&got[0][..], b"typed\nover\n");
    assert_eq!(status(&got)["status"], "Success");
}

#[tokio::test]
async fn the_first_size_is_there_before_the_program() {
    let server = start().await;
    let url = exec_url(&server, "stty size; read x; stty size", TERMINAL, true);
    let mut socket = connect(&url, "v4.channel.k8s.io").await;
    send(&mut socket, 4, br#"{"Width":132,"Height":50}"#).await;
    let mut seen = String::new();
    while !seen.contains("50 132\r\n") {
        let message = soon(socket.next()).await.unwrap().unwrap();
        seen.push_str(&String::from_utf8_lossy(&message.into_data()[1..]));
    }
    send(&mut socket, 4, br#"{"Width":90,"Height":20}"#).await;
    send(&mut socket, 0, b"\n").await;
    let got = rest(&mut socket).await;
    assert!(String::from_utf8_lossy(&got[0]).contains("20 90\r\n"), "{got:?}");
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_told() {
    let server = start().await;
    let url = server.url(local::exec(&["/no/such"], OUTPUT, false)).unwrap();
    let got = rest(&mut connect(&url, "v5.channel.k8s.io").await).await;
    assert_eq!(status(&got)["reason"], "InternalError");
}

#[tokio::test]
async fn a_client_that_goes_ends_its_streams() {
    let server = start().await;
    let dir = tempfile::tempdir().unwrap();
    let proof = dir.path().join("over");
    let url = exec_url(&server, &format!("cat; touch {}", proof.display()), ALL, false);
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    send(&mut socket, 0, b"typed").await;
    assert!(soon(socket.next()).await.is_some());
    drop(socket);
    soon(async {
        while !proof.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_child_that_keeps_the_output_is_not_waited_for() {
    let server = start().await;
    let url = exec_url(&server, "sleep 60 & echo $!", OUTPUT, false);
    let got = rest(&mut connect(&url, "v5.channel.k8s.io").await).await;
    assert_eq!(status(&got)["status"], "Success");
    let pid = String::from_utf8(got[0].clone()).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn attached_clients_type_and_read() {
    let server = start().await;
    let url = server.url(local::attach(ALL)).unwrap();
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    send(&mut socket, 0, b"a\nb\n").await;
    socket.send(Message::Binary(vec![255, 0].into())).await.unwrap();
    let got = rest(&mut socket).await;
    assert_eq!(&got[0][..], b"got a\ngot b\n");
    assert_eq!(status(&got)["status"], "Success");
}

#[tokio::test]
async fn an_idle_client_is_cut() {
    let settings = Settings {
        idle_timeout: Duration::from_millis(300),
        ..settings()
    };
    let server = Streaming::start(settings).await.unwrap();
    let url = server.url(local::attach(ALL)).unwrap();
    let mut socket = connect(&url, "v5.channel.k8s.io").await;
    soon(async { while let Some(Ok(_)) = socket.next().await {} }).await;
}
