//! The child's reports to its parent before `execve`: packets over a close-on-exec socket pair.
//!
//! ```text
//!   'S' text          a step begins in which the child may hang or be killed
//!   'T' + descriptor  the master of the terminal
//!   'C' pid           another child of the same parent continues, and waits for 'G' from the parent; this one ends
//!   'L' pid           as 'C', for the last child, which is inside of the container's PID namespace
//!   'H'               the mounts are made; the child waits for 'G' from the parent, which runs hooks meanwhile
//!   'X'               only execve is left
//!   'F' errno text    the start has failed; the last packet
//!   'I' errno text    as 'F', for a reason that is not in what was asked for
//!   EOF               after 'X': the command runs; before 'X': the child was killed
//! ```
//!
//! The child sends by write(2), which seccomp filters allow. Only descriptors need sendmsg(2), and they are sent before a
//! filter is loaded. If the parent has died, SIGPIPE ends the child at 'X': no process would supervise the command that it
//! is about to start. Apart from that, the outcome of sending a report does not matter to the child.
//!
//! Other processes of the container may get hold of the last child and of its socket. So a packet only counts if it comes
//! from the process that is the child at that time (SCM_CREDENTIALS, unix(7)), and of the last child only 'X' and 'F'.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use pausa_monitor_protocol::{Failure, FailureKind};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::error::{Error, Step};

/// Longest packet, in bytes.
const PACKET_MAX: usize = 2048;

/// The child's end.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// None only while the socket is being moved.
    socket: Option<OwnedFd>,
}

impl Reporter {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket: Some(socket) }
    }

    /// Closes every descriptor but the standard streams and this socket, which becomes number 3.
    ///
    /// # Safety
    /// As [`pausa_sys::close_all_but`].
    #[expect(
        unsafe_code,
        reason = "only the caller knows the owners of the other descriptors"
    )]
    pub(crate) unsafe fn keep_only(&mut self) -> Result<(), Errno> {
        let socket = self.socket.take().ok_or(Errno::BADF)?;
        // SAFETY: the caller's contract.
        let kept = unsafe { pausa_sys::close_all_but(socket) }?;
        self.socket = Some(kept);
        Ok(())
    }

    /// Moves the socket above the numbers of the standard streams.
    pub(crate) fn move_above_streams(&mut self) -> Result<(), Errno> {
        if let Some(socket) = &self.socket
            && socket.as_raw_fd() <= 2
        {
            self.socket = Some(rustix::io::fcntl_dupfd_cloexec(socket, 3)?);
        }
        Ok(())
    }

    /// Closes inherited descriptors that the child does not need. The child may hang for long in one of its steps, and must
    /// not keep a stream open that its parent closes meanwhile.
    ///
    /// # Safety
    /// As [`pausa_sys::close_others`].
    #[expect(
        unsafe_code,
        reason = "only the caller knows the owners of the other descriptors"
    )]
    pub(crate) unsafe fn close_others(&self, kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let own = self.socket.as_ref().ok_or(Errno::BADF)?;
        let all: Vec<BorrowedFd<'_>> = kept.iter().copied().chain([own.as_fd()]).collect();
        // SAFETY: the caller's contract.
        unsafe { pausa_sys::close_others(&all) }
    }

    /// Reports that a step begins which may take long.
    pub(crate) fn step(&self, step: &Step) {
        self.send(b'S', 0, &step.to_string());
    }

    /// Reports that the container's mounts are made.
    pub(crate) fn created(&self) {
        self.send(b'H', 0, "");
    }

    /// Reports that only execve is left.
    pub(crate) fn ready(&self) {
        self.send(b'X', 0, "");
    }

    /// Reports that the start has failed.
    pub(crate) fn failure(&self, error: &Error) {
        let tag = match error.kind() {
            FailureKind::Internal => b'I',
            _ => b'F',
        };
        self.send(tag, error.errno(), &error.to_string());
    }

    /// Sends the master of the terminal.
    pub(crate) fn terminal(&self, master: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [master];
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Errno::NOBUFS);
        }
        let socket = self.socket.as_ref().ok_or(Errno::BADF)?;
        rustix::net::sendmsg(socket, &[IoSlice::new(b"T")], &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    /// Reports that another child of the same parent continues.
    pub(crate) fn hand_over(&self, pid: i32, stage: Stage) {
        let tag = match stage {
            Stage::Setup => b'C',
            Stage::Last => b'L',
        };
        self.send(tag, pid, "");
    }

    /// Waits until the parent lets this child go on: when it knows the child, which it would treat as an orphan of the pod
    /// before, or when it has run hooks.
    pub(crate) fn wait_to_be_known(&self) -> Result<(), Errno> {
        wait_to_be_known(self.socket.as_ref().ok_or(Errno::BADF)?.as_fd())
    }

    /// The socket, for a bare child, which gets no copy of this value.
    pub(crate) fn socket(&self) -> Option<RawFd> {
        self.socket.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn send(&self, tag: u8, errno: i32, text: &str) {
        if let Some(socket) = &self.socket {
            send(socket.as_fd(), tag, errno, &[text]);
        }
    }
}

/// Which part of a start another child takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The set-up goes on, out of sight of the container's processes.
    Setup,
    /// Only the command is left to execute, in sight of the container's processes.
    Last,
}

/// Sends a packet; allocates nothing, for bare children.
fn send(socket: BorrowedFd<'_>, tag: u8, errno: i32, text: &[&str]) {
    let mut packet = [0_u8; PACKET_MAX];
    packet[0] = tag;
    packet[1..5].copy_from_slice(&errno.to_ne_bytes());
    let mut length = 5;
    for byte in text.iter().flat_map(|part| part.bytes()).take(PACKET_MAX - 5) {
        packet[length] = byte;
        length += 1;
    }
    // Fails only if the parent has died.
    let _ = rustix::io::write(socket, &packet[..length]);
}

/// Reports from a bare child that the start has failed.
pub(crate) fn failure_of_bare_child(socket: BorrowedFd<'_>, errno: Errno, step: &[&str]) {
    send(socket, b'F', errno.raw_os_error(), step);
}

/// See [`Reporter::wait_to_be_known`].
pub(crate) fn wait_to_be_known(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut [0_u8]))? {
        0 => Err(Errno::PIPE),
        _ => Ok(()),
    }
}

/// Lets a child go on that waits. If it has died, the end of the reports says so.
pub(crate) fn resume(socket: BorrowedFd<'_>) {
    let _ = rustix::net::send(socket, b"G", SendFlags::NOSIGNAL);
}

/// A packet as the parent receives it.
#[derive(Debug)]
pub(crate) enum Report {
    Step(String),
    Terminal(OwnedFd),
    Successor {
        pid: i32,
        stage: Stage,
    },
    Created,
    Ready,
    Failure(Failure),
    /// Not of the child.
    Foreign,
    End,
}

/// Receives a packet of the process `sender` without waiting; none if there is none yet. The socket has SO_PASSCRED.
pub(crate) fn receive(socket: BorrowedFd<'_>, sender: i32) -> Result<Option<Report>, Errno> {
    let mut buffer = [0_u8; PACKET_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received =
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            // The child has died with a packet of ours unread.
            Err(Errno::CONNRESET) => return Ok(Some(Report::End)),
            other => other?,
        };
    let (mut fd, mut from) = (None, None);
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fd = fds.next(),
            RecvAncillaryMessage::ScmCredentials(credentials) => {
                from = Some(credentials.pid.as_raw_nonzero().get());
            }
            _ => {}
        }
    }
    if received.bytes > 0 && from != Some(sender) {
        return Ok(Some(Report::Foreign));
    }
    let (errno, text) = match buffer[..received.bytes]
        .get(1..)
        .and_then(|rest| rest.split_first_chunk::<4>())
    {
        Some((errno, text)) => (
            i32::from_ne_bytes(*errno),
            // The last child may be in the hands of the container.
            String::from_utf8_lossy(text).replace(char::is_control, "?"),
        ),
        None => (0, String::new()),
    };
    Ok(Some(match (received.bytes, buffer[0], fd) {
        (0, ..) => Report::End,
        (_, b'T', Some(fd)) => Report::Terminal(fd),
        (5, b'C', _) => Report::Successor {
            pid: errno,
            stage: Stage::Setup,
        },
        (5, b'L', _) => Report::Successor {
            pid: errno,
            stage: Stage::Last,
        },
        (_, b'S', _) => Report::Step(text),
        (_, b'H', _) => Report::Created,
        (_, b'X', _) => Report::Ready,
        (_, tag @ (b'F' | b'I'), _) => Report::Failure(Failure {
            kind: match tag {
                b'I' => FailureKind::Internal,
                _ => FailureKind::Start,
            },
            errno,
            step: text,
        }),
        _ => return Err(Errno::BADMSG),
    }))
}

#[cfg(test)]
mod tests;
