//! Port-forward over SPDY, `portforward.k8s.io`: for each connection the client opens two streams, `error` and
//! `data`, with the same `requestID`, and says the port in both.
//!
//! Very old clients send no `requestID`: their data stream is the one after the error stream.
//!
//! Streams without a partner are bounded in number and time, and nothing is kept of their headers but the names that pair
//! them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pausa_spdy::{Headers, Incoming, RstStatus, Session, Stream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Pair;
use crate::id::Id;
use crate::streaming::channel::{Input, Output};
use crate::streaming::remote::CREATION;
use crate::streaming::ticket::Connect;

/// Streams of a client at the same time: 512 connections.
pub(in crate::streaming) const STREAMS_MAX: u32 = 1024;
/// Streams without a partner at the same time. A client opens the first stream of each connection, waits for the answer, and
/// opens the second.
const HALVES_MAX: usize = 256;
/// Clients count their requests.
const REQUEST_ID_MAX: usize = 256;
/// The distance between the ids of a client's streams.
const STEP: u32 = 2;

/// Serves a client until it disconnects.
pub(in crate::streaming) async fn over_spdy(connection: Session, connect: &Connect, pod: &Id) {
    let mut halves = Halves::default();
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            incoming = connection.accept() => match incoming {
                Some(incoming) => if let Some(pair) = halves.add(incoming) {
                    let (connect, pod) = (Arc::clone(connect), pod.clone());
                    running.spawn(async move { pair.run(&connect, &pod).await });
                },
                None => return,
            },
            Some(_) = running.join_next() => {}
            () = halves.late() => {
                for error in halves.expire() {
                    running.spawn(tell_late(error));
                }
            }
        }
    }
}

/// Streams whose partner is not open yet.
#[derive(Debug, Default)]
struct Halves(HashMap<String, Half>);

#[derive(Debug)]
struct Half {
    kind: Kind,
    port: u16,
    stream: Stream,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Error,
}

impl Halves {
    /// Accepts or refuses a stream. Returns a pair when both are open.
    fn add(&mut self, incoming: Incoming) -> Option<Pair> {
        let Some((kind, port, request)) = read(&incoming) else {
            incoming.refuse(RstStatus::RefusedStream);
            return None;
        };
        let Some(other) = self.0.remove(&request) else {
            if self.0.len() >= HALVES_MAX {
                tracing::debug!(
                    "a client opened {HALVES_MAX} streams without a partner; refusing more of them"
                );
                incoming.refuse(RstStatus::RefusedStream);
                return None;
            }
            let half = Half {
                kind,
                port,
                stream: incoming.accept(Headers::new()),
                since: Instant::now(),
            };
            self.0.insert(request, half);
            return None;
        };
        if other.kind == kind || other.port != port {
            incoming.refuse(RstStatus::RefusedStream);
            self.0.insert(request, other);
            return None;
        }
        let stream = incoming.accept(Headers::new());
        let (data, error) = match kind {
            Kind::Data => (stream, other.stream),
            Kind::Error => (other.stream, stream),
        };
        let (input, output) = data.split();
        let (_, error) = error.split();
        Some(Pair {
            port,
            input: Input::Spdy(input),
            output: Output::Spdy(output),
            error: Output::Spdy(error),
            half_close: true,
        })
    }

    /// Completes when a stream has waited for too long.
    async fn late(&self) {
        match self.0.values().map(|half| half.since).min() {
            Some(since) => tokio::time::sleep_until(since + CREATION).await,
            None => std::future::pending().await,
        }
    }

    /// Drops streams that have waited for too long; returns the error streams among them.
    fn expire(&mut self) -> Vec<Output> {
        let now = Instant::now();
        let late = self
            .0
            .extract_if(|_, half| now.duration_since(half.since) >= CREATION);
        late.filter(|(_, half)| half.kind == Kind::Error)
            .map(|(_, half)| Output::Spdy(half.stream.split().1))
            .collect()
    }
}

async fn tell_late(mut error: Output) {
    let text = format!(
        "the client did not open the data stream of this connection within {} s",
        CREATION.as_secs()
    );
    let report = async {
        // Fails if the client is gone.
        error.send(text.into()).await.ok();
        error.finish().await;
    };
    tokio::time::timeout(Duration::from_secs(10), report).await.ok();
}

/// Kind, port and connection of a stream.
fn read(incoming: &Incoming) -> Option<(Kind, u16, String)> {
    let headers = incoming.headers();
    let kind = match headers.get("streamType")? {
        "data" => Kind::Data,
        "error" => Kind::Error,
        _ => return None,
    };
    let port = headers.get("port")?.parse().ok().filter(|port| *port > 0)?;
    let request = match headers.get("requestID") {
        Some(request) if request.len() > REQUEST_ID_MAX => return None,
        Some(request) => request.to_owned(),
        None => {
            let id = incoming.id().value();
            match kind {
                Kind::Error => id.to_string(),
                Kind::Data => id.saturating_sub(STEP).to_string(),
            }
        }
    };
    Some((kind, port, request))
}
