//! Exec'd processes whose daemon or client disconnects.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use pausa_monitor_protocol::{Event, ExecPlan, ExitStatus, FdRole, Reply, Request};

use crate::builtin::{plan, real_pod, start};
use crate::rig::{Daemon, Rig, exec, pod};

/// Runs a command whose output pipe the monitor has a reading end of, too.
fn run(rig: &mut Rig, id: &str, script: &str) -> OwnedFd {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let mut plan = exec(id, "a", script);
    plan.fds = vec![FdRole::Stdout, FdRole::OutputReader];
    let request = Request::Exec(Box::new(plan));
    rig.daemon
        .ask_with(request, &[write.as_fd(), read.as_fd()])
        .unwrap();
    read
}

/// Runs a command on a terminal and returns the master.
fn on_terminal(rig: &mut Rig, id: &str, script: &str) -> OwnedFd {
    let plan = ExecPlan {
        fds: Vec::new(),
        ..exec(id, "a", script)
    };
    let mut request = Box::new(plan);
    request.process.env = vec![b"PATH=/bin".to_vec()];
    request.process.terminal = true;
    request.process.terminal_size = Some((11, 22));
    let reply = rig.daemon.ask(Request::Exec(request)).unwrap();
    assert!(matches!(reply, Reply::Started { .. }));
    rig.daemon.received.pop().unwrap()
}

fn ended(daemon: &mut Daemon, id: &str) -> ExitStatus {
    match daemon.event() {
        Event::ExecExited { exec, exit } if exec == id => exit,
        other => panic!("{other:?} instead of the end of {id}"),
    }
}

/// How many descriptors the monitor has, after it has served all earlier requests.
fn descriptors(rig: &mut Rig) -> usize {
    rig.daemon.settle();
    let fds = format!("/proc/{}/fd", rig.process.id());
    std::fs::read_dir(fds).unwrap().count()
}

fn hang_up(exec: &str) -> Request {
    let exec = exec.to_owned();
    Request::HangUp { exec }
}

/// Reads from a terminal until its output contains `end`.
fn until(master: &OwnedFd, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let mut buffer = [0; 256];
        let read = rustix::io::read(master, &mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

#[test]
#[ignore = "needs root"]
fn a_command_goes_on_without_its_daemon() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "exec sleep 1000");
    let before = descriptors(&mut rig);
    let done = rig.dir.path().join("done");
    // More than a pipe holds, and no process has read any of it.
    let script = format!(
        "i=0; while [ $i -lt 30000 ]; do echo line-$i; i=$((i+1)); done; echo x > {}",
        done.display()
    );
    let read = run(&mut rig, "e", &script);
    let mut next = rig.connect();
    next.hello();
    rig.daemon = next;
    drop(read);
    assert_eq!(ended(&mut rig.daemon, "e").code, 0);
    assert!(done.exists());
    assert_eq!(descriptors(&mut rig), before);
    rig.daemon.send(Request::Shutdown, &[]);
    assert!(rig.process.wait().unwrap().success());
}

#[test]
#[ignore = "needs root"]
fn a_command_whose_client_has_left_meets_a_broken_pipe() {
    let mut rig = Rig::new(&pod());
    rig.start("a", "exec sleep 1000");
    let before = descriptors(&mut rig);
    let read = run(&mut rig, "e", "while :; do echo x; done");
    drop(read);
    rig.daemon.ask(hang_up("e")).unwrap();
    assert_eq!(ended(&mut rig.daemon, "e").signal, 13);
    rig.daemon.ask(hang_up("e")).unwrap();
    // A process that has written all of its output is not affected.
    let read = run(&mut rig, "f", "echo all; exit 4");
    assert_eq!(ended(&mut rig.daemon, "f").code, 4);
    assert_eq!(std::io::read_to_string(File::from(read)).unwrap(), "all\n");
    assert_eq!(descriptors(&mut rig), before);
    rig.daemon.send(Request::Shutdown, &[]);
    assert!(rig.process.wait().unwrap().success());
}

#[test]
#[ignore = "needs root"]
fn a_terminal_has_its_size_from_the_beginning_and_is_hung_up() {
    let Some(mut rig) = real_pod() else { return };
    start(&mut rig, &plan("a", "exec sleep 1000"));
    let before = descriptors(&mut rig);
    let master = on_terminal(&mut rig, "t", "stty size; while :; do sleep 0.02; done");
    assert_eq!(until(&master, "\n"), "11 22\r\n");
    drop(master);
    rig.daemon.ask(hang_up("t")).unwrap();
    assert_eq!(ended(&mut rig.daemon, "t").signal, 1, "SIGHUP");
    assert_eq!(descriptors(&mut rig), before);
    rig.daemon.send(Request::Shutdown, &[]);
    assert!(rig.process.wait().unwrap().success());
}

#[test]
#[ignore = "needs root"]
fn a_terminal_whose_daemon_has_gone_says_that_the_input_ends() {
    let Some(mut rig) = real_pod() else { return };
    start(&mut rig, &plan("a", "exec sleep 1000"));
    let master = on_terminal(&mut rig, "t", "echo ready; cat; exit 5");
    until(&master, "ready\r\n");
    let mut next = rig.connect();
    next.hello();
    rig.daemon = next;
    drop(master);
    let exit = ended(&mut rig.daemon, "t");
    assert_eq!((exit.code, exit.signal), (5, 0), "neither SIGHUP nor for ever");
    rig.daemon.send(Request::Shutdown, &[]);
    assert!(rig.process.wait().unwrap().success());
}
