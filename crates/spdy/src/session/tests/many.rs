//! Many streams, many bytes, slow readers, cuts.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;

use super::*;
use crate::{Encoder, Frame, StreamId};

/// How often the pattern repeats: no multiple of any size in use.
const PERIOD: usize = 1_000_003;

/// Bytes of which each place is told from its neighbours, without making them anew.
fn pattern(start: usize, length: usize) -> Bytes {
    static TWICE: LazyLock<Bytes> = LazyLock::new(|| {
        (0..2 * PERIOD)
            .map(|i| ((i % PERIOD).wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
            .collect()
    });
    let start = start % PERIOD;
    TWICE.slice(start..start + length)
}

async fn send_pattern(send: &mut SendHalf, total: usize) {
    let mut at = 0;
    // Sizes on both sides of what is copied, shared and cut.
    let mut sizes = [100_000, 1, 33_000, 512, 64 * 1024, 2047, 5].into_iter().cycle();
    while at < total {
        let some = sizes.next().unwrap().min(total - at);
        send.send(pattern(at, some)).await.unwrap();
        at += some;
    }
    send.shutdown().await.unwrap();
}

async fn check_pattern(recv: &mut RecvHalf, total: usize) {
    let mut at = 0;
    while let Some(chunk) = recv.chunk().await.unwrap() {
        assert!(chunk == pattern(at, chunk.len()), "bytes differ after {at}");
        at += chunk.len();
    }
    assert_eq!(at, total);
}

async fn bulk(config: Config) {
    const TOTAL: usize = 100 << 20;
    let (client, server) = pair_with(config);
    let (opened, accepted) = stream(&client, &server).await;
    let (mut client_recv, mut client_send) = opened.split();
    let (mut server_recv, mut server_send) = accepted.split();
    tokio::join!(
        send_pattern(&mut client_send, TOTAL),
        check_pattern(&mut server_recv, TOTAL),
        send_pattern(&mut server_send, TOTAL),
        check_pattern(&mut client_recv, TOTAL),
    );
    assert_eq!((client.open_streams(), server.open_streams()), (0, 0));
}

#[tokio::test]
async fn a_hundred_mebibytes_each_way_arrive_as_they_were_sent() {
    bulk(Config {
        flow_control: FlowControl::Enforced,
        ..Config::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_mebibytes_each_way_arrive_by_default_too() {
    bulk(Config::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_streams_at_once() {
    let (client, server) = pair();
    let echo = async {
        let mut echoes = JoinSet::new();
        for _ in 0..1000 {
            let incoming = server.accept().await.unwrap();
            echoes.spawn(async move {
                let (mut recv, mut send) = incoming.accept(Headers::new()).split();
                while let Some(chunk) = recv.chunk().await.unwrap() {
                    send.send(chunk).await.unwrap();
                }
                send.shutdown().await.unwrap();
            });
        }
        while let Some(echoed) = echoes.join_next().await {
            echoed.unwrap();
        }
    };
    let ask = async {
        let streams = open_a_thousand(&client).await;
        let mut askers = JoinSet::new();
        for (number, stream) in streams.into_iter().enumerate() {
            askers.spawn(async move {
                let (mut recv, mut send) = stream.split();
                let sent = pattern(number, 5000);
                send.write_all(&sent).await.unwrap();
                send.shutdown().await.unwrap();
                assert_eq!(read_all(&mut recv).await.unwrap(), sent);
            });
        }
        while let Some(asked) = askers.join_next().await {
            asked.unwrap();
        }
    };
    tokio::join!(echo, ask);
    assert_eq!((client.open_streams(), server.open_streams()), (0, 0));
    assert!(client.shared.lock().slots.is_empty());
    assert!(server.shared.lock().slots.is_empty());
}

async fn open_a_thousand(client: &Session) -> Vec<Stream> {
    let mut streams = Vec::new();
    for _ in 0..1000 {
        streams.push(client.open(Headers::new()).await.unwrap());
    }
    streams
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_reader_stalls_nobody_else_and_its_writer_waits() {
    let (client, server) = pair();
    let (slow, slow_end) = stream(&client, &server).await;
    let (_recv, mut send) = slow.split();
    let flood = tokio::spawn(async move {
        for _ in 0..1000 {
            send.send(Bytes::from_static(&[0; 32 * 1024])).await.unwrap();
        }
        send.shutdown().await.unwrap();
    });
    for _ in 0..20 {
        let (quick, quick_end) = stream(&client, &server).await;
        let (_r, mut send) = quick.split();
        let (mut recv, _s) = quick_end.split();
        tokio::join!(
            send_pattern(&mut send, 300_000),
            check_pattern(&mut recv, 300_000)
        );
    }
    assert!(!flood.is_finished());
    assert!(
        server.shared.lock().connection.unread() <= 256 * 1024,
        "no more than its window"
    );
    let (mut recv, _s) = slow_end.split();
    assert_eq!(read_all(&mut recv).await.unwrap().len(), 1000 * 32 * 1024);
    flood.await.unwrap();
}

/// Waits until the peer is held back: the session no longer reads.
pub(super) async fn held_back(session: &Session) {
    for _ in 0..1_000_000 {
        if !session.shared.lock().connection.wants_input() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the peer is not held back");
}

/// What a peer like spdystream does: opens a stream and writes on, without a look at windows.
pub(super) async fn flood(mut raw: DuplexStream, frames: usize) -> DuplexStream {
    let id = StreamId::new(1).unwrap();
    let (mut encoder, mut wire) = (Encoder::default(), BytesMut::new());
    let syn = Frame::SynStream {
        stream: id,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: Headers::new(),
    };
    encoder.encode(&syn, &mut wire).unwrap();
    raw.write_all(&wire).await.unwrap();
    for frame in 0..frames {
        wire.clear();
        let data = vec![0; 32 * 1024].into();
        encoder
            .encode(
                &Frame::Data {
                    stream: id,
                    fin: frame + 1 == frames,
                    data,
                },
                &mut wire,
            )
            .unwrap();
        raw.write_all(&wire).await.unwrap();
    }
    raw
}

#[tokio::test]
async fn a_peer_without_windows_is_held_back_by_the_byte_stream() {
    let (raw, session) = raw_client(Config::default()).await;
    let flood = tokio::spawn(flood(raw, 500));
    let (mut recv, _send) = session.accept().await.unwrap().accept(Headers::new()).split();
    // Then nothing moves any more.
    held_back(&session).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let unread = session.shared.lock().connection.unread();
    let bound = 1024 * 1024 + super::super::driver::LARGEST_READ;
    assert!(unread <= bound, "{unread} bytes unread");
    assert!(!flood.is_finished());
    assert_eq!(read_all(&mut recv).await.unwrap().len(), 500 * 32 * 1024);
    drop(flood.await.unwrap());
}

#[tokio::test]
async fn what_a_peer_without_windows_sends_to_a_dropped_half_is_discarded() {
    let (raw, session) = raw_client(Config::default()).await;
    let flood = tokio::spawn(flood(raw, 500));
    let (recv, _send) = session.accept().await.unwrap().accept(Headers::new()).split();
    drop(recv);
    drop(flood.await.unwrap());
    assert!(session.closed().await.is_ok());
    assert_eq!(session.shared.lock().connection.unread(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_cut_in_the_middle_wakes_everybody() {
    let (near, mut far) = duplex(64 * 1024);
    let (client_io, mut middle) = duplex(64 * 1024);
    let client = Session::start(client_io, Role::Client, Config::default());
    let server = Session::start(near, Role::Server, Config::default());
    let wire = tokio::spawn(async move {
        tokio::io::copy_bidirectional(&mut middle, &mut far).await.ok();
    });
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let (opened, accepted) = stream(&client, &server).await;
        for stream in [opened, accepted] {
            let (mut recv, mut send) = stream.split();
            tasks.spawn(async move {
                while send.write_all(&[0; 10_000]).await.is_ok() {}
                send.closed().await;
            });
            tasks.spawn(async move { while let Ok(Some(_)) = recv.chunk().await {} });
        }
    }
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    wire.abort();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    drop((client.closed().await, server.closed().await));
    assert!(client.shared.lock().slots.is_empty());
    assert!(server.shared.lock().slots.is_empty());
}

/// A byte stream without vectored writes, and one byte at a time.
#[derive(Debug)]
struct Plain(DuplexStream);

impl AsyncRead for Plain {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let mut one = buffer.take(1);
        let result = std::pin::Pin::new(&mut self.0).poll_read(cx, &mut one);
        let some = one.filled().len();
        // The first byte of the unfilled part has been written through `one`.
        let byte = one.filled().first().copied();
        if some == 1 {
            buffer.put_slice(&[byte.unwrap()]);
        }
        result
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, &data[..data.len().min(7)])
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn crumbs_and_plain_writes_make_no_difference() {
    let (client, server) = duplex(100);
    let client = Session::start(Plain(client), Role::Client, Config::default());
    let server = Session::start(Plain(server), Role::Server, Config::default());
    let (opened, accepted) = stream(&client, &server).await;
    let (_r, mut send) = opened.split();
    let (mut recv, _s) = accepted.split();
    tokio::join!(
        send_pattern(&mut send, 200_000),
        check_pattern(&mut recv, 200_000)
    );
}
