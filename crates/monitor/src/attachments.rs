//! Clients of a container's streams: they get its output as it comes and may type into it.
//!
//! ```text
//!   stdout, stderr ─▶ [log] ──the same bytes──▶ Tee ─▶ a pipe a client ──(full)──▶ let go: TooSlow
//!                                                 └──(nobody reads any more)─────▶ let go: Left
//!   client ─▶ its pipe ─▶ rest, while the container takes nothing ─▶ the container's input
//!                 └──(its end)──▶ with stdin_once: the container's input ends, too
//! ```
//!
//! Invariants: neither log nor container ever waits for a client; what a client gets has no gaps, only an end;
//! a client that leaves takes nothing with it but, with `stdin_once`, the input. Of a container with a terminal
//! the client types into the terminal itself, whose master it is handed.

use std::os::fd::{AsFd, OwnedFd};

use pausa_monitor_protocol::{AttachPlan, Detachment, Event, ExitStatus, Failure, FailureKind, Reply};
use rustix::io::Errno;

use crate::failure::{failure, internal};
use crate::log::Source;
use crate::monitor::{Attached, Live, Monitor, Typed};
use crate::poll::{Poll, Token};
use crate::start_container::{Sorted, check_id, clone_fd, running, set_nonblocking};

/// Read at once of what a client types.
const CHUNK: usize = 4 * 1024;
/// Chunks read before the others have their turn.
const TURN: usize = 16;

/// Attaches a client. Also gives the master of the container's terminal, where it has one.
///
/// # Errors
/// The container does not run, or the plan is wrong. The descriptors are closed then.
pub(crate) fn attach(
    monitor: &mut Monitor<'_>,
    asker: u64,
    plan: &AttachPlan,
    fds: Vec<OwnedFd>,
) -> Result<Option<OwnedFd>, Failure> {
    check_id(&plan.id)?;
    let mut everyone = monitor
        .containers
        .iter()
        .filter_map(|container| container.live.as_ref());
    if everyone.any(|live| live.attached.iter().any(|attached| attached.id == plan.id)) {
        return Err(failure(
            FailureKind::State,
            format!("attach {} is there already", plan.id),
        ));
    }
    let fds = Sorted::new(&plan.fds, fds)?;
    for fd in [&fds.stdin, &fds.stdout, &fds.stderr].into_iter().flatten() {
        set_nonblocking(fd)?;
    }
    let number = monitor.poll.number();
    let live = running(monitor, &plan.container)?;
    let terminal = live.streams.iter().find(|open| open.terminal);
    let terminal = terminal.map(|open| clone_fd(open.stream.fd())).transpose()?;
    // Without an input there is nothing to type into: the pipe is closed, and whoever writes to it learns so.
    let typed = fds.stdin.filter(|_| live.input.is_some()).map(|fd| Typed {
        number,
        fd,
        rest: Vec::new(),
    });
    let attached = Attached {
        id: plan.id.clone(),
        asker,
        types: typed.is_some(),
        typed,
        stdout: fds.stdout,
        stderr: fds.stderr,
        over: None,
    };
    if let Some(typed) = &attached.typed {
        let token = Token::Typed(number);
        let watched = monitor.poll.add(typed.fd.as_fd(), token);
        watched.map_err(internal("attach: epoll_ctl(EPOLL_CTL_ADD)"))?;
    }
    running(monitor, &plan.container)?.attached.push(attached);
    Ok(terminal)
}

/// Lets a client of this connection go; that there is none such is as good.
pub(crate) fn detach(monitor: &mut Monitor<'_>, asker: u64, id: &str) -> Reply {
    let live = monitor
        .containers
        .iter_mut()
        .filter_map(|container| container.live.as_mut());
    for attached in live.flat_map(|live| &mut live.attached) {
        if attached.asker == asker && attached.id == id {
            attached.over = Some(Detachment::Left);
        }
    }
    Reply::Done
}

/// Hands a container's output on to those who are attached.
#[derive(Debug)]
pub(crate) struct Tee<'a> {
    attached: &'a mut Vec<Attached>,
    source: Source,
}

impl<'a> Tee<'a> {
    /// For the output of this stream.
    pub(crate) const fn new(attached: &'a mut Vec<Attached>, source: Source) -> Self {
        Self { attached, source }
    }

    /// Gives everyone these bytes; who cannot take them all is let go.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for attached in self
            .attached
            .iter_mut()
            .filter(|attached| attached.over.is_none())
        {
            let place = attached.output(self.source);
            let Some(fd) = place else { continue };
            match put(fd, bytes) {
                Put::All => {}
                Put::Part(_) => attached.over = Some(Detachment::TooSlow),
                Put::Closed => {
                    *place = None;
                    if attached.is_empty() {
                        attached.over = Some(Detachment::Left);
                    }
                }
            }
        }
    }

    /// The stream has ended: so it does for everyone, while the others go on.
    pub(crate) fn end(&mut self) {
        for attached in self.attached.iter_mut() {
            *attached.output(self.source) = None;
        }
    }
}

impl Attached {
    const fn output(&mut self, source: Source) -> &mut Option<OwnedFd> {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }

    const fn is_empty(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && self.typed.is_none()
    }
}

/// What became of a write.
enum Put {
    All,
    /// Only so much was taken; the rest would have to wait.
    Part(usize),
    /// Nobody reads any more.
    Closed,
}

/// Writes what a non-blocking descriptor takes.
fn put(fd: &OwnedFd, bytes: &[u8]) -> Put {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::write(fd, &bytes[done..]) {
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Put::Part(done),
            Err(_) => return Put::Closed,
        }
    }
    Put::All
}

/// Reads a turn of what a client types and gives it to the container. It may be one that has just gone.
pub(crate) fn typed(monitor: &mut Monitor<'_>, number: u64) {
    let Monitor { containers, poll, .. } = monitor;
    let types = |attached: &Attached| {
        attached
            .typed
            .as_ref()
            .is_some_and(|typed| typed.number == number)
    };
    let Some((live, place)) = containers.iter_mut().find_map(|container| {
        let live = container.live.as_mut()?;
        let place = live.attached.iter().position(types)?;
        Some((live, place))
    }) else {
        return;
    };
    let mut buffer = [0; CHUNK];
    for _ in 0..TURN {
        let Some(typed) = &live.attached[place].typed else {
            return;
        };
        match rustix::io::read(&typed.fd, &mut buffer) {
            Ok(read @ 1..) => {
                if !live.give(place, &buffer[..read], poll) {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return,
            // The client has nothing more to say, but may listen on.
            Ok(_) | Err(_) => return live.stop_typing(place, poll),
        }
    }
}

/// A container's input that was full has room again.
pub(crate) fn taken(monitor: &mut Monitor<'_>, number: u64) {
    let Monitor { containers, poll, .. } = monitor;
    let mut all = containers
        .iter_mut()
        .filter_map(|container| container.live.as_mut());
    let same = |live: &&mut Live| live.input.as_ref().is_some_and(|input| input.number == number);
    if let Some(live) = all.find(same) {
        live.give_rests(poll);
    }
}

impl Live {
    /// Gives the container some input. False if there is to be no more for now.
    fn give(&mut self, place: usize, bytes: &[u8], poll: &Poll) -> bool {
        let (Some(input), Some(typed)) = (&mut self.input, &mut self.attached[place].typed) else {
            return false;
        };
        match put(&input.fd, bytes) {
            Put::All => return true,
            Put::Part(written) => {
                poll.remove(typed.fd.as_fd());
                typed.rest = bytes[written..].to_vec();
                if input.full {
                    return false;
                }
                input.full = true;
                if poll
                    .add_for_room(input.fd.as_fd(), Token::Input(input.number))
                    .is_err()
                {
                    self.close_input(poll);
                }
            }
            Put::Closed => self.close_input(poll),
        }
        false
    }

    /// Gives what waits to the container, and reads on from those who have nothing waiting any more.
    fn give_rests(&mut self, poll: &Poll) {
        let Some(input) = &mut self.input else { return };
        for typed in self
            .attached
            .iter_mut()
            .filter_map(|attached| attached.typed.as_mut())
        {
            if typed.rest.is_empty() {
                continue;
            }
            match put(&input.fd, &typed.rest) {
                Put::All => {
                    typed.rest = Vec::new();
                    // Fails only for want of memory; then this client is not heard any more.
                    poll.add(typed.fd.as_fd(), Token::Typed(typed.number)).ok();
                }
                Put::Part(written) => return drop(typed.rest.drain(..written)),
                Put::Closed => return self.close_input(poll),
            }
        }
        input.full = false;
        poll.remove(input.fd.as_fd());
    }

    /// A client types no more.
    fn stop_typing(&mut self, place: usize, poll: &Poll) {
        let attached = &mut self.attached[place];
        if let Some(typed) = attached.typed.take() {
            poll.remove(typed.fd.as_fd());
        }
        if attached.is_empty() {
            attached.over = Some(Detachment::Left);
        }
        if self.input_once {
            self.close_input(poll);
        }
    }

    /// Ends the container's input for good.
    fn close_input(&mut self, poll: &Poll) {
        if let Some(input) = self.input.take().filter(|input| input.full) {
            poll.remove(input.fd.as_fd());
        }
        for typed in self
            .attached
            .iter_mut()
            .filter_map(|attached| attached.typed.take())
        {
            poll.remove(typed.fd.as_fd());
        }
    }
}

/// Takes leave of those who are let go, and of those whose daemon has gone.
pub(crate) fn advance(monitor: &mut Monitor<'_>) {
    for place in 0..monitor.containers.len() {
        let Monitor {
            containers,
            connections,
            poll,
            ..
        } = monitor;
        let Some(live) = &mut containers[place].live else {
            continue;
        };
        let mut gone = Vec::new();
        for mut attached in std::mem::take(&mut live.attached) {
            if attached.over.is_none() && !connections.contains_key(&attached.asker) {
                attached.over = Some(Detachment::Left);
            }
            match attached.over {
                None => live.attached.push(attached),
                Some(why) => gone.push((attached, why)),
            }
        }
        if live.input_once && gone.iter().any(|(attached, _)| attached.types) {
            live.close_input(poll);
        }
        for (attached, why) in gone {
            leave(monitor, attached, why);
        }
    }
}

/// The container has exited, and all of its output has been handed on.
pub(crate) fn end_all(monitor: &mut Monitor<'_>, container: usize, exit: ExitStatus) {
    let live = monitor.containers[container].live.as_mut();
    let all = live
        .map(|live| std::mem::take(&mut live.attached))
        .unwrap_or_default();
    for attached in all {
        let why = attached.over.unwrap_or(Detachment::Exited(exit));
        leave(monitor, attached, why);
    }
}

fn leave(monitor: &mut Monitor<'_>, attached: Attached, why: Detachment) {
    if let Some(typed) = &attached.typed {
        monitor.poll.remove(typed.fd.as_fd());
    }
    let Attached {
        id: attach, asker, ..
    } = attached;
    monitor.tell_one(asker, Event::Detached { attach, why });
}
