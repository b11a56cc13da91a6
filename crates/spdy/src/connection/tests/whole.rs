//! The connection itself: limits, PING, GOAWAY.

use super::*;

#[test]
fn it_begins_with_its_limits() {
    let mut connection = Connection::new(Role::Server, Config::default());
    let settings = vec![
        Setting {
            flags: 0,
            id: SETTING_MAX_STREAMS,
            value: 1024,
        },
        Setting {
            flags: 0,
            id: SETTING_INITIAL_WINDOW,
            value: 256 * 1024,
        },
    ];
    let expected = [
        Frame::Settings {
            clear: false,
            settings,
        },
        Frame::WindowUpdate {
            stream: None,
            delta: 1024 * 1024 - 64 * 1024,
        },
    ];
    assert_eq!(Raw::default().receive(&mut connection), expected);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_room_is_made_by_the_end_of_others() {
    let config = Config {
        max_streams: 2,
        ..Config::default()
    };
    let (mut server, mut peer) = started(Role::Server, config);
    assert_eq!(
        peer.send(&mut server, &[syn(1), syn(3), syn(5)]).unwrap().len(),
        2
    );
    assert_eq!(peer.receive(&mut server), [rst(5, RstStatus::RefusedStream)]);
    let events = peer
        .send(&mut server, &[rst(1, RstStatus::Cancel), syn(7)])
        .unwrap();
    assert!(matches!(events[1], Event::Opened { .. }));
}

#[test]
fn the_peers_limit_of_streams_is_kept() {
    let (mut client, mut peer) = started(Role::Client, Config::default());
    let settings = vec![Setting {
        flags: 0,
        id: SETTING_MAX_STREAMS,
        value: 1,
    }];
    peer.send(
        &mut client,
        &[Frame::Settings {
            clear: false,
            settings,
        }],
    )
    .unwrap();
    client.open(Headers::new()).unwrap();
    let refused = client.open(Headers::new());
    assert!(matches!(refused, Err(Error::TooManyStreams { limit: 1 })));
}

#[test]
fn pings_of_the_peer_come_back_and_ours_are_reported() {
    let (mut server, mut peer) = server();
    assert_eq!(server.ping(), 2);
    assert_eq!(server.ping(), 4);
    let events = peer
        .send(&mut server, &[Frame::Ping { id: 1 }, Frame::Ping { id: 4 }])
        .unwrap();
    assert_eq!(events, [Event::Pong { id: 4 }]);
    let expected = [2, 4, 1].map(|id| Frame::Ping { id });
    assert_eq!(peer.receive(&mut server), expected);
    assert_eq!(
        peer.send(&mut server, &[Frame::Ping { id: 0 }]),
        Err(Violation::ZeroId { frame: 6 })
    );
}

#[test]
fn a_flood_of_pings_stops_the_reading_not_the_memory() {
    let (mut server, mut peer) = server();
    let pings = vec![Frame::Ping { id: 1 }; ANSWERS_LIMIT / 12 + 1];
    peer.send(&mut server, &pings).unwrap();
    assert!(!server.wants_input());
    peer.receive(&mut server);
    assert!(server.wants_input());
}

#[test]
fn after_goaway_of_the_peer_its_unseen_streams_are_refused_and_the_others_go_on() {
    let (mut client, mut peer) = started(Role::Client, Config::default());
    for _ in 0..3 {
        client.open(Headers::new()).unwrap();
    }
    let go = Frame::GoAway {
        last_good: 3,
        status: GoAwayStatus::Ok,
    };
    let events = peer.send(&mut client, &[go]).unwrap();
    let refused = Event::Reset {
        stream: id(5),
        status: RstStatus::RefusedStream,
    };
    assert_eq!(
        events,
        [
            refused,
            Event::GoAway {
                status: GoAwayStatus::Ok
            }
        ]
    );
    assert_eq!(client.open_streams(), 2);
    assert!(matches!(client.open(Headers::new()), Err(Error::Closed)));
    assert!(client.write(id(1), b"still"[..].into()).is_ok());
}

#[test]
fn after_our_goaway_new_streams_are_ignored() {
    let (mut server, mut peer) = server();
    peer.send(&mut server, &[syn(1)]).unwrap();
    server.go_away(GoAwayStatus::Ok);
    server.go_away(GoAwayStatus::InternalError);
    assert_eq!(
        peer.receive(&mut server),
        [Frame::GoAway {
            last_good: 1,
            status: GoAwayStatus::Ok
        }]
    );
    assert_eq!(peer.send(&mut server, &[syn(3), data(3, 1, false)]).unwrap(), []);
    assert_eq!(peer.receive(&mut server), []);
    assert_eq!(server.open_streams(), 1);
}

#[test]
fn headers_too_large_are_not_sent() {
    let (mut server, mut peer) = server();
    peer.send(&mut server, &[syn(1)]).unwrap();
    let large = Headers::from_iter([("a", "x".repeat(70_000))]);
    assert!(matches!(
        server.reply(id(1), large.clone()),
        Err(Error::HeadersTooLarge { .. })
    ));
    assert!(matches!(server.open(large), Err(Error::HeadersTooLarge { .. })));
    assert_eq!(peer.receive(&mut server), []);
    server.reply(id(1), Headers::new()).unwrap();
    assert!(server.reply(id(1), Headers::new()).is_err(), "once");
}
