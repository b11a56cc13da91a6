//! The role of an end of a connection, and the ids of streams.

use std::fmt;

/// Which end of the connection this is. The client opens odd streams and sends odd pings, the server even ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that requested the upgrade.
    Client,
    /// The end that answered it.
    Server,
}

impl Role {
    /// This end's first id, for streams and PINGs.
    pub(crate) const fn first_id(self) -> u32 {
        match self {
            Self::Client => 1,
            Self::Server => 2,
        }
    }

    /// Whether an id belongs to this end.
    pub(crate) const fn owns(self, id: u32) -> bool {
        id % 2 == self.first_id() % 2
    }
}

/// The id of a stream: 1 to 2^31-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// The largest id.
    pub const MAX: u32 = 0x7fff_ffff;

    /// An id from its number; `None` for 0 and for numbers of more than 31 bits.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value == 0 || value > Self::MAX {
            None
        } else {
            Some(Self(value))
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
