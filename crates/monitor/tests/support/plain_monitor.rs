//! For tests: a monitor whose containers are plain processes on the host.
//!
//! Everything but namespaces and file systems is as in the real monitor, and most of it needs no root.

use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use pausa_container_init::{ContainerFds, Progress, Spawned, Streams};
use pausa_monitor::Spawner;
use pausa_monitor_protocol::{Failure, FailureKind, ProcessPlan};
use rustix::fs::{Mode, OFlags};

fn main() -> ExitCode {
    let spawner = Spawner {
        init: |plan, fds, streams, _| run(&plan.container.process, fds, streams),
        exec: |plan, _, fds, streams| run(&plan.process, fds, streams),
        hooks: |stage, _, _, _| panic!("{stage} hooks need the real monitor"),
    };
    #[expect(
        unsafe_code,
        reason = "a monitor closes inherited descriptors and clones itself"
    )]
    // SAFETY: the process has just started: it has one thread and has opened nothing.
    let status = unsafe { pausa_monitor::run(spawner) };
    status
}

fn stdio(fd: Option<BorrowedFd<'_>>) -> Result<Stdio, std::io::Error> {
    Ok(match fd {
        Some(fd) => fd.try_clone_to_owned()?.into(),
        None => Stdio::null(),
    })
}

fn run(plan: &ProcessPlan, fds: &ContainerFds<'_>, streams: &Streams<'_>) -> Result<Progress, Failure> {
    start(plan, fds, streams)
        .map(Progress::Running)
        .map_err(|error| Failure {
            kind: FailureKind::Start,
            step: "plain: execve".to_owned(),
            errno: error.raw_os_error().unwrap_or(0),
        })
}

fn start(plan: &ProcessPlan, fds: &ContainerFds<'_>, streams: &Streams<'_>) -> std::io::Result<Spawned> {
    let words: Vec<&std::ffi::OsStr> = plan.args.iter().map(|word| OsStrExt::from_bytes(word)).collect();
    // The process leads a process group but no session, which would need code between fork and exec. For the same reason it
    // inherits the signal mask, so the monitor unblocks all signals for a moment, except SIGCHLD, which would be lost.
    let mut keep = SigSet::empty();
    keep.add(Signal::SIGCHLD);
    let blocked = keep.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let child = Command::new(words[0])
        .args(&words[1..])
        .process_group(0)
        .stdin(stdio(streams.stdin)?)
        .stdout(stdio(streams.stdout)?)
        .stderr(stdio(streams.stderr)?)
        .spawn();
    blocked.thread_set_mask()?;
    let child = child?;
    let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
    for tasks in &fds.cgroup_tasks {
        rustix::io::write(tasks, pid.to_string().as_bytes())?;
    }
    if let Some(dir) = fds.cgroup_dir {
        let procs = rustix::fs::openat(
            dir,
            "cgroup.procs",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::io::write(procs, pid.to_string().as_bytes())?;
    }
    let raw = rustix::process::Pid::from_raw(pid).ok_or_else(|| std::io::Error::other("no pid"))?;
    let pidfd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())?;
    Ok(Spawned {
        pid,
        pidfd,
        terminal: None,
    })
}
