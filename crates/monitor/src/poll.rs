//! epoll(7) with tokens that say what a descriptor is.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The signal descriptor.
    Signals,
    /// The listening socket.
    Listener,
    /// A connection, by its number.
    Connection(u64),
    /// A container's stream, by its number.
    Stream(u64),
    /// A process on its way to `execve`, by its number.
    Launch(u64),
    /// An output of an exec whose daemon has gone, by its number.
    Left(u64),
    /// What a client types, by its number.
    Typed(u64),
    /// A container's input that was full, by its number.
    Input(u64),
}

impl Token {
    const fn encode(self) -> u64 {
        match self {
            Self::Signals => 0,
            Self::Listener => 1,
            Self::Connection(number) => number << 3 | 2,
            Self::Stream(number) => number << 3 | 3,
            Self::Launch(number) => number << 3 | 4,
            Self::Left(number) => number << 3 | 5,
            Self::Typed(number) => number << 3 | 6,
            Self::Input(number) => number << 3 | 7,
        }
    }

    const fn decode(data: u64) -> Self {
        let number = data >> 3;
        match data & 7 {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Connection(number),
            3 => Self::Stream(number),
            4 => Self::Launch(number),
            5 => Self::Left(number),
            6 => Self::Typed(number),
            _ => Self::Input(number),
        }
    }
}

/// An epoll instance and the source of numbers for its tokens.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
    last: u64,
}

/// Most events taken at once.
const EVENTS: usize = 32;

impl Poll {
    /// A new one.
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            last: 0,
        })
    }

    /// A number never used before.
    pub(crate) const fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Waits for input (level-triggered).
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: Token) -> Result<(), Errno> {
        epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token.encode()),
            EventFlags::IN,
        )
    }

    /// Waits for room to write, and nothing else.
    pub(crate) fn add_for_room(&self, fd: BorrowedFd<'_>, token: Token) -> Result<(), Errno> {
        epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token.encode()),
            EventFlags::OUT,
        )
    }

    /// Waits for room to write as well, or no longer.
    pub(crate) fn also_writing(&self, fd: BorrowedFd<'_>, token: Token, writing: bool) -> Result<(), Errno> {
        let flags = if writing {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        epoll::modify(&self.epoll, fd, EventData::new_u64(token.encode()), flags)
    }

    /// Waits no longer. To be done before closing: a child on its way to `execve` may still have a copy.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        // ENOENT, the only failure there can be, is what is wanted.
        epoll::delete(&self.epoll, fd).ok();
    }

    /// Waits for events, at most this long.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Vec<Token> {
        let timeout = timeout.map(|duration| Timespec {
            tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: duration.subsec_nanos().into(),
        });
        let mut events = [epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; EVENTS];
        // EINTR is the only failure there can be, and then nothing has happened.
        let count = epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()).unwrap_or(0);
        events[..count]
            .iter()
            .map(|event| Token::decode(event.data.u64()))
            .collect()
    }
}
