//! From a process that was begun to one that has passed `execve`, or to nothing.
//!
//! ```text
//!   begun ─▶ Pending ──execve──▶ a container or exec that runs; answered
//!               │ it fails, takes too long, is called off, or the container's signal comes: killed
//!               ▼
//!            Ending ──reaped, or 1 s──▶ answered, forgotten
//!                          └ one that hangs in the kernel is kept in mind until it is reaped
//! ```
//!
//! Whoever asked may be gone when the answer is there; then the other daemons are told, since a new one may
//! have found the container as one that is starting.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pausa_container_init::{Failed, Progress, Spawned};
use pausa_monitor_protocol::{Event, ExitStatus, Failure, Reply};

use crate::failure::internal;
use crate::log::Source;
use crate::monitor::{Answer, Exec, Monitor, Output, Stage, Started, Starting, Way};
use crate::poll::Token;
use crate::start_container::{clone_fd, set_nonblocking, watch};
use crate::{clock, execs, kills, process};

/// How long a killed process may take to be reaped before the failure is told all the same.
const REAPED: Duration = Duration::from_secs(1);

/// The process of a start, with a descriptor of ours.
pub(crate) fn hold(progress: &Progress) -> Result<(i32, OwnedFd), Failure> {
    let hold = |fd| {
        rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(internal("keep a process: fcntl(F_DUPFD_CLOEXEC)"))
    };
    match progress {
        Progress::Waiting(pending) => Ok((pending.pid(), hold(pending.pidfd())?)),
        Progress::Running(spawned) => Ok((spawned.pid, hold(spawned.pidfd.as_fd())?)),
        Progress::Failed(failed) => Err(failed.failure.clone()),
    }
}

/// Ends a process that nobody will ask for. It is reaped as one that nobody knows.
pub(crate) fn abandon(progress: Progress) {
    match progress {
        Progress::Waiting(pending) => drop(pending.cancel()),
        Progress::Running(spawned) => process::kill(&spawned.pidfd),
        Progress::Failed(_) => {}
    }
}

/// Sees a process through.
pub(crate) fn take_up(monitor: &mut Monitor<'_>, answer: Answer, what: Started, progress: Progress) {
    let task = Task {
        number: monitor.poll.number(),
        answer,
        what,
        killers: Vec::new(),
    };
    go_on(monitor, task, progress);
}

/// What does not change on the way.
struct Task {
    number: u64,
    answer: Answer,
    what: Started,
    killers: Vec<Answer>,
}

impl Task {
    fn on(self, way: Way) -> Starting {
        let Self {
            number,
            answer,
            what,
            killers,
        } = self;
        Starting {
            number,
            answer,
            what,
            killers,
            way,
        }
    }
}

/// Takes a start out of the list, and its process out of the poll.
fn take(monitor: &mut Monitor<'_>, place: usize) -> (Task, Way) {
    let Starting {
        number,
        answer,
        what,
        killers,
        way,
    } = monitor.starting.remove(place);
    if let Way::Pending(pending) = &way {
        monitor.poll.remove(pending.as_fd());
    }
    let task = Task {
        number,
        answer,
        what,
        killers,
    };
    (task, way)
}

fn go_on(monitor: &mut Monitor<'_>, task: Task, progress: Progress) {
    match progress {
        Progress::Waiting(pending) => {
            let watched = match pending.is_closed() {
                true => Ok(()),
                false => monitor.poll.add(pending.as_fd(), Token::Launch(task.number)),
            };
            match watched {
                Ok(()) => monitor.starting.push(task.on(Way::Pending(pending))),
                Err(errno) => {
                    let why = internal("watch a process: epoll_ctl(EPOLL_CTL_ADD)")(errno);
                    let failed = pending.cancel();
                    end(
                        monitor,
                        task,
                        Failed {
                            failure: why,
                            ..failed
                        },
                    );
                }
            }
        }
        Progress::Running(spawned) => run(monitor, task, spawned),
        Progress::Failed(failed) => end(monitor, task, failed),
    }
}

/// It has been killed: waits until it is reaped.
fn end(monitor: &mut Monitor<'_>, task: Task, failed: Failed) {
    // Until it is reaped its number stays its own: no pidfd is needed any more.
    let Failed { failure, pid, .. } = failed;
    monitor.starting.push(task.on(Way::Ending {
        pid,
        failure: Some(failure),
        until: Instant::now() + REAPED,
    }));
}

/// It runs.
fn run(monitor: &mut Monitor<'_>, task: Task, mut spawned: Spawned) {
    let at = clock::now();
    let kept = match &task.what {
        Started::Container { id, max_line } => {
            container_runs(monitor, id, *max_line, at, &mut spawned).map(|()| None)
        }
        Started::Exec { hung_up: true, .. } => Ok(None),
        Started::Exec { .. } => spawned.terminal.as_ref().map(clone_fd).transpose(),
    };
    let Spawned { pid, pidfd, terminal } = spawned;
    let kept = match kept {
        Ok(kept) => kept,
        Err(failure) => {
            process::kill(&pidfd);
            return end(monitor, task, Failed { failure, pid, pidfd });
        }
    };
    let reply = Ok(Reply::Started { pid, at });
    match task.what {
        Started::Container { id, .. } => {
            monitor.answer(task.answer, reply, Vec::new());
            let container = id;
            monitor.tell_others(task.answer.connection, &Event::Started { container, pid, at });
        }
        Started::Exec {
            id,
            container,
            outputs,
            ..
        } => {
            let terminal_kept = kept.map(|fd| (fd, true));
            let outputs = outputs.into_iter().map(|fd| (fd, false)).chain(terminal_kept);
            let outputs = outputs.map(|(fd, terminal)| Output {
                number: monitor.poll.number(),
                fd,
                terminal,
            });
            let exec = Exec {
                outputs: outputs.collect(),
                id: id.clone(),
                container,
                pid,
                pidfd,
                asker: Some(task.answer.connection),
            };
            monitor.execs.push(exec);
            monitor.answer(task.answer, reply, terminal.into_iter().collect());
            execs::check(monitor);
            for killer in task.killers {
                // Cannot fail: it is there.
                drop(kills::exec(monitor, &id, Some(killer)));
            }
        }
    }
}

/// Reads from its terminal, where it has one, and counts it as running.
fn container_runs(
    monitor: &mut Monitor<'_>,
    id: &str,
    max_line: usize,
    at: i64,
    spawned: &mut Spawned,
) -> Result<(), Failure> {
    let stream = match spawned.terminal.take() {
        Some(terminal) => {
            set_nonblocking(&terminal)?;
            Some(watch(monitor, terminal, Source::Stdout, max_line, true)?)
        }
        None => None,
    };
    let pidfd = clone_fd(&spawned.pidfd)?;
    let container = monitor.container(id)?;
    container.stage = Stage::Running;
    container.pid = spawned.pid;
    container.started_at = at;
    if let Some(live) = &mut container.live {
        live.pidfd = pidfd;
        live.streams.extend(stream);
    }
    Ok(())
}

/// Tells that a start has failed; nothing is left of what it was to become.
fn fail(monitor: &mut Monitor<'_>, task: &Task, failure: Failure) {
    if let Started::Container { id, .. } = &task.what {
        if let Some(place) = monitor
            .containers
            .iter()
            .position(|container| container.id == *id)
        {
            let container = monitor.containers.remove(place);
            let streams = container.live.iter().flat_map(|live| &live.streams);
            streams.for_each(|open| monitor.poll.remove(open.stream.fd()));
        }
        let event = Event::StartFailed {
            container: id.clone(),
            failure: failure.clone(),
        };
        monitor.tell_others(task.answer.connection, &event);
    }
    monitor.answer(task.answer, Err(failure), Vec::new());
    for killer in &task.killers {
        monitor.answer(*killer, Ok(Reply::Done), Vec::new());
    }
}

/// Takes in what the process of this number has reported. It may be one that has just gone.
pub(crate) fn pump(monitor: &mut Monitor<'_>, number: u64) {
    if let Some(place) = monitor.starting.iter().position(|start| start.number == number) {
        look(monitor, place);
    }
}

fn look(monitor: &mut Monitor<'_>, place: usize) {
    match take(monitor, place) {
        (task, Way::Pending(pending)) => go_on(monitor, task, pending.advance()),
        (task, ending) => monitor.starting.push(task.on(ending)),
    }
}

/// A child that has ended may be one of these. False where it counts as a container's or exec's process,
/// be it only since now.
pub(crate) fn reaped(monitor: &mut Monitor<'_>, pid: i32, exit: ExitStatus) -> bool {
    let Some(place) = monitor.starting.iter().position(|start| start.pid() == pid) else {
        return false;
    };
    let (task, way) = take(monitor, place);
    match way {
        Way::Pending(pending) => {
            let signal = (exit.signal != 0).then_some(exit.signal);
            match pending.reaped(signal.is_none().then_some(exit.code), signal) {
                Progress::Running(spawned) => {
                    run(monitor, task, spawned);
                    return false;
                }
                Progress::Failed(failed) => fail(monitor, &task, failed.failure),
                waiting @ Progress::Waiting(_) => go_on(monitor, task, waiting),
            }
        }
        Way::Ending { failure, .. } => {
            if let Some(failure) = failure {
                fail(monitor, &task, failure);
            }
        }
    }
    true
}

/// Gives up on those whose time is over.
pub(crate) fn advance(monitor: &mut Monitor<'_>) {
    let now = Instant::now();
    let late = |start: &Starting| start.deadline().is_some_and(|when| when <= now);
    while let Some(place) = monitor.starting.iter().position(late) {
        match take(monitor, place) {
            (task, Way::Pending(pending)) => go_on(monitor, task, pending.advance()),
            (mut task, Way::Ending { pid, failure, until }) => {
                if let Some(failure) = failure {
                    fail(monitor, &task, failure);
                    task.killers.clear();
                }
                let failure = None;
                monitor
                    .starting
                    .push(task.on(Way::Ending { pid, failure, until }));
            }
        }
    }
}

/// When to call [`advance`] even if nothing happens.
pub(crate) fn deadline(monitor: &Monitor<'_>) -> Option<Instant> {
    monitor.starting.iter().filter_map(Starting::deadline).min()
}

/// Ends the start of this container, unless it has come to its end.
pub(crate) fn settle(monitor: &mut Monitor<'_>, id: &str) {
    call_off(
        monitor,
        |what| matches!(what, Started::Container { id: other, .. } if other == id),
    );
}

/// Whether an exec of this id is being started.
pub(crate) fn starts_exec(monitor: &Monitor<'_>, id: &str) -> bool {
    monitor.starting.iter().any(|start| is_exec(&start.what, id))
}

fn is_exec(what: &Started, id: &str) -> bool {
    matches!(what, Started::Exec { id: other, .. } if other == id)
}

/// Ends the start of this exec; who asks is answered when it is gone. False if none is being started.
pub(crate) fn kill_exec(monitor: &mut Monitor<'_>, id: &str, answer: Option<Answer>) -> bool {
    call_off(monitor, |what| is_exec(what, id));
    let start = monitor
        .starting
        .iter_mut()
        .find(|start| is_exec(&start.what, id) && start.is_told_later());
    if let Some(start) = start {
        start.killers.extend(answer);
        return true;
    }
    false
}

/// Ends all starts.
pub(crate) fn give_up_all(monitor: &mut Monitor<'_>) {
    call_off(monitor, |_| true);
}

fn call_off(monitor: &mut Monitor<'_>, wanted: impl Fn(&Started) -> bool) {
    let pending = |start: &Starting| wanted(&start.what) && matches!(start.way, Way::Pending(_));
    while let Some(place) = monitor.starting.iter().position(pending) {
        if let (task, Way::Pending(pending)) = take(monitor, place) {
            let progress = match pending.advance() {
                Progress::Waiting(pending) => Progress::Failed(pending.cancel()),
                decided => decided,
            };
            go_on(monitor, task, progress);
        }
    }
}

/// What is left of starts, for whoever wants to leave.
pub(crate) fn unfinished(monitor: &Monitor<'_>) -> impl Iterator<Item = String> {
    monitor.starting.iter().map(|start| {
        let (kind, id) = match &start.what {
            Started::Container { id, .. } => ("container", id),
            Started::Exec { id, .. } => ("exec", id),
        };
        format!("process {} of the start of {kind} {id}", start.pid())
    })
}
