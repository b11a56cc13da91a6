//! What holds whatever happens.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::decode::tests::any_frame;

/// One thing that an application or the network does. Streams are named by a number, taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Open {
        client: bool,
    },
    Write {
        client: bool,
        stream: usize,
        bytes: usize,
    },
    Finish {
        client: bool,
        stream: usize,
    },
    Reset {
        client: bool,
        stream: usize,
    },
    /// Reads at most so many of the bytes received.
    Read {
        client: bool,
        stream: usize,
        bytes: usize,
    },
    /// Carries at most so many bytes over.
    Carry {
        to_client: bool,
        bytes: usize,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let client = any::<bool>();
    prop_oneof![
        1 => client.prop_map(|client| Step::Open { client }),
        4 => (client, 0..8_usize, 0..200_000_usize)
            .prop_map(|(client, stream, bytes)| Step::Write { client, stream, bytes }),
        1 => (client, 0..8_usize).prop_map(|(client, stream)| Step::Finish { client, stream }),
        1 => (client, 0..20_usize).prop_map(|(client, stream)| Step::Reset { client, stream }),
        4 => (client, 0..8_usize, 0..300_000_usize)
            .prop_map(|(client, stream, bytes)| Step::Read { client, stream, bytes }),
        6 => (client, 0..200_000_usize).prop_map(|(to_client, bytes)| Step::Carry { to_client, bytes }),
    ]
}

/// One end with its application.
struct End {
    connection: Connection,
    output: Output,
    input: BytesMut,
    known: Vec<StreamId>,
    written: HashMap<StreamId, Vec<u8>>,
    received: HashMap<StreamId, Vec<u8>>,
    unread: HashMap<StreamId, usize>,
    finished: Vec<StreamId>,
    ended: Vec<StreamId>,
    was_reset: Vec<StreamId>,
    counter: u8,
}

impl End {
    fn new(role: Role, config: &Config) -> Self {
        Self {
            connection: Connection::new(role, config.clone()),
            output: Output::default(),
            input: BytesMut::new(),
            known: Vec::new(),
            written: HashMap::new(),
            received: HashMap::new(),
            unread: HashMap::new(),
            finished: Vec::new(),
            ended: Vec::new(),
            was_reset: Vec::new(),
            counter: 0,
        }
    }

    fn stream(&self, number: usize) -> Option<StreamId> {
        (!self.known.is_empty()).then(|| self.known[number % self.known.len()])
    }

    fn write(&mut self, stream: StreamId, bytes: usize) {
        let bytes = bytes.min(self.connection.room(stream).unwrap_or(0));
        let data: Vec<u8> = std::iter::repeat_with(|| {
            self.counter = self.counter.wrapping_add(1);
            self.counter
        })
        .take(bytes)
        .collect();
        if self.connection.write(stream, data.clone().into()).is_ok() {
            self.written.entry(stream).or_default().extend(data);
        }
    }

    fn read(&mut self, stream: StreamId, bytes: usize) {
        let unread = self.unread.entry(stream).or_default();
        let some = bytes.min(*unread);
        *unread -= some;
        self.connection.release(stream, some);
    }

    fn events(&mut self) {
        while let Some(event) = self
            .connection
            .receive(&mut self.input)
            .expect("the peer keeps to the protocol")
        {
            match event {
                Event::Opened { stream, .. } => {
                    self.known.push(stream);
                    self.connection.reply(stream, Headers::new()).unwrap();
                }
                Event::Data { stream, data, fin } => {
                    *self.unread.entry(stream).or_default() += data.len();
                    self.received.entry(stream).or_default().extend_from_slice(&data);
                    if fin {
                        self.ended.push(stream);
                    }
                }
                Event::Reset { stream, status } => {
                    assert_eq!(status, RstStatus::Cancel, "only applications reset");
                    self.was_reset.push(stream);
                }
                _ => {}
            }
        }
    }
}

fn carry(from: &mut End, to: &mut End, bytes: usize) -> usize {
    if !to.connection.wants_input() {
        return 0;
    }
    from.connection.take_output(bytes, &mut from.output);
    let before = to.input.len();
    from.output.copy_to(&mut to.input, before + bytes);
    let carried = to.input.len() - before;
    to.events();
    carried
}

fn apply(step: &Step, client: &mut End, server: &mut End) {
    match *step {
        Step::Open { client: true } if client.known.len() < 20 => {
            let stream = client.connection.open(Headers::new()).unwrap();
            client.known.push(stream);
        }
        Step::Open { client: false } if server.known.len() < 20 => {
            let stream = server.connection.open(Headers::new()).unwrap();
            server.known.push(stream);
        }
        Step::Open { .. } => {}
        Step::Carry {
            to_client: true,
            bytes,
        } => drop(carry(server, client, bytes)),
        Step::Carry {
            to_client: false,
            bytes,
        } => drop(carry(client, server, bytes)),
        Step::Write {
            client: c,
            stream,
            bytes,
        } => {
            let end = if c { client } else { server };
            if let Some(stream) = end.stream(stream) {
                end.write(stream, bytes);
            }
        }
        Step::Finish { client: c, stream } => {
            let end = if c { client } else { server };
            if let Some(stream) = end.stream(stream)
                && end.connection.finish(stream).is_ok()
            {
                end.finished.push(stream);
            }
        }
        Step::Reset { client: c, stream } => {
            let end = if c { client } else { server };
            if stream < end.known.len() {
                let stream = end.known[stream];
                end.connection.reset(stream, RstStatus::Cancel);
                end.was_reset.push(stream);
            }
        }
        Step::Read {
            client: c,
            stream,
            bytes,
        } => {
            let end = if c { client } else { server };
            if let Some(stream) = end.stream(stream) {
                end.read(stream, bytes);
            }
        }
    }
}

/// Carries and reads until nothing moves any more.
fn settle(client: &mut End, server: &mut End) {
    loop {
        for end in [&mut *client, &mut *server] {
            for stream in end.known.clone() {
                end.read(stream, usize::MAX);
            }
        }
        let moved = carry(client, server, 1 << 20) + carry(server, client, 1 << 20);
        if moved == 0 {
            return;
        }
    }
}

fn check(from: &End, to: &End) {
    for stream in &from.known {
        let empty = Vec::new();
        let sent = from.written.get(stream).unwrap_or(&empty);
        let got = to.received.get(stream).unwrap_or(&empty);
        assert!(sent.starts_with(got), "{stream}: what comes is what was written");
        let cut = from.was_reset.contains(stream) || to.was_reset.contains(stream);
        if !cut {
            assert_eq!(sent.len(), got.len(), "{stream}: all of it");
            assert_eq!(
                from.finished.contains(stream),
                to.ended.contains(stream),
                "{stream}: and its end"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_lost_and_no_window_is_overrun(
        steps in prop::collection::vec(any_step(), 0..120),
        enforced in any::<bool>(),
        stream_window in 0_u32..300_000,
        session_window in 0_u32..300_000,
    ) {
        // Under enforcement an overrun would be a violation or a reset. Else an end may overrun what it has not heard of.
        let flow_control = if enforced { FlowControl::Enforced } else { FlowControl::WhenPeerTakesPart };
        let config = Config { flow_control, stream_window, session_window, ..Config::default() };
        let (mut client, mut server) = (End::new(Role::Client, &config), End::new(Role::Server, &config));
        carry(&mut client, &mut server, usize::MAX / 2);
        carry(&mut server, &mut client, usize::MAX / 2);
        for step in &steps {
            apply(step, &mut client, &mut server);
            for end in [&client, &server] {
                let overshoot = if enforced { 0 } else { 200_000 };
                let bound = config.announced_session_window() as usize + overshoot;
                prop_assert!(end.connection.unread() <= bound, "{} unread", end.connection.unread());
            }
        }
        settle(&mut client, &mut server);
        check(&client, &server);
        check(&server, &client);
        prop_assert_eq!(client.connection.unread() + server.connection.unread(), 0);
        prop_assert_eq!(client.connection.open_streams(), server.connection.open_streams());
    }
}

proptest! {
    #[test]
    fn a_hostile_peer_cannot_make_it_panic(
        frames in prop::collection::vec(any_frame(), 0..20),
        small_ids in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        enforced in any::<bool>(),
    ) {
        let flow_control = if enforced { FlowControl::Enforced } else { FlowControl::WhenPeerTakesPart };
        let (mut server, _) = started(Role::Server, Config { flow_control, ..Config::default() });
        let own = server.open(Headers::new()).unwrap();
        server.write(own, vec![0; 100_000].into()).unwrap();
        let (mut encoder, mut wire) = (Encoder::default(), BytesMut::new());
        for frame in &frames {
            let start = wire.len();
            encoder.encode(frame, &mut wire).unwrap();
            // Streams that exist are of more interest.
            if small_ids && wire.len() >= start + 12 && wire[start] & 0x80 != 0 {
                wire[start + 8..start + 11].fill(0);
                wire[start + 11] %= 8;
            }
        }
        for (index, byte) in damage {
            if !wire.is_empty() {
                let at = index.index(wire.len());
                wire[at] = byte;
            }
        }
        while let Ok(Some(event)) = server.receive(&mut wire) {
            if let Event::Opened { stream, .. } = event {
                // May be gone already: unidirectional and finished.
                server.reply(stream, Headers::new()).ok();
                server.finish(stream).ok();
            }
            let mut output = Output::default();
            server.take_output(1 << 16, &mut output);
        }
        prop_assert!(server.unread() <= 20 * 200);
    }
}
