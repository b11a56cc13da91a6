//! Protocol buffers written field by field, for the items of long lists: no message is made of strings that are there already.
//!
//! What is written has to be what prost would write of the message; tests compare the two.

use std::collections::BTreeMap;

use prost::Message;
use prost::encoding::{self, WireType};

/// A string, bytes, or an encoded message. An empty one is written, too: see [`text`].
pub(crate) fn bytes(tag: u32, value: &[u8], buffer: &mut Vec<u8>) {
    encoding::encode_key(tag, WireType::LengthDelimited, buffer);
    encoding::encode_varint(u64::try_from(value.len()).unwrap_or(u64::MAX), buffer);
    buffer.extend_from_slice(value);
}

/// A string that is not repeated: an empty one is left out.
pub(crate) fn text(tag: u32, value: &str, buffer: &mut Vec<u8>) {
    if !value.is_empty() {
        bytes(tag, value.as_bytes(), buffer);
    }
}

/// An integer; 0 is left out. Negative ones are cast to `u64` by the caller.
pub(crate) fn integer(tag: u32, value: u64, buffer: &mut Vec<u8>) {
    if value != 0 {
        encoding::encode_key(tag, WireType::Varint, buffer);
        encoding::encode_varint(value, buffer);
    }
}

pub(crate) fn message(tag: u32, value: Option<&impl Message>, buffer: &mut Vec<u8>) {
    if let Some(value) = value {
        encoding::message::encode(tag, value, buffer);
    }
}

pub(crate) fn map(tag: u32, values: &BTreeMap<String, String>, buffer: &mut Vec<u8>) {
    encoding::btree_map::encode(
        encoding::string::encode,
        encoding::string::encoded_len,
        encoding::string::encode,
        encoding::string::encoded_len,
        tag,
        values,
        buffer,
    );
}
