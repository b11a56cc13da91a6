//! Processes on their way to `execve`, and those that run hooks.
//!
//! ```text
//!   begun ─▶ SettingUp ──execve, or the hooks have succeeded──▶ StartOutcome::Running
//!               │ failure, timeout, cancelled: killed
//!               ▼
//!            Killed ──reaped, or 1 s──▶ StartOutcome::Failed
//!                          └ a process that hangs in the kernel is remembered until it is reaped
//! ```
//!
//! Must never decide what becomes of a process that runs: that is for the receiver of the outcome.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pausa_container_init::{HookStage, Pending, Progress, Spawned};
use pausa_monitor_protocol::{ExitStatus, Failure};

use crate::connections::ReplyTo;
use crate::failure::internal;
use crate::poll::{Poll, Token};

/// How long the failure of a start waits for its killed process to be reaped.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);

/// What a process is being started for.
#[derive(Debug)]
pub(crate) enum StartTarget {
    /// The first process of the container of this id.
    Container { id: String, reply_to: ReplyTo },
    /// One more process in a container.
    Exec {
        id: String,
        container: String,
        reply_to: ReplyTo,
        /// Reading ends of its streams.
        outputs: Vec<OwnedFd>,
        /// The client has left: the monitor keeps no copy of its streams.
        hung_up: bool,
    },
    /// Hooks of a container in the host's namespaces.
    Hooks { container: String, run: HookRun },
}

/// What hooks are run for.
#[derive(Debug)]
pub(crate) enum HookRun {
    /// The container's process waits for them.
    CreateRuntime,
    /// The command runs with this process id, since this time. The request is answered afterwards.
    Poststart { pid: i32, at: i64, reply_to: ReplyTo },
    /// Its exit is reported afterwards.
    Poststop,
    /// Its start has failed, which is reported afterwards.
    Undo { failure: Failure, reply_to: ReplyTo },
    /// Another monitor had it, which was lost. The request is answered afterwards.
    Lost { reply_to: ReplyTo },
}

impl HookRun {
    pub(crate) const fn stage(&self) -> HookStage {
        match self {
            Self::CreateRuntime => HookStage::CreateRuntime,
            Self::Poststart { .. } => HookStage::Poststart,
            Self::Poststop | Self::Undo { .. } | Self::Lost { .. } => HookStage::Poststop,
        }
    }
}

impl StartTarget {
    /// Hooks of a container whose start has not come to its command.
    pub(crate) fn is_create_runtime_of(&self, wanted: &str) -> bool {
        let Self::Hooks { container, run } = self else {
            return false;
        };
        container == wanted && matches!(run, HookRun::CreateRuntime)
    }

    pub(crate) fn is_poststop(&self) -> bool {
        let Self::Hooks { run, .. } = self else {
            return false;
        };
        run.stage() == HookStage::Poststop
    }

    pub(crate) fn is_container(&self, wanted: &str) -> bool {
        matches!(self, Self::Container { id, .. } if id == wanted)
    }

    pub(crate) fn is_exec(&self, wanted: &str) -> bool {
        matches!(self, Self::Exec { id, .. } if id == wanted)
    }

    fn describe(&self, pid: i32) -> String {
        match self {
            Self::Container { id, .. } => format!("process {pid} of the start of container {id}"),
            Self::Exec { id, .. } => format!("process {pid} of the start of exec {id}"),
            Self::Hooks { container, run } => {
                format!(
                    "process {pid} of the {} hooks of container {container}",
                    run.stage()
                )
            }
        }
    }
}

/// A start, without its progress.
#[derive(Debug)]
pub(crate) struct StartTask {
    number: u64,
    pub(crate) target: StartTarget,
    /// Requests for the end of the process.
    pub(crate) kill_waiters: Vec<ReplyTo>,
}

#[derive(Debug)]
struct Starting {
    task: StartTask,
    phase: StartPhase,
}

#[derive(Debug)]
enum StartPhase {
    SettingUp(Pending),
    /// The process was killed and is not reaped yet.
    Killed {
        pid: i32,
        failure: Failure,
        /// When the start counts as failed even if the process is not reaped.
        until: Instant,
    },
}

impl Starting {
    fn pid(&self) -> i32 {
        match &self.phase {
            StartPhase::SettingUp(pending) => pending.pid(),
            StartPhase::Killed { pid, .. } => *pid,
        }
    }

    fn deadline(&self) -> Instant {
        match &self.phase {
            StartPhase::SettingUp(pending) => pending.deadline(),
            StartPhase::Killed { until, .. } => *until,
        }
    }
}

/// The end of a start.
#[derive(Debug)]
#[must_use]
pub(crate) enum StartOutcome {
    /// The mounts of the container of this id are made, and its process waits for hooks: see [`Starts::hooks_ended`].
    Created(String),
    Running(StartTask, Spawned),
    Failed(StartTask, Failure),
}

/// What a reaped child was.
#[derive(Debug)]
#[must_use]
pub(crate) enum Reaped {
    /// No process of a start.
    Other,
    /// The process of a start that has failed or continues in another process.
    Start(Option<StartOutcome>),
    /// A process that had passed `execve`, which is only known now.
    Running(StartOutcome),
}

#[derive(Debug)]
pub(crate) struct Starts {
    poll: Rc<Poll>,
    list: Vec<Starting>,
    /// Processes of failed starts that have not died yet, with their descriptions.
    hung: Vec<(i32, String)>,
}

impl Starts {
    pub(crate) const fn new(poll: Rc<Poll>) -> Self {
        Self {
            poll,
            list: Vec::new(),
            hung: Vec::new(),
        }
    }

    /// Takes a process that has been cloned.
    pub(crate) fn begin(&mut self, target: StartTarget, progress: Progress) -> Option<StartOutcome> {
        let task = StartTask {
            number: self.poll.next_number(),
            target,
            kill_waiters: Vec::new(),
        };
        self.step(task, progress)
    }

    fn step(&mut self, task: StartTask, progress: Progress) -> Option<StartOutcome> {
        match progress {
            Progress::Waiting(mut pending) => {
                let created = match &task.target {
                    StartTarget::Container { id, .. } if pending.take_created() => Some(id.clone()),
                    _ => None,
                };
                let registered = match pending.is_closed() {
                    true => Ok(()),
                    false => self.poll.add(pending.as_fd(), Token::Start(task.number)),
                };
                match registered {
                    Ok(()) => {
                        let phase = StartPhase::SettingUp(pending);
                        self.list.push(Starting { task, phase });
                    }
                    Err(errno) => {
                        let failure = internal("watch a process: epoll_ctl(EPOLL_CTL_ADD)")(errno);
                        self.await_death(task, failure, pending.cancel().pid);
                        return None;
                    }
                }
                created.map(StartOutcome::Created)
            }
            Progress::Running(spawned) => Some(StartOutcome::Running(task, spawned)),
            Progress::Failed(failed) => {
                self.await_death(task, failed.failure, failed.pid);
                None
            }
        }
    }

    /// The start has failed and its process has been killed: waits until it is reaped. No pidfd is needed, since the process
    /// id is not reused before that.
    pub(crate) fn await_death(&mut self, task: StartTask, failure: Failure, pid: i32) {
        let phase = StartPhase::Killed {
            pid,
            failure,
            until: Instant::now() + REAP_TIMEOUT,
        };
        self.list.push(Starting { task, phase });
    }

    /// A process that has passed `execve` has been killed, since its start fails all the same.
    pub(crate) fn await_end(&mut self, target: StartTarget, failure: Failure, pid: i32) {
        let task = StartTask {
            number: self.poll.next_number(),
            target,
            kill_waiters: Vec::new(),
        };
        self.await_death(task, failure, pid);
    }

    /// Takes a start off the list, and its process out of epoll.
    fn take(&mut self, index: usize) -> Starting {
        let starting = self.list.remove(index);
        if let StartPhase::SettingUp(pending) = &starting.phase {
            self.poll.remove(pending.as_fd());
        }
        starting
    }

    /// Reads the reports of a process. Its start may have ended meanwhile.
    pub(crate) fn read_reports(&mut self, number: u64) -> Option<StartOutcome> {
        let has_number = |starting: &Starting| starting.task.number == number;
        let index = self.list.iter().position(has_number)?;
        match self.take(index) {
            Starting {
                task,
                phase: StartPhase::SettingUp(pending),
            } => self.step(task, pending.advance()),
            killed => {
                self.list.push(killed);
                None
            }
        }
    }

    /// A child has been reaped.
    pub(crate) fn reaped(&mut self, pid: i32, exit: ExitStatus) -> Reaped {
        if let Some(index) = self.hung.iter().position(|(hung, _)| *hung == pid) {
            self.hung.remove(index);
            return Reaped::Start(None);
        }
        let Some(index) = self.list.iter().position(|starting| starting.pid() == pid) else {
            return Reaped::Other;
        };
        let Starting { task, phase } = self.take(index);
        match phase {
            StartPhase::Killed { failure, .. } => Reaped::Start(Some(StartOutcome::Failed(task, failure))),
            StartPhase::SettingUp(pending) => {
                let signal = (exit.signal != 0).then_some(exit.signal);
                let code = signal.is_none().then_some(exit.code);
                match pending.reaped(code, signal) {
                    Progress::Running(spawned) => Reaped::Running(StartOutcome::Running(task, spawned)),
                    Progress::Failed(failed) => {
                        Reaped::Start(Some(StartOutcome::Failed(task, failed.failure)))
                    }
                    waiting @ Progress::Waiting(_) => Reaped::Start(self.step(task, waiting)),
                }
            }
        }
    }

    /// When [`Self::expire`] must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.list.iter().map(Starting::deadline).min()
    }

    /// Ends starts whose time is over.
    pub(crate) fn expire(&mut self) -> Vec<StartOutcome> {
        let now = Instant::now();
        let mut outcomes = Vec::new();
        while let Some(index) = self.list.iter().position(|starting| starting.deadline() <= now) {
            let Starting { task, phase } = self.take(index);
            match phase {
                StartPhase::SettingUp(pending) => outcomes.extend(self.step(task, pending.advance())),
                StartPhase::Killed { pid, failure, .. } => {
                    self.hung.push((pid, task.target.describe(pid)));
                    outcomes.push(StartOutcome::Failed(task, failure));
                }
            }
        }
        outcomes
    }

    /// Cancels starts. A process that has passed `execve` meanwhile is among the outcomes.
    pub(crate) fn cancel(&mut self, wanted: impl Fn(&StartTarget) -> bool) -> Vec<StartOutcome> {
        let cancellable = |starting: &Starting| {
            wanted(&starting.task.target) && matches!(starting.phase, StartPhase::SettingUp(_))
        };
        let mut outcomes = Vec::new();
        while let Some(index) = self.list.iter().position(cancellable) {
            let Starting { task, phase } = self.take(index);
            let StartPhase::SettingUp(pending) = phase else {
                break;
            };
            let progress = match pending.advance() {
                Progress::Waiting(pending) => Progress::Failed(pending.cancel()),
                decided => decided,
            };
            outcomes.extend(self.step(task, progress));
        }
        outcomes
    }

    /// The hooks that a container's process waits for have ended.
    pub(crate) fn hooks_ended(&mut self, container: &str, result: Result<(), Failure>) {
        let waits = |starting: &Starting| {
            starting.task.target.is_container(container) && matches!(starting.phase, StartPhase::SettingUp(_))
        };
        let Some(index) = self.list.iter().position(waits) else {
            return;
        };
        match (&self.list[index].phase, result) {
            (StartPhase::SettingUp(pending), Ok(())) => pending.resume(),
            (_, Ok(())) => {}
            (_, Err(failure)) => {
                let Starting { task, phase } = self.take(index);
                if let StartPhase::SettingUp(pending) = phase {
                    let failed = pending.give_up(failure);
                    self.await_death(task, failed.failure, failed.pid);
                }
            }
        }
    }

    /// Whether an exec of this id is being started.
    pub(crate) fn contains_exec(&self, id: &str) -> bool {
        let mut starting = self.list.iter();
        starting.any(|starting| starting.task.target.is_exec(id))
    }

    /// Lets a request wait for the end of an exec that is being started. Returns false if there is none.
    pub(crate) fn await_exec_end(&mut self, id: &str, waiter: Option<ReplyTo>) -> bool {
        let mut tasks = self.list.iter_mut().map(|starting| &mut starting.task);
        let Some(task) = tasks.find(|task| task.target.is_exec(id)) else {
            return false;
        };
        task.kill_waiters.extend(waiter);
        true
    }

    /// Closes the monitor's copies of the streams of an exec that is being started.
    pub(crate) fn hang_up(&mut self, wanted: &str) {
        for starting in &mut self.list {
            if let StartTarget::Exec {
                id, outputs, hung_up, ..
            } = &mut starting.task.target
                && id == wanted
            {
                outputs.clear();
                *hung_up = true;
            }
        }
    }

    /// Describes all processes that are not reaped, for a failed shutdown.
    pub(crate) fn descriptions(&self) -> impl Iterator<Item = String> {
        let starting = self.list.iter();
        let starting = starting.map(|starting| starting.task.target.describe(starting.pid()));
        starting.chain(self.hung.iter().map(|(_, description)| description.clone()))
    }
}
