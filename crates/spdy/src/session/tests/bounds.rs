//! What a peer can make a session keep.

use std::pin::Pin;
use std::task::Poll;

use super::*;
use crate::Limits;

/// A header block of about this size.
fn headers_of(size: usize) -> Headers {
    Headers::from_iter([("padding", "x".repeat(size - 32))])
}

/// Begins something; whether it is still to wait.
async fn waits<F: Future>(what: &mut Pin<Box<F>>) -> bool {
    poll_fn(|cx| Poll::Ready(what.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn headers_that_wait_are_bounded_together() {
    let config = Config {
        limits: Limits {
            waiting_headers: 8 * 1024,
            ..Limits::default()
        },
        ..Config::default()
    };
    let (client, server) = pair_with(config);
    let open = || client.open(headers_of(2048));
    // The first four fit; nobody accepts them yet.
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut opening = Box::pin(open());
        assert!(waits(&mut opening).await);
        waiting.push(opening);
    }
    for _ in 0..4 {
        let refused = open().await.unwrap_err();
        let is = matches!(&refused, Error::Reset { status, .. } if *status == RstStatus::RefusedStream);
        assert!(is, "{refused}");
    }
    for opening in waiting {
        let accepted = server.accept().await.unwrap().accept(Headers::new());
        opening.await.unwrap();
        drop(accepted);
    }
    let accept = async { server.accept().await.unwrap().accept(Headers::new()) };
    tokio::join!(open(), accept).0.unwrap();
}

#[tokio::test]
async fn bytes_that_a_reader_holds_are_unread() {
    let (client, server) = pair();
    let (opened, accepted) = stream(&client, &server).await;
    let (_client_recv, mut send) = opened.split();
    let (mut recv, _server_send) = accepted.split();
    send.write_all(b"held").await.unwrap();
    let unread = || server.shared.lock().connection.unread();
    let held = recv.chunk().await.unwrap().unwrap();
    assert_eq!((&held[..], unread()), (&b"held"[..], 4));
    let mut next = Box::pin(recv.chunk());
    assert!(waits(&mut next).await);
    assert_eq!(unread(), 0);
    drop(next);
    send.write_all(b"again").await.unwrap();
    recv.chunk().await.unwrap().unwrap();
    assert_eq!(unread(), 5);
    drop(recv);
    assert_eq!(unread(), 0);
}

#[tokio::test]
async fn what_many_streams_have_queued_is_bounded_together() {
    const STREAMS: usize = 200;
    // Nobody reads the other end.
    let (io, _peer) = duplex(1024);
    let config = Config::default();
    let (each, together) = (config.send_buffer, config.session_send_buffer);
    let session = Session::start(io, Role::Client, config);
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(session.shared.lock().open(Headers::new()).unwrap());
    }
    let room = |stream| session.shared.lock().connection.room(stream).unwrap();
    let total: usize = streams.iter().map(|stream| room(*stream)).sum();
    assert!(total <= together && total > together / 2, "{total}");
    for stream in streams.drain(1..) {
        session.shared.lock().drop_reader(stream);
        session.shared.lock().drop_writer(stream);
    }
    assert_eq!(room(streams[0]), each);
}
