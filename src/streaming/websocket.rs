//! Several streams over one WebSocket: each message begins with the number of its channel.
//!
//! ```text
//!   socket ──▶ reader ──by number──▶ Inputs        Outputs ──number + bytes──▶ queue ──▶ writer ──▶ socket
//! ```
//!
//! In the base64 form the number is a digit (or what comes after `9` in ASCII) and the rest is base64, so that
//! all is text. From version 5 on a
//! message on channel 255 ends the channel whose number it holds; before, a client cannot end one.
//!
//! A client that does not read makes outputs wait; an input nobody reads makes the reader wait, and with it all
//! other inputs. Nothing is kept beyond a few messages.
//!
//! Links: RFC 6455; the subprotocols are defined by what Kubernetes' clients do.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::channel::{Input, Output};

/// The channel that ends others.
const END: u8 = 255;
/// Messages that wait, each way.
const QUEUE: usize = 4;
/// Clients send 32 KiB or so at once.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// How long a client may take to answer a Close.
const LINGER: Duration = Duration::from_secs(5);

/// How channels are written into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The number as a byte, then the bytes.
    Binary,
    /// The number as a character, from `0` on, then base64.
    Base64,
}

/// Limits of a connection.
pub(super) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
}

/// The channels of a connection that is not started yet.
#[derive(Debug)]
pub(super) struct Channels {
    form: Form,
    can_end: bool,
    inputs: HashMap<u8, mpsc::Sender<Bytes>>,
    to_client: mpsc::Sender<Message>,
    queue: mpsc::Receiver<Message>,
}

impl Channels {
    /// `can_end`: whether the client may end a channel (version 5).
    pub(super) fn new(form: Form, can_end: bool) -> Self {
        let (to_client, queue) = mpsc::channel(QUEUE);
        Self {
            form,
            can_end,
            inputs: HashMap::new(),
            to_client,
            queue,
        }
    }

    /// A channel the client writes.
    pub(super) fn input(&mut self, number: u8) -> Input {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.inputs.insert(number, sender);
        Input::WebSocket(receiver)
    }

    /// A channel the client reads.
    pub(super) fn output(&self, number: u8) -> Output {
        Output::WebSocket(Sender {
            form: self.form,
            number,
            to_client: self.to_client.clone(),
        })
    }

    /// Begins to read and write. Ends `idle` after the last message either way.
    pub(super) fn start<S>(self, socket: WebSocketStream<S>, idle: Duration) -> Connection
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let over = CancellationToken::new();
        let activity = Arc::new(Activity::new());
        let (sink, stream) = socket.split();
        let reader = Reader {
            stream,
            form: self.form,
            can_end: self.can_end,
            inputs: self.inputs,
            activity: Arc::clone(&activity),
        };
        let writer = write(sink, self.queue, Arc::clone(&activity));
        let mut tasks = JoinSet::new();
        let ended = over.clone().drop_guard();
        tasks.spawn(async move {
            reader.run().await;
            drop(ended);
        });
        let ended = over.clone().drop_guard();
        tasks.spawn(async move {
            tokio::select! {
                () = writer => {}
                () = activity.over(idle) => tracing::debug!("a WebSocket was idle for too long"),
            }
            drop(ended);
        });
        Connection {
            to_client: self.to_client,
            over,
            _tasks: tasks,
        }
    }
}

/// A connection. Dropped, it is cut.
#[derive(Debug)]
pub(super) struct Connection {
    to_client: mpsc::Sender<Message>,
    over: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Connection {
    /// Waits until the client has gone.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Says goodbye after all that was sent before, and waits a moment for the client to do so too.
    pub(super) async fn close(self) {
        let goodbye = Message::Close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        }));
        let closed = async {
            if self.to_client.send(goodbye).await.is_ok() {
                self.over.cancelled().await;
            }
        };
        // Whoever does not answer is cut.
        tokio::time::timeout(LINGER, closed).await.ok();
    }
}

/// One channel the client reads.
#[derive(Debug)]
pub(super) struct Sender {
    form: Form,
    number: u8,
    to_client: mpsc::Sender<Message>,
}

impl Sender {
    pub(super) async fn send(&self, bytes: Bytes) -> io::Result<()> {
        let message = match self.form {
            Form::Binary => {
                let mut message = Vec::with_capacity(1 + bytes.len());
                message.push(self.number);
                message.extend_from_slice(&bytes);
                Message::Binary(message.into())
            }
            Form::Base64 => {
                let mut message = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
                message.push(char::from(b'0' + self.number));
                STANDARD.encode_string(&bytes, &mut message);
                Message::Text(message.into())
            }
        };
        let sent = self.to_client.send(message).await;
        sent.map_err(|_| io::ErrorKind::ConnectionAborted.into())
    }

    pub(super) async fn closed(&self) {
        self.to_client.closed().await;
    }
}

async fn write<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut queue: mpsc::Receiver<Message>,
    activity: Arc<Activity>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = queue.recv().await {
        activity.now();
        let mut sent = sink.feed(message).await;
        while let (Ok(()), Ok(message)) = (&sent, queue.try_recv()) {
            sent = sink.feed(message).await;
        }
        if sent.is_err() || sink.flush().await.is_err() {
            return;
        }
    }
    // Everybody who could send has gone; the client may still be read.
    std::future::pending::<()>().await;
}

struct Reader<S> {
    stream: SplitStream<WebSocketStream<S>>,
    form: Form,
    can_end: bool,
    inputs: HashMap<u8, mpsc::Sender<Bytes>>,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    /// Until the client goes, or sends what cannot be understood.
    async fn run(mut self) {
        while let Some(Ok(message)) = self.stream.next().await {
            self.activity.now();
            let message = match message {
                Message::Binary(bytes) => bytes,
                // Some clients send bytes as text in the binary form too.
                Message::Text(text) => text.into(),
                _ => continue,
            };
            let Some((number, bytes)) = self.form.parse(&message) else {
                tracing::debug!("a client sends what is no message of its subprotocol");
                return;
            };
            if number == END && self.can_end {
                for ended in bytes {
                    self.inputs.remove(&ended);
                }
            } else if let Some(input) = self.inputs.get(&number).filter(|_| !bytes.is_empty())
                && input.send(bytes).await.is_err()
            {
                // Nobody reads it any more: what still comes is thrown away.
                self.inputs.remove(&number);
            }
        }
    }
}

impl Form {
    /// The channel and what is for it. An empty message is for nobody.
    fn parse(self, message: &Bytes) -> Option<(u8, Bytes)> {
        let Some(&first) = message.first() else {
            return Some((END, Bytes::new()));
        };
        match self {
            Self::Binary => Some((first, message.slice(1..))),
            Self::Base64 => {
                let number = first.checked_sub(b'0')?;
                Some((number, STANDARD.decode(&message[1..]).ok()?.into()))
            }
        }
    }
}

/// When something was last sent or received.
#[derive(Debug)]
struct Activity {
    begin: Instant,
    /// Milliseconds after the beginning.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn now(&self) {
        let elapsed = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// Completes when nothing has happened for `idle`.
    async fn over(&self, idle: Duration) {
        loop {
            let last = self.begin + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if last.elapsed() >= idle {
                return;
            }
            tokio::time::sleep_until(last + idle).await;
        }
    }
}
