//! From a dead child to an exit that is on file and told.
//!
//! The order is the contract: what is left of the container is killed, its output read to the end and
//! written, the OOM counter read, the record put in place, and only then anyone told. Whoever hears of an
//! exit finds a complete log.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pausa_monitor_protocol::{Event, ExitRecord, ExitStatus};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus};

use crate::attachments::{self, Tee};
use crate::log::{Flow, Work};
use crate::monitor::{Live, Monitor, Pod, Setup, Stage};
use crate::oom::OomWatch;
use crate::poll::{Poll, Token};
use crate::{clock, kills, start_container};

/// How long output is read after a container's first process has ended: whoever holds the other end of a
/// pipe longer than this lives outside its cgroup, or cannot be killed.
const DRAIN: Duration = Duration::from_secs(2);
/// How often at most dropped log bytes are told.
const DROP_TOLD: Duration = Duration::from_secs(1);
/// When to look again at a terminal that nobody has open.
const PARKED: Duration = Duration::from_secs(1);

/// Reaps every child that has ended.
pub(crate) fn reap(monitor: &mut Monitor<'_>) {
    let mut any = false;
    // ECHILD: no child at all.
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        any = true;
        ended(monitor, pid.as_raw_nonzero().get(), exit_status(status));
    }
    if any {
        kills::hasten(monitor);
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

fn ended(monitor: &mut Monitor<'_>, pid: i32, exit: ExitStatus) {
    if start_container::reaped(monitor, pid, exit) {
        return;
    }
    if let Setup::Done(pod) = &mut monitor.setup
        && pod.pause.as_ref().is_some_and(|pause| pause.pid == pid)
    {
        pod.pause = None;
        monitor.tell(&Event::PauseExited);
    } else if let Some(place) = monitor.execs.iter().position(|exec| exec.pid == pid) {
        let exec = monitor.execs.remove(place);
        for output in &exec.outputs {
            monitor.poll.remove(output.fd.as_fd());
        }
        let exec = exec.id;
        monitor.tell(&Event::ExecExited { exec, exit });
    } else if let Some(container) = monitor
        .containers
        .iter_mut()
        .find(|container| container.pid == pid && matches!(container.stage, Stage::Running))
    {
        // At once: whoever watches for empty cgroups, as systemd does, may remove this one and its counter. It is
        // read again at the end, for those that are killed meanwhile.
        let live = container.live.as_ref();
        let oom_killed = live.is_some_and(|live| live.is_oom_killed(exit));
        let exit = ExitStatus { oom_killed, ..exit };
        container.stage = Stage::Draining {
            exit,
            until: Instant::now() + DRAIN,
        };
        let id = container.id.clone();
        // Cannot fail: the container is there. Nobody waits for an answer.
        drop(kills::container(monitor, &id, None));
    }
    // Anyone else is an orphan of the pod; nobody asks for it.
}

/// Reads a stream's turn. `number` may be that of one that has just gone.
pub(crate) fn pump(monitor: &mut Monitor<'_>, number: u64) {
    let Monitor {
        containers,
        poll,
        work,
        ..
    } = monitor;
    for container in containers {
        let ending = matches!(container.stage, Stage::Draining { .. });
        if let Some(live) = &mut container.live
            && let Some(place) = live.streams.iter().position(|open| open.number == number)
        {
            pump_stream(live, place, ending, poll, work);
            return;
        }
    }
}

/// True if the stream has ended and is closed.
fn pump_stream(live: &mut Live, place: usize, ending: bool, poll: &Poll, work: &mut Work) -> bool {
    let open = &mut live.streams[place];
    let mut tee = Tee::new(&mut live.attached, open.stream.source());
    if open.stream.pump(work, live.writer.as_mut(), &mut tee) != Flow::Ended {
        return false;
    }
    poll.remove(open.stream.fd());
    if open.terminal && !ending {
        open.parked = Some(Instant::now() + PARKED);
        return false;
    }
    tee.end();
    open.stream.finish(live.writer.as_mut());
    live.streams.remove(place);
    true
}

/// Ends every container whose output has ended or whose time is up, tells of dropped bytes, and looks at
/// parked terminals again.
pub(crate) fn advance(monitor: &mut Monitor<'_>) {
    let now = Instant::now();
    for place in 0..monitor.containers.len() {
        unpark(monitor, place, now);
        let Stage::Draining { exit, until } = monitor.containers[place].stage else {
            tell_dropped(monitor, place, now, false);
            continue;
        };
        let id = monitor.containers[place].id.clone();
        let killing = kills::under_way(monitor, &id);
        let silent = monitor.containers[place]
            .live
            .as_ref()
            .is_none_or(|live| live.streams.is_empty());
        if (silent && !killing) || now >= until {
            finish(monitor, place, exit);
        }
    }
}

/// When to call [`advance`] even if nothing happens.
pub(crate) fn deadline(monitor: &Monitor<'_>) -> Option<Instant> {
    let of_container = monitor.containers.iter().flat_map(|container| {
        let until = match container.stage {
            Stage::Draining { until, .. } => Some(until),
            _ => None,
        };
        let live = container.live.as_ref();
        let parked = live.and_then(|live| live.streams.iter().filter_map(|open| open.parked).min());
        let dropped = live
            .filter(|live| live.writer.as_ref().is_some_and(|writer| writer.has_dropped()))
            .and_then(|live| live.drop_told)
            .map(|told| told + DROP_TOLD);
        [until, parked, dropped]
    });
    of_container.flatten().min()
}

fn unpark(monitor: &mut Monitor<'_>, place: usize, now: Instant) {
    let Monitor { containers, poll, .. } = monitor;
    let container = &mut containers[place];
    let ending = matches!(container.stage, Stage::Draining { .. });
    for open in container.live.iter_mut().flat_map(|live| &mut live.streams) {
        if open.parked.is_some_and(|when| when <= now || ending) {
            open.parked = None;
            // Fails only if it is there already.
            poll.add(open.stream.fd(), Token::Stream(open.number)).ok();
        }
    }
}

fn tell_dropped(monitor: &mut Monitor<'_>, place: usize, now: Instant, last: bool) {
    let container = &mut monitor.containers[place];
    let Some(live) = &mut container.live else {
        return;
    };
    let due = last || live.drop_told.is_none_or(|told| told + DROP_TOLD <= now);
    if let Some(writer) = &mut live.writer
        && due
        && let Some(dropped) = writer.take_dropped()
    {
        live.drop_told = Some(now);
        let event = Event::LogDropped {
            container: container.id.clone(),
            bytes: dropped.bytes,
            errno: dropped.errno,
        };
        monitor.tell(&event);
    }
}

/// The end of a container.
fn finish(monitor: &mut Monitor<'_>, place: usize, exit: ExitStatus) {
    let Monitor {
        containers,
        poll,
        work,
        ..
    } = monitor;
    let container = &mut containers[place];
    let mut oom_killed = exit.oom_killed;
    if let Some(live) = &mut container.live {
        while !live.streams.is_empty() {
            if !pump_stream(live, 0, true, poll, work) {
                let mut open = live.streams.remove(0);
                poll.remove(open.stream.fd());
                open.stream.finish(live.writer.as_mut());
            }
        }
        if let Some(writer) = &mut live.writer {
            writer.settle();
        }
        oom_killed |= live.oom.as_ref().is_some_and(OomWatch::struck);
    }
    let exit = ExitStatus { oom_killed, ..exit };
    tell_dropped(monitor, place, Instant::now(), true);
    attachments::end_all(monitor, place, exit);
    let container = &mut monitor.containers[place];
    container.live = None;
    container.stage = Stage::Exited(exit);
    let record = ExitRecord {
        version: ExitRecord::VERSION,
        container: container.id.clone(),
        started_at: container.started_at,
        exit,
    };
    if let Setup::Done(pod) = &monitor.setup {
        // The pod's directory may be gone or its disk full. The event still tells what the record would
        // have told, and the answer to Hello does as long as this process lives.
        write_record(&pod.exits, &record).ok();
    }
    monitor.tell(&Event::Exited {
        container: record.container,
        exit,
    });
}

/// Puts a record in place, whole or not at all.
fn write_record(exits: &OwnedFd, record: &ExitRecord) -> Result<(), Errno> {
    let text = serde_json::to_vec(record).map_err(|_| Errno::INVAL)?;
    let draft = format!(".{}.tmp", record.container);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(exits, &draft, flags, Mode::RUSR | Mode::WUSR)?;
    let written = std::io::Write::write_all(&mut std::fs::File::from(file), &text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .and_then(|()| rustix::fs::renameat(exits, &draft, exits, record_name(&record.container)));
    if written.is_err() {
        rustix::fs::unlinkat(exits, &draft, AtFlags::empty()).ok();
    }
    written
}

fn record_name(container: &str) -> String {
    format!("{container}.json")
}

/// Deletes a container's exit record; that there is none is as good.
///
/// # Errors
/// What unlinkat(2) says.
pub(crate) fn delete_record(pod: &Pod, container: &str) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&pod.exits, record_name(container), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
