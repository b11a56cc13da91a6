//! The parent's side: clone, and what the child reports until it execs.
//!
//! ```text
//!   cloned ──steps, terminal──▶ ready ──the channel ends──▶ Running
//!      │                          └─ failure (execve refused) ─▶ Failed
//!      ├─ failure, deadline, called off ────────────────▶ Failed: killed, and not reaped
//!      └─ the channel ends ─▶ closed ─┬─ it is dead ─────▶ Failed
//!                                     └─ it lives ───────▶ Running, under a filter that forbids write(2)
//! ```
//!
//! [`Pending`] never waits: a caller watches its descriptor in its event loop and calls
//! [`Pending::advance`] when it is readable or the deadline has passed, or [`Pending::reaped`] when it has
//! reaped the child. [`Pending::wait`] is for callers without a loop.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pausa_monitor_protocol::{Failure, FailureKind};
use pausa_sys::{Child, CloneArgs, Forked, NamespaceKinds};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid,
};

use crate::Spawned;
use crate::error::{At, Error, Step};
use crate::report::{self, Report, Reporter};

/// How long a child may take to reach `execve`.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a killed child may take to be reaped here; one that hangs in the kernel is left to the caller's reaper.
const REAP_PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// How long a child whose channel has ended may take to be seen dead; after that it lives.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// A child that has not passed `execve` yet. Dropping it leaves the child alone.
#[derive(Debug)]
pub struct Pending {
    child: Child,
    reports: OwnedFd,
    terminal: Option<OwnedFd>,
    step: String,
    ready: bool,
    closed: bool,
    deadline: Instant,
}

/// A start that came to nothing.
#[derive(Debug)]
pub struct Failed {
    /// Why. Of kind `Start`, and it names the step.
    pub failure: Failure,
    /// The child's id in the caller's PID namespace.
    pub pid: i32,
    /// Its pidfd. It has been killed, and is the caller's to reap.
    pub pidfd: OwnedFd,
}

/// Where a [`Pending`] stands.
#[derive(Debug)]
pub enum Progress {
    /// Not there yet.
    Waiting(Pending),
    /// It runs.
    Running(Spawned),
    /// It never will.
    Failed(Failed),
}

impl Pending {
    /// The child's id in the caller's PID namespace.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// The child's pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// When to call [`Self::advance`] even if nothing happens.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the descriptor has nothing to tell any more: it is not to be watched any longer, only the
    /// child's end and the deadline are.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes in what the child has reported; never waits for the child to go on.
    pub fn advance(mut self) -> Progress {
        if let Some(failure) = self.take_reports() {
            return self.fail(failure);
        }
        let late = Instant::now() >= self.deadline;
        if !self.closed {
            if late {
                let step = std::mem::take(&mut self.step);
                let seconds = PATIENCE.as_secs();
                return self.fail(Error::TimedOut { seconds, step }.into());
            }
            return Progress::Waiting(self);
        }
        if self.ready {
            return self.run();
        }
        match self.death() {
            Some(death) => self.fail(death.into()),
            // A dying process closes its descriptors before it becomes waitable; one that lives on has
            // exec'd under a filter that forbids write(2).
            None if late => self.run(),
            None => Progress::Waiting(self),
        }
    }

    /// Decides when the caller has reaped the child, which has ended like this. Never gives `Waiting`.
    pub fn reaped(mut self, code: Option<i32>, signal: Option<i32>) -> Progress {
        let reaped = self.child.pid;
        match self.take_reports() {
            Some(failure) => self.fail(failure),
            // Another has taken its place.
            None if self.child.pid != reaped => Progress::Waiting(self),
            // It ran, and has ended already.
            None if self.ready => self.run(),
            None => {
                let step = self.step();
                self.fail(describe_death(code, signal, step).into())
            }
        }
    }

    /// Reads what there is. A failure where that is what the child reports, or nothing can be read.
    fn take_reports(&mut self) -> Option<Failure> {
        while !self.closed {
            match report::receive(self.reports.as_fd()) {
                Ok(None) => return None,
                Ok(Some(Report::Step(step))) => self.step = step,
                Ok(Some(Report::Terminal(master))) => self.terminal = Some(master),
                Ok(Some(Report::Successor(child))) => {
                    let first = std::mem::replace(&mut self.child, child);
                    // ESRCH: it has ended by itself.
                    let _ = pidfd_send_signal(&first.pidfd, Signal::KILL);
                    reap(&first.pidfd);
                    report::let_go(self.reports.as_fd());
                }
                Ok(Some(Report::Ready)) => {
                    self.ready = true;
                    "take on the identity and start the command: execve".clone_into(&mut self.step);
                }
                Ok(Some(Report::Failure { errno, text })) => {
                    return Some(Failure {
                        kind: FailureKind::Start,
                        step: text,
                        errno,
                    });
                }
                Ok(Some(Report::End)) => {
                    self.closed = true;
                    self.deadline = Instant::now() + LAST_BREATH;
                }
                Err(source) => {
                    let step = Step::Receive;
                    return Some(Error::Call { step, source }.into());
                }
            }
        }
        None
    }

    /// Ends the child, for a caller that no longer wants it or shuts down. The failure names its last step.
    pub fn give_up(mut self) -> Failed {
        let step = std::mem::take(&mut self.step);
        self.kill(Error::Abandoned { step }.into())
    }

    /// Waits until the child has passed `execve` or failed; then it is reaped, as far as that goes without
    /// waiting for ever.
    ///
    /// # Errors
    /// What the child reports, or that it was killed or gave no sign for two minutes.
    pub fn wait(self) -> Result<Spawned, Failure> {
        let mut pending = self;
        loop {
            let rest = pending.deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(0),
                tv_nsec: rest.subsec_nanos().into(),
            };
            let watched = match pending.closed {
                true => pending.pidfd(),
                false => pending.as_fd(),
            };
            // Whatever poll says, advance() finds out.
            let _ = poll(
                &mut [PollFd::from_borrowed_fd(watched, PollFlags::IN)],
                Some(&timeout),
            );
            match pending.advance() {
                Progress::Waiting(still) => pending = still,
                Progress::Running(spawned) => return Ok(spawned),
                Progress::Failed(failed) => {
                    reap(&failed.pidfd);
                    return Err(failed.failure);
                }
            }
        }
    }

    fn step(&self) -> String {
        match self.step.as_str() {
            "" => "set up the process".to_owned(),
            step => step.to_owned(),
        }
    }

    /// How the child ended; none while it lives. It stays a zombie.
    fn death(&self) -> Option<Error> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::PidFd(self.child.pidfd.as_fd()), options)
            .ok()
            .flatten()?;
        Some(describe_death(
            status.exit_status(),
            status.terminating_signal(),
            self.step(),
        ))
    }

    fn run(self) -> Progress {
        let Self { child, terminal, .. } = self;
        let Child { pid, pidfd } = child;
        Progress::Running(Spawned { pid, pidfd, terminal })
    }

    fn fail(self, failure: Failure) -> Progress {
        Progress::Failed(self.kill(failure))
    }

    fn kill(self, failure: Failure) -> Failed {
        let Child { pid, pidfd } = self.child;
        // ESRCH: it has ended by itself.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        Failed { failure, pid, pidfd }
    }
}

/// Reaps a killed child. One that hangs in the kernel is left to the caller's reaper.
fn reap(pidfd: &OwnedFd) {
    let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&REAP_PATIENCE));
    let _ = waitid(
        WaitId::PidFd(pidfd.as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
}

impl AsFd for Pending {
    /// Readable when there is something for [`Pending::advance`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }
}

fn describe_death(code: Option<i32>, signal: Option<i32>, step: String) -> Error {
    match signal {
        Some(signal) => Error::Killed { signal, step },
        None => Error::Left {
            code: code.unwrap_or(-1),
            step,
        },
    }
}

/// Clones a child that runs `run`, in the PID namespace of the process `join_pid` where one is given. Of
/// its inherited descriptors it keeps these only.
pub(crate) fn launch(
    args: &CloneArgs<'_>,
    join_pid: Option<BorrowedFd<'_>>,
    kept: &[BorrowedFd<'_>],
    run: impl FnOnce(&mut Reporter) -> Result<Infallible, Error>,
) -> Result<Pending, Error> {
    let (reports, child_end) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .at(Step::Channel)?;
    let home = join_pid.map(enter_pid_namespace).transpose()?;
    let forked = pausa_sys::clone(args);
    if matches!(forked, Ok(Forked::Child)) {
        become_child(child_end, kept, run);
    }
    let returned = home.map_or(Ok(()), |home| join_pid_namespace(home.as_fd()));
    let child = match forked.at(Step::Clone(describe(args)))? {
        Forked::Parent(child) => child,
        Forked::Child => return Err(Error::Panicked),
    };
    drop(child_end);
    let deadline = Instant::now() + PATIENCE;
    let pending = Pending {
        child,
        reports,
        terminal: None,
        step: String::new(),
        ready: false,
        closed: false,
        deadline,
    };
    if let Err(source) = returned {
        // Every later child would land in the container's PID namespace: say so, keep nothing.
        let error = Error::Call {
            step: Step::LeavePid,
            source,
        };
        let _ = pidfd_send_signal(&pending.child.pidfd, Signal::KILL);
        reap(&pending.child.pidfd);
        return Err(error);
    }
    Ok(pending)
}

/// Lets later children start in the PID namespace of `target`; returns the way back.
fn enter_pid_namespace(target: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let own: Pid = getpid();
    let home = pidfd_open(own, PidfdFlags::empty()).at(Step::LeavePid)?;
    join_pid_namespace(target).at(Step::JoinPid)?;
    Ok(home)
}

pub(crate) fn join_pid_namespace(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    pausa_sys::join_by_pidfd(
        pidfd,
        NamespaceKinds {
            pid: true,
            ..NamespaceKinds::default()
        },
    )
}

/// The child's life. It owns copies of everything its parent owns and must run no destructor of them.
fn become_child(
    child_end: OwnedFd,
    kept: &[BorrowedFd<'_>],
    run: impl FnOnce(&mut Reporter) -> Result<Infallible, Error>,
) -> ! {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut reporter = Reporter::new(child_end);
        let result = reporter
            .move_above_streams()
            .at(Step::Duplicate)
            .and_then(|()| reporter.close_others(kept).at(Step::CloseOthers))
            .and_then(|()| run(&mut reporter));
        let Err(error) = result;
        reporter.failure(&error);
        std::mem::forget(reporter);
    }));
    pausa_sys::exit_now(if result.is_ok() { 1 } else { 101 })
}

fn describe(args: &CloneArgs<'_>) -> &'static str {
    match (args.mount, args.cgroup.is_some()) {
        (true, true) => "new namespaces, CLONE_INTO_CGROUP",
        (true, false) => "new namespaces",
        (false, true) => "CLONE_INTO_CGROUP",
        (false, false) => "",
    }
}
