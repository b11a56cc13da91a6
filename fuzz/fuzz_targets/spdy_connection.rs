//! A peer and an application that do anything in any order: frames well made or not, and every call of `Connection`.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pausa_spdy::{
    Config, Connection, Encoder, Event, FlowControl, Frame, GoAwayStatus, Headers, Output, Role, RstStatus,
    Setting, StreamId,
};

/// The bytes as a source of decisions; zeros when they are used up.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn stream(&mut self) -> StreamId {
        StreamId::new(u32::from(self.byte() % 12) + 1).expect("1 to 12")
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (some, rest) = self.0.split_at(length);
        self.0 = rest;
        some
    }

    fn headers(&mut self) -> Headers {
        (0..self.byte() % 4)
            .map(|i| {
                (
                    format!("name-{i}"),
                    String::from_utf8_lossy(self.bytes()).into_owned(),
                )
            })
            .collect()
    }

    fn frame(&mut self) -> Frame {
        let flags = self.byte();
        let (fin, unidirectional) = (flags & 1 != 0, flags & 2 != 0);
        let stream = self.stream();
        match flags >> 2 & 15 {
            0 => Frame::SynReply {
                stream,
                fin,
                headers: self.headers(),
            },
            1 => Frame::Headers {
                stream,
                fin,
                headers: self.headers(),
            },
            2 => Frame::RstStream {
                stream,
                status: RstStatus::from_wire(self.word()),
            },
            3 => Frame::Ping { id: self.word() },
            4 => Frame::GoAway {
                last_good: self.word(),
                status: GoAwayStatus::from_wire(self.byte().into()),
            },
            5 => Frame::WindowUpdate {
                stream: (!fin).then_some(stream),
                delta: self.word(),
            },
            6 => Frame::Settings {
                clear: fin,
                settings: vec![Setting {
                    flags: 0,
                    id: u32::from(self.byte() % 9),
                    value: self.word(),
                }],
            },
            7..=11 => {
                let length = self.word() as usize % 100_000;
                Frame::Data {
                    stream,
                    fin,
                    data: vec![0; length].into(),
                }
            }
            _ => Frame::SynStream {
                stream,
                associated: 0,
                priority: 0,
                fin,
                unidirectional,
                headers: self.headers(),
            },
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut source = Source(bytes);
    let first = source.byte();
    let flow_control = if first & 1 == 0 {
        FlowControl::Enforced
    } else {
        FlowControl::WhenPeerTakesPart
    };
    let role = if first & 2 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let mut config = Config::default();
    config.flow_control = flow_control;
    config.max_streams = 5;
    let (session_window, mut connection) = (config.session_window as usize, Connection::new(role, config));
    let (mut encoder, mut input, mut output) = (Encoder::default(), BytesMut::new(), Output::default());
    while !source.0.is_empty() {
        match source.byte() % 11 {
            0 => input.extend_from_slice(source.bytes()),
            1..=3 => encoder.encode(&source.frame(), &mut input).expect("small frames"),
            4 => drop(connection.open(source.headers())),
            5 => drop(connection.reply(source.stream(), source.headers())),
            6 => {
                let stream = source.stream();
                let room = connection.room(stream).unwrap_or(0);
                let length = (source.word() as usize % 100_000).min(room);
                drop(connection.write(stream, vec![1; length].into()));
            }
            7 => drop(connection.finish(source.stream())),
            8 => connection.abandon(source.stream()),
            9 => connection.reset(source.stream(), RstStatus::Cancel),
            _ => {
                output.advance(output.len());
                connection.take_output(source.word() as usize % 300_000, &mut output);
                connection.ping();
            }
        }
        let came = input.len();
        let before = connection.unread();
        while let Ok(Some(event)) = connection.receive(&mut input) {
            if let Event::Data { stream, data, .. } = event
                && !data.is_empty()
                && source.byte() & 1 == 0
            {
                connection.release(stream, data.len());
            }
        }
        assert!(connection.unread() <= before + came);
        let bounded =
            flow_control == FlowControl::WhenPeerTakesPart || connection.unread() <= session_window + came;
        assert!(bounded, "{} bytes unread", connection.unread());
    }
});
