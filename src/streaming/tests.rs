//! The server as clients see it, with processes of this machine instead of containers.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ticket::Streams;
use super::*;

mod bounds;
mod http;
mod local;
mod ports;
mod spdy;
mod websocket;

const OUTPUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: true,
};
const ALL: Streams = Streams {
    stdin: true,
    ..OUTPUT
};
const TERMINAL: Streams = Streams { stderr: false, ..ALL };

fn settings() -> Settings {
    Settings {
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        certificate: None,
        idle_timeout: Duration::from_secs(60),
        sessions: SessionLimits {
            per_pod: 100,
            total: 200,
        },
    }
}

async fn start() -> Streaming {
    Streaming::start(settings()).await.unwrap()
}

/// A URL to run a shell script at.
fn exec_url(server: &Streaming, script: &str, streams: Streams, tty: bool) -> String {
    server
        .url(local::exec(&["sh", "-c", script], streams, tty))
        .unwrap()
}

/// The address and the path of a URL.
fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap();
    rest.split_at(rest.find('/').unwrap())
}

/// Sends the head of a request; returns the connection, and the head of the answer in lower case.
async fn request(url: &str, method: &str, headers: &str) -> (TcpStream, String) {
    let (address, path) = split(url);
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Byte by byte: what follows the head belongs to what comes after.
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await.unwrap());
    }
    (socket, String::from_utf8(answer).unwrap().to_lowercase())
}

/// Waits for something that happens soon.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what)
        .await
        .expect("it happens")
}
