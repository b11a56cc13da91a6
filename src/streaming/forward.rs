//! Port-forward: connections of a client to ports of a pod.
//!
//! ```text
//!                    ┌─ not connected: why, on the error stream ──────────────────────────────┐
//!   pair of streams ─┤                                                                        ├─▶ error stream ended
//!                    └─ connected ─▶ both directions copied, each to its own end, or a reset ─┘
//! ```
//!
//! A failed connection does not affect others. A connection that the pod resets is reset for the client, without a text
//! on the error stream: clients end the whole session after any text.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::channel::{Input, Output};
use super::descriptor::Descriptor;
use super::ticket::Connect;
use crate::error::{ErrorKind, Failure};
use crate::id::Id;

mod spdy;
mod websocket;

pub(super) use spdy::{STREAMS_MAX, over_spdy};
pub(super) use websocket::{PORTS_MAX, PROTOCOLS, over_websocket};

/// When the pod has ended its side of a connection, clients wait for the end of the error stream before they end theirs.
/// Clients that half-close have this long to do so. Data to the pod are sent in any case.
const GRACE: Duration = Duration::from_secs(1);

/// The client's side of one connection.
#[derive(Debug)]
struct Pair {
    port: u16,
    input: Input,
    output: Output,
    error: Output,
    /// Whether each direction can be ended by itself.
    half_close: bool,
}

/// Which side cut a connection.
enum Cut {
    Client,
    Pod,
}

impl Pair {
    /// Connects and copies until the end.
    async fn run(mut self, connect: &Connect, pod: &Id) {
        match self.connect(connect).await {
            Ok(socket) => self.copy(&socket).await,
            Err(failure) => {
                let text = format!(
                    "error forwarding port {} to pod {}: {}",
                    self.port,
                    pod.short(),
                    failure.message
                );
                tracing::debug!(pod = %pod, port = self.port, error = %failure.message, "cannot forward a port");
                // Fails if the client is gone.
                self.error.send(text.into()).await.ok();
                self.output.finish().await;
            }
        }
        self.error.finish().await;
    }

    async fn connect(&mut self, connect: &Connect) -> Result<Descriptor, Failure> {
        let socket = tokio::select! {
            socket = connect(self.port) => socket?,
            () = self.output.closed() => {
                return Err(Failure::new(ErrorKind::Unavailable, "the client disconnected"));
            }
        };
        Ok(Descriptor::new(socket)?)
    }

    async fn copy(&mut self, socket: &Descriptor) {
        let Self {
            input,
            output,
            error,
            half_close,
            ..
        } = self;
        let input_over = CancellationToken::new();
        let inward = async {
            let copied = inward(input, socket).await;
            input_over.cancel();
            copied
        };
        let outward = async {
            outward(socket, output).await?;
            output.finish().await;
            if !*half_close {
                return Err(Cut::Client);
            }
            // Ends early when the client has ended its direction.
            tokio::time::timeout(GRACE, input_over.cancelled()).await.ok();
            error.finish().await;
            Ok(())
        };
        if let Err(Cut::Pod) = tokio::try_join!(inward, outward).map(drop) {
            output.reset();
        }
    }
}

/// From the client to the pod. A pod that no longer reads may still write.
async fn inward(from: &mut Input, to: &Descriptor) -> Result<(), Cut> {
    loop {
        match from.chunk().await {
            Ok(Some(bytes)) if to.write_all(&bytes).await.is_ok() => {}
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {
                to.finish_writing();
                return Ok(());
            }
            Err(_) => return Err(Cut::Client),
        }
    }
}

/// From the pod to the client.
async fn outward(from: &Descriptor, to: &mut Output) -> Result<(), Cut> {
    loop {
        let read: io::Result<_> = tokio::select! {
            read = from.read(to.piece()) => read,
            () = to.closed() => return Err(Cut::Client),
        };
        match read {
            Ok(bytes) if bytes.is_empty() => return Ok(()),
            Ok(bytes) => to.send(bytes).await.map_err(|_| Cut::Client)?,
            Err(_) => return Err(Cut::Pod),
        }
    }
}
