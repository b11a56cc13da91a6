use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;

fn pair() -> (OwnedFd, OwnedFd) {
    let (parent, child) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::sockopt::set_socket_passcred(&parent, true).unwrap();
    (parent, child)
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

#[test]
fn packets_of_other_processes_are_told_apart() {
    let (parent, child) = pair();
    Reporter::new(child).ready();
    let foreign = receive(parent.as_fd(), own_pid() + 1).unwrap();
    assert!(matches!(foreign, Some(Report::Foreign)));
}

#[test]
fn packets_arrive_in_order_and_the_end_last() {
    let (parent, child) = pair();
    let reporter = Reporter::new(child);
    let next = || receive(parent.as_fd(), own_pid()).unwrap();
    assert!(next().is_none());
    let step = Step::MountSource {
        path: b"/a"[..].into(),
        target: b"/b"[..].into(),
    };
    reporter.step(&step);
    reporter.terminal(parent.as_fd()).unwrap();
    reporter.ready();
    reporter.failure(&Error::Call {
        step: Step::Seccomp,
        source: Errno::INVAL,
    });
    assert!(matches!(next(), Some(Report::Step(text)) if text == step.to_string()));
    assert!(matches!(next(), Some(Report::Terminal(_))));
    assert!(matches!(next(), Some(Report::Ready)));
    match next() {
        Some(Report::Failure(Failure {
            kind,
            errno,
            step: text,
        })) => {
            assert_eq!(kind, FailureKind::Start);
            assert_eq!(
                (errno, text),
                (Errno::INVAL.raw_os_error(), Step::Seccomp.to_string())
            );
        }
        other => panic!("{other:?}"),
    }
    drop(reporter);
    assert!(matches!(next(), Some(Report::End)));
}

#[test]
fn what_is_no_report_is_an_error() {
    for packet in [&b"?"[..], b"T", b"\0\0\0"] {
        let (parent, child) = pair();
        rustix::io::write(&child, packet).unwrap();
        assert_eq!(receive(parent.as_fd(), own_pid()).unwrap_err(), Errno::BADMSG);
    }
}

#[test]
fn the_channel_leaves_the_numbers_of_the_streams() {
    let (_parent, child) = pair();
    let before = child.as_raw_fd();
    let mut reporter = Reporter::new(child);
    reporter.move_above_streams().unwrap();
    // Test processes have their streams, so there is nothing to do.
    assert_eq!(reporter.socket.as_ref().unwrap().as_raw_fd(), before);
}
