//! The containers of a pod, from their start to the exit record.
//!
//! ```text
//!   (Start) ─▶ Starting ──execve──▶ Running ──first process reaped──▶ Draining ──output read, or timeout─▶ Flushing
//!                 │                                                      │                                    │
//!                 └ the start fails: removed                             └ remaining processes are killed     │
//!                                                                                                             │
//!                      (Forget) ◀── Exited ◀──log written, or it stalls; poststop hooks; exit record written──┘
//! ```
//!
//! The order at the end of a container is part of the contract: its remaining processes are killed, its output is read to
//! the end and written, hooks are run, the OOM counter is read, the exit record is written, and only then is the exit
//! reported. Any receiver of an exit event finds a complete log, unless it was told that output was dropped.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pausa_container_init::Spawned;
use pausa_monitor_protocol::{
    AttachPlan, ContainerReport, Event, ExitRecord, ExitStatus, ExtendedPlan, Failure, FailureKind, HookPlan,
    ProcessState, Reply,
};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::attachments::Attachments;
use crate::cgroup::Cgroup;
use crate::connections::{Connections, ReplyTo};
use crate::failure::{failure, internal};
use crate::log::{Buffers, Flow, LogThreads, Source, Stream, Writer};
use crate::oom::OomWatch;
use crate::plan_fds::{Pipes, PlanFds, duplicate, set_nonblocking};
use crate::poll::{Poll, Token};
use crate::{clock, exit_record};

/// Longest line of a log that a plan may ask to keep whole, in bytes.
const LINE_MAX: usize = 1024 * 1024;
/// How long output is read after a container's first process has ended. A process that holds a pipe open longer than
/// this is outside of the cgroup or cannot be killed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Shortest interval between two reports of dropped log bytes.
const DROP_REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// When to read again from a terminal that no process had open.
const PARKED_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    pid: i32,
    /// Nanoseconds since the epoch.
    started_at: i64,
    state: State,
}

#[derive(Debug)]
enum State {
    Live(Box<Live>),
    Exited(ExitStatus),
}

/// A container that has not exited, with what the monitor holds for it.
#[derive(Debug)]
pub(crate) struct Live {
    phase: Phase,
    /// Of the first process.
    pidfd: OwnedFd,
    cgroup: Cgroup,
    oom: Option<OomWatch>,
    /// The monitor has sent SIGKILL, so a death by SIGKILL is not the OOM killer's.
    sigkill_sent: bool,
    /// Outputs that have not ended.
    outputs: Vec<Output>,
    attachments: Attachments,
    /// None if the output is read and dropped.
    writer: Option<Writer>,
    /// Requests to answer when no file that was replaced is written any more.
    reopening: Vec<ReplyTo>,
    /// Those that the monitor runs, if there are any.
    hooks: Option<Box<HookPlan>>,
    /// Hooks of the stage `poststart` run, before which the container does not count as started.
    in_poststart: bool,
    poststop: Poststop,
    /// Longest line of the log, in bytes.
    max_line: usize,
    /// When [`Event::LogDropped`] was last sent.
    drop_reported: Option<Instant>,
}

/// The hooks of the stage `poststop`, which are run when all else has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poststop {
    Due,
    Running,
    Over,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The first process has not reached `execve` yet.
    Starting,
    Running,
    /// The first process has ended, and the rest of the output is being read.
    Draining {
        /// `oom_killed` is final only at the end.
        exit: ExitStatus,
        /// None: only what was there when the time was up is still read.
        until: Option<Instant>,
    },
    /// All output was read, and the rest of it is being written.
    Flushing {
        exit: ExitStatus,
    },
}

impl Phase {
    /// Whether the first process has ended.
    const fn has_ended(self) -> bool {
        matches!(self, Self::Draining { .. } | Self::Flushing { .. })
    }
}

#[derive(Debug)]
struct Output {
    number: u64,
    stream: Stream,
    is_terminal: bool,
    /// The terminal was closed by all processes: when to read again, since the container may open it again.
    parked: Option<Instant>,
    /// Not read, since the log has no room.
    blocked: bool,
}

/// All containers that have been started and not forgotten, in the order of their starts.
#[derive(Debug)]
pub(crate) struct Containers {
    poll: Rc<Poll>,
    list: Vec<Container>,
    buffers: Buffers,
    log_threads: Rc<LogThreads>,
}

impl Containers {
    pub(crate) fn new(poll: Rc<Poll>) -> Result<Self, Errno> {
        let log_threads = LogThreads::new()?;
        poll.add(log_threads.signal(), Token::LogThreads)?;
        Ok(Self {
            poll,
            list: Vec::new(),
            buffers: Buffers::default(),
            log_threads: Rc::new(log_threads),
        })
    }

    pub(crate) fn get(&self, id: &str) -> Result<&Container, Failure> {
        let found = self.list.iter().find(|container| container.id == id);
        found.ok_or_else(|| not_found(id))
    }

    fn get_mut(&mut self, id: &str) -> Result<&mut Container, Failure> {
        let found = self.list.iter_mut().find(|container| container.id == id);
        found.ok_or_else(|| not_found(id))
    }

    /// A container whose first process runs.
    pub(crate) fn running(&self, id: &str) -> Result<&Live, Failure> {
        match &self.get(id)?.state {
            State::Live(live) => live.check_running(id).map(|()| &**live),
            State::Exited(_) => Err(has_exited(id)),
        }
    }

    pub(crate) fn reports(&self) -> Vec<ContainerReport> {
        self.list.iter().map(Container::report).collect()
    }

    /// Ids of all containers that have not exited.
    pub(crate) fn live_ids(&self) -> Vec<String> {
        let live = self.list.iter().filter(|container| container.live().is_some());
        live.map(|container| container.id.clone()).collect()
    }

    /// Ids of all containers whose first process has been started and that have not exited.
    pub(crate) fn started_ids(&self) -> impl Iterator<Item = &str> {
        let started = self.list.iter().filter(|container| {
            container
                .live()
                .is_some_and(|live| !matches!(live.phase, Phase::Starting))
        });
        started.map(|container| container.id.as_str())
    }

    /// Adds a container whose first process has been cloned.
    ///
    /// # Errors
    /// Its output cannot be read. The container is not added then.
    pub(crate) fn add(
        &mut self,
        extended: &ExtendedPlan,
        process: (i32, OwnedFd),
        fds: PlanFds,
        pipes: Pipes,
        oom: Option<OomWatch>,
    ) -> Result<(), Failure> {
        let plan = &extended.container;
        let hooks = &extended.hooks;
        let has_later_hooks = [&hooks.create_runtime, &hooks.poststart, &hooks.poststop]
            .iter()
            .any(|stage| !stage.is_empty());
        let max_line = plan.log.map_or(LINE_MAX, |log| {
            usize::try_from(log.max_line).unwrap_or(LINE_MAX).min(LINE_MAX)
        });
        let outputs = pipes.outputs.into_iter();
        let outputs = outputs.map(|(fd, source)| Output::new(fd, source, max_line, false, &self.poll));
        let (pid, pidfd) = process;
        let live = Live {
            phase: Phase::Starting,
            pidfd,
            cgroup: fds.cgroup,
            oom,
            sigkill_sent: false,
            outputs: outputs.collect::<Result<_, _>>()?,
            attachments: Attachments::new(pipes.stdin, plan.io.stdin_once, &self.poll),
            writer: fds
                .log
                .filter(|_| plan.log.is_some())
                .map(|log| Writer::new(log, Rc::clone(&self.log_threads))),
            reopening: Vec::new(),
            hooks: has_later_hooks.then(|| Box::new(hooks.clone())),
            in_poststart: false,
            poststop: match hooks.poststop.is_empty() {
                true => Poststop::Over,
                false => Poststop::Due,
            },
            max_line,
            drop_reported: None,
        };
        self.list.push(Container {
            id: plan.id.clone(),
            pid,
            started_at: clock::now(),
            state: State::Live(Box::new(live)),
        });
        Ok(())
    }

    /// The container's first process has passed `execve`. Takes its terminal.
    pub(crate) fn set_running(&mut self, id: &str, spawned: &mut Spawned, at: i64) -> Result<(), Failure> {
        let poll = Rc::clone(&self.poll);
        let container = self.get_mut(id)?;
        let State::Live(live) = &mut container.state else {
            return Err(has_exited(id));
        };
        let pidfd = duplicate(&spawned.pidfd)?;
        if let Some(terminal) = spawned.terminal.take() {
            set_nonblocking(&terminal)?;
            let output = Output::new(terminal, Source::Stdout, live.max_line, true, &poll)?;
            live.outputs.push(output);
        }
        live.phase = Phase::Running;
        live.pidfd = pidfd;
        container.pid = spawned.pid;
        container.started_at = at;
        Ok(())
    }

    /// Removes a container whose start has failed.
    pub(crate) fn remove(&mut self, id: &str) {
        for container in self.list.extract_if(.., |container| container.id == id) {
            for output in container.live().iter().flat_map(|live| &live.outputs) {
                self.poll.remove(output.stream.fd());
            }
        }
    }

    /// The hooks of a container that has not exited, with the id of its first process.
    pub(crate) fn hooks(&self, id: &str) -> Option<(&HookPlan, i32)> {
        let container = self.get(id).ok()?;
        Some((container.live()?.hooks.as_deref()?, container.pid))
    }

    fn live_mut(&mut self, id: &str) -> Option<&mut Live> {
        self.get_mut(id).ok()?.live_mut()
    }

    /// Whether a container that runs has hooks of the stage `poststart`. They are to be run now.
    pub(crate) fn await_poststart(&mut self, id: &str) -> bool {
        let Some(live) = self.live_mut(id) else {
            return false;
        };
        live.in_poststart = live
            .hooks
            .as_ref()
            .is_some_and(|hooks| !hooks.poststart.is_empty());
        live.in_poststart
    }

    /// Returns whether the first process still runs.
    pub(crate) fn poststart_ended(&mut self, id: &str) -> bool {
        let Some(live) = self.live_mut(id) else {
            return false;
        };
        live.in_poststart = false;
        matches!(live.phase, Phase::Running)
    }

    /// A container whose hooks of the stage `poststop` are to be run now.
    pub(crate) fn begin_poststop(&mut self) -> Option<String> {
        let is_due = |container: &Container| container.live().is_some_and(Live::is_poststop_due);
        let container = self.list.iter_mut().find(|container| is_due(container))?;
        container.live_mut()?.poststop = Poststop::Running;
        Some(container.id.clone())
    }

    /// Whether a container whose start has failed has hooks of the stage `poststop`. They are to be run now.
    pub(crate) fn begin_poststop_of(&mut self, id: &str) -> bool {
        let Some(live) = self.live_mut(id).filter(|live| live.poststop == Poststop::Due) else {
            return false;
        };
        live.poststop = Poststop::Running;
        true
    }

    /// The container's exit may be reported.
    pub(crate) fn poststop_ended(&mut self, id: &str) {
        if let Some(live) = self.live_mut(id) {
            live.poststop = Poststop::Over;
        }
    }

    /// Sends a signal to the first process, if it runs.
    pub(crate) fn signal(&mut self, id: &str, signal: i32) -> Result<(), Failure> {
        let State::Live(live) = &mut self.get_mut(id)?.state else {
            return Ok(());
        };
        if !matches!(live.phase, Phase::Running) {
            return Ok(());
        }
        live.sigkill_sent |= signal == Signal::KILL.as_raw();
        match pausa_sys::signal_by_pidfd(live.pidfd.as_fd(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(internal(format!(
                "signal container {id}: pidfd_send_signal({signal})"
            ))(errno)),
        }
    }

    /// Sends SIGTERM to the first process of every running container.
    pub(crate) fn terminate_all(&self) {
        for live in self.list.iter().filter_map(Container::live) {
            if matches!(live.phase, Phase::Running) {
                // ESRCH: it has just ended.
                rustix::process::pidfd_send_signal(&live.pidfd, Signal::TERM).ok();
            }
        }
    }

    /// Notes that the monitor kills the container.
    pub(crate) fn set_sigkill_sent(&mut self, id: &str) -> Result<(), Failure> {
        if let State::Live(live) = &mut self.get_mut(id)?.state {
            live.sigkill_sent = true;
        }
        Ok(())
    }

    /// Continues a container's log in another file. Returns whether the one before is complete; if not, the request is
    /// answered later.
    ///
    /// # Errors
    /// The container does not exist, has exited or has no log, or not exactly one descriptor was sent.
    pub(crate) fn reopen_log(
        &mut self,
        id: &str,
        fds: Vec<OwnedFd>,
        reply_to: ReplyTo,
    ) -> Result<bool, Failure> {
        let found = self.list.iter_mut().find(|container| container.id == id);
        let State::Live(live) = &mut found.ok_or_else(|| not_found(id))?.state else {
            return Err(has_exited(id));
        };
        let mut fds = fds.into_iter();
        let (Some(file), None) = (fds.next(), fds.next()) else {
            return Err(failure(
                FailureKind::Protocol,
                "reopen a log: exactly one descriptor must be sent",
            ));
        };
        match &mut live.writer {
            Some(writer) => {
                writer.replace(file, &mut self.buffers.spares);
                let is_complete = !writer.has_replaced();
                if !is_complete {
                    live.reopening.push(reply_to);
                }
                Ok(is_complete)
            }
            None => Err(failure(FailureKind::State, format!("container {id} has no log"))),
        }
    }

    /// Forgets an exited container and deletes its exit record.
    pub(crate) fn forget(&mut self, id: &str, exits: &OwnedFd) -> Result<(), Failure> {
        if self.get(id)?.live().is_some() {
            return Err(failure(
                FailureKind::State,
                format!("container {id} has not exited"),
            ));
        }
        exit_record::delete(exits, id).map_err(internal(format!(
            "forget container {id}: unlinkat(exits/{id}.json)"
        )))?;
        self.list.retain(|container| container.id != id);
        Ok(())
    }

    /// Attaches a client to a running container. Returns the master of its terminal, if it has one.
    ///
    /// # Errors
    /// The container does not run, or the plan is wrong. The descriptors are closed then.
    pub(crate) fn attach(
        &mut self,
        connection: u64,
        plan: &AttachPlan,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<OwnedFd>, Failure> {
        let mut all = self.list.iter().filter_map(Container::live);
        if all.any(|live| live.attachments.contains(&plan.id)) {
            return Err(failure(
                FailureKind::State,
                format!("attach {} already exists", plan.id),
            ));
        }
        let fds = PlanFds::new(&plan.fds, fds)?;
        let poll = Rc::clone(&self.poll);
        let State::Live(live) = &mut self.get_mut(&plan.container)?.state else {
            return Err(has_exited(&plan.container));
        };
        live.check_running(&plan.container)?;
        let terminal = live.outputs.iter().find(|output| output.is_terminal);
        let terminal = terminal.map(|output| duplicate(output.stream.fd())).transpose()?;
        live.attachments.attach(&plan.id, connection, fds, &poll)?;
        Ok(terminal)
    }

    /// Detaches a client of this connection, if there is one of this id.
    pub(crate) fn detach(&mut self, connection: u64, id: &str) {
        for live in self.list.iter_mut().filter_map(Container::live_mut) {
            live.attachments.detach(connection, id);
        }
    }

    /// Reads input of an attached client. It may be detached meanwhile.
    pub(crate) fn read_client_stdin(&mut self, number: u64) {
        let mut all = self.list.iter_mut().filter_map(Container::live_mut);
        let _: bool = all.any(|live| live.attachments.read_client_stdin(number, &self.poll));
    }

    /// Continues to write to a container's stdin. The container may have exited meanwhile.
    pub(crate) fn stdin_has_room(&mut self, number: u64) {
        let mut all = self.list.iter_mut().filter_map(Container::live_mut);
        let _: bool = all.any(|live| live.attachments.stdin_has_room(number, &self.poll));
    }

    /// Detaches clients that are done.
    pub(crate) fn advance_attachments(&mut self, connections: &mut Connections) {
        for live in self.list.iter_mut().filter_map(Container::live_mut) {
            live.attachments.advance(connections, &self.poll);
        }
    }

    /// Reads some of an output. It may have ended meanwhile.
    pub(crate) fn read_output(&mut self, number: u64) {
        for live in self.list.iter_mut().filter_map(Container::live_mut) {
            if let Some(index) = live.outputs.iter().position(|output| output.number == number) {
                live.pump(index, &self.poll, &mut self.buffers);
                return;
            }
        }
    }

    /// A thread that writes a log has signalled.
    pub(crate) fn serve_log_threads(&self) {
        self.log_threads.serve_signal();
    }

    /// Returns large buffers to the kernel, when nothing was read for a while.
    pub(crate) fn release_buffers(&mut self) {
        self.buffers.release();
    }

    /// The first process of a container may have ended. Returns the container's id if this was one.
    pub(crate) fn first_process_ended(&mut self, pid: i32, exit: ExitStatus) -> Option<String> {
        let ended = self.list.iter_mut().find(|container| {
            container.pid == pid
                && container
                    .live()
                    .is_some_and(|live| matches!(live.phase, Phase::Running))
        })?;
        let id = ended.id.clone();
        let live = ended.live_mut()?;
        // Read the counter at once: a process that watches for empty cgroups, such as systemd, may remove this one. It is
        // read again at the end, for processes that are killed meanwhile.
        let oom_killed = live.is_oom_killed(exit);
        if let Some(writer) = &mut live.writer {
            writer.hurry();
        }
        live.phase = Phase::Draining {
            exit: ExitStatus { oom_killed, ..exit },
            until: Some(Instant::now() + DRAIN_TIMEOUT),
        };
        Some(id)
    }

    /// Writes logs on, finishes containers whose output has ended and is written or whose time is up, reports dropped log
    /// bytes, and reads parked terminals again. A container that is being killed is not finished before its time is up.
    pub(crate) fn advance(
        &mut self,
        is_being_killed: impl Fn(&str) -> bool,
        connections: &mut Connections,
        exits: Option<&OwnedFd>,
    ) {
        let now = Instant::now();
        for container in &mut self.list {
            let Container { id, state, .. } = container;
            let State::Live(live) = state else { continue };
            live.advance_log(&mut self.buffers, connections);
            if live.drain_deadline().is_some_and(|at| at <= now) {
                live.begin_last_reads(&self.poll, &mut self.buffers);
            }
            live.register_again(now, &self.poll);
            if let Phase::Draining { exit, until } = live.phase
                && live.outputs.is_empty()
                && (until.is_none() || !is_being_killed(id))
            {
                live.phase = Phase::Flushing { exit };
                live.advance_log(&mut self.buffers, connections);
            }
            match live.phase {
                Phase::Flushing { exit } if live.is_flushed() && live.poststop == Poststop::Over => {
                    let exit = live.finish(id, exit, connections, &self.poll);
                    container.state = State::Exited(exit);
                    let record = ExitRecord {
                        version: ExitRecord::VERSION,
                        container: container.id.clone(),
                        started_at: container.started_at,
                        exit,
                    };
                    if let Some(exits) = exits {
                        exit_record::write(exits, &record);
                    }
                    let container = record.container;
                    connections.broadcast(&Event::Exited { container, exit });
                }
                _ => live.report_dropped(id, now, false, connections),
            }
        }
    }

    /// When [`Self::advance`] must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deadlines = self.list.iter().filter_map(Container::live).flat_map(|live| {
            let parked = live.outputs.iter().filter_map(|output| output.parked).min();
            let has_dropped = live.writer.as_ref().is_some_and(Writer::has_dropped);
            let reported = live.drop_reported.filter(|_| has_dropped);
            let log = live.writer.as_ref().and_then(Writer::deadline);
            let until = live.drain_deadline();
            [until, parked, reported.map(|at| at + DROP_REPORT_INTERVAL), log]
        });
        deadlines.flatten().min()
    }
}

impl Container {
    pub(crate) fn live(&self) -> Option<&Live> {
        match &self.state {
            State::Live(live) => Some(live),
            State::Exited(_) => None,
        }
    }

    fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            State::Live(live) => Some(live),
            State::Exited(_) => None,
        }
    }

    fn report(&self) -> ContainerReport {
        ContainerReport {
            container: self.id.clone(),
            pid: self.pid,
            started_at: self.started_at,
            state: match &self.state {
                State::Exited(exit) => ProcessState::Exited(*exit),
                State::Live(live) => match live.phase {
                    Phase::Starting => ProcessState::Starting,
                    Phase::Running if live.in_poststart => ProcessState::Starting,
                    // A draining or flushing container counts as running until its log is complete.
                    Phase::Running | Phase::Draining { .. } | Phase::Flushing { .. } => ProcessState::Running,
                },
            },
        }
    }

    /// The first process, unless it has been reaped.
    pub(crate) fn first_process(&self) -> Option<(i32, &OwnedFd)> {
        let live = self.live()?;
        match live.phase {
            Phase::Starting | Phase::Running => Some((self.pid, &live.pidfd)),
            Phase::Draining { .. } | Phase::Flushing { .. } => None,
        }
    }
}

impl Live {
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    fn is_flushed(&self) -> bool {
        self.writer.as_ref().is_none_or(Writer::is_complete)
    }

    fn is_poststop_due(&self) -> bool {
        self.poststop == Poststop::Due && matches!(self.phase, Phase::Flushing { .. }) && self.is_flushed()
    }

    fn check_running(&self, id: &str) -> Result<(), Failure> {
        match self.phase {
            Phase::Running => Ok(()),
            Phase::Starting => Err(failure(
                FailureKind::State,
                format!("container {id} is still being started"),
            )),
            Phase::Draining { .. } | Phase::Flushing { .. } => Err(has_exited(id)),
        }
    }

    /// Whether the OOM killer has ended the first process, as far as is known right after its end.
    fn is_oom_killed(&self, exit: ExitStatus) -> bool {
        let unexplained = exit.signal == Signal::KILL.as_raw() && !self.sigkill_sent;
        self.oom.as_ref().is_some_and(|oom| match unexplained {
            true => oom.explains_sigkill(),
            false => oom.own_count_has_grown(),
        })
    }

    /// Reads an output, logs it and copies it to the clients. Returns true if the output has ended and was closed.
    fn pump(&mut self, index: usize, poll: &Poll, buffers: &mut Buffers) -> bool {
        let output = &mut self.outputs[index];
        let source = output.stream.source();
        let attachments = &mut self.attachments;
        let copy = |bytes: &[u8]| attachments.write_output(source, bytes);
        match output.stream.pump(buffers, self.writer.as_mut(), copy) {
            Flow::Ended => {}
            Flow::Quiet if matches!(self.phase, Phase::Draining { until: None, .. }) => {}
            Flow::More | Flow::Quiet => return false,
            Flow::Blocked => {
                poll.remove(output.stream.fd());
                output.blocked = true;
                return false;
            }
        }
        poll.remove(output.stream.fd());
        if output.is_terminal && !self.phase.has_ended() {
            output.parked = Some(Instant::now() + PARKED_INTERVAL);
            return false;
        }
        self.attachments.close_output(source);
        output.stream.finish(buffers, self.writer.as_mut());
        self.outputs.remove(index);
        true
    }

    /// When output is no longer read, if the first process has ended.
    const fn drain_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Draining { until, .. } => until,
            Phase::Starting | Phase::Running | Phase::Flushing { .. } => None,
        }
    }

    /// The time is up: reads no more than what is there.
    fn begin_last_reads(&mut self, poll: &Poll, buffers: &mut Buffers) {
        if let Phase::Draining { until, .. } = &mut self.phase {
            *until = None;
        }
        for index in (0..self.outputs.len()).rev() {
            self.outputs[index].stream.limit_to_available();
            self.pump(index, poll, buffers);
        }
    }

    /// Registers outputs again: parked terminals whose time has come, and what the log has room for.
    fn register_again(&mut self, now: Instant, poll: &Poll) {
        let ended = self.phase.has_ended();
        let has_room = self.writer.as_ref().is_none_or(Writer::can_read);
        for output in &mut self.outputs {
            let unpark = output.parked.is_some_and(|when| when <= now || ended);
            let unblock = output.blocked && has_room;
            if unpark || unblock {
                output.parked = None;
                output.blocked = false;
                // Fails only if it is registered already.
                poll.add(output.stream.fd(), Token::Output(output.number)).ok();
            }
        }
    }

    /// Writes the log on, and answers those who wait for the end of a file.
    fn advance_log(&mut self, buffers: &mut Buffers, connections: &mut Connections) {
        let Some(writer) = &mut self.writer else { return };
        if matches!(self.phase, Phase::Flushing { .. }) {
            writer.close();
        }
        writer.advance(&mut buffers.spares);
        if !writer.has_replaced() {
            for waiter in self.reopening.drain(..) {
                connections.reply(waiter, Ok(Reply::Done), Vec::new());
            }
        }
    }

    fn report_dropped(&mut self, id: &str, now: Instant, last: bool, connections: &mut Connections) {
        let due = last
            || self
                .drop_reported
                .is_none_or(|at| at + DROP_REPORT_INTERVAL <= now);
        if let Some(writer) = &mut self.writer
            && due
            && let Some(dropped) = writer.take_dropped()
        {
            self.drop_reported = Some(now);
            connections.broadcast(&Event::LogDropped {
                container: id.to_owned(),
                bytes: dropped.bytes,
                errno: dropped.errno,
            });
        }
    }

    /// Detaches the clients, after the log has been completed. Returns the final exit status.
    fn finish(
        &mut self,
        id: &str,
        exit: ExitStatus,
        connections: &mut Connections,
        poll: &Poll,
    ) -> ExitStatus {
        let later_oom_kill = self.oom.as_ref().is_some_and(OomWatch::own_count_has_grown);
        let exit = ExitStatus {
            oom_killed: exit.oom_killed || later_oom_kill,
            ..exit
        };
        self.report_dropped(id, Instant::now(), true, connections);
        self.attachments.detach_all(exit, connections, poll);
        exit
    }
}

impl Output {
    /// Registers a non-blocking descriptor.
    fn new(
        fd: OwnedFd,
        source: Source,
        max_line: usize,
        is_terminal: bool,
        poll: &Poll,
    ) -> Result<Self, Failure> {
        let number = poll.next_number();
        let stream = Stream::new(fd, source, max_line);
        poll.add(stream.fd(), Token::Output(number))
            .map_err(internal("read the container's output: epoll_ctl(EPOLL_CTL_ADD)"))?;
        Ok(Self {
            number,
            stream,
            is_terminal,
            parked: None,
            blocked: false,
        })
    }
}

fn not_found(id: &str) -> Failure {
    failure(FailureKind::NotFound, format!("no container {id} in this pod"))
}

fn has_exited(id: &str) -> Failure {
    failure(FailureKind::State, format!("container {id} has exited"))
}
