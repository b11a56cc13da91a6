//! Clients of port-forward: over SPDY, in the clear or inside a WebSocket, and over channels of a WebSocket.

use std::collections::BTreeMap;

use pausa_spdy::{Config, RecvHalf, Role, SendHalf, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::http::connect;
use super::{spdy, websocket};
use crate::harness::PATIENCE;

/// A connection on which ports are forwarded.
#[derive(Debug)]
pub(crate) struct Forwarder {
    session: Session,
    requests: u32,
    _tasks: JoinSet<()>,
}

/// One forwarded connection.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) input: RecvHalf,
    pub(crate) output: SendHalf,
    error: RecvHalf,
}

impl Forwarder {
    pub(crate) async fn spdy(url: &str) -> Self {
        let session = spdy::session(connect(url, None).await, url, "portforward.k8s.io").await;
        Self::new(session, JoinSet::new())
    }

    pub(crate) async fn tunnel(url: &str) -> Self {
        let mut tasks = JoinSet::new();
        let protocol = "SPDY/3.1+portforward.k8s.io";
        let io = websocket::tunnel(connect(url, None).await, url, protocol, &mut tasks).await;
        Self::new(Session::start(io, Role::Client, Config::default()), tasks)
    }

    fn new(session: Session, tasks: JoinSet<()>) -> Self {
        Self {
            session,
            requests: 0,
            _tasks: tasks,
        }
    }

    /// Asks for a connection to a port.
    pub(crate) async fn connect(&mut self, port: u16) -> Forwarded {
        let (port, request) = (port.to_string(), self.requests.to_string());
        self.requests += 1;
        let fields = |kind| [("streamType", kind), ("port", &*port), ("requestID", &*request)];
        let (error, mut nothing) = spdy::open(&self.session, &fields("error")).await.split();
        nothing
            .shutdown()
            .await
            .expect("the error stream's other side ends");
        let (input, output) = spdy::open(&self.session, &fields("data")).await.split();
        Forwarded { input, output, error }
    }
}

impl Forwarded {
    /// Sends, ends, and reads what comes back.
    pub(crate) async fn ask(mut self, question: &[u8]) -> (Vec<u8>, String) {
        let asked = async {
            self.output.write_all(question).await.ok();
            self.output.shutdown().await.ok();
            let mut answer = Vec::new();
            self.input.read_to_end(&mut answer).await.ok();
            answer
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await.expect("an answer");
        (answer, self.error().await)
    }

    /// What the error stream says until its end.
    pub(crate) async fn error(mut self) -> String {
        let mut text = String::new();
        let read = self.error.read_to_string(&mut text);
        let read = tokio::time::timeout(PATIENCE, read)
            .await
            .expect("the error stream ends");
        read.expect("the error stream ends in order");
        text
    }
}

/// The ports of a request, as channels of a WebSocket.
#[derive(Debug)]
pub(crate) struct Ports {
    channels: websocket::Channels,
    messages: mpsc::Receiver<(u8, Vec<u8>)>,
    got: BTreeMap<u8, Vec<u8>>,
    _tasks: JoinSet<()>,
}

impl Ports {
    pub(crate) async fn start(url: &str, protocol: &str) -> Self {
        let (channels, mut stream) = websocket::channels(connect(url, None).await, url, protocol).await;
        let (sender, messages) = mpsc::channel(16);
        let base64 = protocol.contains("base64");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(message) = websocket::next(&mut stream, base64).await {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        Self {
            channels,
            messages,
            got: BTreeMap::new(),
            _tasks: tasks,
        }
    }

    pub(crate) async fn send(&self, channel: u8, bytes: &[u8]) {
        assert!(self.channels.send(channel, bytes).await, "the server takes it");
    }

    /// Reads until a channel has got this; returns all that it got.
    pub(crate) async fn until(&mut self, channel: u8, bytes: &[u8]) -> Vec<u8> {
        let read = async {
            loop {
                let got = self.got.entry(channel).or_default();
                if got.starts_with(bytes) {
                    return got.clone();
                }
                let (channel, bytes) = self.messages.recv().await.expect("more messages");
                self.got.entry(channel).or_default().extend(bytes);
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("messages")
    }
}
