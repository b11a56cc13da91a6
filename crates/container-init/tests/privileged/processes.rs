//! Starting, joining, executing, failing.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pausa_container_init::{ContainerFds, Progress, Streams};
use pausa_monitor_protocol::{FailureKind, Namespace};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::Case;
use crate::privileged::world::*;

pub(crate) const CASES: &[Case] = &[
    (
        "processes::the_first_process_is_pid_1",
        the_first_process_is_pid_1,
    ),
    (
        "processes::new_namespaces_are_new_and_the_pods_are_inherited",
        new_namespaces_are_new,
    ),
    (
        "processes::a_container_joins_anothers_pid_namespace",
        joins_pid_namespace,
    ),
    (
        "processes::a_container_joins_the_shared_pid_namespace",
        joins_shared_pid_namespace,
    ),
    ("processes::the_hosts_pid_namespace_is_the_monitors", host_pid),
    ("processes::commands_that_cannot_be_run_are_named", bad_commands),
    ("processes::nothing_is_left_of_a_failed_start", nothing_is_left),
    (
        "processes::exec_lands_in_the_container",
        exec_lands_in_the_container,
    ),
    ("processes::exec_says_what_is_missing", exec_says_what_is_missing),
    (
        "processes::exec_into_an_ended_container_fails",
        exec_into_an_ended_container_fails,
    ),
    ("processes::no_descriptor_leaks", no_descriptor_leaks),
    (
        "processes::streams_are_null_unless_given",
        streams_are_null_unless_given,
    ),
    (
        "processes::a_start_can_be_watched_and_called_off",
        watched_and_called_off,
    ),
];

fn the_first_process_is_pid_1() {
    let world = World::new();
    assert_eq!(
        world.script("echo $$; readlink /proc/self/exe"),
        "1\n/bin/busybox\n"
    );
}

fn new_namespaces_are_new() {
    let world = World::new();
    let mut plan = shell("for n in ipc uts mnt pid cgroup net; do readlink /proc/self/ns/$n; done");
    plan.namespaces.uts = Namespace::Host;
    let output = world.run(&plan).unwrap().output;
    let lines: Vec<&str> = output.lines().collect();
    let own = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
    for (name, line) in ["ipc", "uts", "mnt", "pid", "cgroup", "net"].iter().zip(&lines) {
        let same = own(name) == PathBuf::from(line);
        assert_eq!(same, matches!(*name, "uts" | "net"), "{name}: {line}");
    }
    assert_eq!(lines.len(), 6);
}

fn joins_pid_namespace() {
    let world = World::new();
    let first = world.sleeper(|_| {});
    let mut plan = shell("test $$ != 1 && cat /proc/1/comm");
    plan.namespaces.pid = Namespace::Container("other".to_owned());
    let (read, write) = pipe();
    let root = detached(&world.root());
    let fds = ContainerFds {
        root: Some(root.as_fd()),
        ..ContainerFds::default()
    };
    let streams = Streams {
        stdout: Some(write.as_fd()),
        ..Streams::default()
    };
    let second = start_with(&plan, &fds, &streams, Some(&first.0)).unwrap();
    drop(write);
    assert_eq!(finish(&second, read).output, "sleep\n");
    // The monitor's later children are the host's again.
    let [own, children] =
        ["pid", "pid_for_children"].map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap());
    assert_eq!(own, children);
}

fn joins_shared_pid_namespace() {
    let world = World::new();
    let pause = world.sleeper(|_| {});
    let mut plan = shell("readlink /proc/1/ns/pid");
    plan.namespaces.pid = Namespace::Pod;
    let (read, write) = pipe();
    let root = detached(&world.root());
    let fds = ContainerFds {
        root: Some(root.as_fd()),
        ..ContainerFds::default()
    };
    let streams = Streams {
        stdout: Some(write.as_fd()),
        ..Streams::default()
    };
    let spawned = start_with(&plan, &fds, &streams, Some(&pause.0)).unwrap();
    drop(write);
    let shared = std::fs::read_link(format!("/proc/{}/ns/pid", pause.0.pid)).unwrap();
    assert_eq!(finish(&spawned, read).output.trim(), shared.to_str().unwrap());
}

fn host_pid() {
    let world = World::new();
    let mut plan = shell("echo $$");
    plan.namespaces.pid = Namespace::Host;
    let (read, write) = pipe();
    let streams = Streams {
        stdout: Some(write.as_fd()),
        ..Streams::default()
    };
    let spawned = world.start(&plan, &streams).unwrap();
    drop(write);
    assert_eq!(finish(&spawned, read).output.trim(), spawned.pid.to_string());
}

fn bad_commands() {
    let world = World::new();
    let write = |name: &str, text: &str, mode: u32| {
        let path = world.root().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    write("bin/plain", "#!/bin/sh\n", 0o644);
    write("bin/orphan", "#!/no/such/interpreter\n", 0o755);
    write("bin/text", "just text", 0o755);
    let table = [
        ("nothing", Errno::NOENT, "PATH /usr/bin:/bin"),
        ("/bin/nothing", Errno::NOENT, "execve(/bin/nothing)"),
        ("plain", Errno::ACCESS, "executable for this user"),
        ("/bin", Errno::ACCESS, "is a directory"),
        ("/bin/orphan", Errno::NOENT, "interpreter"),
        ("/bin/text", Errno::NOEXEC, "neither a program"),
        ("/bin/sh/x", Errno::NOTDIR, "execve(/bin/sh/x)"),
    ];
    for (command, errno, text) in table {
        let mut plan = shell("");
        plan.process.args = vec![command.into()];
        let failure = world.run(&plan).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Start);
        assert_eq!(failure.errno, errno.raw_os_error(), "{command}: {failure}");
        assert!(failure.step.contains(text), "{command}: {failure}");
        assert!(failure.step.contains(command), "{command}: {failure}");
    }
    let mut plan = shell("");
    plan.process.args.clear();
    assert!(world.run(&plan).unwrap_err().step.contains("no command"));
}

fn nothing_is_left() {
    let world = World::new();
    let mut plan = shell("");
    plan.process.args = vec![b"nothing".to_vec()];
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    world.run(&plan).unwrap_err();
    assert_eq!(descriptors(), before);
    let children = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    assert_eq!(children.unwrap_err(), Errno::CHILD);
}

fn exec_lands_in_the_container() {
    let world = World::new();
    let running = world.sleeper(|_| {});
    let mut process = process(&[
        "sh",
        "-c",
        "cat /proc/1/comm; pwd; for n in pid mnt ipc uts cgroup; do readlink /proc/self/ns/$n; done",
    ]);
    process.cwd = b"/etc".to_vec();
    let ended = running.exec(process).unwrap();
    let lines: Vec<&str> = ended.output.lines().collect();
    assert_eq!(lines[..2], ["sleep", "/etc"]);
    for (name, line) in ["pid", "mnt", "ipc", "uts", "cgroup"].iter().zip(&lines[2..]) {
        let first = std::fs::read_link(format!("/proc/{}/ns/{name}", running.0.pid)).unwrap();
        assert_eq!(*line, first.to_str().unwrap());
    }
    assert_eq!(ended.code, Some(0));
}

fn exec_says_what_is_missing() {
    let world = World::new();
    let running = world.sleeper(|_| {});
    let failure = running.exec(process(&["nothing"])).unwrap_err();
    assert_eq!(
        (failure.kind, failure.errno),
        (FailureKind::Start, Errno::NOENT.raw_os_error())
    );
    assert_eq!(
        running.exec(process(&["sh", "-c", "exit 7"])).unwrap().code,
        Some(7)
    );
}

fn exec_into_an_ended_container_fails() {
    let world = World::new();
    let ended = world.start(&shell("exit 0"), &Streams::default()).unwrap();
    waitid(WaitId::PidFd(ended.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    let plan = exec_plan(process(&["true"]));
    let failure = exec(
        &plan,
        ended.pidfd.as_fd(),
        &ContainerFds::default(),
        &Streams::default(),
    )
    .unwrap_err();
    assert_eq!(failure.errno, Errno::SRCH.raw_os_error(), "{failure}");
}

fn no_descriptor_leaks() {
    let world = World::new();
    let inheritable = rustix::io::dup(File::open("/").unwrap()).unwrap();
    assert!(inheritable.as_raw_fd() > 2);
    let list = "ls /proc/self/fd";
    // The last one is ls's own.
    assert_eq!(world.script(list), "0\n1\n2\n3\n");
    let running = world.sleeper(|_| {});
    assert_eq!(
        running.exec(process(&["sh", "-c", list])).unwrap().output,
        "0\n1\n2\n3\n"
    );
    let mut plan = shell("pwd");
    plan.process.cwd = format!("/proc/self/fd/{}", inheritable.as_raw_fd()).into_bytes();
    let failure = world.run(&plan).unwrap_err();
    assert!(failure.step.contains("working directory"), "{failure}");
}

fn streams_are_null_unless_given() {
    let world = World::new();
    let mut plan = shell("stat -L -c %t:%T /proc/self/fd/0 /proc/self/fd/2 > /out");
    plan.process.uid = 0;
    let spawned = world.start(&plan, &Streams::default()).unwrap();
    waitid(WaitId::PidFd(spawned.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    assert_eq!(
        std::fs::read_to_string(world.root().join("out")).unwrap(),
        "1:3\n1:3\n"
    );
}

fn watched_and_called_off() {
    let world = World::new();
    let first = world.sleeper(|_| {});
    let container = first.0.pidfd.as_fd();
    let plan = exec_plan(process(&["sleep", "1000"]));
    let begin = || begin_exec(&plan, container, &ContainerFds::default(), &Streams::default()).unwrap();
    let mut pending = begin();
    let spawned = loop {
        let mut watched = [PollFd::new(&pending, PollFlags::IN)];
        poll(&mut watched, None).unwrap();
        match pending.advance() {
            Progress::Waiting(still) => pending = still,
            Progress::Running(spawned) => break spawned,
            Progress::Failed(failed) => panic!("{}", failed.failure),
        }
    };
    assert!(std::fs::exists(format!("/proc/{}", spawned.pid)).unwrap());
    drop(Running(spawned));
    let pending = begin();
    let pid = pending.pid();
    let failed = pending.cancel();
    assert!(failed.failure.step.contains("cancelled"));
    waitid(WaitId::PidFd(failed.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap());
    // Reaped before its reports were read.
    let pending = begin();
    pidfd_send_signal(pending.pidfd(), Signal::KILL).unwrap();
    waitid(WaitId::PidFd(pending.pidfd()), WaitIdOptions::EXITED).unwrap();
    match pending.reaped(None, Some(9)) {
        Progress::Failed(failed) => assert!(failed.failure.step.contains("signal 9"), "{}", failed.failure),
        // The child had already passed execve.
        Progress::Running(_) => {}
        Progress::Waiting(_) => panic!("it cannot wait for the dead"),
    }
}
