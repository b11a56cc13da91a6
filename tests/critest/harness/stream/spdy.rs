//! Exec and attach over SPDY: a stream for each.

use pausa_spdy::{Config, Headers, RecvHalf, Role, Session, Stream};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Want;
use super::http::{Io, answer_to};
use super::remote::{Connection, Event, Remote, Sizes, Stdin};

/// Upgrades a connection.
pub(super) async fn session(mut io: Box<dyn Io>, url: &str, protocol: &str) -> Session {
    let headers =
        format!("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n");
    let answer = answer_to(&mut *io, url, &headers).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(
        answer.contains(&format!("x-stream-protocol-version: {protocol}\r\n")),
        "{answer}"
    );
    Session::start(io, Role::Client, Config::default())
}

/// Opens a stream with these headers.
pub(super) async fn open(session: &Session, fields: &[(&str, &str)]) -> Stream {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.set(name, value);
    }
    session.open(headers).await.expect("the server takes the stream")
}

pub(super) async fn start(io: Box<dyn Io>, url: &str, protocol: &str, want: Want) -> Remote {
    let session = session(io, url, protocol).await;
    let (sender, events) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    let mut read = |half: RecvHalf, kind: fn(Vec<u8>) -> Event| {
        tasks.spawn(pass_on(half, kind, sender.clone()));
    };
    let kind = |kind: &'static str| [("streamType", kind)];
    // kubectl's order.
    let (error, mut nothing) = open(&session, &kind("error")).await.split();
    nothing
        .shutdown()
        .await
        .expect("the error stream's other side ends");
    read(error, Event::Error);
    let mut stdin = None;
    if want.stdin {
        let (input, output) = open(&session, &kind("stdin")).await.split();
        stdin = Some(Stdin::Spdy(output, input));
    }
    if want.stdout {
        read(open(&session, &kind("stdout")).await.split().0, Event::Stdout);
    }
    if want.stderr {
        read(open(&session, &kind("stderr")).await.split().0, Event::Stderr);
    }
    let mut sizes = None;
    if want.tty && (protocol.starts_with("v4.") || protocol.starts_with("v3.")) {
        sizes = Some(Sizes::Spdy(open(&session, &kind("resize")).await.split().1));
    }
    Remote {
        stdin,
        sizes,
        events,
        connection: Connection::Spdy(session, tasks),
    }
}

async fn pass_on(mut half: RecvHalf, kind: fn(Vec<u8>) -> Event, to: mpsc::Sender<Event>) {
    while let Ok(Some(bytes)) = half.chunk().await {
        if to.send(kind(bytes.into())).await.is_err() {
            return;
        }
    }
}
