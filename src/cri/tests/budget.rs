//! Clients that exceed what they may have in progress, and those that go on meanwhile.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::body::Body;
use tonic::codegen::http::Request;
use tower::Service as _;

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const REFUSED_STREAM: u32 = 7;

async fn version(server: &Server) -> Result<(), tonic::Status> {
    let mut runtime = server.runtime().await;
    runtime.version(v1::VersionRequest::default()).await.map(drop)
}

/// Repeats a call until the server has noticed what has ended.
async fn served_again(server: &Server) {
    let served = async {
        while let Err(status) = version(server).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), served)
        .await
        .expect("others are served again");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A connection with this many requests whose messages never come.
async fn unfinished(server: &Server, requests: u32) -> UnixStream {
    let mut socket = UnixStream::connect(&server.socket).await.unwrap();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/runtime.v1.RuntimeService/Version"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal without indexing.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for request in 0..requests {
        bytes.extend(frame(1, 4, 2 * request + 1, &block));
    }
    // An answer says that all before was received.
    bytes.extend(frame(6, 0, 0, &[0; 8]));
    socket.write_all(&bytes).await.unwrap();
    socket
}

/// Sends another PING.
async fn ping(mut socket: UnixStream) -> UnixStream {
    socket.write_all(&frame(6, 0, 0, &[0; 8])).await.unwrap();
    socket
}

/// Reads to the answer of the PING; returns the errors of streams that were reset until then.
async fn resets(socket: &mut UnixStream) -> Vec<u32> {
    let mut codes = Vec::new();
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        socket.read_exact(&mut payload).await.unwrap();
        match head[3] {
            3 => codes.push(u32::from_be_bytes(payload.try_into().unwrap())),
            4 if head[4] == 0 => socket.write_all(&frame(4, 1, 0, &[])).await.unwrap(),
            6 => return codes,
            _ => {}
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_the_others_go_on() {
    let server = Server::start().await;
    let mut before = server.runtime().await;
    before.version(v1::VersionRequest::default()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..63 {
        let mut socket = unfinished(&server, 1).await;
        assert!(resets(&mut socket).await.is_empty());
        held.push(socket);
    }
    // The only idle one makes room, and its client connects again: then there is none any more.
    let mut last = unfinished(&server, 1).await;
    assert!(resets(&mut last).await.is_empty());
    let mut refused = UnixStream::connect(&server.socket).await.unwrap();
    assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0, "closed at once");
    held.pop();
    let again = async { while before.version(v1::VersionRequest::default()).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(30), again)
        .await
        .expect("a client whose connection was closed is served again");
    assert!(resets(&mut ping(last).await).await.is_empty(), "requests go on");
}

/// A client that never closes its connections does not notice: each is served.
#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let server = Server::start().await;
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut runtime = server.runtime().await;
        runtime.version(v1::VersionRequest::default()).await.unwrap();
        held.push(runtime);
    }
    for runtime in &mut held {
        let again = async { while runtime.version(v1::VersionRequest::default()).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(30), again)
            .await
            .expect("it connects again");
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_of_a_connection_are_refused() {
    let server = Server::start().await;
    let mut socket = unfinished(&server, 1026).await;
    assert_eq!(resets(&mut socket).await, [REFUSED_STREAM; 2]);
    // The limit of the process is used up as well, until these end.
    assert_eq!(
        version(&server).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    drop(socket);
    served_again(&server).await;
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_and_those_in_progress_are_answered() {
    let server = Server::start().await;
    let mut held = [unfinished(&server, 1000).await, unfinished(&server, 24).await];
    for socket in &mut held {
        assert!(resets(socket).await.is_empty());
    }
    let status = version(&server).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("too many requests"), "{status:?}");
    // An empty message, and the end of its stream.
    let [_, socket] = &mut held;
    socket.write_all(&frame(0, 1, 1, &[0; 5])).await.unwrap();
    let answer = async {
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            socket.read_exact(&mut payload).await.unwrap();
            if head[3] == 0 {
                return payload;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), answer)
        .await
        .unwrap();
    assert!(answer.len() > 5, "{answer:?}");
    served_again(&server).await;
    drop(held);
    served_again(&server).await;
}

#[tokio::test]
async fn large_requests_are_bounded_together_and_small_ones_go_on() {
    const PART: usize = 14 << 20;
    let server = Server::start().await;
    let mut held = Vec::new();
    let mut refused = None;
    for _ in 0..8 {
        // The beginning of a message of 15 MiB, whose end never comes.
        let mut bytes = vec![0; 5 + PART];
        bytes[1..5].copy_from_slice(&(15_u32 << 20).to_be_bytes());
        let frames = stream::iter([Ok::<_, tonic::Status>(Frame::data(Bytes::from(bytes)))]);
        let request = Request::post("http://localhost/runtime.v1.RuntimeService/Version")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(StreamBody::new(frames.chain(stream::pending()))))
            .unwrap();
        let mut channel = server.channel().await;
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        let mut answer = Box::pin(channel.call(request));
        // Those that are within the limit get none.
        match tokio::time::timeout(Duration::from_secs(3), &mut answer).await {
            Ok(answer) => {
                refused = Some(answer.unwrap());
                break;
            }
            Err(_) => held.push((answer, channel)),
        }
    }
    assert_eq!(held.len(), 4, "64 MiB");
    let status = tonic::Status::from_header_map(refused.unwrap().headers()).unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("large requests"), "{status:?}");
    version(&server).await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let request = v1::VersionRequest {
        version: "x".repeat(server::MAX_MESSAGE + 1),
    };
    let status = server.runtime().await.version(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn pods_beyond_those_that_are_being_created_are_refused() {
    let server = Server::start().await;
    let request = v1::RunPodSandboxRequest {
        config: Some(pod("one-more")),
        ..Default::default()
    };
    server.services.pods.begin_all();
    let status = server.runtime().await.run_pod_sandbox(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn pulls_beyond_those_in_progress_are_refused_and_the_others_joined() {
    let server = Server::start().await;
    // It takes connections and never answers.
    let registry = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = registry.local_addr().unwrap();
    let mut images = server.images().await;
    let mut pull = async |number: usize, patience: Duration| {
        let mut request = tonic::Request::new(v1::PullImageRequest {
            image: Some(image(&format!("{address}/image:{number}"))),
            ..Default::default()
        });
        request.set_timeout(patience);
        images.pull_image(request).await.unwrap_err().code()
    };
    // They go on after their clients' deadlines.
    let mut number = 0;
    while server.services.pods.images().pulls().len() < crate::image::PULLS_MAX {
        pull(number, Duration::from_millis(20)).await;
        number += 1;
    }
    assert_eq!(
        pull(number, Duration::from_secs(60)).await,
        Code::ResourceExhausted
    );
    // By the server's clock or by the client's own.
    let joined = pull(0, Duration::from_millis(50)).await;
    assert!(
        matches!(joined, Code::DeadlineExceeded | Code::Cancelled),
        "{joined:?}"
    );
}
