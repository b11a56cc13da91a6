//! The bytes of the frozen messages. If a test here fails, daemons and monitors of different versions no longer understand
//! each other: append instead of changing.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    ContainerReport, Detachment, Event, ExitStatus, Failure, FailureKind, FromMonitor, ProcessState, Reply,
    Request, ToMonitor,
};

/// The message is encoded as these bytes, and decoded from them to a message with the same encoding.
fn pinned<T: Serialize + DeserializeOwned>(message: &T, bytes: &[u8]) {
    assert_eq!(postcard::to_stdvec(message).unwrap(), bytes);
    let read: T = postcard::from_bytes(bytes).unwrap();
    assert_eq!(postcard::to_stdvec(&read).unwrap(), bytes);
}

fn asked(request: Request, bytes: &[u8]) {
    let mut whole = vec![0xac, 0x02];
    whole.extend_from_slice(bytes);
    pinned(&ToMonitor { id: 300, request }, &whole);
    assert_eq!(ToMonitor::id_of(&whole), Some(300));
}

fn answered(result: Result<Reply, Failure>, bytes: &[u8]) {
    let mut whole = vec![0, 0xac, 0x02];
    whole.extend_from_slice(bytes);
    pinned(&FromMonitor::Reply { id: 300, result }, &whole);
    assert_eq!(FromMonitor::id_of(&whole), Some(300));
}

fn told(event: Event, bytes: &[u8]) {
    let mut whole = vec![1];
    whole.extend_from_slice(bytes);
    pinned(&FromMonitor::Event(event), &whole);
    assert_eq!(FromMonitor::id_of(&whole), None);
}

const EXIT: ExitStatus = ExitStatus {
    code: 137,
    signal: 9,
    oom_killed: true,
    at: -1,
};
/// Integers are zigzag and variable in length.
const EXIT_BYTES: [u8; 5] = [0x92, 0x02, 18, 1, 1];

fn exit_after(head: &[u8]) -> Vec<u8> {
    [head, &EXIT_BYTES].concat()
}

fn failure(kind: FailureKind) -> Failure {
    Failure {
        kind,
        step: "s".into(),
        errno: 2,
    }
}

#[test]
fn requests_without_a_plan() {
    let container = || "c".to_owned();
    asked(Request::Hello { version: 2 }, &[0, 2]);
    asked(
        Request::Signal {
            container: container(),
            signal: 15,
        },
        &[4, 1, b'c', 30],
    );
    asked(
        Request::KillAll {
            container: container(),
        },
        &[5, 1, b'c'],
    );
    asked(Request::KillExec { exec: "e".into() }, &[6, 1, b'e']);
    asked(
        Request::ReopenLog {
            container: container(),
        },
        &[7, 1, b'c'],
    );
    asked(
        Request::Forget {
            container: container(),
        },
        &[8, 1, b'c'],
    );
    asked(Request::Shutdown, &[9]);
    asked(Request::HangUp { exec: "e".into() }, &[10, 1, b'e']);
    asked(Request::Detach { attach: "a".into() }, &[12, 1, b'a']);
}

#[test]
fn replies() {
    let report = |state| ContainerReport {
        container: "c".into(),
        pid: 7,
        started_at: 1,
        state,
    };
    let hello = Reply::Hello {
        version: 2,
        pid: 5,
        pause: Some(6),
        containers: vec![
            report(ProcessState::Running),
            report(ProcessState::Exited(EXIT)),
            report(ProcessState::Starting),
        ],
    };
    let mut bytes = vec![0, 0, 2, 10, 1, 12, 3];
    bytes.extend_from_slice(&[1, b'c', 14, 2, 0]);
    bytes.extend(exit_after(&[1, b'c', 14, 2, 1]));
    bytes.extend_from_slice(&[1, b'c', 14, 2, 2]);
    answered(Ok(hello), &bytes);
    answered(Ok(Reply::Done), &[0, 1]);
    answered(Ok(Reply::Started { pid: 7, at: 1 }), &[0, 2, 14, 2]);
}

#[test]
fn failures() {
    for (kind, number) in [
        (FailureKind::NotFound, 0),
        (FailureKind::State, 1),
        (FailureKind::Start, 2),
        (FailureKind::Protocol, 3),
        (FailureKind::Internal, 4),
    ] {
        answered(Err(failure(kind)), &[1, number, 1, b's', 4]);
    }
}

#[test]
fn events() {
    told(
        Event::Exited {
            container: "c".into(),
            exit: EXIT,
        },
        &exit_after(&[0, 1, b'c']),
    );
    told(
        Event::ExecExited {
            exec: "e".into(),
            exit: EXIT,
        },
        &exit_after(&[1, 1, b'e']),
    );
    told(Event::PauseExited, &[2]);
    told(
        Event::LogDropped {
            container: "c".into(),
            bytes: 300,
            errno: 28,
        },
        &[3, 1, b'c', 0xac, 0x02, 56],
    );
    told(
        Event::Started {
            container: "c".into(),
            pid: 7,
            at: 1,
        },
        &[4, 1, b'c', 14, 2],
    );
    told(
        Event::StartFailed {
            container: "c".into(),
            failure: failure(FailureKind::Start),
        },
        &[5, 1, b'c', 2, 1, b's', 4],
    );
    let detached = |why| Event::Detached {
        attach: "a".into(),
        why,
    };
    told(detached(Detachment::Exited(EXIT)), &exit_after(&[6, 1, b'a', 0]));
    told(detached(Detachment::TooSlow), &[6, 1, b'a', 1]);
    told(detached(Detachment::Left), &[6, 1, b'a', 2]);
    let failed = Event::HookFailed {
        container: "c".to_owned(),
        failure: failure(FailureKind::Start),
    };
    let bytes = postcard::to_stdvec(&failure(FailureKind::Start)).unwrap();
    told(failed, &[&[7, 1, b'c'][..], &bytes].concat());
}

#[test]
fn the_places_of_requests_with_a_plan() {
    // The bytes after the number belong to the plan and may differ between versions.
    for (number, name) in [
        (1, "Setup"),
        (2, "Start("),
        (3, "Exec"),
        (11, "Attach"),
        (13, "Unshare"),
        (14, "StartExtended"),
        (15, "Poststop"),
    ] {
        let bytes: Vec<u8> = [0, number].into_iter().chain([0; 400]).collect();
        let read: ToMonitor = postcard::from_bytes(&bytes).unwrap();
        assert!(
            format!("{:?}", read.request).starts_with(name),
            "{:?} instead of {name}",
            read.request
        );
    }
}

#[test]
fn what_a_later_version_appends_is_known_by_its_id_or_passed_over() {
    assert!(postcard::from_bytes::<ToMonitor>(&[7, 99, 1, 2]).is_err());
    assert_eq!(ToMonitor::id_of(&[7, 99, 1, 2]), Some(7));
    assert!(postcard::from_bytes::<FromMonitor>(&[0, 7, 0, 99]).is_err());
    assert_eq!(FromMonitor::id_of(&[0, 7, 0, 99]), Some(7));
    assert!(postcard::from_bytes::<FromMonitor>(&[1, 99]).is_err());
    assert_eq!(FromMonitor::id_of(&[1, 99]), None);
    assert_eq!(ToMonitor::id_of(&[]), None);
}
