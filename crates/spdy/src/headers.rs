//! Header blocks: names with values, in the order they came.

use bytes::Bytes;

/// The headers of a stream. Names are lower-case and occur once; a name may have several values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<(String, Bytes)>,
}

impl Headers {
    /// No headers: what Kubernetes' servers reply with.
    #[must_use]
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }

    /// The first value of a name, if it is there and is UTF-8. The name is compared without regard to case
    /// (`streamType` finds `streamtype`).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value.split(|byte| *byte == 0).next()?).ok()
    }

    /// Sets a name (made lower-case) to one value, in place of what it had.
    pub fn set(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        self.fields.retain(|(known, _)| *known != name);
        self.fields.push((name, Bytes::copy_from_slice(value.as_bytes())));
    }
}
