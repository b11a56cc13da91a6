use std::os::fd::AsFd;

use pausa_monitor_protocol::{ContainerReport, ExitRecord, FailureKind, ProcessState, Reply, Request};

use crate::rig::{Rig, container, pod};

fn record(rig: &Rig, id: &str) -> ExitRecord {
    let path = rig.dir.path().join("exits").join(format!("{id}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_container_runs_and_its_log_and_record_are_there_when_its_exit_is_told() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "echo out; echo err >&2; exit 7");
    let exit = rig.daemon.exit("a");
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, 0, false));
    let mut entries = rig.entries();
    entries.sort();
    assert_eq!(entries, ["stderr F err", "stdout F out"]);
    let record = record(&rig, "a");
    assert_eq!((record.version, record.exit), (ExitRecord::VERSION, exit));
    assert!(record.started_at > 0 && record.started_at <= exit.at);
    rig.shut_down();
}

#[test]
fn a_signal_makes_the_code() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "kill -KILL $$");
    let exit = rig.daemon.exit("a");
    assert_eq!((exit.code, exit.signal), (137, 9));
    // To one that has exited a signal is sent in vain, and that is no failure.
    assert_eq!(
        rig.daemon.ask(Request::Signal {
            container: "a".into(),
            signal: 15
        }),
        Ok(Reply::Done)
    );
    let failure = rig
        .daemon
        .ask(Request::Signal {
            container: "b".into(),
            signal: 15,
        })
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
    rig.shut_down();
}

#[test]
fn a_signal_reaches_the_first_process_even_a_real_time_one() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "exec sleep 1000");
    let bad = rig
        .daemon
        .ask(Request::Signal {
            container: "a".into(),
            signal: 99,
        })
        .unwrap_err();
    assert_eq!(bad.errno, rustix::io::Errno::INVAL.raw_os_error());
    assert_eq!(
        rig.daemon.ask(Request::Signal {
            container: "a".into(),
            signal: 36
        }),
        Ok(Reply::Done)
    );
    let exit = rig.daemon.exit("a");
    assert_eq!((exit.signal, exit.code), (36, 128 + 36));
    rig.shut_down();
}

#[test]
fn what_cannot_be_started_leaves_nothing() {
    let mut rig = Rig::new(&pod());
    let mut plan = container("a", "true");
    plan.fds.clear();
    plan.process.args = vec![b"/no/such/program".to_vec()];
    let failure = rig.daemon.start(&plan, &[]).unwrap_err();
    assert_eq!(
        (failure.kind, failure.errno),
        (FailureKind::Start, rustix::io::Errno::NOENT.raw_os_error())
    );
    let Reply::Hello { containers, .. } = rig.daemon.hello() else {
        panic!()
    };
    assert_eq!(containers, []);
    rig.start("a", "true");
    assert_eq!(rig.daemon.exit("a").code, 0);
    rig.shut_down();
}

#[test]
fn an_id_is_used_once_until_it_is_forgotten() {
    let mut rig = Rig::new(&pod());
    let pid = rig.start("a", "read never");
    let log = crate::rig::open_log(&rig.log());
    let again = rig
        .daemon
        .start(&container("a", "true"), &[log.as_fd()])
        .unwrap_err();
    assert_eq!(again.kind, FailureKind::State);
    let exit = rig.daemon.exit("a");
    let Reply::Hello { containers, .. } = rig.daemon.hello() else {
        panic!()
    };
    let [
        ContainerReport {
            container,
            pid: reported,
            state,
            ..
        },
    ] = &containers[..]
    else {
        panic!()
    };
    assert_eq!(
        (container.as_str(), *reported, *state),
        ("a", pid, ProcessState::Exited(exit))
    );
    assert_eq!(
        rig.daemon.ask(Request::Forget {
            container: "a".into()
        }),
        Ok(Reply::Done)
    );
    assert!(!rig.dir.path().join("exits/a.json").exists());
    assert_eq!(
        rig.daemon
            .ask(Request::Forget {
                container: "a".into()
            })
            .unwrap_err()
            .kind,
        FailureKind::NotFound
    );
    rig.start("a", "true");
    rig.daemon.exit("a");
    rig.shut_down();
}

#[test]
fn a_running_container_is_not_forgotten() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "exec sleep 1000");
    let failure = rig
        .daemon
        .ask(Request::Forget {
            container: "a".into(),
        })
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::State);
    rig.shut_down();
}

#[test]
fn an_open_stdin_does_not_end() {
    let mut rig = Rig::new(&pod());
    let log = crate::rig::open_log(&rig.log());
    let mut plan = container("a", "read line; echo ended");
    plan.io.stdin = true;
    rig.daemon.start(&plan, &[log.as_fd()]).unwrap();
    rig.start("b", "read line; echo ended");
    assert_eq!(rig.daemon.exit("b").code, 0);
    let Reply::Hello { containers, .. } = rig.daemon.hello() else {
        panic!()
    };
    assert_eq!(containers[0].state, ProcessState::Running);
    rig.shut_down();
}

#[test]
fn a_pod_directory_that_vanishes_stops_nothing() {
    let mut rig = Rig::new(&pod());
    std::fs::remove_dir_all(rig.dir.path()).unwrap();
    let mut plan = container("a", "exit 3");
    plan.fds.clear();
    rig.daemon.start(&plan, &[]).unwrap();
    assert_eq!(rig.daemon.exit("a").code, 3);
    assert_eq!(rig.daemon.ask(Request::Shutdown), Ok(Reply::Done));
    assert!(rig.process.wait().unwrap().success());
}
