//! epoll(7) with tokens that say what each descriptor is for.

use std::cell::Cell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// The subject of an event. Numbers come from [`Poll::next_number`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Signals,
    Listener,
    /// Threads that write logs.
    LogThreads,
    Connection(u64),
    /// An output of a container.
    Output(u64),
    /// A process on its way to `execve`.
    Start(u64),
    /// An output of an exec whose daemon is gone.
    OrphanedOutput(u64),
    /// The input from an attached client.
    AttachStdin(u64),
    /// A container's stdin, while it is full.
    ContainerStdin(u64),
}

impl Token {
    const fn encode(self) -> u64 {
        match self {
            Self::Signals => 0,
            Self::Listener => 1,
            Self::LogThreads => 1 << 3,
            Self::Connection(number) => number << 3 | 2,
            Self::Output(number) => number << 3 | 3,
            Self::Start(number) => number << 3 | 4,
            Self::OrphanedOutput(number) => number << 3 | 5,
            Self::AttachStdin(number) => number << 3 | 6,
            Self::ContainerStdin(number) => number << 3 | 7,
        }
    }

    const fn decode(data: u64) -> Self {
        let number = data >> 3;
        match data & 7 {
            0 if number == 1 => Self::LogThreads,
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Connection(number),
            3 => Self::Output(number),
            4 => Self::Start(number),
            5 => Self::OrphanedOutput(number),
            6 => Self::AttachStdin(number),
            _ => Self::ContainerStdin(number),
        }
    }
}

/// An epoll instance, and the source of the numbers in its tokens. Shared by all that register descriptors.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
    last_number: Cell<u64>,
}

/// Most events returned at once.
const EVENTS: usize = 32;

impl Poll {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            last_number: Cell::new(0),
        })
    }

    /// A number never used before.
    pub(crate) fn next_number(&self) -> u64 {
        self.last_number.update(|last| last + 1);
        self.last_number.get()
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

    /// Waits for room to write (level-triggered).
    pub(crate) fn add_for_writing(&self, fd: BorrowedFd<'_>, token: Token) -> Result<(), Errno> {
        epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token.encode()),
            EventFlags::OUT,
        )
    }

    /// Adds or removes waiting for room to write, in addition to input.
    pub(crate) fn set_writing(&self, fd: BorrowedFd<'_>, token: Token, writing: bool) -> Result<(), Errno> {
        let flags = if writing {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        epoll::modify(&self.epoll, fd, EventData::new_u64(token.encode()), flags)
    }

    /// Stops waiting for a descriptor. Must be called before the descriptor is closed: while a child on its way to `execve`
    /// holds a copy, closing does not remove it from epoll.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        // The only possible failure is ENOENT: it was not registered.
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
        // The only possible failure is EINTR: no event.
        let count = epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()).unwrap_or(0);
        events[..count]
            .iter()
            .map(|event| Token::decode(event.data.u64()))
            .collect()
    }
}
