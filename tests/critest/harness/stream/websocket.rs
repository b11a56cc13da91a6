//! Exec and attach over a WebSocket: a channel for each. Also SPDY inside of one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::Want;
use super::http::Io;
use super::remote::{Connection, Event, Remote, Sizes, Stdin};

type Socket = WebSocketStream<Box<dyn Io>>;

/// Upgrades a connection.
pub(super) async fn socket(io: Box<dyn Io>, url: &str, protocol: &str) -> Socket {
    let url = url.replacen("http", "ws", 1);
    let mut request = url.into_client_request().expect("a URL");
    let value = HeaderValue::from_str(protocol).expect("a protocol");
    request.headers_mut().insert("Sec-WebSocket-Protocol", value);
    let (socket, answer) = tokio_tungstenite::client_async(request, io)
        .await
        .expect("the server upgrades to a WebSocket");
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], protocol);
    socket
}

/// The side that sends.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    sink: Arc<Mutex<SplitSink<Socket, Message>>>,
    base64: bool,
}

impl Channels {
    pub(crate) async fn send(&self, number: u8, bytes: &[u8]) -> bool {
        let message = if self.base64 {
            let text = format!("{}{}", char::from(b'0' + number), STANDARD.encode(bytes));
            Message::Text(text.into())
        } else {
            Message::Binary([&[number], bytes].concat().into())
        };
        self.sink.lock().await.send(message).await.is_ok()
    }
}

/// The next message of a channel; none when the server closes in order.
pub(super) async fn next(stream: &mut SplitStream<Socket>, base64: bool) -> Option<(u8, Vec<u8>)> {
    loop {
        match stream.next().await?.ok()? {
            Message::Binary(bytes) if !base64 => return Some((bytes[0], bytes[1..].to_vec())),
            Message::Text(text) if base64 => {
                let bytes = STANDARD.decode(&text.as_bytes()[1..]).expect("base64");
                return Some((text.as_bytes()[0] - b'0', bytes));
            }
            Message::Close(frame) => {
                assert_eq!(
                    frame.map(|frame| u16::from(frame.code)),
                    Some(1000),
                    "a normal end"
                );
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// Both sides of a WebSocket.
pub(super) async fn channels(io: Box<dyn Io>, url: &str, protocol: &str) -> (Channels, SplitStream<Socket>) {
    let (sink, stream) = socket(io, url, protocol).await.split();
    let channels = Channels {
        sink: Arc::new(Mutex::new(sink)),
        base64: protocol.contains("base64"),
    };
    (channels, stream)
}

pub(super) async fn start(io: Box<dyn Io>, url: &str, protocol: &str, want: Want) -> Remote {
    let (channels, mut stream) = channels(io, url, protocol).await;
    let base64 = channels.base64;
    let (sender, events) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some((number, bytes)) = next(&mut stream, base64).await {
            let event = match number {
                1 => Event::Stdout(bytes),
                2 => Event::Stderr(bytes),
                3 => Event::Error(bytes),
                other => panic!("the server writes to channel {other}"),
            };
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    Remote {
        stdin: want.stdin.then(|| Stdin::WebSocket(channels.clone())),
        sizes: want.tty.then(|| Sizes::WebSocket(channels.clone())),
        events,
        connection: Connection::WebSocket(tasks),
    }
}

/// The byte stream inside a WebSocket.
pub(super) async fn tunnel(
    io: Box<dyn Io>,
    url: &str,
    protocol: &str,
    tasks: &mut JoinSet<()>,
) -> DuplexStream {
    let (mut sink, mut stream) = socket(io, url, protocol).await.split();
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    let (mut read, mut write) = tokio::io::split(theirs);
    tasks.spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            let message = Message::Binary(buffer[..length].to_vec().into());
            if sink.send(message).await.is_err() {
                return;
            }
        }
        sink.close().await.ok();
    });
    tasks.spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Binary(bytes) = message
                && write.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
        write.shutdown().await.ok();
    });
    ours
}
