use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::{SocketError, receive, send};

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .unwrap()
}

#[test]
fn a_message_arrives_with_its_descriptors() {
    let (a, b) = pair();
    let (read, write) = rustix::pipe::pipe().unwrap();
    send(a.as_fd(), &"hello".to_owned(), &[write.as_fd()]).unwrap();
    let (message, fds): (String, _) = receive(b.as_fd()).unwrap();
    assert_eq!((message.as_str(), fds.len()), ("hello", 1));
    rustix::io::write(&fds[0], b"through").unwrap();
    let mut buffer = [0; 7];
    rustix::io::read(&read, &mut buffer).unwrap();
    assert_eq!(&buffer, b"through");
    assert!(
        rustix::io::fcntl_getfd(&fds[0])
            .unwrap()
            .contains(rustix::io::FdFlags::CLOEXEC)
    );
}

#[test]
fn a_long_message_travels_in_a_memfd_before_the_other_descriptors() {
    let (a, b) = pair();
    let (_read, write) = rustix::pipe::pipe().unwrap();
    let long = "x".repeat(3_000_000);
    send(a.as_fd(), &long, &[write.as_fd()]).unwrap();
    let (message, fds): (String, _) = receive(b.as_fd()).unwrap();
    assert!(message == long);
    assert_eq!(fds.len(), 1);
}

#[test]
fn an_unsealed_memfd_is_refused() {
    let (a, b) = pair();
    let memfd = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    super::send_raw(
        a.as_fd(),
        &[std::io::IoSlice::new(&[super::IN_MEMFD])],
        &[memfd.as_fd()],
    )
    .unwrap();
    assert!(matches!(
        receive::<String>(b.as_fd()),
        Err(SocketError::Malformed { .. } | SocketError::Os { .. })
    ));
}

#[test]
fn nothing_to_read_and_nobody_there_are_told_apart() {
    let (a, b) = pair();
    assert!(receive::<String>(b.as_fd()).unwrap_err().would_block());
    drop(a);
    assert!(matches!(receive::<String>(b.as_fd()), Err(SocketError::Closed)));
}

proptest! {
    #[test]
    fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        let (a, b) = pair();
        super::send_raw(a.as_fd(), &[std::io::IoSlice::new(&bytes)], &[]).unwrap();
        drop(receive::<crate::ToMonitor>(b.as_fd()));
    }
}
