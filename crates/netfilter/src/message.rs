//! Netlink messages as bytes: pure writing, no I/O.
//!
//! Lengths that do not fit are remembered, and [`Messages::finish`] fails: a message that is cut off is never sent.

/// `NLA_F_NESTED`
const NESTED: u16 = 1 << 15;

/// `NLM_F_REQUEST`
pub(crate) const REQUEST: u16 = 1;
/// `NLM_F_ACK`
pub(crate) const ACK: u16 = 4;
/// `NLM_F_ECHO`
pub(crate) const ECHO: u16 = 8;
/// `NLM_F_DUMP`
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub(crate) const APPEND: u16 = 0x800;

/// Messages one after the other.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    too_long: bool,
}

/// What is common to all messages of netfilter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) family: u8,
    /// The subsystem, in the messages around a transaction.
    pub(crate) resource: u16,
}

impl Messages {
    pub(crate) fn push(&mut self, header: Header, attributes: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(header.kind.to_ne_bytes());
        self.bytes.extend((header.flags | REQUEST).to_ne_bytes());
        self.bytes.extend(header.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([header.family, 0]);
        self.bytes.extend(header.resource.to_be_bytes());
        attributes(self);
        let length = self.bytes.len().saturating_sub(start);
        match (
            u32::try_from(length),
            self.bytes.get_mut(start..start.saturating_add(4)),
        ) {
            (Ok(length), Some(slot)) => slot.copy_from_slice(&length.to_ne_bytes()),
            _ => self.too_long = true,
        }
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |messages| messages.bytes.extend(value));
    }

    /// With a zero byte at the end.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |messages| {
            messages.bytes.extend(value.as_bytes());
            messages.bytes.push(0);
        });
    }

    /// In network byte order, as nf_tables has it.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn nest(&mut self, kind: u16, attributes: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, attributes);
    }

    fn attribute(&mut self, kind: u16, value: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        value(self);
        let length = u16::try_from(self.bytes.len().saturating_sub(start));
        match (length, self.bytes.get_mut(start..start.saturating_add(2))) {
            (Ok(length), Some(slot)) => slot.copy_from_slice(&length.to_ne_bytes()),
            _ => self.too_long = true,
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// None if something was too long.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        (!self.too_long).then_some(self.bytes)
    }
}
