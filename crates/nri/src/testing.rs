//! A plugin for tests: the other end of a connection, over the same messages.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::mux::{self, Piece};
use crate::proto::ttrpc::{Request, Response, Status};
use crate::proto::{
    ConfigureResponse, Empty, RegisterPluginRequest, SynchronizeRequest, SynchronizeResponse,
};
use crate::ttrpc::{self, Kind, Message};

/// Longer than anything takes, even on a machine with much to do.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A plugin that reads one message after the other.
#[derive(Debug)]
pub struct FakePlugin {
    socket: UnixStream,
    frames: mux::Decoder,
    input: BytesMut,
    /// The bytes of connections 1 and 2.
    streams: [BytesMut; 2],
    /// Messages of the runtime that have been read for something else.
    waiting: VecDeque<(u32, Message)>,
    last: u32,
}

/// A call of the runtime.
#[derive(Debug)]
pub struct Called {
    pub stream: u32,
    pub method: String,
    pub payload: Bytes,
}

impl Called {
    pub fn decode<Q: prost::Message + Default>(&self) -> Q {
        Q::decode(self.payload.clone()).unwrap()
    }
}

impl FakePlugin {
    pub fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            frames: mux::Decoder::default(),
            input: BytesMut::new(),
            streams: Default::default(),
            waiting: VecDeque::new(),
            last: 0,
        }
    }

    pub async fn connect(path: &Path) -> Self {
        Self::new(UnixStream::connect(path).await.unwrap())
    }

    /// Connects, registers, subscribes, and takes what is told. The plugin is in the set soon after.
    pub async fn join(path: &Path, index: &str, name: &str, events: i32) -> (Self, SynchronizeRequest) {
        let mut plugin = Self::connect(path).await;
        plugin.register(index, name).await.unwrap();
        plugin
            .answer_next("Configure", &ConfigureResponse { events })
            .await;
        let mut all = SynchronizeRequest::default();
        loop {
            let call = plugin.called().await;
            assert_eq!(call.method, "Synchronize");
            let part: SynchronizeRequest = call.decode();
            all.pods.extend(part.pods);
            all.containers.extend(part.containers);
            let (update, more) = (Vec::new(), part.more);
            plugin
                .answer(call.stream, &SynchronizeResponse { update, more })
                .await;
            if !more {
                return (plugin, all);
            }
        }
    }

    pub async fn register(&mut self, index: &str, name: &str) -> Result<(), Status> {
        let request = RegisterPluginRequest {
            plugin_name: name.to_owned(),
            plugin_idx: index.to_owned(),
            nri_version: "v0.12.0".to_owned(),
        };
        self.call::<Empty>("RegisterPlugin", &request).await.map(drop)
    }

    /// Writes a call of the runtime. The answer comes by [`Self::answered`].
    pub async fn begin(&mut self, method: &str, request: &impl prost::Message) -> u32 {
        let request = Request {
            service: "nri.pkg.api.v1alpha1.Runtime".to_owned(),
            method: method.to_owned(),
            payload: request.encode_to_vec().into(),
            timeout_nano: 0,
        };
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        let message = Message::request(self.last, request.encode_to_vec().into());
        self.write(&mux::encode(mux::RUNTIME, &message).unwrap())
            .await
            .unwrap();
        self.last
    }

    pub async fn answered<A: prost::Message + Default>(&mut self, stream: u32) -> Result<A, Status> {
        let message = self.next(|connection, message| connection == mux::RUNTIME && message.stream == stream);
        let message = message.await.expect("the runtime is there");
        assert_eq!(message.kind, Kind::Response);
        let response = Response::decode(message.payload).unwrap();
        match response.status {
            Some(status) if status.code != 0 => Err(status),
            _ => Ok(A::decode(response.payload).unwrap()),
        }
    }

    pub async fn call<A: prost::Message + Default>(
        &mut self,
        method: &str,
        request: &impl prost::Message,
    ) -> Result<A, Status> {
        let stream = self.begin(method, request).await;
        self.answered(stream).await
    }

    pub async fn called(&mut self) -> Called {
        self.next_call().await.expect("the runtime is there")
    }

    /// The next call of the runtime, or `None` if the connection ends before.
    pub async fn next_call(&mut self) -> Option<Called> {
        let message = self.next(|connection, _| connection == mux::PLUGIN).await?;
        assert_eq!((message.kind, message.flags), (Kind::Request, 0));
        let request = Request::decode(message.payload).unwrap();
        assert_eq!(request.service, "nri.pkg.api.v1alpha1.Plugin");
        Some(Called {
            stream: message.stream,
            method: request.method,
            payload: request.payload,
        })
    }

    pub async fn answer(&mut self, stream: u32, answer: &impl prost::Message) {
        self.answer_bytes(stream, answer.encode_to_vec().into()).await;
    }

    pub async fn answer_bytes(&mut self, stream: u32, payload: Bytes) {
        self.respond(
            stream,
            &Response {
                status: None,
                payload,
            },
        )
        .await;
    }

    pub async fn fail(&mut self, stream: u32, code: i32, message: &str) {
        let (message, payload) = (message.to_owned(), Bytes::new());
        let status = Some(Status { code, message });
        self.respond(stream, &Response { status, payload }).await;
    }

    async fn respond(&mut self, stream: u32, response: &Response) {
        let message = Message::response(stream, response.encode_to_vec().into());
        // The runtime may have gone, which what comes next shows.
        self.write(&mux::encode(mux::PLUGIN, &message).unwrap())
            .await
            .ok();
    }

    /// Takes the next call, which has to be of this method, and answers it.
    pub async fn answer_next(&mut self, method: &str, answer: &impl prost::Message) -> Called {
        let call = self.called().await;
        assert_eq!(call.method, method);
        self.answer(call.stream, answer).await;
        call
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(LIMIT, self.socket.write_all(bytes))
            .await
            .expect("the runtime reads")
    }

    /// Waits for the runtime to close the connection.
    pub async fn closed(&mut self) {
        assert_eq!(self.next(|_, _| false).await, None);
    }

    /// The next message of a kind, or `None` if the connection ends before.
    async fn next(&mut self, wanted: impl Fn(u32, &Message) -> bool) -> Option<Message> {
        let mut seen = 0;
        loop {
            while seen < self.waiting.len() {
                if wanted(self.waiting[seen].0, &self.waiting[seen].1) {
                    return self.waiting.remove(seen).map(|(_, message)| message);
                }
                seen += 1;
            }
            let read = timeout(LIMIT, self.socket.read_buf(&mut self.input)).await;
            match read.expect("the runtime says or closes something") {
                Ok(1..) => {}
                // A connection with unread bytes is reset.
                Ok(0) | Err(_) => return None,
            }
            while let Some(Piece { connection, data }) = self.frames.decode(&mut self.input).unwrap() {
                let stream = &mut self.streams[usize::try_from(connection).unwrap() - 1];
                stream.extend_from_slice(&data);
                while let Some(message) = ttrpc::decode(stream).unwrap() {
                    self.waiting.push_back((connection, message));
                }
            }
        }
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(LIMIT, wait).await.is_ok(), "{what}");
}
