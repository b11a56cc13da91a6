//! Header blocks: names with values in the order received, and their form on the wire (draft 3, section 2.6.10).
//!
//! A parsed block has names of printable lower-case ASCII, each once. Several values of a name are separated by NUL.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Limits, Violation};

/// The headers of a stream. Names are lower-case and occur once; a name may have several values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(String, Bytes)>,
}

impl Headers {
    /// No headers, as in the replies of Kubernetes' servers.
    #[must_use]
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }

    /// The first value of a name, if it is there and is UTF-8. The name is compared without regard to case
    /// (`streamType` finds `streamtype`).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
    }

    /// Sets the value of a name, which is converted to lower case; NUL in the value separates several values.
    /// A name that cannot be sent (empty or not printable ASCII) is ignored.
    pub fn set(&mut self, name: &str, value: &str) {
        if !sendable(name) {
            return;
        }
        let name = name.to_ascii_lowercase();
        self.fields.retain(|(known, _)| *known != name);
        self.fields.push((name, Bytes::copy_from_slice(value.as_bytes())));
    }

    /// All names with their values as they are on the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of the block, uncompressed.
    pub(crate) fn block_len(&self) -> usize {
        4 + self
            .fields
            .iter()
            .map(|(name, value)| 8 + name.len() + value.len())
            .sum::<usize>()
    }

    /// Writes the block, uncompressed. The sender has checked its length.
    pub(crate) fn write_block(&self, out: &mut BytesMut) {
        out.reserve(self.block_len());
        put_length(out, self.fields.len());
        for (name, value) in &self.fields {
            put_length(out, name.len());
            out.put_slice(name.as_bytes());
            put_length(out, value.len());
            out.put_slice(value);
        }
    }

    /// Reads an uncompressed block.
    pub(crate) fn parse_block(mut block: Bytes, limits: &Limits) -> Result<Self, Violation> {
        let count = take_length(&mut block)?;
        if count > limits.headers {
            return Err(Violation::TooManyHeaders {
                count,
                limit: limits.headers,
            });
        }
        let mut headers = Self::new();
        for _ in 0..count {
            let name = take_string(&mut block)?;
            let value = take_string(&mut block)?;
            let name = std::str::from_utf8(&name).map_err(|_| Violation::HeaderName)?;
            if !sendable(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(Violation::HeaderName);
            }
            if headers.fields.iter().any(|(known, _)| known == name) {
                return Err(Violation::DuplicateHeader);
            }
            headers.fields.push((name.to_owned(), value));
        }
        if block.is_empty() {
            Ok(headers)
        } else {
            Err(Violation::HeaderBlock)
        }
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in fields {
            headers.set(name.as_ref(), value.as_ref());
        }
        headers
    }
}

fn sendable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn put_length(out: &mut BytesMut, length: usize) {
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn take_length(block: &mut Bytes) -> Result<u32, Violation> {
    let number = block.first_chunk::<4>().copied().ok_or(Violation::HeaderBlock)?;
    bytes::Buf::advance(block, 4);
    Ok(u32::from_be_bytes(number))
}

fn take_string(block: &mut Bytes) -> Result<Bytes, Violation> {
    let length = usize::try_from(take_length(block)?).map_err(|_| Violation::HeaderBlock)?;
    if length > block.len() {
        return Err(Violation::HeaderBlock);
    }
    Ok(block.split_to(length))
}
