//! Port-forward over a WebSocket, `v4.channel.k8s.io`: two channels per port, data and error, in the order of the
//! ports in the request. Each begins with the port as two bytes, little-endian.
//!
//! A channel cannot be ended, so a connection ends when the pod ends it, and the WebSocket with the last connection.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use super::Pair;
use crate::id::Id;
use crate::streaming::channel::{Input, Output};
use crate::streaming::ticket::Connect;
use crate::streaming::websocket::{Channels, Form};

/// What clients may ask for, best first.
pub(in crate::streaming) const PROTOCOLS: [(&str, Form); 2] = [
    ("v4.channel.k8s.io", Form::Binary),
    ("v4.base64.channel.k8s.io", Form::Base64),
];
/// The most ports of a request: in the base64 form the numbers of their two channels must be printable characters.
pub(in crate::streaming) const PORTS_MAX: usize = 39;

/// Serves a client until it disconnects or all connections have ended.
pub(in crate::streaming) async fn over_websocket<S>(
    socket: WebSocketStream<S>,
    form: Form,
    connect: &Connect,
    pod: &Id,
    ports: &[u16],
    idle: Duration,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut channels = Channels::new(form, false);
    let mut pairs = Vec::with_capacity(ports.len());
    for (number, port) in (0..).step_by(2).zip(ports) {
        pairs.push(Pair {
            port: *port,
            input: Input::WebSocket(channels.input(number)),
            output: Output::WebSocket(channels.output(number)),
            error: Output::WebSocket(channels.output(number + 1)),
            half_close: false,
        });
    }
    let connection = channels.start(socket, idle);
    let serve = join_all(pairs.into_iter().map(async |mut pair: Pair| {
        let prefix = Bytes::copy_from_slice(&pair.port.to_le_bytes());
        for output in [&mut pair.output, &mut pair.error] {
            // Fails if the client is gone, which is noticed below.
            output.send(prefix.clone()).await.ok();
        }
        pair.run(connect, pod).await;
    }));
    tokio::select! {
        _ = serve => {}
        () = connection.over() => return,
    }
    connection.close().await;
}
