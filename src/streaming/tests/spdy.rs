//! Over SPDY: streams that open late, twice or not at all, and the two streams of a forwarded connection.

use pausa_spdy::{Config, Headers, Role, Session, Stream};
use tokio::net::TcpListener;

use super::*;

async fn connect(url: &str, protocol: &str) -> Session {
    let headers =
        format!("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n");
    let (socket, answer) = request(url, "POST", &headers).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    Session::start(socket, Role::Client, Config::default())
}

async fn open(session: &Session, fields: &[(&str, &str)]) -> Stream {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.set(name, value);
    }
    soon(session.open(headers)).await.unwrap()
}

async fn all(stream: Stream) -> String {
    let (mut input, mut output) = stream.split();
    // Fails where the server has reset what it is done with.
    output.shutdown().await.ok();
    let mut bytes = Vec::new();
    soon(input.read_to_end(&mut bytes)).await.ok();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn the_command_begins_when_all_streams_are_there() {
    let server = start().await;
    let dir = tempfile::tempdir().unwrap();
    let begun = dir.path().join("begun");
    let script = format!("touch {}; cat; printf err >&2; exit 3", begun.display());
    let url = exec_url(&server, &script, ALL, false);
    let session = connect(&url, "v4.channel.k8s.io").await;
    let error = open(&session, &[("streamType", "error")]).await;
    let (_, mut stdin) = open(&session, &[("streamType", "stdin")]).await.split();
    let mut headers = Headers::new();
    headers.set("streamType", "stdin");
    assert!(soon(session.open(headers)).await.is_err(), "there is one already");
    stdin.write_all(b"typed").await.unwrap();
    stdin.shutdown().await.unwrap();
    let stdout = open(&session, &[("streamType", "stdout")]).await;
    assert!(!begun.exists());
    let stderr = open(&session, &[("streamType", "stderr")]).await;
    assert_eq!(all(stdout).await, "typed");
    assert!(begun.exists());
    assert_eq!(all(stderr).await, "err");
    let status: serde_json::Value = serde_json::from_str(&all(error).await).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3");
    soon(session.closed()).await.unwrap();
}

#[tokio::test]
async fn an_error_is_of_one_connection_alone() {
    let server = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = nobody.local_addr().unwrap().port().to_string();
    drop(nobody);
    let session = connect(
        &server.url(local::port_forward(vec![])).unwrap(),
        "portforward.k8s.io",
    )
    .await;
    let pair = async |port: &str, request: &str| {
        let fields = |kind| [("streamType", kind), ("port", port), ("requestID", request)];
        (
            open(&session, &fields("error")).await,
            open(&session, &fields("data")).await,
        )
    };
    let (good_error, good) = pair(&port, "0").await;
    let (mut good_input, mut good) = good.split();
    let (mut served, _) = soon(listener.accept()).await.unwrap();
    let (bad_error, bad) = pair(&closed, "1").await;
    let why = all(bad_error).await;
    assert!(why.contains(&closed) && why.contains("refused"), "{why}");
    assert_eq!(all(bad).await, "");

    good.write_all(b"ask").await.unwrap();
    good.shutdown().await.unwrap();
    let mut asked = Vec::new();
    soon(served.read_to_end(&mut asked)).await.unwrap();
    assert_eq!(asked, b"ask");
    served
        .write_all(b"answered after the end of the question")
        .await
        .unwrap();
    drop(served);
    let mut answer = Vec::new();
    soon(good_input.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"answered after the end of the question");
    assert_eq!(all(good_error).await, "");
}

#[tokio::test]
async fn streams_that_make_no_pair_are_refused() {
    let server = start().await;
    let session = connect(
        &server.url(local::port_forward(vec![])).unwrap(),
        "portforward.k8s.io",
    )
    .await;
    let wrong: [&[(&str, &str)]; 5] = [
        &[],
        &[("streamType", "data"), ("requestID", "0")],
        &[("streamType", "data"), ("port", "0"), ("requestID", "0")],
        &[("streamType", "data"), ("port", "65536"), ("requestID", "0")],
        &[("streamType", "other"), ("port", "80"), ("requestID", "0")],
    ];
    for fields in wrong {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.set(name, value);
        }
        assert!(soon(session.open(headers)).await.is_err(), "{fields:?}");
    }
}
