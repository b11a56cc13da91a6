//! The parent's side of a start: clone the child, and follow its reports until it has called `execve`.
//!
//! ```text
//!   cloned ──steps, terminal──▶ ready ──end of file──▶ Running
//!      │                          └─ failure (execve refused) ─▶ Failed
//!      ├─ failure, deadline, cancelled ─────────────────▶ Failed: killed, not reaped
//!      └─ end of file ─▶ closed ─┬─ the child is dead ──▶ Failed
//!                                └─ the child lives ────▶ Running, under a filter that forbids write(2)
//! ```
//!
//! A [`Pending`] never blocks. Its owner watches the descriptor in an event loop and calls [`Pending::advance`] when the
//! descriptor is readable or the deadline has passed, or [`Pending::reaped`] when it has reaped the child.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pausa_monitor_protocol::Failure;
use pausa_sys::{Child, CloneArgs, Forked};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use crate::Spawned;
use crate::cgroup::Admission;
use crate::error::{At, Error, Step};
use crate::report::{self, Report, Reporter, Stage};

/// How long a child may take to reach `execve`.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait here for a killed child's end. A child that hangs in the kernel is left to the caller's reaper.
const REAP_TIMEOUT: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// How long after the end of its reports a dying child may take to become waitable. A child that is not dead by then lives.
const DEATH_TIMEOUT: Duration = Duration::from_secs(1);

/// A child that has not passed `execve` yet. Dropping this value does not affect the child.
#[derive(Debug)]
pub struct Pending {
    child: Child,
    reports: OwnedFd,
    terminal: Option<OwnedFd>,
    step: String,
    /// The container's mounts are made, and the child waits for [`Self::resume`].
    created: bool,
    ready: bool,
    /// The child is the last one, see [`Stage::Last`].
    last: bool,
    closed: bool,
    /// The child is outside of the container's cgroup. The last child is moved before it may go on.
    admission: Option<Admission>,
    deadline: Instant,
}

/// A start that failed. The child has been killed, and the caller must reap it.
#[derive(Debug)]
pub struct Failed {
    /// The reason; names the step.
    pub failure: Failure,
    /// The child's process id in the caller's PID namespace.
    pub pid: i32,
    /// The child's pidfd.
    pub pidfd: OwnedFd,
}

/// How far a start has come.
#[derive(Debug)]
pub enum Progress {
    /// `execve` has not happened yet.
    Waiting(Pending),
    /// `execve` has succeeded.
    Running(Spawned),
    /// The start has failed.
    Failed(Failed),
}

impl Pending {
    /// The child was made outside of the container's cgroup.
    pub(crate) fn admitted_by(self, admission: Admission) -> Self {
        Self {
            admission: Some(admission),
            ..self
        }
    }

    /// The child's process id in the caller's PID namespace.
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

    /// Whether the reports have ended: the descriptor must not be watched any longer, only the child's end and the
    /// deadline.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads the child's reports without waiting for further ones.
    pub fn advance(mut self) -> Progress {
        if let Some(failure) = self.take_reports() {
            return self.fail(failure);
        }
        let late = Instant::now() >= self.deadline;
        if !self.closed {
            if late {
                let step = std::mem::take(&mut self.step);
                let seconds = START_TIMEOUT.as_secs();
                return self.fail(Error::TimedOut { seconds, step }.into());
            }
            return Progress::Waiting(self);
        }
        if self.ready {
            return self.run();
        }
        match self.death() {
            Some(death) => self.fail(death.into()),
            // A dying process closes its descriptors before it becomes waitable. A process that lives on has called
            // execve under a filter that forbids write(2).
            None if late => self.run(),
            None => Progress::Waiting(self),
        }
    }

    /// The caller has reaped a child with this process id, which ended with `code` or by `signal`. Returns `Waiting` only
    /// if another child has taken over meanwhile.
    pub fn reaped(mut self, code: Option<i32>, signal: Option<i32>) -> Progress {
        let reaped = self.child.pid;
        match self.take_reports() {
            Some(failure) => self.fail(failure),
            // Another child has taken over.
            None if self.child.pid != reaped => Progress::Waiting(self),
            // The command ran, and has ended already.
            None if self.ready => self.run(),
            None => {
                let step = self.step();
                self.fail(describe_death(code, signal, step).into())
            }
        }
    }

    /// Reads all reports that are there. Returns a failure if the child reports one or reading fails.
    fn take_reports(&mut self) -> Option<Failure> {
        while !self.closed {
            match report::receive(self.reports.as_fd(), self.child.pid) {
                Ok(None) => return None,
                Ok(Some(Report::Foreign)) => return Some(Error::UnexpectedReport.into()),
                Ok(Some(
                    Report::Step(_) | Report::Terminal(_) | Report::Created | Report::Successor { .. },
                )) if self.last => {
                    return Some(Error::UnexpectedReport.into());
                }
                Ok(Some(Report::Step(step))) => self.step = step,
                Ok(Some(Report::Created)) => {
                    self.created = true;
                    Step::AwaitHooks.to_string().clone_into(&mut self.step);
                }
                Ok(Some(Report::Terminal(master))) => self.terminal = Some(master),
                Ok(Some(Report::Successor { pid, stage })) => match adopt(pid) {
                    Ok(child) => {
                        let before = std::mem::replace(&mut self.child, child);
                        self.last = stage == Stage::Last;
                        let admitted = match self.admission.take_if(|_| self.last) {
                            Some(admission) => admission.admit(pid),
                            None => Ok(()),
                        };
                        if admitted.is_ok() {
                            report::resume(self.reports.as_fd());
                        }
                        // It is about to end by itself.
                        let _ = pidfd_send_signal(&before.pidfd, Signal::KILL);
                        reap(&before.pidfd);
                        if let Err(error) = admitted {
                            return Some(error.into());
                        }
                    }
                    Err(source) => {
                        let step = Step::HandOver;
                        return Some(Error::Call { step, source }.into());
                    }
                },
                Ok(Some(Report::Ready)) => {
                    self.ready = true;
                    "take on the identity and start the command: execve".clone_into(&mut self.step);
                }
                Ok(Some(Report::Failure(failure))) => return Some(failure),
                Ok(Some(Report::End)) => {
                    self.closed = true;
                    self.deadline = Instant::now() + DEATH_TIMEOUT;
                }
                Err(source) => {
                    let step = Step::Receive;
                    return Some(Error::Call { step, source }.into());
                }
            }
        }
        None
    }

    /// Whether the child has just come to wait for the hooks of [`crate::HookStage::CreateRuntime`], which the caller runs
    /// before it calls [`Self::resume`]. True once.
    pub fn take_created(&mut self) -> bool {
        std::mem::take(&mut self.created)
    }

    /// Lets the child go on after the hooks.
    pub fn resume(&self) {
        report::resume(self.reports.as_fd());
    }

    /// Kills the child because something else that belongs to the start has failed.
    pub fn give_up(self, failure: Failure) -> Failed {
        self.kill(failure)
    }

    /// Kills the child, for a caller that cancels the start or shuts down. The failure names the child's last step.
    pub fn cancel(mut self) -> Failed {
        let step = std::mem::take(&mut self.step);
        self.kill(Error::Cancelled { step }.into())
    }

    fn step(&self) -> String {
        match self.step.as_str() {
            "" => "set up the process".to_owned(),
            step => step.to_owned(),
        }
    }

    /// How the child ended; none while it lives. Does not reap it.
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
        if self.admission.is_some() {
            return self.fail(Error::NotAdmitted.into());
        }
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

/// Reaps a killed child, unless it hangs in the kernel.
fn reap(pidfd: &OwnedFd) {
    let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&REAP_TIMEOUT));
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
        None => Error::Exited {
            code: code.unwrap_or(-1),
            step,
        },
    }
}

/// The child of this process with that id. If it has ended, it is still there until it is reaped here.
///
/// # Errors
/// ESRCH: there is no such child (any more).
fn adopt(pid: i32) -> Result<Child, Errno> {
    let named = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(named, PidfdFlags::empty())?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(_) => Ok(Child { pid, pidfd }),
        Err(_) => Err(Errno::SRCH),
    }
}

/// Clones a child that calls `run`. The child keeps only the descriptors in `kept`.
///
/// # Safety
/// As of [`pausa_sys::clone`].
#[expect(unsafe_code, reason = "only the caller knows the threads of the process")]
pub(crate) unsafe fn clone_child(
    args: &CloneArgs<'_>,
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
    rustix::net::sockopt::set_socket_passcred(&reports, true).at(Step::Channel)?;
    // SAFETY: this function's own contract is the same.
    let forked = unsafe { pausa_sys::clone(args) };
    match forked.at(Step::Clone(describe(args)))? {
        Forked::Child => become_child(child_end, kept, run),
        Forked::Parent(child) => Ok(Pending {
            child,
            reports,
            terminal: None,
            step: String::new(),
            created: false,
            ready: false,
            last: false,
            closed: false,
            admission: None,
            deadline: Instant::now() + START_TIMEOUT,
        }),
    }
}

/// Clones a child of this process's parent, which continues from here. Returns only in that child, when the parent knows it.
pub(crate) fn continue_in_sibling(
    args: &CloneArgs<'_>,
    stage: Stage,
    reporter: &Reporter,
) -> Result<(), Error> {
    let args = CloneArgs {
        sibling: true,
        ..*args
    };
    #[expect(
        unsafe_code,
        reason = "clone() needs a process without other threads that may hold locks"
    )]
    // SAFETY: this process is a child that `clone_child` has cloned, or a child of that, so it was made with one thread.
    // Nothing in this crate starts another.
    let forked = unsafe { pausa_sys::clone(&args) };
    match forked.at(Step::Clone("CLONE_PARENT"))? {
        Forked::Child => reporter.wait_to_be_known().at(Step::HandOver),
        Forked::Parent(child) => {
            reporter.hand_over(child.pid, stage);
            pausa_sys::exit_now(0)
        }
    }
}

/// Runs the child. It owns copies of everything that its parent owns, and must not run their destructors.
fn become_child(
    child_end: OwnedFd,
    kept: &[BorrowedFd<'_>],
    run: impl FnOnce(&mut Reporter) -> Result<Infallible, Error>,
) -> ! {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut reporter = Reporter::new(child_end);
        let result = reporter.move_above_streams().at(Step::Duplicate).and_then(|()| {
            #[expect(unsafe_code, reason = "closes descriptors by number")]
            // SAFETY: the owners of the closed descriptors are copies of the parent's values. They live in frames to which
            // the child never returns: it ends by execve or exit_now. What `run` borrows is in `kept`.
            let closed = unsafe { reporter.close_others(kept) };
            closed.at(Step::CloseOthers)?;
            run(&mut reporter)
        });
        let Err(error) = result;
        reporter.failure(&error);
        std::mem::forget(reporter);
    }));
    pausa_sys::exit_now(if result.is_ok() { 1 } else { 101 })
}

fn describe(args: &CloneArgs<'_>) -> &'static str {
    match (args.pid || args.mount, args.cgroup.is_some()) {
        (true, true) => "new namespaces, CLONE_INTO_CGROUP",
        (true, false) => "new namespaces",
        (false, true) => "CLONE_INTO_CGROUP",
        (false, false) => "",
    }
}
