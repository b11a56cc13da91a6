//! What the child tells its parent before `execve`: packets over a close-on-exec socket pair.
//!
//! ```text
//!   'S' text          a step begins that may hang or be killed in
//!   'T' + descriptor  the master of the terminal
//!   'C' pid + pidfd   another child goes on once it may, this one is to be killed (see `userns`)
//!   'X'               all that remains is to exec
//!   'F' errno text    the end: this failed
//!   EOF               after 'X': the command runs; before: the child was killed
//! ```
//!
//! The child sends by write(2), which seccomp filters allow; only descriptors need sendmsg(2), and
//! they go before any filter is loaded. A child whose parent is gone ends at 'X' by SIGPIPE: nobody would know of
//! the command it is about to start. Apart from that a report never decides what the child does next.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pausa_sys::Child;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::error::{Error, Step};

/// Longest packet.
const PACKET_MAX: usize = 2048;

/// The child's end.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// None only while it is being moved.
    socket: Option<OwnedFd>,
}

impl Reporter {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket: Some(socket) }
    }

    /// Closes every descriptor but the standard streams and this channel, which becomes number 3. No
    /// other owned descriptor may be left.
    pub(crate) fn keep_only(&mut self) -> Result<(), Errno> {
        let kept = pausa_sys::close_all_but(self.socket.take().ok_or(Errno::BADF)?)?;
        self.socket = Some(kept);
        Ok(())
    }

    /// Keeps the channel away from the numbers of the standard streams.
    pub(crate) fn move_above_streams(&mut self) -> Result<(), Errno> {
        if let Some(socket) = &self.socket
            && socket.as_raw_fd() <= 2
        {
            self.socket = Some(rustix::io::fcntl_dupfd_cloexec(socket, 3)?);
        }
        Ok(())
    }

    /// Closes what this child has inherited and has no use for. It may hang for long in one of its steps,
    /// and a stream that its parent closes meanwhile has to end for whoever is at its other end.
    pub(crate) fn close_others(&self, kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let own = self.socket.as_ref().ok_or(Errno::BADF)?;
        let all: Vec<BorrowedFd<'_>> = kept.iter().copied().chain([own.as_fd()]).collect();
        pausa_sys::close_others(&all)
    }

    /// Says that a step begins which may take long.
    pub(crate) fn step(&self, step: &Step) {
        self.send(b'S', 0, &step.to_string());
    }

    /// Says that only exec is left.
    pub(crate) fn ready(&self) {
        self.send(b'X', 0, "");
    }

    /// Says what went wrong.
    pub(crate) fn failure(&self, error: &Error) {
        self.send(b'F', error.errno(), &error.to_string());
    }

    /// Hands over the master of the terminal.
    pub(crate) fn terminal(&self, master: BorrowedFd<'_>) -> Result<(), Errno> {
        self.hand_over(b"T", master)
    }

    /// Says that another child of the same parent goes on, and waits to be killed. Returns where the parent is gone.
    pub(crate) fn make_way_for(&self, child: &Child) -> Result<(), Errno> {
        let [a, b, c, d] = child.pid.to_ne_bytes();
        self.hand_over(&[b'C', a, b, c, d], child.pidfd.as_fd())?;
        let socket = self.socket.as_ref().ok_or(Errno::BADF)?;
        let mut hung_up = [PollFd::new(socket, PollFlags::empty())];
        while !matches!(poll(&mut hung_up, None), Ok(1)) {}
        Ok(())
    }

    /// Waits until the parent knows of this child: what it does not know it would take for an orphan.
    pub(crate) fn wait_to_be_known(&self) -> Result<(), Errno> {
        let socket = self.socket.as_ref().ok_or(Errno::BADF)?;
        match rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut [0_u8]))? {
            0 => Err(Errno::PIPE),
            _ => Ok(()),
        }
    }

    fn hand_over(&self, packet: &[u8], fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Errno::NOBUFS);
        }
        let socket = self.socket.as_ref().ok_or(Errno::BADF)?;
        rustix::net::sendmsg(socket, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    fn send(&self, tag: u8, errno: i32, text: &str) {
        let mut packet = Vec::with_capacity(5 + text.len());
        packet.push(tag);
        packet.extend_from_slice(&errno.to_ne_bytes());
        packet.extend_from_slice(text.as_bytes());
        packet.truncate(PACKET_MAX);
        if let Some(socket) = &self.socket {
            // A parent that is gone cannot be told anything.
            let _ = rustix::io::write(socket, &packet);
        }
    }
}

/// Lets a child go on that waits to be known. One that has died meanwhile is told by the channel's end.
pub(crate) fn let_go(socket: BorrowedFd<'_>) {
    let _ = rustix::net::send(socket, b"G", SendFlags::NOSIGNAL);
}

/// One packet, as the parent gets it.
#[derive(Debug)]
pub(crate) enum Report {
    Step(String),
    Terminal(OwnedFd),
    Successor(Child),
    Ready,
    Failure { errno: i32, text: String },
    End,
}

/// Receives one packet without waiting; none where there is none yet.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Option<Report>, Errno> {
    let mut buffer = [0_u8; PACKET_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received =
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            // The child's death with packets of ours unread would say this; we send none.
            Err(Errno::CONNRESET) => return Ok(Some(Report::End)),
            other => other?,
        };
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fd = fds.next().and_then(|mut fds| fds.next());
    let (errno, text) = match buffer[..received.bytes]
        .get(1..)
        .and_then(|rest| rest.split_first_chunk::<4>())
    {
        Some((errno, text)) => (
            i32::from_ne_bytes(*errno),
            String::from_utf8_lossy(text).into_owned(),
        ),
        None => (0, String::new()),
    };
    Ok(Some(match (received.bytes, buffer[0], fd) {
        (0, ..) => Report::End,
        (_, b'T', Some(fd)) => Report::Terminal(fd),
        (_, b'C', Some(pidfd)) => Report::Successor(Child { pid: errno, pidfd }),
        (_, b'S', _) => Report::Step(text),
        (_, b'X', _) => Report::Ready,
        (_, b'F', _) => Report::Failure { errno, text },
        _ => return Err(Errno::BADMSG),
    }))
}

#[cfg(test)]
mod tests;
