//! Containers whose start hangs, next to containers that must not be affected.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use pausa_monitor_protocol::{
    Attributes, ContainerPlan, ContainerReport, Event, MountPlan, MountSource, ProcessState, Reply, Request,
};

use crate::builtin::{image, plan, real_pod, start};
use crate::rig::{Rig, exec, open_log, until};
use crate::slow_source::SlowSource;

/// A container that mounts the file of this file system.
fn slow_plan(id: &str, source: &SlowSource, script: &str) -> ContainerPlan {
    let mut plan = plan(id, script);
    plan.mounts.push(MountPlan {
        target: b"/etc/slow".to_vec(),
        source: MountSource::Bind {
            path: source.file().as_os_str().as_bytes().to_vec(),
            recursive: true,
        },
        attributes: Attributes::default(),
        propagation: None,
    });
    plan
}

/// Sends the request for its start without waiting. Returns the request's id.
fn begin(rig: &mut Rig, plan: &ContainerPlan) -> u64 {
    let log = open_log(&rig.dir.path().join(format!("{}.log", plan.id)));
    let image = image(rig.dir.path());
    let request = Request::Start(Box::new(plan.clone()));
    rig.daemon.send(request, &[image.as_fd(), log.as_fd()])
}

fn reports(reply: Reply) -> Vec<ContainerReport> {
    match reply {
        Reply::Hello { containers, .. } => containers,
        other => panic!("{other:?}"),
    }
}

/// Waits until the process of this start hangs at the source of a mount, if the kernel shows its system call.
fn until_it_hangs(rig: &Rig, id: &str) {
    let mut daemon = rig.connect();
    let mut pid = None;
    until("a report of the container", || {
        let reports = reports(daemon.hello());
        pid = reports
            .iter()
            .find(|report| report.container == id)
            .map(|report| report.pid);
        pid.is_some()
    });
    let pid = pid.unwrap();
    let call = || std::fs::read_to_string(format!("/proc/{pid}/syscall"));
    // statx(2), which asks first what the source is, and open_tree(2).
    let hangs = |call: &str| call.starts_with("332 ") || call.starts_with("428 ");
    until("statx(2) or open_tree(2)", || {
        !call().is_ok_and(|call| !hangs(&call))
    });
}

/// The state of a container as reported to a new daemon.
fn found(rig: &Rig, id: &str) -> Option<ProcessState> {
    let reports = reports(rig.connect().hello());
    let report = reports.into_iter().find(|report| report.container == id);
    report.map(|report| report.state)
}

fn kill(container: &str) -> Request {
    let container = container.to_owned();
    Request::KillAll { container }
}

#[test]
#[ignore = "needs root"]
fn logs_execs_and_exits_go_on_while_a_start_hangs() {
    let Some(mut rig) = real_pod() else { return };
    let Some(source) = SlowSource::dead() else {
        return rig.shut_down();
    };
    start(&mut rig, &plan("a", "while :; do echo x; sleep 0.01; done"));
    let hung = begin(&mut rig, &slow_plan("hung", &source, "true"));
    until_it_hangs(&rig, "hung");
    let lines = || rig.entries().len();
    let before = lines();
    until("five more lines", || lines() >= before + 5);
    let (read, write) = rustix::pipe::pipe().unwrap();
    let probe = Request::Exec(Box::new(exec("e", "a", "echo alive")));
    rig.daemon.ask_with(probe, &[write.as_fd()]).unwrap();
    drop(write);
    assert_eq!(std::io::read_to_string(File::from(read)).unwrap(), "alive\n");
    assert!(matches!(rig.daemon.event(), Event::ExecExited { .. }));
    assert_eq!(found(&rig, "hung"), Some(ProcessState::Starting));
    rig.daemon.ask(kill("a")).unwrap();
    rig.daemon.exit("a");
    // No process holds a copy of the streams of a, in particular not the child that hangs.
    rig.daemon.send(kill("hung"), &[]);
    let failure = rig.daemon.reply_among(hung).unwrap_err();
    assert!(
        failure.step.contains("open the source of the mount on /etc/slow"),
        "{failure}"
    );
    assert_eq!(found(&rig, "hung"), None);
    rig.daemon.settle();
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn a_signal_ends_a_start_and_the_same_container_can_be_started_again() {
    let Some(mut rig) = real_pod() else { return };
    let Some(source) = SlowSource::dead() else {
        return rig.shut_down();
    };
    let hung = begin(&mut rig, &slow_plan("a", &source, "true"));
    let twice = begin(&mut rig, &slow_plan("a", &source, "true"));
    assert!(rig.daemon.reply_among(twice).is_err(), "it is there already");
    let signal = Request::Signal {
        container: "a".into(),
        signal: 15,
    };
    rig.daemon.send(signal, &[]);
    assert!(
        rig.daemon
            .reply_among(hung)
            .unwrap_err()
            .step
            .contains("cancelled")
    );
    rig.daemon.settle();
    start(&mut rig, &plan("a", "exit 3"));
    assert_eq!(rig.daemon.exit("a").code, 3);
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn a_shutdown_ends_starts_of_containers_and_execs() {
    let Some(mut rig) = real_pod() else { return };
    let Some(source) = SlowSource::dead() else {
        return rig.shut_down();
    };
    begin(&mut rig, &slow_plan("a", &source, "true"));
    let shutdown = rig.daemon.send(Request::Shutdown, &[]);
    assert_eq!(rig.daemon.reply_among(shutdown), Ok(Reply::Done));
    assert!(rig.process.wait().unwrap().success());
}

#[test]
#[ignore = "needs root"]
fn the_next_daemon_finds_a_start_under_way_and_hears_that_it_runs() {
    let Some(mut rig) = real_pod() else { return };
    let Some(source) = SlowSource::stuck() else {
        return rig.shut_down();
    };
    begin(&mut rig, &slow_plan("a", &source, "exec sleep 1000"));
    let mut next = rig.connect();
    // While the old connection exists, its request is certain to be served.
    while reports(next.hello()).is_empty() {}
    rig.daemon = next;
    let [report] = &reports(rig.daemon.hello())[..] else {
        panic!()
    };
    assert_eq!(report.state, ProcessState::Starting);
    source.let_go();
    let Event::Started { container, pid, at } = rig.daemon.event() else {
        panic!()
    };
    assert_eq!((container.as_str(), pid), ("a", report.pid));
    assert!(at >= report.started_at);
    rig.daemon.ask(kill("a")).unwrap();
    rig.daemon.exit("a");
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn a_start_that_cannot_be_killed_is_told_all_the_same_and_keeps_the_monitor() {
    let Some(mut rig) = real_pod() else { return };
    let Some(source) = SlowSource::stuck() else {
        return rig.shut_down();
    };
    let hung = begin(&mut rig, &slow_plan("a", &source, "true"));
    let mut next = rig.connect();
    next.hello();
    source.until_asked();
    rig.daemon.send(kill("a"), &[]);
    let failure = rig.daemon.reply_among(hung).unwrap_err();
    assert!(failure.step.contains("cancelled"), "{failure}");
    assert!(matches!(next.event(), Event::StartFailed { container, .. } if container == "a"));
    rig.daemon.settle();
    let shutdown = rig.daemon.send(Request::Shutdown, &[]);
    assert_eq!(rig.process.try_wait().unwrap(), None);
    source.let_go();
    assert_eq!(rig.daemon.reply_among(shutdown), Ok(Reply::Done));
    assert!(rig.process.wait().unwrap().success());
}

#[test]
#[ignore = "needs root"]
fn an_exec_that_hangs_before_its_command_can_be_killed() {
    let Some(mut rig) = real_pod() else { return };
    let Some(source) = SlowSource::stuck() else {
        return rig.shut_down();
    };
    let mut first = slow_plan("a", &source, "exec sleep 1000");
    let volume = source.file().parent().unwrap().to_owned();
    if let Some(MountPlan {
        source: MountSource::Bind { path, .. },
        ..
    }) = first.mounts.last_mut()
    {
        *path = volume.as_os_str().as_bytes().to_vec();
    }
    start(&mut rig, &first);
    let mut hung = exec("hung", "a", "true");
    hung.fds.clear();
    hung.process.cwd = b"/etc/slow/file".to_vec();
    let asked = rig.daemon.send(Request::Exec(Box::new(hung)), &[]);
    let (read, write) = rustix::pipe::pipe().unwrap();
    let other = Request::Exec(Box::new(exec("other", "a", "echo alive")));
    let other = rig.daemon.send(other, &[write.as_fd()]);
    drop(write);
    assert!(rig.daemon.reply_among(other).is_ok());
    assert_eq!(std::io::read_to_string(File::from(read)).unwrap(), "alive\n");
    source.until_asked();
    rig.daemon.send(Request::KillExec { exec: "hung".into() }, &[]);
    let failure = rig.daemon.reply_among(asked).unwrap_err();
    assert!(failure.step.contains("cancelled"), "{failure}");
    source.let_go();
    let shutdown = rig.daemon.send(Request::Shutdown, &[]);
    assert_eq!(rig.daemon.reply_among(shutdown), Ok(Reply::Done));
    assert!(rig.process.wait().unwrap().success());
}
