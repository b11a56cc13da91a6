//! Clients attached to a container's streams.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{
    AttachPlan, ContainerPlan, Detachment, Event, FailureKind, FdRole, Reply, Request,
};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::builtin::{plan, real_pod, start};
use crate::rig::{Rig, container, open_log, pod, until};

/// A client's ends.
struct Client {
    stdin: Option<File>,
    stdout: BufReader<File>,
    stderr: BufReader<File>,
}

impl Client {
    fn attach(rig: &mut Rig, id: &str, to: &str) -> Self {
        let (stdin_read, stdin) = rustix::pipe::pipe().unwrap();
        let (stdout, stdout_write) = rustix::pipe::pipe().unwrap();
        let (stderr, stderr_write) = rustix::pipe::pipe().unwrap();
        let roles = [FdRole::Stdin, FdRole::Stdout, FdRole::Stderr];
        let fds = [stdin_read.as_fd(), stdout_write.as_fd(), stderr_write.as_fd()];
        assert_eq!(attach(rig, id, to, &roles, &fds), Ok(Reply::Done));
        Self {
            stdin: Some(stdin.into()),
            stdout: BufReader::new(stdout.into()),
            stderr: BufReader::new(stderr.into()),
        }
    }

    fn types(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// All that is left to read, of both streams.
    fn rest(&mut self) -> (String, String) {
        let mut rest = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest.0).unwrap();
        self.stderr.read_to_string(&mut rest.1).unwrap();
        rest
    }
}

fn attach(
    rig: &mut Rig,
    id: &str,
    to: &str,
    roles: &[FdRole],
    fds: &[BorrowedFd<'_>],
) -> Result<Reply, pausa_monitor_protocol::Failure> {
    let plan = AttachPlan {
        id: id.to_owned(),
        container: to.to_owned(),
        fds: roles.to_vec(),
    };
    rig.daemon.ask_with(Request::Attach(Box::new(plan)), fds)
}

fn detach(attach: &str) -> Request {
    let attach = attach.to_owned();
    Request::Detach { attach }
}

fn run(rig: &mut Rig, plan: &ContainerPlan) {
    let log = open_log(&rig.log());
    rig.daemon.start(plan, &[log.as_fd()]).unwrap();
}

/// A container with an input.
fn listener(id: &str, script: &str) -> ContainerPlan {
    let mut plan = container(id, script);
    plan.io.stdin = true;
    plan
}

/// How many descriptors the monitor has, once it is done with what it was asked before.
fn descriptors(rig: &mut Rig) -> usize {
    rig.daemon.settle();
    let fds = format!("/proc/{}/fd", rig.process.id());
    std::fs::read_dir(fds).unwrap().count()
}

fn detached(rig: &mut Rig, id: &str) -> Detachment {
    match rig.daemon.event() {
        Event::Detached { attach, why } if attach == id => why,
        other => panic!("{other:?} instead of the end of {id}"),
    }
}

#[test]
fn everybody_gets_all_and_so_does_the_log() {
    let mut rig = Rig::new(&pod());
    run(
        &mut rig,
        &listener("a", "read line; echo got $line; echo err >&2; exit 3"),
    );
    let mut first = Client::attach(&mut rig, "1", "a");
    let mut second = Client::attach(&mut rig, "2", "a");
    second.types("it\n");
    for client in [&mut first, &mut second] {
        assert_eq!(client.rest(), ("got it\n".to_owned(), "err\n".to_owned()));
    }
    for id in ["1", "2"] {
        let Detachment::Exited(exit) = detached(&mut rig, id) else {
            panic!()
        };
        assert_eq!(exit.code, 3);
    }
    assert_eq!(rig.daemon.exit("a").code, 3);
    let mut entries = rig.entries();
    entries.sort();
    assert_eq!(entries, ["stderr F err", "stdout F got it"]);
    rig.shut_down();
}

#[test]
fn who_does_not_keep_up_is_let_go_and_nobody_else_notices() {
    let mut rig = Rig::new(&pod());
    let script = "read go; i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done";
    run(&mut rig, &listener("a", script));
    let mut deaf = Client::attach(&mut rig, "deaf", "a");
    let mut good = Client::attach(&mut rig, "good", "a");
    // Room for everything, however slow this thread is.
    rustix::pipe::fcntl_setpipe_size(good.stdout.get_ref(), 1024 * 1024).unwrap();
    good.types("go\n");
    let (stdout, _) = good.rest();
    assert_eq!(stdout.lines().count(), 20_000);
    assert!(stdout.ends_with("line-19999\n"));
    assert_eq!(detached(&mut rig, "deaf"), Detachment::TooSlow);
    assert!(matches!(detached(&mut rig, "good"), Detachment::Exited(_)));
    rig.daemon.exit("a");
    assert_eq!(rig.entries().len(), 20_000);
    // What it got before has no gap.
    let (early, _) = deaf.rest();
    assert!(!early.is_empty() && stdout.starts_with(&early));
    rig.shut_down();
}

#[test]
#[ignore = "needs root"]
fn who_leaves_takes_nothing_along() {
    let mut rig = Rig::new(&pod());
    run(
        &mut rig,
        &listener("a", "echo begin; while read line; do echo $line; done; echo end"),
    );
    // With the first output, the log's thread takes its descriptor.
    until("the log is written", || rig.entries() == ["stdout F begin"]);
    let before = descriptors(&mut rig);
    for round in 0..10 {
        let id = format!("c{round}");
        let mut client = Client::attach(&mut rig, &id, "a");
        let line = format!("{round}\n");
        client.types(&line);
        assert_eq!(client.line(), line);
        if round % 2 == 0 {
            // Half closed: the client still reads.
            client.stdin = None;
        }
        rig.daemon.ask(detach(&id)).unwrap();
        assert_eq!(detached(&mut rig, &id), Detachment::Left);
        assert_eq!(client.rest(), (String::new(), String::new()));
    }
    // To one that has gone it is done as well.
    rig.daemon.ask(detach("c0")).unwrap();
    assert_eq!(descriptors(&mut rig), before);
    // A daemon that dies takes its clients along, and nothing else.
    let mut client = Client::attach(&mut rig, "last", "a");
    let mut next = rig.connect();
    next.hello();
    rig.daemon = next;
    assert_eq!(client.rest(), (String::new(), String::new()));
    let mut client = Client::attach(&mut rig, "next", "a");
    client.types("on\n");
    assert_eq!(client.line(), "on\n");
    rig.daemon
        .ask(Request::KillAll {
            container: "a".into(),
        })
        .unwrap();
    assert!(matches!(detached(&mut rig, "next"), Detachment::Exited(exit) if exit.signal == 9));
    rig.daemon.exit("a");
    rig.shut_down();
}

#[test]
fn with_stdin_once_the_input_ends_with_the_first_who_had_it() {
    for half_close in [true, false] {
        let mut rig = Rig::new(&pod());
        let mut plan = listener("a", "cat; echo end");
        plan.io.stdin_once = true;
        run(&mut rig, &plan);
        let mut watcher = Client::attach(&mut rig, "watcher", "a");
        let mut client = Client::attach(&mut rig, "client", "a");
        client.types("x\n");
        assert_eq!(client.line(), "x\n");
        if half_close {
            client.stdin = None;
            assert_eq!(client.rest().0, "end\n");
        } else {
            rig.daemon.ask(detach("client")).unwrap();
        }
        assert_eq!(watcher.rest().0, "x\nend\n");
        let exit = loop {
            match rig.daemon.event() {
                Event::Exited { exit, .. } => break exit,
                Event::Detached { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(exit.code, 0);
        rig.shut_down();
    }
}

#[test]
fn a_container_that_takes_its_time_gets_every_byte_typed() {
    let mut rig = Rig::new(&pod());
    let go = rig.dir.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; wc -c", go.display());
    let mut plan = listener("a", &script);
    plan.io.stdin_once = true;
    run(&mut rig, &plan);
    let mut client = Client::attach(&mut rig, "c", "a");
    let mut stdin = client.stdin.take().unwrap();
    let typist = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 1_000_000]).unwrap());
    // All buffers between are full now, and the monitor serves on.
    rig.start("b", "echo other");
    std::fs::write(&go, "").unwrap();
    assert_eq!(client.rest().0.trim(), "1000000");
    typist.join().unwrap();
    rig.daemon.settle();
    rig.shut_down();
}

#[test]
fn what_cannot_be_attached_to_is_an_error() {
    let mut rig = Rig::new(&pod());
    let refused = |rig: &mut Rig, to: &str| attach(rig, "c", to, &[], &[]).unwrap_err().kind;
    assert_eq!(refused(&mut rig, "a"), FailureKind::NotFound);
    rig.start("a", "exit 0");
    rig.daemon.exit("a");
    assert_eq!(refused(&mut rig, "a"), FailureKind::State);
    // If the container has no stdin, a client's write fails.
    rig.start("b", "exec sleep 1000");
    let mut client = Client::attach(&mut rig, "c", "b");
    assert!(client.stdin.as_mut().unwrap().write_all(b"x").is_err());
    assert_eq!(
        attach(&mut rig, "c", "b", &[], &[]).unwrap_err().kind,
        FailureKind::State
    );
    rig.daemon.send(Request::Shutdown, &[]);
    assert!(rig.process.wait().unwrap().success());
}

#[test]
#[ignore = "needs root"]
fn a_terminal_is_typed_into_and_resized_by_its_master() {
    let Some(mut rig) = real_pod() else { return };
    let mut plan = plan("a", "read line; stty size; echo got $line");
    plan.io.terminal = true;
    plan.io.stdin = true;
    plan.process.terminal = true;
    plan.process.terminal_size = Some((10, 20));
    start(&mut rig, &plan);
    let (stdout, write) = rustix::pipe::pipe().unwrap();
    attach(&mut rig, "c", "a", &[FdRole::Stdout], &[write.as_fd()]).unwrap();
    drop(write);
    let master: OwnedFd = rig.daemon.received.pop().unwrap();
    let size = Winsize {
        ws_row: 33,
        ws_col: 44,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size).unwrap();
    rustix::io::write(&master, b"it\n").unwrap();
    let text = std::io::read_to_string(File::from(stdout)).unwrap();
    assert!(
        text.contains("33 44\r\n") && text.ends_with("got it\r\n"),
        "{text:?}"
    );
    assert!(matches!(detached(&mut rig, "c"), Detachment::Exited(_)));
    rig.daemon.exit("a");
    rig.shut_down();
}
