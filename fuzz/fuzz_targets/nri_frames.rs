//! Any bytes from an NRI plugin, once whole and once cut: the messages must be the same.
#![no_main]

use std::collections::BTreeMap;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pausa_nri::Violation;
use pausa_nri::mux::{Decoder, Piece};
use pausa_nri::ttrpc::{self, Message};

/// The messages of each connection, and how they end.
#[derive(Debug, Default, PartialEq)]
struct Connection {
    input: BytesMut,
    messages: Vec<Message>,
    violation: Option<Violation>,
}

fn decode(bytes: &[u8], size: usize) -> (BTreeMap<u32, Connection>, Option<Violation>) {
    let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
    let mut connections = BTreeMap::<u32, Connection>::new();
    for piece in bytes.chunks(size) {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(Piece { connection, data })) => {
                    let connection = connections.entry(connection).or_default();
                    connection.input.extend_from_slice(&data);
                    while connection.violation.is_none() {
                        match ttrpc::decode(&mut connection.input) {
                            Ok(None) => break,
                            Ok(Some(message)) => connection.messages.push(message),
                            Err(violation) => connection.violation = Some(violation),
                        }
                    }
                }
                Err(violation) => return (connections, Some(violation)),
            }
        }
    }
    (connections, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    assert_eq!(
        decode(bytes, usize::MAX),
        decode(bytes, usize::from(*size).max(1))
    );
});
