//! Sessions over an in-memory byte stream; the bulk and the rough ones are in submodules.

mod bounds;
mod ends;
mod many;

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::{ErrorKind, FlowControl, RstStatus};

fn pair() -> (Session, Session) {
    pair_with(Config::default())
}

fn pair_with(config: Config) -> (Session, Session) {
    let (client, server) = duplex(64 * 1024);
    (
        Session::start(client, Role::Client, config.clone()),
        Session::start(server, Role::Server, config),
    )
}

/// A stream, seen from both ends.
async fn stream(client: &Session, server: &Session) -> (Stream, Stream) {
    let (opened, accepted) = tokio::join!(client.open(Headers::new()), async {
        server.accept().await.unwrap().accept(Headers::new())
    });
    (opened.unwrap(), accepted)
}

async fn read_all(recv: &mut RecvHalf) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    recv.read_to_end(&mut all).await?;
    Ok(all)
}

/// A raw byte stream whose other end is a server session; what the session announces is read already.
async fn raw_client(config: Config) -> (DuplexStream, Session) {
    let (mut raw, io) = duplex(64 * 1024);
    let session = Session::start(io, Role::Server, config);
    // SETTINGS with two pairs, WINDOW_UPDATE.
    let mut announcement = [0; 8 + 20 + 8 + 8];
    raw.read_exact(&mut announcement).await.unwrap();
    (raw, session)
}

#[tokio::test]
async fn headers_and_bytes_go_both_ways_and_each_direction_ends_by_itself() {
    let (client, server) = pair();
    let request = Headers::from_iter([("streamType", "stdin"), ("port", "80")]);
    let accept = async {
        let incoming = server.accept().await.unwrap();
        assert_eq!(incoming.headers().get("streamType"), Some("stdin"));
        assert_eq!(incoming.id().value(), 1);
        incoming.accept(Headers::from_iter([("answer", "yes")]))
    };
    let (opened, accepted) = tokio::join!(client.open(request), accept);
    let opened = opened.unwrap();
    assert_eq!(opened.headers().get("answer"), Some("yes"));
    assert!(accepted.headers().is_empty(), "they were for the decision");
    let (mut from_server, mut to_server) = opened.split();
    let (mut from_client, mut to_client) = accepted.split();

    to_server.write_all(b"question").await.unwrap();
    to_server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut from_client).await.unwrap(), b"question");
    assert_eq!(
        to_server.write(b"more").await.unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    to_server.shutdown().await.unwrap();

    to_client.send(b"ans"[..].into()).await.unwrap();
    to_client.send(b"wer"[..].into()).await.unwrap();
    to_client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut from_server).await.unwrap(), b"answer");
    assert_eq!(from_server.chunk().await.unwrap(), None, "and stays at the end");
    assert_eq!((client.open_streams(), server.open_streams()), (0, 0));
}

#[tokio::test]
async fn the_server_may_open_streams_too() {
    let (client, server) = pair();
    let (ours, theirs) = stream(&server, &client).await;
    assert_eq!((ours.id().value(), theirs.id().value()), (2, 2));
}

#[tokio::test]
async fn a_refused_stream_says_why_and_a_dropped_one_is_refused() {
    let (client, server) = pair();
    let (refused, ()) = tokio::join!(client.open(Headers::new()), async {
        server.accept().await.unwrap().refuse(RstStatus::InvalidStream);
    });
    assert!(matches!(
        refused,
        Err(Error::Reset {
            status: RstStatus::InvalidStream,
            ..
        })
    ));
    let (refused, ()) = tokio::join!(client.open(Headers::new()), async {
        drop(server.accept().await.unwrap());
    });
    assert!(matches!(
        refused,
        Err(Error::Reset {
            status: RstStatus::RefusedStream,
            ..
        })
    ));
    assert_eq!(server.open_streams(), 0);
}

#[tokio::test]
async fn a_reset_reaches_readers_and_writers_but_not_what_was_sent_before() {
    let (client, server) = pair();
    let (opened, accepted) = stream(&client, &server).await;
    let (mut recv, mut send) = opened.split();
    let (mut from_client, mut to_client) = accepted.split();
    to_client.write_all(b"before").await.unwrap();
    // Wait until it is on its way: a reset forgets what is queued.
    server.ping().await.unwrap();
    to_client.reset(RstStatus::InternalError);
    send.closed().await;
    let mut before = [0; 6];
    recv.read_exact(&mut before).await.unwrap();
    assert_eq!(&before, b"before");
    let error = recv.chunk().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let source = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(source.kind(), ErrorKind::Reset);
    assert_eq!(
        send.write(b"x").await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(
        from_client.chunk().await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn dropping_a_stream_resets_it_and_dropping_one_half_does_not() {
    let (client, server) = pair();
    let (opened, accepted) = stream(&client, &server).await;
    let (mut recv, send) = opened.split();
    let (from_client, mut to_client) = accepted.split();
    drop(send);
    drop(from_client);
    to_client.write_all(b"still").await.unwrap();
    let mut got = [0; 5];
    recv.read_exact(&mut got).await.unwrap();
    drop(recv);
    to_client.closed().await;
    assert_eq!(
        to_client.write(b"x").await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    server.ping().await.unwrap();
    assert_eq!((client.open_streams(), server.open_streams()), (0, 0));
}

#[tokio::test]
async fn what_was_shut_down_arrives_though_the_stream_is_dropped() {
    let (client, server) = pair();
    let (opened, accepted) = stream(&client, &server).await;
    let (_, mut status) = accepted.split();
    status.write_all(&[7; 100_000]).await.unwrap();
    status.shutdown().await.unwrap();
    drop(status);
    let (mut recv, _send) = opened.split();
    assert_eq!(read_all(&mut recv).await.unwrap().len(), 100_000);
}

#[tokio::test]
async fn an_open_that_is_given_up_resets_the_stream() {
    let (client, server) = pair();
    let incoming = tokio::select! {
        _ = client.open(Headers::new()) => unreachable!("nobody replies"),
        incoming = server.accept() => incoming.unwrap(),
    };
    let (_, mut send) = incoming.accept(Headers::new()).split();
    send.closed().await;
    assert_eq!(
        send.write(b"x").await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn a_stream_reset_before_it_is_accepted_is_never_seen() {
    let (mut raw, session) = raw_client(Config::default()).await;
    let mut encoder = crate::Encoder::default();
    let mut wire = bytes::BytesMut::new();
    let id = crate::StreamId::new(1).unwrap();
    for frame in [
        crate::Frame::SynStream {
            stream: id,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: Headers::new(),
        },
        crate::Frame::Data {
            stream: id,
            fin: false,
            data: vec![0; 1000].into(),
        },
        crate::Frame::RstStream {
            stream: id,
            status: RstStatus::Cancel,
        },
        crate::Frame::GoAway {
            last_good: 0,
            status: crate::GoAwayStatus::Ok,
        },
    ] {
        encoder.encode(&frame, &mut wire).unwrap();
    }
    raw.write_all(&wire).await.unwrap();
    assert!(session.accept().await.is_none());
    assert_eq!(session.shared.lock().connection.unread(), 0);
    drop(raw);
    assert!(session.closed().await.is_ok());
}

#[tokio::test]
async fn pings_are_answered() {
    let (client, server) = pair();
    client.ping().await.unwrap();
    server.ping().await.unwrap();
    drop(server);
    assert!(client.ping().await.is_err());
}

#[tokio::test]
async fn buffered_reading_does_not_copy() {
    use tokio::io::AsyncBufReadExt;
    let (client, server) = pair();
    let (opened, accepted) = stream(&client, &server).await;
    let (_r, mut send) = opened.split();
    let (mut recv, _s) = accepted.split();
    send.write_all(b"one\ntwo\n").await.unwrap();
    send.shutdown().await.unwrap();
    let mut line = String::new();
    recv.read_line(&mut line).await.unwrap();
    assert_eq!(line, "one\n");
    line.clear();
    recv.read_line(&mut line).await.unwrap();
    assert_eq!(line, "two\n");
    assert_eq!(recv.fill_buf().await.unwrap(), b"");
}
