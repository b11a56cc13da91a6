//! The event loop: waits, then gives every descriptor that is ready a bounded turn.
//!
//! Signals and requests come before output. So a container that writes without pause delays an exit or a probe by at most
//! one turn of each stream.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::bootstrap::Bootstrap;
use crate::connections::{Received, ReplyTo};
use crate::monitor::Monitor;
use crate::poll::Token;
use crate::requests;
use crate::spawner::Spawner;

/// Requests served from one connection before other descriptors are served.
const REQUESTS_PER_TURN: usize = 16;
/// How long memory that is not in use is kept while nothing is ready.
const MEMORY_KEPT: Duration = Duration::from_millis(50);

/// Serves until the monitor has shut down.
pub(crate) fn run(bootstrap: Bootstrap, spawner: Spawner) -> ExitCode {
    let Bootstrap {
        first_connection,
        signals,
        host,
    } = bootstrap;
    let Ok(mut monitor) = Monitor::new(spawner, host) else {
        return ExitCode::from(71);
    };
    if monitor.poll.add(signals.as_fd(), Token::Signals).is_err() {
        return ExitCode::from(71);
    }
    monitor.connections.add(first_connection);
    loop {
        let tokens = wait(&mut monitor);
        turn(&mut monitor, &signals, &tokens);
        if monitor.is_over() {
            return ExitCode::SUCCESS;
        }
    }
}

/// Waits until something is ready or due. After a while it gives memory back that only work needs, and goes on waiting: a turn
/// in between would use it again.
fn wait(monitor: &mut Monitor) -> Vec<Token> {
    let deadline = monitor.deadline();
    let left = || deadline.map(|when| when.saturating_duration_since(Instant::now()));
    let until_idle = left().filter(|left| *left < MEMORY_KEPT);
    let tokens = monitor.poll.wait(until_idle.or(Some(MEMORY_KEPT)));
    if !tokens.is_empty() || until_idle.is_some() {
        return tokens;
    }
    monitor.containers.release_buffers();
    pausa_sys::return_free_pages();
    pausa_sys::release_unused_stack();
    monitor.poll.wait(left())
}

/// Not inlined: its frame, several pages, would be in use while the monitor waits.
#[inline(never)]
fn turn(monitor: &mut Monitor, signals: &SignalFd, tokens: &[Token]) {
    for token in tokens {
        match token {
            Token::Signals => read_signals(monitor, signals),
            Token::Listener => accept(monitor),
            Token::Connection(number) => serve_connection(monitor, *number),
            Token::Start(number) => {
                if let Some(outcome) = monitor.starts.read_reports(*number) {
                    monitor.settle_start(outcome);
                }
            }
            Token::LogThreads => monitor.containers.serve_log_threads(),
            Token::Output(_)
            | Token::OrphanedOutput(_)
            | Token::AttachStdin(_)
            | Token::ContainerStdin(_) => {}
        }
    }
    for token in tokens {
        match token {
            Token::Output(number) => monitor.containers.read_output(*number),
            Token::OrphanedOutput(number) => monitor.execs.drain_orphan(*number),
            Token::AttachStdin(number) => monitor.containers.read_client_stdin(*number),
            Token::ContainerStdin(number) => monitor.containers.stdin_has_room(*number),
            Token::Signals | Token::Listener | Token::LogThreads | Token::Connection(_) | Token::Start(_) => {
            }
        }
    }
    monitor.advance();
}

fn read_signals(monitor: &mut Monitor, signals: &SignalFd) {
    let (mut child, mut terminate) = (false, false);
    while let Ok(Some(signal)) = signals.read_signal() {
        match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
            Ok(Ok(Signal::SIGCHLD)) => child = true,
            Ok(Ok(Signal::SIGTERM)) => terminate = true,
            _ => {}
        }
    }
    if child {
        monitor.reap();
    }
    if terminate {
        monitor.terminate();
    }
}

/// Accepts a connection of root or of the monitor's own user.
fn accept(monitor: &mut Monitor) {
    let Ok(pod) = monitor.setup.pod() else { return };
    let socket = match rustix::net::accept_with(&pod.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => socket,
        Err(Errno::MFILE | Errno::NFILE) => {
            // The waiting peer would wake the loop without end. Make room for it.
            return monitor.connections.disconnect_latest();
        }
        Err(_) => return,
    };
    let own = rustix::process::geteuid();
    let allowed = rustix::net::sockopt::socket_peercred(&socket)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == own);
    if allowed {
        monitor.connections.add(socket);
    }
}

/// Sends waiting messages and serves requests.
fn serve_connection(monitor: &mut Monitor, number: u64) {
    monitor.connections.flush(number);
    for _ in 0..REQUESTS_PER_TURN {
        match monitor.connections.receive(number) {
            Some(Received::Request(message, fds)) => requests::serve(monitor, number, message, fds),
            Some(Received::Unknown(id)) => {
                let reply_to = ReplyTo {
                    connection: number,
                    request: id,
                };
                requests::refuse(monitor, reply_to);
            }
            None => return,
        }
    }
}
