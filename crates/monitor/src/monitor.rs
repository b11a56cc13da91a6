//! The state of a monitor, and the events that concern more than one part of it.
//!
//! Each part decides about its own: starts, containers, execs, kills, shutdown. What happens in one part and matters to
//! another passes through here.

use std::rc::Rc;
use std::time::Instant;

use pausa_container_init::{HookStage, Progress, Spawned};
use pausa_monitor_protocol::{Event, ExitStatus, Failure, FailureKind, HookPlan, Reply, SOCKET_NAME};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus};

use crate::bootstrap::HostNamespaceFds;
use crate::connections::{Connections, ReplyTo};
use crate::containers::Containers;
use crate::execs::Execs;
use crate::failure::failure;
use crate::kills::Kills;
use crate::plan_fds::duplicate;
use crate::pod::Setup;
use crate::poll::Poll;
use crate::shutdown::{KILL_TIMEOUT, Shutdown, Step};
use crate::spawner::Spawner;
use crate::starts::{HookRun, Reaped, StartOutcome, StartTarget, StartTask, Starts};
use crate::{clock, process};

#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) spawner: Spawner,
    pub(crate) host: HostNamespaceFds,
    pub(crate) poll: Rc<Poll>,
    pub(crate) setup: Setup,
    pub(crate) connections: Connections,
    pub(crate) containers: Containers,
    pub(crate) starts: Starts,
    pub(crate) execs: Execs,
    kills: Kills,
    shutdown: Option<Shutdown>,
}

impl Monitor {
    pub(crate) fn new(spawner: Spawner, host: HostNamespaceFds) -> Result<Self, Errno> {
        let poll = Rc::new(Poll::new()?);
        Ok(Self {
            spawner,
            host,
            setup: Setup::NotDone,
            connections: Connections::new(Rc::clone(&poll)),
            containers: Containers::new(Rc::clone(&poll))?,
            starts: Starts::new(Rc::clone(&poll)),
            execs: Execs::new(Rc::clone(&poll)),
            kills: Kills::default(),
            shutdown: None,
            poll,
        })
    }

    /// Whether the monitor is to exit: it has shut down, or the daemon that started it is gone before there was a pod, so
    /// that no daemon can ever connect.
    pub(crate) fn is_over(&self) -> bool {
        let unreachable = self.connections.is_empty() && self.setup.pod().is_err();
        unreachable || self.shutdown.as_ref().is_some_and(Shutdown::is_done)
    }

    /// Refuses new processes during a shutdown.
    pub(crate) fn check_not_shutting_down(&self) -> Result<(), Failure> {
        match self.shutdown {
            None => Ok(()),
            Some(_) => Err(failure(FailureKind::State, "the pod is being shut down")),
        }
    }

    /// Does what is due. Called after every turn of the event loop.
    pub(crate) fn advance(&mut self) {
        self.execs.adopt_orphans(&self.connections);
        self.containers.advance_attachments(&mut self.connections);
        for outcome in self.starts.expire() {
            self.settle_start(outcome);
        }
        for (waiters, result) in self.kills.advance(&self.containers, &self.execs) {
            for waiter in waiters {
                self.connections.reply(waiter, result.clone(), Vec::new());
            }
        }
        let kills = &self.kills;
        let exits = self.setup.pod().ok().map(|pod| &pod.exits);
        self.containers
            .advance(|id| kills.is_killing_container(id), &mut self.connections, exits);
        while let Some(container) = self.containers.begin_poststop() {
            self.run_hooks(container, HookRun::Poststop);
        }
        self.advance_shutdown();
    }

    /// When [`Self::advance`] must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.starts.deadline(),
            self.kills.deadline(),
            self.containers.deadline(),
            self.shutdown.as_ref().and_then(Shutdown::deadline),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Settles a start that has ended: tells the requester, and the other connections, since one of them may have found the
    /// container in the middle of its start.
    pub(crate) fn settle_start(&mut self, outcome: StartOutcome) {
        match outcome {
            StartOutcome::Created(container) => self.run_hooks(container, HookRun::CreateRuntime),
            StartOutcome::Running(task, spawned) => self.start_succeeded(task, spawned),
            StartOutcome::Failed(task, failure) => self.start_failed(task, failure),
        }
    }

    fn start_succeeded(&mut self, task: StartTask, mut spawned: Spawned) {
        let at = clock::now();
        let terminal = match &task.target {
            StartTarget::Container { id, .. } => {
                self.containers.set_running(id, &mut spawned, at).map(|()| None)
            }
            StartTarget::Exec { hung_up: true, .. } | StartTarget::Hooks { .. } => Ok(None),
            StartTarget::Exec { .. } => spawned.terminal.as_ref().map(duplicate).transpose(),
        };
        let terminal = match terminal {
            Ok(terminal) => terminal,
            Err(failure) => {
                process::kill(&spawned.pidfd);
                return self.starts.await_death(task, failure, spawned.pid);
            }
        };
        let Spawned {
            pid,
            pidfd,
            terminal: master,
        } = spawned;
        match task.target {
            StartTarget::Container { id, reply_to } => {
                if self.containers.await_poststart(&id) {
                    self.run_hooks(id, HookRun::Poststart { pid, at, reply_to });
                } else {
                    self.announce(id, pid, at, reply_to);
                }
            }
            StartTarget::Hooks { container, run } => self.hooks_ended(container, run, Ok(())),
            StartTarget::Exec {
                id,
                container,
                reply_to,
                outputs,
                ..
            } => {
                let reply = Ok(Reply::Started { pid, at });
                let process = (pid, pidfd);
                let asker = reply_to.connection;
                self.execs
                    .add(id.clone(), container, process, asker, outputs, terminal);
                self.connections
                    .reply(reply_to, reply, master.into_iter().collect());
                self.execs.adopt_orphans(&self.connections);
                for waiter in task.kill_waiters {
                    // Cannot fail, since the exec exists.
                    drop(self.kill_exec(&id, Some(waiter)));
                }
            }
        }
    }

    /// A container's start has succeeded.
    fn announce(&mut self, container: String, pid: i32, at: i64, reply_to: ReplyTo) {
        let reply = Ok(Reply::Started { pid, at });
        self.connections.reply(reply_to, reply, Vec::new());
        let event = Event::Started { container, pid, at };
        self.connections.broadcast_except(reply_to.connection, &event);
    }

    /// A container's start has failed, and nothing is left of it.
    fn forget_start(&mut self, container: String, failure: Failure, reply_to: ReplyTo) {
        self.containers.remove(&container);
        let event = Event::StartFailed {
            container,
            failure: failure.clone(),
        };
        self.connections.broadcast_except(reply_to.connection, &event);
        self.connections.reply(reply_to, Err(failure), Vec::new());
    }

    fn start_failed(&mut self, task: StartTask, failure: Failure) {
        let reply_to = match task.target {
            StartTarget::Hooks { container, run } => return self.hooks_ended(container, run, Err(failure)),
            StartTarget::Exec { reply_to, .. } => reply_to,
            StartTarget::Container { id, reply_to } => {
                self.cancel_starts(|target| target.is_create_runtime_of(&id));
                return match self.containers.begin_poststop_of(&id) {
                    true => self.run_hooks(id, HookRun::Undo { failure, reply_to }),
                    false => self.forget_start(id, failure, reply_to),
                };
            }
        };
        self.connections.reply(reply_to, Err(failure), Vec::new());
        for waiter in task.kill_waiters {
            self.connections.reply(waiter, Ok(Reply::Done), Vec::new());
        }
    }

    /// Begins to run hooks of a container of this pod in the host's namespaces.
    fn run_hooks(&mut self, container: String, run: HookRun) {
        if let Some((hooks, pid)) = self.containers.hooks(&container) {
            let progress = self.spawn_hooks(hooks, pid, run.stage());
            self.await_hooks(container, run, progress);
        }
    }

    /// As [`Self::run_hooks`], for a container that need not be of this pod.
    pub(crate) fn run_hooks_of(&mut self, hooks: &HookPlan, pid: i32, container: String, run: HookRun) {
        let progress = self.spawn_hooks(hooks, pid, run.stage());
        self.await_hooks(container, run, progress);
    }

    fn spawn_hooks(&self, hooks: &HookPlan, pid: i32, stage: HookStage) -> Result<Progress, Failure> {
        #[expect(unsafe_code, reason = "spawning clones the process")]
        // SAFETY: the monitor has no other threads but file writers, see `run`.
        unsafe {
            (self.spawner.hooks)(stage, hooks, pid, &self.host.borrow())
        }
    }

    fn await_hooks(&mut self, container: String, run: HookRun, progress: Result<Progress, Failure>) {
        match progress {
            Ok(progress) => {
                let target = StartTarget::Hooks { container, run };
                if let Some(outcome) = self.starts.begin(target, progress) {
                    self.settle_start(outcome);
                }
            }
            Err(failure) => self.hooks_ended(container, run, Err(failure)),
        }
    }

    fn hooks_ended(&mut self, container: String, run: HookRun, result: Result<(), Failure>) {
        match run {
            HookRun::CreateRuntime => self.starts.hooks_ended(&container, result),
            HookRun::Poststart { pid, at, reply_to } => {
                match (self.containers.poststart_ended(&container), result) {
                    (_, Ok(())) => self.announce(container, pid, at, reply_to),
                    (true, Err(failure)) => {
                        // Cannot fail, since the container exists.
                        drop(self.kill_container(&container, None));
                        let target = StartTarget::Container {
                            id: container,
                            reply_to,
                        };
                        self.starts.await_end(target, failure, pid);
                    }
                    // The command has ended meanwhile, so there is no start to undo any more.
                    (false, Err(failure)) => {
                        self.announce(container.clone(), pid, at, reply_to);
                        self.connections
                            .broadcast(&Event::HookFailed { container, failure });
                    }
                }
            }
            HookRun::Poststop => {
                self.containers.poststop_ended(&container);
                self.report_failed_hook(&container, result);
            }
            HookRun::Undo { failure, reply_to } => {
                self.report_failed_hook(&container, result);
                self.forget_start(container, failure, reply_to);
            }
            HookRun::Lost { reply_to } => {
                self.connections
                    .reply(reply_to, result.map(|()| Reply::Done), Vec::new());
            }
        }
    }

    fn report_failed_hook(&mut self, container: &str, result: Result<(), Failure>) {
        if let Err(failure) = result {
            let container = container.to_owned();
            self.connections
                .broadcast(&Event::HookFailed { container, failure });
        }
    }

    fn cancel_starts(&mut self, wanted: impl Fn(&StartTarget) -> bool) {
        for outcome in self.starts.cancel(wanted) {
            self.settle_start(outcome);
        }
    }

    /// Cancels the start of a container, unless its process has passed `execve`.
    pub(crate) fn cancel_container_start(&mut self, id: &str) {
        self.cancel_starts(|target| target.is_container(id));
    }

    /// Begins to kill all processes of a container, or joins the kill under way.
    ///
    /// # Errors
    /// No such container.
    pub(crate) fn kill_container(&mut self, id: &str, waiter: Option<ReplyTo>) -> Result<(), Failure> {
        self.cancel_container_start(id);
        self.containers.set_sigkill_sent(id)?;
        self.kills.kill_container(id, waiter);
        Ok(())
    }

    /// Begins to kill an exec'd process with its session and descendants.
    ///
    /// # Errors
    /// No such exec, or it has ended.
    pub(crate) fn kill_exec(&mut self, id: &str, waiter: Option<ReplyTo>) -> Result<(), Failure> {
        self.cancel_starts(|target| target.is_exec(id));
        if self.starts.await_exec_end(id, waiter) {
            return Ok(());
        }
        let Some(exec) = self.execs.get(id) else {
            return Err(failure(
                FailureKind::NotFound,
                format!("no exec {id} runs in this pod"),
            ));
        };
        self.kills.kill_exec(exec, waiter);
        Ok(())
    }

    /// Reaps all children that have ended.
    pub(crate) fn reap(&mut self) {
        let mut any = false;
        // ECHILD: there are no children.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            any = true;
            self.child_ended(pid.as_raw_nonzero().get(), exit_status(status));
        }
        if any {
            self.kills.hasten();
        }
    }

    fn child_ended(&mut self, pid: i32, exit: ExitStatus) {
        match self.starts.reaped(pid, exit) {
            Reaped::Start(outcome) => {
                if let Some(outcome) = outcome {
                    self.settle_start(outcome);
                }
                return;
            }
            Reaped::Running(outcome) => self.settle_start(outcome),
            Reaped::Other => {}
        }
        if self.setup.pause_ended(pid) {
            self.connections.broadcast(&Event::PauseExited);
        } else if let Some(exec) = self.execs.remove_ended(pid) {
            self.connections.broadcast(&Event::ExecExited { exec, exit });
        } else if let Some(container) = self.containers.first_process_ended(pid, exit) {
            // Cannot fail, since the container exists.
            drop(self.kill_container(&container, None));
        }
        // Any other child was an orphan of the pod.
    }

    /// Begins to shut down: kills everything.
    pub(crate) fn shut_down(&mut self, waiter: ReplyTo) {
        let now = Instant::now();
        match &mut self.shutdown {
            Some(shutdown) => shutdown.join(waiter, now),
            None => self.shutdown = Some(Shutdown::by_request(waiter, now)),
        }
    }

    /// Begins to shut down with the host: containers may end by themselves first.
    pub(crate) fn terminate(&mut self) {
        if self.shutdown.is_none() {
            self.shutdown = Some(Shutdown::by_sigterm(Instant::now()));
            self.cancel_starts(|target| !target.is_poststop());
            self.containers.terminate_all();
        }
    }

    fn advance_shutdown(&mut self) {
        if self.shutdown.is_none() {
            return;
        }
        let left = self.unfinished();
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        match shutdown.advance(Instant::now(), !left.is_empty()) {
            Step::Wait => {}
            Step::KillAll => self.kill_all(),
            Step::Finish => {
                let waiters = std::mem::take(&mut shutdown.waiters);
                if let Ok(pod) = self.setup.pod() {
                    // Later connects fail instead of waiting. The directory may be gone already.
                    rustix::fs::unlinkat(&pod.dir, SOCKET_NAME, AtFlags::empty()).ok();
                }
                for waiter in waiters {
                    self.connections.reply(waiter, Ok(Reply::Done), Vec::new());
                }
            }
            Step::GiveUp => {
                let waiters = std::mem::take(&mut shutdown.waiters);
                self.shutdown = None;
                let failure = failure(
                    FailureKind::Internal,
                    format!(
                        "shut the pod down: still running {} s after SIGKILL: {}",
                        KILL_TIMEOUT.as_secs(),
                        left.join(", ")
                    ),
                );
                for waiter in waiters {
                    self.connections.reply(waiter, Err(failure.clone()), Vec::new());
                }
            }
        }
    }

    /// Everything that keeps the monitor from exiting.
    fn unfinished(&self) -> Vec<String> {
        let containers = self.containers.started_ids();
        let containers = containers.map(|id| format!("container {id}"));
        let execs = self.execs.ids().into_iter().map(|id| format!("exec {id}"));
        let pause = self
            .setup
            .pause()
            .map(|pause| format!("pause (process {})", pause.pid));
        let starts = self.starts.descriptions();
        containers.chain(execs).chain(pause).chain(starts).collect()
    }

    fn kill_all(&mut self) {
        self.cancel_starts(|target| !target.is_poststop());
        for id in self.containers.live_ids() {
            // Cannot fail, since the container exists.
            drop(self.kill_container(&id, None));
        }
        for id in self.execs.ids() {
            // Cannot fail either.
            drop(self.kill_exec(&id, None));
        }
        if let Some(pause) = self.setup.pause() {
            // The kernel kills everything in the shared PID namespace with it.
            process::kill(&pause.pidfd);
        }
    }
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    let signal = status.terminating_signal().unwrap_or(0);
    let code = status.exit_status().unwrap_or(128 + signal);
    ExitStatus {
        code,
        signal,
        oom_killed: false,
        at: clock::now(),
    }
}
