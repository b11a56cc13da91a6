//! Several streams over one WebSocket: each message begins with the number of its channel.
//!
//! ```text
//!   socket ──▶ reader ──by number──▶ Inputs        Outputs ──number + bytes──▶ queue ──▶ writer ──▶ socket
//! ```
//!
//! In the base64 form the number is a digit (or a character after `9` in ASCII) and the rest is base64, so that a
//! message is text. From version 5 on, a message on channel 255 ends the channel whose number it has; before, a client
//! cannot end a channel.
//!
//! A client that does not read makes outputs wait. An input that is not read makes the reader wait, and with it all
//! other inputs. Queues are limited to a few messages, and what all inputs of a connection have not read to
//! [`UNREAD_MAX`].
//!
//! Links: RFC 6455; the subprotocols are defined by Kubernetes' clients.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::channel::PIECE_MAX;

/// The channel whose messages end other channels.
const END: u8 = 255;
/// Queued messages in each direction.
const QUEUE: usize = 4;
/// Clients send some 32 KiB at once.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// Bytes that the inputs of a connection have not read, together. A larger message waits alone.
const UNREAD_MAX: usize = 256 * 1024;
/// Bytes that outputs of a connection hold while they wait for the client, together.
const UNSENT_MAX: usize = 512 * 1024;
/// Bytes that are read from the connection at once.
const READ: usize = 64 * 1024;
/// A smaller message is copied, so that it does not hold a whole buffer while it waits.
const SMALL: usize = 16 * 1024;
/// How long a client may take to answer a Close.
const LINGER: Duration = Duration::from_secs(5);

/// The encoding of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The number as a byte, then the bytes.
    Binary,
    /// The number as a character, from `0` on, then base64.
    Base64,
}

pub(super) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        .read_buffer_size(READ)
}

/// The channels of a connection that has not started yet.
#[derive(Debug)]
pub(super) struct Channels {
    form: Form,
    can_end: bool,
    inputs: HashMap<u8, mpsc::Sender<Unread>>,
    /// The outputs there are.
    outputs: Arc<AtomicUsize>,
    to_client: mpsc::Sender<Message>,
    queue: mpsc::Receiver<Message>,
}

/// A message for an input, with its share of [`UNREAD_MAX`].
type Unread = (Bytes, OwnedSemaphorePermit);

impl Channels {
    /// `can_end`: whether the client may end a channel (version 5).
    pub(super) fn new(form: Form, can_end: bool) -> Self {
        let (to_client, queue) = mpsc::channel(QUEUE);
        Self {
            form,
            can_end,
            inputs: HashMap::new(),
            outputs: Arc::default(),
            to_client,
            queue,
        }
    }

    /// A channel that the client writes.
    pub(super) fn input(&mut self, number: u8) -> Receiver {
        let (sender, messages) = mpsc::channel(QUEUE);
        self.inputs.insert(number, sender);
        Receiver { messages, held: None }
    }

    /// A channel that the client reads.
    pub(super) fn output(&self, number: u8) -> Sender {
        self.outputs.fetch_add(1, Ordering::Relaxed);
        Sender {
            form: self.form,
            number,
            outputs: Arc::clone(&self.outputs),
            to_client: self.to_client.clone(),
        }
    }

    /// Starts to read and write. Ends `idle` after the last message in either direction.
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
            room: Arc::new(Semaphore::new(UNREAD_MAX)),
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
                () = activity.over(idle) => tracing::debug!("closing an idle WebSocket"),
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

/// A connection, which is cut when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    to_client: mpsc::Sender<Message>,
    over: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Connection {
    /// Waits until the client disconnects.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Sends Close after all other messages, and waits for the client's Close for [`LINGER`].
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
        // A client that does not answer is cut off.
        tokio::time::timeout(LINGER, closed).await.ok();
    }
}

/// A channel that the client writes.
#[derive(Debug)]
pub(super) struct Receiver {
    messages: mpsc::Receiver<Unread>,
    /// The share of the last message, which its reader may not have passed on yet.
    held: Option<OwnedSemaphorePermit>,
}

impl Receiver {
    /// The next bytes; none at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.held = None;
        let (bytes, share) = self.messages.recv().await?;
        self.held = Some(share);
        Some(bytes)
    }
}

/// A channel that the client reads.
#[derive(Debug)]
pub(super) struct Sender {
    form: Form,
    number: u8,
    /// How many channels there are to be read.
    outputs: Arc<AtomicUsize>,
    to_client: mpsc::Sender<Message>,
}

impl Sender {
    /// How many bytes to send at once.
    pub(super) fn piece(&self) -> usize {
        (UNSENT_MAX / self.outputs.load(Ordering::Relaxed).max(1)).min(PIECE_MAX)
    }

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
    // Nothing can be sent any more, but the client may still be read.
    std::future::pending::<()>().await;
}

struct Reader<S> {
    stream: SplitStream<WebSocketStream<S>>,
    form: Form,
    can_end: bool,
    inputs: HashMap<u8, mpsc::Sender<Unread>>,
    /// What is left of [`UNREAD_MAX`].
    room: Arc<Semaphore>,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    /// Reads until the client disconnects or sends an invalid message.
    async fn run(mut self) {
        while let Some(Ok(message)) = self.stream.next().await {
            self.activity.now();
            let message = match message {
                Message::Binary(bytes) => bytes,
                // Some clients send text messages in the binary form too.
                Message::Text(text) => text.into(),
                _ => continue,
            };
            let Some((number, bytes)) = self.form.parse(message) else {
                tracing::debug!(
                    "a client sent a message that its subprotocol does not allow; closing the connection"
                );
                return;
            };
            if number == END && self.can_end {
                for ended in bytes {
                    self.inputs.remove(&ended);
                }
            } else if !bytes.is_empty() && !self.pass_on(number, bytes).await {
                // The input is no longer read: further messages are dropped.
                self.inputs.remove(&number);
            }
        }
    }

    /// False if the input is not read.
    async fn pass_on(&self, number: u8, bytes: Bytes) -> bool {
        let Some(input) = self.inputs.get(&number) else {
            return false;
        };
        let share = u32::try_from(bytes.len().min(UNREAD_MAX)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(share);
        tokio::select! {
            // Fails only if it is closed, which it never is.
            room = room => match room {
                Ok(share) => input.send((bytes, share)).await.is_ok(),
                Err(_) => false,
            },
            () = input.closed() => false,
        }
    }
}

impl Form {
    /// The channel and its data. An empty message is ignored.
    fn parse(self, mut message: Bytes) -> Option<(u8, Bytes)> {
        let Some(&first) = message.first() else {
            return Some((END, Bytes::new()));
        };
        match self {
            Self::Binary if message.len() < SMALL => Some((first, Bytes::copy_from_slice(&message[1..]))),
            Self::Binary => Some((first, message.split_off(1))),
            Self::Base64 => {
                let number = first.checked_sub(b'0')?;
                Some((number, STANDARD.decode(&message[1..]).ok()?.into()))
            }
        }
    }
}

/// The time of the last message.
#[derive(Debug)]
struct Activity {
    begin: Instant,
    /// Milliseconds after `begin`.
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

    /// Completes after `idle` without a message.
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
