//! The loop: waits, then gives everyone who has something a bounded turn.
//!
//! Signals and requests come before output, so that a container that writes without pause delays neither
//! an exit nor a probe by more than one turn of each stream.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::os::fd::{AsFd, OwnedFd};

use crate::bootstrap::Begun;
use crate::connections::{Connection, Gone, Received};
use crate::log::Work;
use crate::monitor::{Answer, Monitor, Setup};
use crate::poll::{Poll, Token};
use crate::spawner::Launch;
use crate::{attachments, execs, exits, kills, requests, shutdown, start_container};

/// Requests served from one connection before the others have their turn.
const REQUESTS: usize = 16;
/// How long large buffers are kept when nothing comes.
const REST: Duration = Duration::from_millis(50);

/// Serves until told to leave.
pub(crate) fn run(begun: Begun, launch: &dyn Launch) -> ExitCode {
    let Begun { first, signals, host } = begun;
    let Ok(poll) = Poll::new() else {
        return ExitCode::from(71);
    };
    let mut monitor = Monitor {
        launch,
        poll,
        host,
        setup: Setup::Open,
        connections: BTreeMap::new(),
        containers: Vec::new(),
        starting: Vec::new(),
        execs: Vec::new(),
        kills: Vec::new(),
        leaving: None,
        work: Work::default(),
    };
    if monitor.poll.add(signals.as_fd(), Token::Signals).is_err() {
        return ExitCode::from(71);
    }
    connect(&mut monitor, first);
    loop {
        turn(&mut monitor, &signals);
        if is_over(&monitor) {
            return ExitCode::SUCCESS;
        }
    }
}

/// Told to leave; or the daemon that started it is gone before there was a pod, and nobody can ever come.
fn is_over(monitor: &Monitor<'_>) -> bool {
    let unreachable = monitor.connections.is_empty() && !matches!(monitor.setup, Setup::Done(_));
    unreachable || monitor.leaving.as_ref().is_some_and(|leaving| leaving.done)
}

fn turn(monitor: &mut Monitor<'_>, signals: &SignalFd) {
    let tokens = monitor.poll.wait(timeout(monitor));
    if tokens.is_empty() {
        monitor.work.rest();
    }
    for token in &tokens {
        match token {
            Token::Signals => read_signals(monitor, signals),
            Token::Listener => accept(monitor),
            Token::Connection(number) => converse(monitor, *number),
            Token::Launch(number) => start_container::pump(monitor, *number),
            Token::Stream(_) | Token::Left(_) | Token::Typed(_) | Token::Input(_) => {}
        }
    }
    for token in &tokens {
        match token {
            Token::Stream(number) => exits::pump(monitor, *number),
            Token::Left(number) => execs::pump(monitor, *number),
            Token::Typed(number) => attachments::typed(monitor, *number),
            Token::Input(number) => attachments::taken(monitor, *number),
            _ => {}
        }
    }
    execs::check(monitor);
    attachments::advance(monitor);
    start_container::advance(monitor);
    kills::advance(monitor);
    exits::advance(monitor);
    shutdown::advance(monitor);
}

/// How long nothing has to be done by itself.
fn timeout(monitor: &Monitor<'_>) -> Option<Duration> {
    let deadlines = [
        start_container::deadline(monitor),
        kills::deadline(monitor),
        exits::deadline(monitor),
        shutdown::deadline(monitor),
    ];
    let next = deadlines.into_iter().flatten().min();
    let until = next.map(|when| when.saturating_duration_since(Instant::now()));
    match monitor.work.in_burst() {
        true => Some(until.map_or(REST, |until| until.min(REST))),
        false => until,
    }
}

fn read_signals(monitor: &mut Monitor<'_>, signals: &SignalFd) {
    let (mut child, mut terminate) = (false, false);
    while let Ok(Some(signal)) = signals.read_signal() {
        match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
            Ok(Ok(Signal::SIGCHLD)) => child = true,
            Ok(Ok(Signal::SIGTERM)) => terminate = true,
            _ => {}
        }
    }
    if child {
        exits::reap(monitor);
    }
    if terminate {
        shutdown::terminated(monitor);
    }
}

fn accept(monitor: &mut Monitor<'_>) {
    let Setup::Done(pod) = &monitor.setup else {
        return;
    };
    let socket = match rustix::net::accept_with(&pod.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => socket,
        Err(Errno::MFILE | Errno::NFILE) => {
            // The one who waits would wake the loop without end: make room by leaving out the eldest.
            if let Some(eldest) = monitor.connections.keys().next().copied() {
                monitor.disconnect(eldest);
            }
            return;
        }
        Err(_) => return,
    };
    let own = rustix::process::geteuid();
    let allowed = rustix::net::sockopt::socket_peercred(&socket)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == own);
    if allowed {
        connect(monitor, socket);
    }
}

fn connect(monitor: &mut Monitor<'_>, socket: OwnedFd) {
    let number = monitor.poll.number();
    let connection = Connection::new(socket);
    if monitor
        .poll
        .add(connection.fd(), Token::Connection(number))
        .is_ok()
    {
        monitor.connections.insert(number, connection);
    }
}

/// Sends what waits and serves what has come.
fn converse(monitor: &mut Monitor<'_>, number: u64) {
    if let Some(connection) = monitor.connections.get_mut(&number) {
        let flushed = connection.flush().and_then(|waits| {
            let token = Token::Connection(number);
            monitor
                .poll
                .also_writing(connection.fd(), token, waits)
                .map_err(|_| Gone)
        });
        if flushed.is_err() {
            monitor.disconnect(number);
        }
    }
    for _ in 0..REQUESTS {
        let Some(connection) = monitor.connections.get(&number) else {
            return;
        };
        match connection.receive() {
            Ok(Some(Received::Request(message, fds))) => requests::serve(monitor, number, message, fds),
            Ok(Some(Received::Unknown(id))) => {
                let connection = number;
                requests::refuse(monitor, Answer { connection, id });
            }
            Ok(None) => return,
            Err(Gone) => monitor.disconnect(number),
        }
    }
}
