use std::os::fd::AsFd;

use pausa_monitor_protocol::{
    ContainerReport, FailureKind, OLDEST_PLANS, PROTOCOL_VERSION, ProcessState, Reply, Request, SOCKET_NAME,
};

use crate::rig::{Rig, exec, open_log, pod};

fn reports(reply: Reply) -> Vec<ContainerReport> {
    match reply {
        Reply::Hello {
            version, containers, ..
        } => {
            assert_eq!(version, PROTOCOL_VERSION);
            containers
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn hello_comes_first() {
    let mut rig = Rig::bare(env!("CARGO_BIN_EXE_plain-monitor"));
    let failure = rig.daemon.ask(Request::Shutdown).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Protocol);
    rig.daemon.hello();
    rig.shut_down();
}

#[test]
fn a_daemon_of_any_version_is_answered() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "exec sleep 1000");
    let mut newer = rig.connect();
    let hello = |version| Request::Hello { version };
    let Reply::Hello { pid, version, .. } = newer.ask(hello(PROTOCOL_VERSION + 1)).unwrap() else {
        panic!()
    };
    assert_eq!(
        (u32::try_from(pid), version),
        (Ok(rig.process.id()), PROTOCOL_VERSION)
    );
    let mut older = rig.connect();
    assert_eq!(reports(older.ask(hello(OLDEST_PLANS - 1)).unwrap()).len(), 1);
    let refused = older
        .ask(Request::Exec(Box::new(exec("e", "a", "true"))))
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Protocol, "{refused}");
    let log = open_log(&rig.dir.path().join("1.log"));
    older.ask_with(reopen("a"), &[log.as_fd()]).unwrap();
    older
        .ask(Request::Signal {
            container: "a".into(),
            signal: 9,
        })
        .unwrap();
    assert_eq!(older.exit("a").signal, 9);
    assert_eq!(newer.exit("a").signal, 9);
    assert_eq!(rig.daemon.exit("a").signal, 9);
    older
        .ask(Request::Forget {
            container: "a".into(),
        })
        .unwrap();
    older.ask(Request::Shutdown).unwrap();
    assert!(rig.process.wait().unwrap().success());
}

#[test]
fn a_request_of_a_later_version_is_refused_and_the_connection_goes_on() {
    let mut rig = Rig::new(&pod());
    // A number that no request has, and an Exec whose plan is cut off.
    for request in [&[77_u8, 1, 2, 3][..], &[3, 5, b'a']] {
        let refused = rig.daemon.ask_raw(request).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Protocol, "{refused}");
    }
    rig.shut_down();
}

fn reopen(container: &str) -> Request {
    let container = container.to_owned();
    Request::ReopenLog { container }
}

#[test]
fn the_pod_outlives_its_daemon_and_the_next_one_learns_everything() {
    let mut rig = Rig::new(&pod());
    let running = rig.start("running", "exec sleep 1000");
    let ended = rig.start("ended", "exit 4");
    let exit = rig.daemon.exit("ended");
    let dir = rig.dir.path().to_owned();
    // As kill -9 of the daemon does: its end of the socket is closed.
    rig.daemon = rig.connect();
    let reports = reports(rig.daemon.hello());
    assert_eq!(
        reports
            .iter()
            .map(|report| (report.container.as_str(), report.pid, report.state))
            .collect::<Vec<_>>(),
        [
            ("running", running, ProcessState::Running),
            ("ended", ended, ProcessState::Exited(exit))
        ]
    );
    assert!(dir.join(SOCKET_NAME).exists());
    rig.daemon
        .ask(Request::KillAll {
            container: "running".into(),
        })
        .unwrap();
    assert_eq!(rig.daemon.exit("running").signal, 9);
    rig.shut_down();
}

#[test]
fn everyone_who_is_connected_hears_of_an_exit() {
    let mut rig = Rig::new(&pod());
    let mut tool = rig.connect();
    tool.hello();
    rig.start("a", "exit 1");
    assert_eq!(rig.daemon.exit("a"), tool.exit("a"));
    drop(tool);
    rig.start("b", "exit 2");
    assert_eq!(rig.daemon.exit("b").code, 2);
    rig.shut_down();
}

#[test]
fn who_does_not_read_is_cut_off_and_nobody_else_notices() {
    let mut rig = Rig::new(&pod());
    let mut deaf = rig.connect();
    deaf.hello();
    for _ in 0..300 {
        rig.start("a", "exit 0");
        rig.daemon.exit("a");
        rig.daemon
            .ask(Request::Forget {
                container: "a".into(),
            })
            .unwrap();
    }
    rig.shut_down();
}

#[test]
fn a_monitor_whose_daemon_dies_before_the_pod_is_made_leaves() {
    let mut rig = Rig::bare(env!("CARGO_BIN_EXE_plain-monitor"));
    rig.daemon.hello();
    rig.daemon.hang_up();
    assert!(rig.process.wait().unwrap().success());
}
