//! The parent's side: clone, and what the child reports until it execs.
//!
//! [`Pending`] never blocks on its own: a caller may watch its descriptor in its event loop and call
//! [`Pending::advance`] when it is readable or the deadline has passed. [`Pending::wait`] does both.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pausa_monitor_protocol::{Failure, FailureKind};
use pausa_sys::{Child, CloneArgs, Forked, NamespaceKinds};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid, pidfd_open, pidfd_send_signal,
    waitid,
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

/// A child that has not passed `execve` yet. Dropping it leaves the child alone.
#[derive(Debug)]
pub struct Pending {
    child: Child,
    reports: OwnedFd,
    terminal: Option<OwnedFd>,
    step: String,
    ready: bool,
    deadline: Instant,
}

/// Where a [`Pending`] stands.
#[derive(Debug)]
pub enum Progress {
    /// Not there yet.
    Waiting(Pending),
    /// It runs, or it failed and is gone.
    Done(Result<Spawned, Failure>),
}

impl Pending {
    /// The child's id in the caller's PID namespace.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// When [`Self::advance`] gives up.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes in what the child has reported; never waits for the child to go on.
    pub fn advance(mut self) -> Progress {
        loop {
            match report::receive(self.reports.as_fd()) {
                Ok(None) if Instant::now() >= self.deadline => {
                    let step = std::mem::take(&mut self.step);
                    return self.fail(
                        Error::TimedOut {
                            seconds: PATIENCE.as_secs(),
                            step,
                        }
                        .into(),
                    );
                }
                Ok(None) => return Progress::Waiting(self),
                Ok(Some(Report::Step(step))) => self.step = step,
                Ok(Some(Report::Terminal(master))) => self.terminal = Some(master),
                Ok(Some(Report::Ready)) => {
                    self.ready = true;
                    "take on the identity and start the command: execve".clone_into(&mut self.step);
                }
                Ok(Some(Report::Failure { errno, text })) => {
                    return self.fail(Failure {
                        kind: FailureKind::Start,
                        step: text,
                        errno,
                    });
                }
                Ok(Some(Report::End)) => return self.ended(),
                Err(source) => {
                    return self.fail(
                        Error::Call {
                            step: Step::Receive,
                            source,
                        }
                        .into(),
                    );
                }
            }
        }
    }

    /// Ends the child, for a caller that no longer wants it or shuts down. The failure names its last step.
    pub fn give_up(mut self) -> Failure {
        let step = std::mem::take(&mut self.step);
        let failure = Failure::from(Error::Abandoned { step });
        self.end();
        failure
    }

    /// Waits until the child has passed `execve` or failed.
    ///
    /// # Errors
    /// What the child reports, or that it was killed or gave no sign for two minutes.
    pub fn wait(self) -> Result<Spawned, Failure> {
        let mut pending = self;
        loop {
            let rest = pending.deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(0) + 1,
                tv_nsec: 0,
            };
            // Whatever poll says, advance() finds out.
            let _ = poll(
                &mut [PollFd::new(&pending.reports, PollFlags::IN)],
                Some(&timeout),
            );
            match pending.advance() {
                Progress::Done(result) => return result,
                Progress::Waiting(still) => pending = still,
            }
        }
    }

    /// The channel is closed: by `execve`, or by the child's death.
    fn ended(self) -> Progress {
        if !self.ready
            && let Some(death) = self.death()
        {
            return self.fail(death.into());
        }
        let Self {
            child: Child { pid, pidfd },
            terminal,
            ..
        } = self;
        Progress::Done(Ok(Spawned { pid, pidfd, terminal }))
    }

    /// How the child ended; none while it lives. It stays a zombie.
    fn death(&self) -> Option<Error> {
        // A dying process closes its descriptors before it becomes waitable; one that lives has exec'd
        // under a filter that forbids write(2).
        let _ = poll(
            &mut [PollFd::new(&self.child.pidfd, PollFlags::IN)],
            Some(&REAP_PATIENCE),
        );
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::PidFd(self.child.pidfd.as_fd()), options)
            .ok()
            .flatten()?;
        let step = if self.step.is_empty() {
            "set up the process"
        } else {
            &self.step
        }
        .to_owned();
        Some(describe_death(&status, step))
    }

    fn fail(self, failure: Failure) -> Progress {
        self.end();
        Progress::Done(Err(failure))
    }

    /// Kills the child and reaps it, as far as that goes without waiting for ever.
    fn end(self) {
        // ESRCH: it has ended by itself.
        let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        let _ = poll(
            &mut [PollFd::new(&self.child.pidfd, PollFlags::IN)],
            Some(&REAP_PATIENCE),
        );
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // Nothing to reap yet means a hang in the kernel: the caller reaps it whenever it ends.
        let _ = waitid(WaitId::PidFd(self.child.pidfd.as_fd()), options);
    }
}

impl AsFd for Pending {
    /// Readable when there is something for [`Pending::advance`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }
}

fn describe_death(status: &WaitIdStatus, step: String) -> Error {
    match status.terminating_signal() {
        Some(signal) => Error::Killed { signal, step },
        None => Error::Left {
            code: status.exit_status().unwrap_or(-1),
            step,
        },
    }
}

/// Clones a child that runs `run`, in the PID namespace of the process `join_pid` where one is given.
pub(crate) fn launch(
    args: &CloneArgs<'_>,
    join_pid: Option<BorrowedFd<'_>>,
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
        become_child(child_end, run);
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
        deadline,
    };
    if let Err(source) = returned {
        // Every later child would land in the container's PID namespace: say so, keep nothing.
        let error = Error::Call {
            step: Step::LeavePid,
            source,
        };
        pending.end();
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

fn join_pid_namespace(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    pausa_sys::join_by_pidfd(
        pidfd,
        NamespaceKinds {
            pid: true,
            ..NamespaceKinds::default()
        },
    )
}

/// The child's life. It owns copies of everything its parent owns and must run no destructor of them.
fn become_child(child_end: OwnedFd, run: impl FnOnce(&mut Reporter) -> Result<Infallible, Error>) -> ! {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut reporter = Reporter::new(child_end);
        let result = reporter
            .move_above_streams()
            .at(Step::Duplicate)
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
