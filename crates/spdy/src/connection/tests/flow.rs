//! Windows, with peers that keep them and with peers that do not.

use super::*;

const WINDOW: usize = DEFAULT_WINDOW as usize;

fn enforced(role: Role) -> (Connection, Raw) {
    started(
        role,
        Config {
            flow_control: FlowControl::Enforced,
            ..Config::default()
        },
    )
}

/// Opens a stream and queues bytes on it.
fn writer(config: (Connection, Raw), bytes: usize) -> (Connection, Raw) {
    let (mut client, peer) = config;
    let stream = client.open(Headers::new()).unwrap();
    client.write(stream, vec![0; bytes].into()).unwrap();
    (client, peer)
}

fn sent(peer: &mut Raw, from: &mut Connection) -> usize {
    let lengths = peer.receive(from).into_iter().map(|frame| match frame {
        Frame::Data { data, .. } => data.len(),
        _ => 0,
    });
    lengths.sum()
}

fn update(stream: Option<u32>, delta: u32) -> Frame {
    Frame::WindowUpdate {
        stream: stream.map(id),
        delta,
    }
}

fn initial_window(value: u32) -> Frame {
    Frame::Settings {
        clear: false,
        settings: vec![Setting {
            flags: 0,
            id: SETTING_INITIAL_WINDOW,
            value,
        }],
    }
}

#[test]
fn a_peer_that_never_sends_window_update_gets_everything() {
    let (mut client, mut peer) = writer(started(Role::Client, Config::default()), 10_000_000);
    assert_eq!(sent(&mut peer, &mut client), 10_000_000);
}

#[test]
fn an_enforced_window_stops_at_64_kib_until_both_windows_open() {
    let (mut client, mut peer) = writer(enforced(Role::Client), 200_000);
    assert_eq!(sent(&mut peer, &mut client), WINDOW);
    peer.send(&mut client, &[update(Some(1), 1000)]).unwrap();
    assert_eq!(sent(&mut peer, &mut client), 0, "the session's window is closed");
    peer.send(&mut client, &[update(None, 400)]).unwrap();
    assert_eq!(sent(&mut peer, &mut client), 400);
    peer.send(&mut client, &[update(None, 100_000)]).unwrap();
    assert_eq!(sent(&mut peer, &mut client), 600);
    assert!(!client.is_flushed());
}

#[test]
fn fin_waits_behind_a_closed_window() {
    let (mut client, mut peer) = writer(enforced(Role::Client), WINDOW + 1);
    client.finish(id(1)).unwrap();
    assert_eq!(sent(&mut peer, &mut client), WINDOW);
    peer.send(&mut client, &[update(None, 10), update(Some(1), 10)])
        .unwrap();
    let last = Frame::Data {
        stream: id(1),
        fin: true,
        data: vec![0; 1].into(),
    };
    assert_eq!(peer.receive(&mut client), [last]);
}

#[test]
fn settings_change_windows_of_open_streams_both_ways() {
    let (mut client, mut peer) = writer(enforced(Role::Client), 200_000);
    peer.send(&mut client, &[update(None, 1_000_000), initial_window(70_000)])
        .unwrap();
    assert_eq!(sent(&mut peer, &mut client), 70_000);
    peer.send(&mut client, &[initial_window(0), update(Some(1), 69_999)])
        .unwrap();
    assert_eq!(sent(&mut peer, &mut client), 0, "below zero");
    peer.send(&mut client, &[update(Some(1), 11)]).unwrap();
    assert_eq!(sent(&mut peer, &mut client), 10);
    let later = client.open(Headers::new()).unwrap();
    client.write(later, vec![0; 10].into()).unwrap();
    assert_eq!(
        sent(&mut peer, &mut client),
        0,
        "new streams begin with the new window"
    );
}

#[test]
fn a_peer_that_starts_to_take_part_is_kept_to_from_the_first_byte() {
    let (mut client, mut peer) = writer(started(Role::Client, Config::default()), 100_000);
    assert_eq!(sent(&mut peer, &mut client), 100_000);
    client.write(id(1), vec![0; 100_000].into()).unwrap();
    peer.send(&mut client, &[update(Some(1), 50_000)]).unwrap();
    assert_eq!(sent(&mut peer, &mut client), WINDOW + 50_000 - 100_000);
    // It takes part in streams, not in the session, whose window is long used up.
    peer.send(&mut client, &[update(Some(1), 1000)]).unwrap();
    assert_eq!(sent(&mut peer, &mut client), 1000);
}

#[test]
fn one_closed_stream_does_not_stop_another() {
    let (mut client, mut peer) = writer(enforced(Role::Client), 100_000);
    peer.send(&mut client, &[update(None, 1_000_000)]).unwrap();
    assert_eq!(sent(&mut peer, &mut client), WINDOW);
    let other = client.open(Headers::new()).unwrap();
    client.write(other, vec![0; 1000].into()).unwrap();
    assert_eq!(sent(&mut peer, &mut client), 1000);
}

#[test]
fn read_bytes_are_credited_in_halves_of_the_window() {
    let (mut server, mut peer) = server();
    peer.send(&mut server, &[syn(1), data(1, 200_000, false)])
        .unwrap();
    assert_eq!(server.unread(), 200_000);
    server.release(id(1), 128 * 1024 - 1);
    assert_eq!(peer.receive(&mut server), []);
    server.release(id(1), 1);
    assert_eq!(peer.receive(&mut server), [update(Some(1), 128 * 1024)]);
    assert_eq!(server.unread(), 200_000 - 128 * 1024);
}

#[test]
fn data_nobody_takes_is_credited_to_the_session() {
    let (mut server, mut peer) = server();
    peer.send(&mut server, &[syn(1), rst(1, RstStatus::Cancel)])
        .unwrap();
    let half = 512 * 1024;
    peer.send(&mut server, &[data(1, half, false)]).unwrap();
    assert_eq!(peer.receive(&mut server), [update(None, 512 * 1024)]);
}

#[test]
fn an_enforced_stream_window_costs_the_stream() {
    let (mut server, mut peer) = enforced(Role::Server);
    let size = 256 * 1024;
    let events = peer
        .send(&mut server, &[syn(1), data(1, size, false), data(1, 1, false)])
        .unwrap();
    assert_eq!(
        events.last(),
        Some(&Event::Reset {
            stream: id(1),
            status: RstStatus::FlowControlError
        })
    );
    assert_eq!(peer.receive(&mut server), [rst(1, RstStatus::FlowControlError)]);
}

#[test]
fn an_enforced_session_window_costs_the_connection() {
    let (mut server, mut peer) = enforced(Role::Server);
    let size = 256 * 1024;
    for stream in [1, 3, 5, 7] {
        peer.send(&mut server, &[syn(stream), data(stream, size, false)])
            .unwrap();
    }
    assert_eq!(
        peer.send(&mut server, &[syn(9), data(9, 1, false)]),
        Err(Violation::WindowOverrun)
    );
}

#[test]
fn a_peer_that_overruns_is_held_back_by_the_byte_stream_and_gets_no_credit() {
    let (mut server, mut peer) = server();
    peer.send(&mut server, &[syn(1)]).unwrap();
    for _ in 0..9 {
        assert!(server.wants_input());
        peer.send(&mut server, &[data(1, 128 * 1024, false)]).unwrap();
    }
    assert_eq!(server.unread(), 1024 * 1024 + 128 * 1024);
    assert!(!server.wants_input());
    server.release(id(1), 1024 * 1024);
    assert!(server.wants_input());
    assert_eq!(peer.receive(&mut server), []);
}

#[test]
fn a_peer_that_overran_before_it_knew_gets_its_credit_when_it_takes_part() {
    let (mut server, mut peer) = server();
    let bytes = 1_200_000;
    peer.send(&mut server, &[syn(1), data(1, bytes, false)]).unwrap();
    server.release(id(1), bytes);
    assert_eq!(peer.receive(&mut server), []);
    peer.send(&mut server, &[initial_window(70_000)]).unwrap();
    assert_eq!(
        peer.receive(&mut server),
        [update(None, 1_200_000), update(Some(1), 1_200_000)]
    );
    // From now on as for everybody.
    peer.send(&mut server, &[data(1, 200_000, false)]).unwrap();
    server.release(id(1), 200_000);
    assert_eq!(peer.receive(&mut server), [update(Some(1), 200_000)]);
}

#[test]
fn a_peer_that_overruns_though_it_takes_part_is_credited_all_the_same() {
    let (mut server, mut peer) = server();
    peer.send(
        &mut server,
        &[initial_window(70_000), syn(1), data(1, 300_000, false)],
    )
    .unwrap();
    server.release(id(1), 300_000);
    assert_eq!(peer.receive(&mut server), [update(Some(1), 300_000)]);
}

#[test]
fn a_peer_within_its_windows_is_always_read() {
    let (mut server, mut peer) = server();
    for stream in [1, 3, 5, 7] {
        peer.send(&mut server, &[syn(stream), data(stream, 256 * 1024, false)])
            .unwrap();
    }
    assert_eq!(server.unread(), 1024 * 1024);
    assert!(server.wants_input(), "a reset or a ping may follow");
}

#[test]
fn windows_beyond_31_bits_are_refused() {
    let (mut client, mut peer) = started(Role::Client, Config::default());
    client.open(Headers::new()).unwrap();
    client.open(Headers::new()).unwrap();
    let events = peer.send(&mut client, &[update(Some(1), StreamId::MAX)]).unwrap();
    assert_eq!(
        events,
        [Event::Reset {
            stream: id(1),
            status: RstStatus::FlowControlError
        }]
    );
    let refused = peer.send(&mut client, &[initial_window(StreamId::MAX + 1)]);
    assert_eq!(refused, Err(Violation::WindowOverflow));

    let (mut client, mut peer) = started(Role::Client, Config::default());
    let refused = peer.send(&mut client, &[update(None, StreamId::MAX)]);
    assert_eq!(refused, Err(Violation::WindowOverflow));

    let (mut client, mut peer) = started(Role::Client, Config::default());
    client.open(Headers::new()).unwrap();
    let frames = [
        update(Some(1), StreamId::MAX - DEFAULT_WINDOW),
        initial_window(DEFAULT_WINDOW + 1),
    ];
    assert_eq!(
        peer.send(&mut client, &frames),
        Err(Violation::WindowOverflow),
        "retroactively"
    );
}
