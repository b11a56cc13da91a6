//! Packets over a `SOCK_SEQPACKET` socket, with file descriptors.
//!
//! The first byte of a packet says where the message is: it follows in the packet, or it is in a memfd that is sent as the
//! first descriptor. A container with a megabyte of environment does not fit into a socket's buffer. [`send`] and
//! [`receive`] make a single system call on the socket; on a non-blocking socket they return `EAGAIN` as an error.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message that is sent in the packet, in bytes. Longer ones are sent in a memfd.
const INLINE_MAX: usize = 60 * 1024;
/// Longest message that is accepted, in bytes.
const MESSAGE_MAX: u64 = 64 * 1024 * 1024;
/// Most descriptors in a packet. The kernel's limit (SCM_MAX_FD) is 253.
const MAX_FDS: usize = 128;

const INLINE: u8 = 0;
const IN_MEMFD: u8 = 1;

/// Why a packet could not be sent or understood.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The system call failed, with `Errno::AGAIN` if the socket is not ready.
    #[error("{call} on the monitor socket failed")]
    Os {
        /// Name of the system call.
        call: &'static str,
        /// What it failed with.
        #[source]
        errno: Errno,
    },
    /// The other end has closed the connection.
    #[error("the other end closed the monitor socket")]
    Closed,
    /// A packet breaks the rules of the protocol.
    #[error("malformed packet on the monitor socket: {what}")]
    Malformed {
        /// The rule, in words.
        what: &'static str,
    },
    /// The message could not be encoded.
    #[error("cannot encode a message of the monitor protocol")]
    Encode(#[source] postcard::Error),
    /// This version does not know the message. Its descriptors are closed.
    #[error(
        "a message on the monitor socket is unknown to version {} of the protocol",
        crate::PROTOCOL_VERSION
    )]
    Unknown {
        /// The first 32 bytes, which contain its id, see [`crate::ToMonitor::id_of`].
        head: Vec<u8>,
        /// What postcard made of it.
        #[source]
        source: postcard::Error,
    },
}

/// Bytes kept of an unknown message.
const HEAD: usize = 32;

impl SocketError {
    /// Whether the socket was not ready.
    pub fn would_block(&self) -> bool {
        matches!(
            self,
            Self::Os {
                errno: Errno::AGAIN,
                ..
            }
        )
    }
}

fn os(call: &'static str) -> impl FnOnce(Errno) -> SocketError {
    move |errno| SocketError::Os { call, errno }
}

/// Sends a message with its descriptors.
///
/// # Errors
/// [`SocketError::Os`] with `EAGAIN` when the socket's buffer is full, `EPIPE` when the other end is gone;
/// [`SocketError::Malformed`] for too many descriptors.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), SocketError> {
    if fds.len() >= MAX_FDS {
        return Err(SocketError::Malformed {
            what: "too many descriptors",
        });
    }
    let bytes = postcard::to_stdvec(message).map_err(SocketError::Encode)?;
    if bytes.len() <= INLINE_MAX {
        return send_raw(socket, &[IoSlice::new(&[INLINE]), IoSlice::new(&bytes)], fds);
    }
    let memfd = sealed(&bytes)?;
    let mut all = Vec::with_capacity(fds.len() + 1);
    all.push(memfd.as_fd());
    all.extend_from_slice(fds);
    send_raw(socket, &[IoSlice::new(&[IN_MEMFD])], &all)
}

fn send_raw(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> Result<(), SocketError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(SocketError::Malformed {
            what: "too many descriptors",
        });
    }
    rustix::net::sendmsg(socket, parts, &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(os("sendmsg"))
}

/// Puts a message into a sealed memfd, which cannot be changed any more.
fn sealed(bytes: &[u8]) -> Result<OwnedFd, SocketError> {
    let memfd = rustix::fs::memfd_create("pausa-message", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(os("memfd_create"))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&memfd, rest).map_err(os("write"))?;
        rest = &rest[written..];
    }
    rustix::fs::fcntl_add_seals(
        &memfd,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )
    .map_err(os("fcntl(F_ADD_SEALS)"))?;
    Ok(memfd)
}

/// Receives a message with its descriptors, all of them close-on-exec.
///
/// # Errors
/// [`SocketError::Closed`] at the end, [`SocketError::Os`] with `EAGAIN` when there is nothing to read,
/// [`SocketError::Malformed`] for a malformed packet, [`SocketError::Unknown`] for an unknown message.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<(T, Vec<OwnedFd>), SocketError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = vec![0; INLINE_MAX + 1];
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(os("recvmsg"))?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    let packet = buffer.get(..received.bytes).unwrap_or_default();
    match packet.split_first() {
        None => Err(SocketError::Closed),
        Some((&INLINE, message)) => Ok((decode(message)?, fds)),
        Some((&IN_MEMFD, [])) => {
            if fds.is_empty() {
                return Err(SocketError::Malformed {
                    what: "the memfd with the message is missing",
                });
            }
            let memfd = fds.remove(0);
            Ok((decode(&read_sealed(&memfd)?)?, fds))
        }
        Some(_) => Err(SocketError::Malformed {
            what: "unknown packet form",
        }),
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SocketError> {
    postcard::from_bytes(bytes).map_err(|source| SocketError::Unknown {
        head: bytes[..bytes.len().min(HEAD)].to_vec(),
        source,
    })
}

/// Reads a message from a memfd. It must be sealed, since its content could change while it is read otherwise.
fn read_sealed(memfd: &OwnedFd) -> Result<Vec<u8>, SocketError> {
    let seals = rustix::fs::fcntl_get_seals(memfd).map_err(os("fcntl(F_GET_SEALS)"))?;
    if !seals.contains(SealFlags::SHRINK | SealFlags::WRITE) {
        return Err(SocketError::Malformed {
            what: "the memfd is not sealed",
        });
    }
    let size = u64::try_from(rustix::fs::fstat(memfd).map_err(os("fstat"))?.st_size).unwrap_or(0);
    if size > MESSAGE_MAX {
        return Err(SocketError::Malformed {
            what: "the message is too long",
        });
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pread(memfd, &mut bytes[done..], done as u64).map_err(os("pread"))? {
            0 => {
                return Err(SocketError::Malformed {
                    what: "the memfd is shorter than its size",
                });
            }
            read => done += read,
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
