//! A client of one exec or attach.

use pausa_spdy::{RecvHalf, SendHalf, Session};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::http::connect;
use super::websocket::Channels;
use super::{Transport, Want, spdy, websocket};
use crate::harness::PATIENCE;

/// What comes from the server.
#[derive(Debug)]
pub(crate) enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Error(Vec<u8>),
}

/// Where the client types.
#[derive(Debug)]
pub(crate) enum Stdin {
    /// The receiving half is kept as kubectl keeps it.
    Spdy(SendHalf, #[expect(dead_code, reason = "kept only")] RecvHalf),
    WebSocket(Channels),
}

/// Where the client says how large its terminal is.
#[derive(Debug)]
pub(super) enum Sizes {
    Spdy(SendHalf),
    WebSocket(Channels),
}

#[derive(Debug)]
pub(super) enum Connection {
    Spdy(
        #[expect(dead_code, reason = "dropped, it is cut")] Session,
        JoinSet<()>,
    ),
    WebSocket(JoinSet<()>),
}

/// See the module. Dropped, the connection is cut.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) stdin: Option<Stdin>,
    pub(super) sizes: Option<Sizes>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(super) connection: Connection,
}

/// Everything that came, to the end.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) error: Vec<u8>,
}

impl Stdin {
    /// Types; whether the server still takes it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Spdy(stream, _) => stream.write_all(bytes).await.is_ok(),
            Self::WebSocket(channels) => channels.send(0, bytes).await,
        }
    }

    /// Says that there is no more.
    pub(crate) async fn end(&mut self) {
        match self {
            Self::Spdy(stream, _) => stream.shutdown().await.expect("stdin ends"),
            Self::WebSocket(channels) => assert!(channels.send(255, &[0]).await, "stdin ends"),
        }
    }
}

impl Remote {
    /// Goes to a URL and begins.
    pub(crate) async fn start(url: &str, transport: Transport, want: Want) -> Self {
        Self::start_trusting(url, transport, want, None).await
    }

    /// As [`Self::start`], by TLS.
    pub(crate) async fn start_trusting(
        url: &str,
        transport: Transport,
        want: Want,
        ca: Option<&[u8]>,
    ) -> Self {
        let io = connect(url, ca).await;
        match transport {
            Transport::Spdy(protocol) => spdy::start(io, url, protocol, want).await,
            Transport::WebSocket(protocol) => websocket::start(io, url, protocol, want).await,
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin was asked for");
        assert!(stdin.send(bytes).await, "the server takes what is typed");
    }

    pub(crate) async fn end_stdin(&mut self) {
        self.stdin.as_mut().expect("stdin was asked for").end().await;
    }

    pub(crate) async fn resize(&mut self, width: u16, height: u16) {
        assert!(self.try_resize(width, height).await, "the server takes a size");
    }

    /// Says how large the terminal is; whether the server still takes it.
    pub(crate) async fn try_resize(&mut self, width: u16, height: u16) -> bool {
        let size = format!("{{\"Width\":{width},\"Height\":{height}}}\n");
        match self.sizes.as_mut().expect("a terminal") {
            Sizes::Spdy(stream) => stream.write_all(size.as_bytes()).await.is_ok(),
            Sizes::WebSocket(channels) => channels.send(4, size.as_bytes()).await,
        }
    }

    /// Reads standard output until it has this text; returns all until then.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let found = async {
            while !seen.contains(text) {
                match self.events.recv().await {
                    Some(Event::Stdout(bytes)) => seen.push_str(&String::from_utf8_lossy(&bytes)),
                    Some(Event::Stderr(_)) => {}
                    Some(Event::Error(bytes)) => panic!("{}", String::from_utf8_lossy(&bytes)),
                    None => return false,
                }
            }
            true
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(matches!(found, Ok(true)), "no {text:?} in {seen:?}");
        seen
    }

    /// Everything, until the server has closed all streams.
    pub(crate) async fn finish(mut self) -> Done {
        let mut done = Done::default();
        let all = async {
            while let Some(event) = self.events.recv().await {
                match event {
                    Event::Stdout(bytes) => done.stdout.extend(bytes),
                    Event::Stderr(bytes) => done.stderr.extend(bytes),
                    Event::Error(bytes) => done.error.extend(bytes),
                }
            }
            let (Connection::Spdy(_, tasks) | Connection::WebSocket(tasks)) = &mut self.connection;
            while let Some(task) = tasks.join_next().await {
                task.expect("the client's task does not panic");
            }
        };
        tokio::time::timeout(PATIENCE, all)
            .await
            .expect("the stream ends");
        done
    }
}

impl Done {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// `metav1.Status`.
    pub(crate) fn status(&self) -> serde_json::Value {
        let status = serde_json::from_slice(&self.error);
        status.unwrap_or_else(|_| panic!("no status: {}", String::from_utf8_lossy(&self.error)))
    }

    /// The exit code in the status, as kubectl reads it.
    pub(crate) fn code(&self) -> i32 {
        let status = self.status();
        if status["status"] == "Success" {
            return 0;
        }
        assert_eq!(status["reason"], "NonZeroExitCode", "{status}");
        let causes = status["details"]["causes"].as_array().expect("causes");
        let cause = causes
            .iter()
            .find(|cause| cause["reason"] == "ExitCode")
            .expect("a code");
        cause["message"]
            .as_str()
            .and_then(|code| code.parse().ok())
            .expect("a number")
    }
}
