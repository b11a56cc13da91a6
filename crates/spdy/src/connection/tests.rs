//! Streams, frame by frame; windows, the connection itself and what always holds are in submodules.

mod flow;
mod properties;
mod whole;

use bytes::BytesMut;

use super::*;
use crate::Limits;

/// The other end, frame by frame.
#[derive(Default)]
struct Raw {
    encoder: Encoder,
    decoder: Option<Decoder>,
    input: BytesMut,
}

impl Raw {
    /// Sends frames; what the connection made of them.
    fn send(&mut self, to: &mut Connection, frames: &[Frame]) -> Result<Vec<Event>, Violation> {
        let mut wire = BytesMut::new();
        for frame in frames {
            self.encoder.encode(frame, &mut wire).unwrap();
        }
        let mut events = Vec::new();
        while let Some(event) = to.receive(&mut wire)? {
            events.push(event);
        }
        assert!(wire.is_empty());
        Ok(events)
    }

    /// What the connection sends.
    fn receive(&mut self, from: &mut Connection) -> Vec<Frame> {
        self.input.extend_from_slice(&wire(from));
        let decoder = self
            .decoder
            .get_or_insert_with(|| Decoder::new(Limits::default()));
        std::iter::from_fn(|| decoder.decode(&mut self.input).unwrap()).collect()
    }
}

fn wire(from: &mut Connection) -> BytesMut {
    let (mut output, mut wire) = (Output::default(), BytesMut::new());
    from.take_output(usize::MAX, &mut output);
    output.copy_to(&mut wire, usize::MAX);
    assert!(output.is_empty());
    wire
}

fn id(value: u32) -> StreamId {
    StreamId::new(value).unwrap()
}

fn server() -> (Connection, Raw) {
    started(Role::Server, Config::default())
}

/// A connection whose announcement has been sent.
fn started(role: Role, config: Config) -> (Connection, Raw) {
    let (mut connection, mut raw) = (Connection::new(role, config), Raw::default());
    raw.receive(&mut connection);
    (connection, raw)
}

fn syn(stream: u32) -> Frame {
    Frame::SynStream {
        stream: id(stream),
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: Headers::new(),
    }
}

fn data(stream: u32, bytes: usize, fin: bool) -> Frame {
    Frame::Data {
        stream: id(stream),
        fin,
        data: vec![b'x'; bytes].into(),
    }
}

fn rst(stream: u32, status: RstStatus) -> Frame {
    Frame::RstStream {
        stream: id(stream),
        status,
    }
}

#[test]
fn a_stream_of_the_peer_lives_from_syn_to_both_fins() {
    let (mut server, mut peer) = server();
    let headers = Headers::from_iter([("streamType", "error")]);
    let syn = Frame::SynStream {
        stream: id(1),
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: headers.clone(),
    };
    let events = peer.send(&mut server, &[syn, data(1, 3, false)]).unwrap();
    let received = Event::Data {
        stream: id(1),
        data: b"xxx"[..].into(),
        fin: false,
    };
    assert_eq!(
        events,
        [
            Event::Opened {
                stream: id(1),
                headers,
                fin: false
            },
            received
        ]
    );

    let early = server.write(id(1), b"early"[..].into());
    assert!(
        matches!(early, Err(Error::NotOpen { .. })),
        "spdystream would drop it"
    );
    server.reply(id(1), Headers::new()).unwrap();
    server.write(id(1), b"answer"[..].into()).unwrap();
    server.finish(id(1)).unwrap();
    let expected = [
        Frame::SynReply {
            stream: id(1),
            fin: false,
            headers: Headers::new(),
        },
        Frame::Data {
            stream: id(1),
            fin: true,
            data: b"answer"[..].into(),
        },
    ];
    assert_eq!(peer.receive(&mut server), expected);
    assert!(server.finish(id(1)).is_err());

    assert_eq!(server.open_streams(), 1, "half-closed");
    let events = peer.send(&mut server, &[data(1, 0, true)]).unwrap();
    assert_eq!(
        events,
        [Event::Data {
            stream: id(1),
            data: Bytes::new(),
            fin: true
        }]
    );
    assert_eq!(server.open_streams(), 0);
}

#[test]
fn a_stream_of_ours_may_send_before_the_reply() {
    let (mut client, mut peer) = started(Role::Client, Config::default());
    let stream = client.open(Headers::new()).unwrap();
    assert_eq!(stream, id(1));
    client.write(stream, b"now"[..].into()).unwrap();
    let expected = Frame::Data {
        stream,
        fin: false,
        data: b"now"[..].into(),
    };
    assert_eq!(peer.receive(&mut client), [syn(1), expected]);
    let reply = Frame::SynReply {
        stream,
        fin: true,
        headers: Headers::new(),
    };
    let events = peer.send(&mut client, &[reply]).unwrap();
    assert_eq!(
        events,
        [Event::Replied {
            stream,
            headers: Headers::new(),
            fin: true
        }]
    );
    client.finish(stream).unwrap();
    peer.receive(&mut client);
    assert_eq!(client.open_streams(), 0);
    assert_eq!(client.open(Headers::new()).unwrap(), id(3));
}

#[test]
fn the_server_gives_even_ids_and_takes_odd_ones() {
    let (mut server, mut peer) = server();
    assert_eq!(server.open(Headers::new()).unwrap(), id(2));
    assert_eq!(
        peer.send(&mut server, &[syn(4)]),
        Err(Violation::StreamId { stream: id(4) })
    );
}

#[test]
fn ids_must_rise() {
    let (mut server, mut peer) = server();
    peer.send(&mut server, &[syn(5)]).unwrap();
    assert_eq!(
        peer.send(&mut server, &[syn(3)]),
        Err(Violation::StreamId { stream: id(3) })
    );
    assert!(
        peer.send(&mut server, &[syn(7)]).is_err(),
        "nothing is read any more"
    );
    let go = Frame::GoAway {
        last_good: 5,
        status: GoAwayStatus::ProtocolError,
    };
    assert_eq!(peer.receive(&mut server), [go]);
}

#[test]
fn a_reset_ends_both_directions_and_what_comes_late_is_dropped() {
    let (mut server, mut peer) = server();
    let events = peer
        .send(&mut server, &[syn(1), syn(3), rst(1, RstStatus::Cancel)])
        .unwrap();
    assert_eq!(
        events[2],
        Event::Reset {
            stream: id(1),
            status: RstStatus::Cancel
        }
    );
    server.reply(id(3), Headers::new()).unwrap();
    server.write(id(3), b"never sent"[..].into()).unwrap();
    server.reset(id(3), RstStatus::InternalError);
    assert_eq!(server.open_streams(), 0);
    let reply = Frame::SynReply {
        stream: id(3),
        fin: false,
        headers: Headers::new(),
    };
    assert_eq!(
        peer.receive(&mut server),
        [reply, rst(3, RstStatus::InternalError)]
    );
    let late = [data(1, 10, false), data(3, 10, true), rst(3, RstStatus::Cancel)];
    assert_eq!(peer.send(&mut server, &late).unwrap(), []);
    assert_eq!(peer.receive(&mut server), []);
    assert_eq!(server.unread(), 0);
}

#[test]
fn frames_for_streams_that_never_were_are_answered() {
    let (mut server, mut peer) = server();
    peer.send(&mut server, &[syn(1)]).unwrap();
    let reply = Frame::SynReply {
        stream: id(2),
        fin: false,
        headers: Headers::new(),
    };
    assert_eq!(peer.send(&mut server, &[data(3, 1, false), reply]).unwrap(), []);
    let expected = [rst(3, RstStatus::InvalidStream), rst(2, RstStatus::InvalidStream)];
    assert_eq!(peer.receive(&mut server), expected);
}

#[test]
fn data_after_fin_and_second_replies_cost_the_stream() {
    let (mut server, mut peer) = server();
    server.open(Headers::new()).unwrap();
    peer.receive(&mut server);
    let reply = Frame::SynReply {
        stream: id(2),
        fin: false,
        headers: Headers::new(),
    };
    let frames = [syn(1), data(1, 0, true), data(1, 1, false), reply.clone(), reply];
    let events = peer.send(&mut server, &frames).unwrap();
    assert_eq!(
        events[2],
        Event::Reset {
            stream: id(1),
            status: RstStatus::StreamAlreadyClosed
        }
    );
    assert_eq!(
        events[4],
        Event::Reset {
            stream: id(2),
            status: RstStatus::StreamInUse
        }
    );
    let expected = [
        rst(1, RstStatus::StreamAlreadyClosed),
        rst(2, RstStatus::StreamInUse),
    ];
    assert_eq!(peer.receive(&mut server), expected);
    assert_eq!(server.unread(), 0);
}

#[test]
fn a_syn_with_bad_headers_is_reset_and_uses_up_its_id() {
    let config = Config {
        limits: Limits {
            headers: 1,
            ..Limits::default()
        },
        ..Config::default()
    };
    let (mut server, mut peer) = started(Role::Server, config);
    let headers = Headers::from_iter([("a", "1"), ("b", "2")]);
    let bad = Frame::SynStream {
        stream: id(3),
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers,
    };
    assert_eq!(peer.send(&mut server, &[bad, data(3, 9, false)]).unwrap(), []);
    assert_eq!(peer.receive(&mut server), [rst(3, RstStatus::ProtocolError)]);
    assert!(peer.send(&mut server, &[syn(3)]).is_err());
}

#[test]
fn streams_take_turns() {
    let (mut server, mut peer) = server();
    peer.send(&mut server, &[syn(1), syn(3)]).unwrap();
    for stream in [1, 3] {
        server.reply(id(stream), Headers::new()).unwrap();
        server.write(id(stream), vec![0; 80 * 1024].into()).unwrap();
    }
    let order: Vec<_> = peer
        .receive(&mut server)
        .into_iter()
        .filter_map(|frame| match frame {
            Frame::Data { stream, data, .. } => Some((stream.value(), data.len() / 1024)),
            _ => None,
        })
        .collect();
    assert_eq!(order, [(1, 32), (3, 32), (1, 32), (3, 32), (1, 16), (3, 16)]);
}

#[test]
fn an_abandoned_stream_sends_what_was_finished_and_then_resets() {
    let (mut server, mut peer) = server();
    peer.send(&mut server, &[syn(1), syn(3)]).unwrap();
    for stream in [1, 3] {
        server.reply(id(stream), Headers::new()).unwrap();
        server.write(id(stream), b"status"[..].into()).unwrap();
    }
    server.finish(id(1)).unwrap();
    server.abandon(id(1));
    server.abandon(id(3));
    let frames = peer.receive(&mut server);
    let status = Frame::Data {
        stream: id(1),
        fin: true,
        data: b"status"[..].into(),
    };
    let expected = [rst(3, RstStatus::Cancel), status, rst(1, RstStatus::Cancel)];
    assert_eq!(frames[2..], expected);
    assert_eq!(server.open_streams(), 0);
}

#[test]
fn a_unidirectional_stream_is_over_with_the_peers_fin() {
    let (mut server, mut peer) = server();
    let syn = Frame::SynStream {
        stream: id(1),
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: true,
        headers: Headers::new(),
    };
    peer.send(&mut server, &[syn]).unwrap();
    server.reply(id(1), Headers::new()).unwrap();
    assert!(server.write(id(1), b"no"[..].into()).is_err());
    peer.send(&mut server, &[data(1, 1, true)]).unwrap();
    assert_eq!(server.open_streams(), 0);
}
