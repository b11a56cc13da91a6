//! How sessions end: in order, by failure, by silence.

use tokio::time::advance;

use super::*;
use crate::{Keepalive, Violation};

async fn aborted(recv: &mut RecvHalf, send: &mut SendHalf) {
    send.closed().await;
    assert_eq!(
        recv.chunk().await.unwrap_err().kind(),
        io::ErrorKind::ConnectionAborted
    );
    assert_eq!(
        send.write(b"x").await.unwrap_err().kind(),
        io::ErrorKind::ConnectionAborted
    );
}

#[tokio::test]
async fn close_sends_everything_first_and_resets_what_is_unfinished() {
    let (client, server) = pair();
    let (opened, accepted) = stream(&client, &server).await;
    let (mut recv, _send) = opened.split();
    let (other, other_end) = stream(&client, &server).await;
    let (_r, mut send) = accepted.split();
    send.write_all(&[1; 120_000]).await.unwrap();
    send.shutdown().await.unwrap();
    let (_, all) = tokio::join!(server.close(), read_all(&mut recv));
    assert_eq!(all.unwrap().len(), 120_000);
    assert!(client.closed().await.is_ok());
    let (mut recv, mut send) = other.split();
    let error = recv.chunk().await.unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::ConnectionReset,
        "not an end: it was cut off"
    );
    assert!(send.write(b"x").await.is_err());
    let (mut recv, mut send) = other_end.split();
    aborted(&mut recv, &mut send).await;
    assert!(client.accept().await.is_none());
    assert!(matches!(client.open(Headers::new()).await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_ever_for_a_peer_that_reads_nothing() {
    let (raw, io) = duplex(1000);
    let session = Session::start(io, Role::Client, Config::default());
    session.shared.lock().open(Headers::new()).unwrap();
    let id = crate::StreamId::new(1).unwrap();
    session
        .shared
        .lock()
        .connection
        .write(id, vec![0; 100_000].into())
        .unwrap();
    session.close().await;
    drop(raw);
}

#[tokio::test]
async fn dropping_the_session_ends_all() {
    let (client, server) = pair();
    let (opened, accepted) = stream(&client, &server).await;
    let (mut recv, mut send) = opened.split();
    drop(client);
    aborted(&mut recv, &mut send).await;
    assert!(server.accept().await.is_none());
    assert!(server.closed().await.is_ok());
    let (mut recv, _send) = accepted.split();
    assert!(recv.chunk().await.is_err());
}

#[tokio::test]
async fn a_cut_between_frames_ends_streams_but_is_no_failure_of_the_session() {
    let (raw, session) = raw_client(Config::default()).await;
    drop(raw);
    assert!(session.accept().await.is_none());
    assert!(session.closed().await.is_ok());
}

#[tokio::test]
async fn a_cut_inside_a_frame_is_a_failure() {
    let (mut raw, session) = raw_client(Config::default()).await;
    raw.write_all(&[0x80, 3, 0, 1, 0]).await.unwrap();
    drop(raw);
    assert!(matches!(session.closed().await, Err(Error::Truncated)));
}

#[tokio::test]
async fn a_violation_is_told_to_both_sides() {
    let (mut raw, session) = raw_client(Config::default()).await;
    raw.write_all(&[0x80, 2, 0, 1, 0, 0, 0, 10]).await.unwrap();
    let failed = session.closed().await.unwrap_err();
    assert!(
        matches!(failed, Error::Protocol(Violation::Version { version: 2 })),
        "{failed:?}"
    );
    let mut rest = Vec::new();
    raw.read_to_end(&mut rest).await.unwrap();
    assert_eq!(
        rest,
        [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
        "GOAWAY, protocol error"
    );
}

#[tokio::test]
async fn goaway_with_an_error_is_reported() {
    let (mut raw, session) = raw_client(Config::default()).await;
    raw.write_all(&[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2])
        .await
        .unwrap();
    drop(raw);
    let failed = session.closed().await.unwrap_err();
    assert!(matches!(
        failed,
        Error::GoAway {
            status: crate::GoAwayStatus::InternalError
        }
    ));
}

#[tokio::test]
async fn after_goaway_open_streams_go_on_to_their_end() {
    let (client, server) = pair();
    let (opened, accepted) = stream(&client, &server).await;
    client.shared.lock().connection.go_away(crate::GoAwayStatus::Ok);
    client.shared.lock().wake_driver();
    assert!(server.accept().await.is_none());
    let (mut recv, mut send) = opened.split();
    let (mut from_client, mut to_client) = accepted.split();
    to_client.write_all(b"last").await.unwrap();
    to_client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut recv).await.unwrap(), b"last");
    send.shutdown().await.unwrap();
    assert_eq!(read_all(&mut from_client).await.unwrap(), b"");
    assert!(server.closed().await.is_ok(), "nothing was left to do");
    assert!(client.closed().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_asked_and_given_up() {
    let keepalive = Keepalive {
        interval: Duration::from_secs(30),
        timeout: Some(Duration::from_secs(10)),
    };
    let config = Config {
        keepalive: Some(keepalive),
        ..Config::default()
    };
    let (mut raw, session) = raw_client(config).await;
    let mut ping = [0; 12];
    raw.read_exact(&mut ping).await.unwrap();
    assert_eq!(ping, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
    raw.write_all(&ping).await.unwrap();
    raw.read_exact(&mut ping).await.unwrap();
    assert_eq!(ping[11], 4, "asked again, for it had answered");
    let failed = session.closed().await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::TimedOut);
    assert!(matches!(failed, Error::Unanswered { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_is_asked_and_not_given_up() {
    let (mut raw, session) = raw_client(Config::default()).await;
    let mut ping = [0; 12];
    for id in [2, 4, 6] {
        raw.read_exact(&mut ping).await.unwrap();
        assert_eq!(ping[11], id);
    }
    raw.write_all(&ping).await.unwrap();
    assert!(session.shared.lock().end().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_dies_while_it_is_held_back_is_found_by_a_ping() {
    let (raw, session) = raw_client(Config::default()).await;
    let flood = tokio::spawn(super::many::flood(raw, 500));
    let (_recv, mut send) = session.accept().await.unwrap().accept(Headers::new()).split();
    super::many::held_back(&session).await;
    flood.abort();
    drop(flood.await);
    send.closed().await;
    assert!(matches!(
        session.closed().await,
        Err(Error::Io {
            operation: "write",
            ..
        })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_answers_only_pings_of_ours_is_idle() {
    let config = Config {
        keepalive: Some(Keepalive {
            interval: Duration::from_secs(1),
            timeout: Some(Duration::from_secs(1)),
        }),
        idle_timeout: Some(Duration::from_secs(60)),
        ..Config::default()
    };
    let (near, far) = duplex(64 * 1024);
    let session = Session::start(near, Role::Server, config);
    let _peer = Session::start(far, Role::Client, Config::default());
    let failed = session.closed().await.unwrap_err();
    assert!(
        matches!(failed, Error::Idle { timeout } if timeout == Duration::from_secs(60)),
        "{failed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn pings_of_the_peer_and_data_keep_a_session_from_being_idle() {
    let config = Config {
        idle_timeout: Some(Duration::from_secs(60)),
        ..Config::default()
    };
    let (near, far) = duplex(64 * 1024);
    let server = Session::start(near, Role::Server, config);
    let client = Session::start(far, Role::Client, Config::default());
    for _ in 0..5 {
        advance(Duration::from_secs(50)).await;
        client.ping().await.unwrap();
    }
    let (opened, accepted) = stream(&client, &server).await;
    let (mut recv, _send) = opened.split();
    let (_recv, mut send) = accepted.split();
    for _ in 0..5 {
        advance(Duration::from_secs(50)).await;
        send.write_all(b"x").await.unwrap();
        recv.read_u8().await.unwrap();
    }
    assert!(server.idle() < Duration::from_secs(10));
}

#[test]
fn the_end_of_the_runtime_ends_the_session() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (_raw, io) = duplex(1000);
    let first = runtime();
    let session = first.block_on(async { Session::start(io, Role::Server, Config::default()) });
    drop(first);
    assert!(matches!(runtime().block_on(session.closed()), Err(Error::Closed)));
}
