//! Monitors of other versions, played by the bytes that are frozen in the protocol crate.

use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use pausa_monitor_protocol::{Event, ExecPlan, FailureKind, ProcessState, Reply, Request};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::super::client::greet;
use super::super::{Events, Monitor, MonitorError};
use crate::error::{ErrorKind, Kinded};

/// A monitor that answers each request, by its number, with the bytes of a script.
fn monitor(script: Vec<Vec<u8>>) -> (OwnedFd, JoinHandle<Vec<u8>>) {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    rustix::io::ioctl_fionbio(ours.as_fd(), true).unwrap();
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        let mut buffer = [0; 4096];
        for answer in script {
            let (read, _) = rustix::net::recv(&theirs, &mut buffer, RecvFlags::empty()).unwrap();
            assert!(read > 2, "the daemon has left");
            asked.push(buffer[2]);
            // Packet form, then Reply, then the id of the request.
            let reply = [&[0, 0, buffer[1]], &answer[..]].concat();
            rustix::net::send(&theirs, &reply, SendFlags::NOSIGNAL).unwrap();
            // An event of a later version, and one that everybody knows: PauseExited.
            for event in [&[0_u8, 1, 99, 1, 2][..], &[0, 1, 2]] {
                rustix::net::send(&theirs, event, SendFlags::NOSIGNAL).unwrap();
            }
        }
        asked
    });
    (ours, thread)
}

/// Hello of this version, with a container `c` that runs as process 7.
fn hello(version: u8) -> Vec<u8> {
    let report = [1, b'c', 14, 2, 0];
    [&[0, 0, version, 10, 0, 1], &report[..]].concat()
}

const DONE: [u8; 2] = [0, 1];

async fn greeted(version: u8, rest: &[&[u8]]) -> (Monitor, Events, JoinHandle<Vec<u8>>) {
    let mut script = vec![hello(version)];
    script.extend(rest.iter().map(|answer| answer.to_vec()));
    let (socket, thread) = monitor(script);
    let (monitor, events) = greet(socket, None).await.unwrap();
    (monitor, events, thread)
}

fn exec() -> Request {
    let process = match super::container("true") {
        Request::Start(plan) => plan.process,
        other => panic!("{other:?}"),
    };
    Request::Exec(Box::new(ExecPlan {
        id: "e".into(),
        container: "c".into(),
        fds: Vec::new(),
        process,
    }))
}

/// Everything that keeps a pod alive, and ends it, works whatever the monitor's version is.
#[tokio::test]
async fn a_pod_is_kept_whatever_its_monitors_version() {
    for version in [1, 99] {
        let (monitor, mut events, thread) = greeted(version, &[&DONE[..]; 6]).await;
        assert_eq!(monitor.pid(), 5);
        let [report] = monitor.containers() else { panic!() };
        assert_eq!(
            (report.container.as_str(), report.pid, report.state),
            ("c", 7, ProcessState::Running)
        );
        assert_eq!(
            events.recv().await,
            Some(Event::PauseExited),
            "the unknown one is passed over"
        );
        let container = || "c".to_owned();
        for request in [
            Request::ReopenLog {
                container: container(),
            },
            Request::Signal {
                container: container(),
                signal: 15,
            },
            Request::KillAll {
                container: container(),
            },
            Request::KillExec { exec: "e".into() },
            Request::Forget {
                container: container(),
            },
            Request::Shutdown,
        ] {
            assert_eq!(monitor.request(request, Vec::new()).await.unwrap(), Reply::Done);
        }
        assert_eq!(thread.join().unwrap(), [0, 7, 4, 5, 6, 8, 9]);
    }
}

/// Plans are written since version 2 only: an older monitor is asked for nothing that takes one.
#[tokio::test]
async fn an_older_monitor_gets_no_plans() {
    let (monitor, _events, thread) = greeted(1, &[]).await;
    let refused = monitor.request(exec(), Vec::new()).await.unwrap_err();
    assert!(
        matches!(refused, MonitorError::Version { theirs: 1, .. }),
        "{refused:?}"
    );
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert_eq!(thread.join().unwrap(), [0]);
}

/// A newer one takes our plans; what it answers in a form of its own is an error of that request alone.
#[tokio::test]
async fn a_newer_monitor_takes_plans_and_may_say_more_than_is_known() {
    let started = [0, 2, 14, 2];
    let unknown = [0, 77, 1];
    let (monitor, _events, thread) = greeted(99, &[&started, &unknown, &DONE]).await;
    let reply = monitor.request(exec(), Vec::new()).await.unwrap();
    assert_eq!(reply, Reply::Started { pid: 7, at: 1 });
    let MonitorError::Refused(failure) = monitor.request(exec(), Vec::new()).await.unwrap_err() else {
        panic!()
    };
    assert_eq!(failure.kind, FailureKind::Protocol, "{failure}");
    assert_eq!(
        monitor.request(Request::Shutdown, Vec::new()).await.unwrap(),
        Reply::Done
    );
    assert_eq!(thread.join().unwrap(), [0, 3, 3, 9]);
}
