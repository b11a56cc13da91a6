//! Pseudo terminals.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use pausa_container_init::{ContainerFds, Spawned, Streams};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::Case;
use crate::privileged::world::*;

pub(crate) const CASES: &[Case] = &[
    ("terminals::a_container_gets_a_terminal_and_a_console", container),
    ("terminals::an_exec_gets_a_terminal_of_the_container", in_exec),
    ("terminals::without_devpts_there_is_none", without_devpts),
    ("terminals::the_user_may_open_its_terminal_again", user_owns_it),
];

/// Reads the master until the last slave is closed (EIO).
fn transcript(mut spawned: Spawned) -> String {
    let mut master = File::from(spawned.terminal.take().unwrap());
    let mut all = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        all.extend_from_slice(&buffer[..length]);
    }
    waitid(WaitId::PidFd(spawned.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    String::from_utf8(all).unwrap().replace("\r\n", "\n")
}

fn container() {
    let world = World::new();
    let mut plan = shell(
        "tty; stty size; echo controlling > /dev/tty; echo console > /dev/console; stat -c %t /dev/console",
    );
    plan.process.terminal = true;
    plan.process.terminal_size = Some((33, 101));
    let spawned = world.start(&plan, &Streams::default()).unwrap();
    assert_eq!(
        transcript(spawned),
        "/dev/pts/0\n33 101\ncontrolling\nconsole\n88\n"
    );
}

fn in_exec() {
    let world = World::new();
    let running = world.sleeper(|_| {});
    let mut process = process(&["sh", "-c", "tty; stty size; echo controlling > /dev/tty"]);
    process.terminal = true;
    process.terminal_size = Some((7, 70));
    let plan = exec_plan(process);
    let spawned = exec(
        &plan,
        running.0.pidfd.as_fd(),
        &ContainerFds::default(),
        &Streams::default(),
    )
    .unwrap();
    assert_eq!(transcript(spawned), "/dev/pts/0\n7 70\ncontrolling\n");
}

fn without_devpts() {
    let world = World::new();
    let mut plan = shell("");
    plan.process.terminal = true;
    plan.mounts.retain(|mount| mount.target != b"/dev/pts");
    let failure = world.run(&plan).unwrap_err();
    assert!(failure.step.contains("devpts on /dev/pts"), "{failure}");
    // A file in its place is no terminal.
    plan.mounts.clear();
    std::fs::create_dir(world.root().join("dev/pts")).unwrap();
    std::fs::write(world.root().join("dev/pts/ptmx"), "").unwrap();
    let failure = world.run(&plan).unwrap_err();
    assert!(failure.step.contains("expected devpts"), "{failure}");
}

fn user_owns_it() {
    let world = World::new();
    let mut plan = shell("echo again > /dev/stdout; echo and > $(tty); stat -c %u $(tty)");
    plan.process.terminal = true;
    plan.process.uid = 1000;
    let spawned = world.start(&plan, &Streams::default()).unwrap();
    assert_eq!(transcript(spawned), "again\nand\n1000\n");
}
