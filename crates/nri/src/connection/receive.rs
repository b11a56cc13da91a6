//! What the task does with the bytes of the plugin.

use bytes::BytesMut;
use prost::Message as _;
use tokio::io::AsyncReadExt;
use tokio::net::unix::ReadHalf;
use tokio::sync::mpsc;

use super::{Incoming, MAX_INCOMING, Shared, code};
use crate::error::{End, Violation};
use crate::mux::{self, Piece};
use crate::proto::ttrpc::{Request, Response};
use crate::proto::{RegisterPluginRequest, UpdateContainersRequest};
use crate::ttrpc::{self, Kind, Message};

/// Bytes read at once.
const READ: usize = 64 << 10;
/// The service on [`mux::RUNTIME`].
const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";

impl Shared {
    /// Reads until the connection ends.
    pub(super) async fn read(&self, mut socket: ReadHalf<'_>, incoming: &mpsc::Sender<Incoming>) -> End {
        let (mut input, mut frames) = (BytesMut::new(), mux::Decoder::default());
        let (mut answers, mut calls, mut last) = (BytesMut::new(), BytesMut::new(), 0);
        loop {
            input.reserve(READ);
            // The memory of a large message is not kept.
            for buffer in [&mut answers, &mut calls] {
                if buffer.is_empty() {
                    *buffer = BytesMut::new();
                }
            }
            match socket.read_buf(&mut input).await {
                Ok(1..) => {}
                Ok(0) => return End::Closed,
                Err(source) => {
                    let operation = "read from";
                    return End::Io { operation, source };
                }
            }
            let outcome = (|| {
                while let Some(Piece { connection, data }) = frames.decode(&mut input)? {
                    match connection {
                        mux::PLUGIN => {
                            answers.extend_from_slice(&data);
                            while let Some(message) = ttrpc::decode(&mut answers)? {
                                self.take_answer(message)?;
                            }
                        }
                        mux::RUNTIME => {
                            calls.extend_from_slice(&data);
                            while let Some(message) = ttrpc::decode(&mut calls)? {
                                self.take_call(message, &mut last, incoming)?;
                            }
                        }
                        _ => {}
                    }
                }
                Ok(())
            })();
            if let Err(violation) = outcome {
                return End::Protocol(violation);
            }
        }
    }

    fn take_answer(&self, message: Message) -> Result<(), Violation> {
        match message.kind {
            Kind::Response => {
                let stream = message.stream;
                let call = self.state.lock().calls.remove(&stream);
                let call = call.ok_or(Violation::UnknownStream { stream })?;
                let response = Response::decode(message.payload).map_err(|source| {
                    let what = "a response";
                    Violation::Undecodable { what, source }
                })?;
                // Nobody waits for it if the operation that it belongs to has been given up.
                call.reply.send(response).ok();
                Ok(())
            }
            kind => unexpected(mux::PLUGIN, kind),
        }
    }

    fn take_call(
        &self,
        message: Message,
        last: &mut u32,
        incoming: &mpsc::Sender<Incoming>,
    ) -> Result<(), Violation> {
        let stream = message.stream;
        if message.kind != Kind::Request {
            return unexpected(mux::RUNTIME, message.kind);
        }
        if stream.is_multiple_of(2) || stream <= *last {
            return Err(Violation::StreamId { stream });
        }
        *last = stream;
        let undecodable = |what| move |source| Violation::Undecodable { what, source };
        let request = Request::decode(message.payload).map_err(undecodable("a request"))?;
        let call = match (&*request.service, &*request.method) {
            (RUNTIME_SERVICE, "RegisterPlugin") => Incoming::Register {
                stream,
                request: RegisterPluginRequest::decode(request.payload)
                    .map_err(undecodable("RegisterPlugin"))?,
            },
            (RUNTIME_SERVICE, "UpdateContainers") => Incoming::Update {
                stream,
                request: UpdateContainersRequest::decode(request.payload)
                    .map_err(undecodable("UpdateContainers"))?,
            },
            _ => {
                self.refuse(stream, code::UNIMPLEMENTED, "NRI has no such method".to_owned());
                return Ok(());
            }
        };
        if incoming.try_send(call).is_err() {
            let message = format!("{MAX_INCOMING} calls wait already");
            self.refuse(stream, code::RESOURCE_EXHAUSTED, message);
        }
        Ok(())
    }
}

/// Kinds of later versions are ignored.
const fn unexpected(connection: u32, kind: Kind) -> Result<(), Violation> {
    match kind {
        Kind::Unknown(_) => Ok(()),
        kind => Err(Violation::Unexpected { connection, kind }),
    }
}
