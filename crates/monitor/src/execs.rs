//! Exec'd processes whose daemon has gone, or whose client.
//!
//! ```text
//!   the daemon reads ──its connection ends──▶ the outputs are read here and dropped, until the process ends
//!          └────────── HangUp ──────────────▶ they are closed: EPIPE; of a terminal, SIGHUP
//! ```
//!
//! A daemon that is restarted must not end what it has started: so a process that goes on writing finds a
//! reader. Its input has ended, as if the client had left: a pipe's by itself, a terminal's by the character
//! that means it there.

use std::os::fd::AsFd;

use pausa_monitor_protocol::Reply;
use rustix::io::Errno;

use crate::monitor::{Monitor, Output, Started};
use crate::poll::Token;
use crate::start_container::set_nonblocking;

/// Read at once and dropped.
const CHUNK: usize = 16 * 1024;
/// Chunks read before the others have their turn.
const TURN: usize = 16;
/// VEOF of a terminal (termios(3)), unless its program has changed it.
const END_OF_INPUT: [u8; 1] = [4];

/// Closes what the monitor holds of an exec's streams; that it has ended is as good.
pub(crate) fn hang_up(monitor: &mut Monitor<'_>, id: &str) -> Reply {
    for start in &mut monitor.starting {
        if let Started::Exec {
            id: other,
            outputs,
            hung_up,
            ..
        } = &mut start.what
            && other == id
        {
            outputs.clear();
            *hung_up = true;
        }
    }
    let Monitor { execs, poll, .. } = monitor;
    for exec in execs.iter_mut().filter(|exec| exec.id == id) {
        for output in exec.outputs.drain(..) {
            poll.remove(output.fd.as_fd());
        }
    }
    Reply::Done
}

/// Takes over the outputs of those whose connection has ended.
pub(crate) fn check(monitor: &mut Monitor<'_>) {
    let Monitor {
        execs,
        poll,
        connections,
        ..
    } = monitor;
    for exec in execs {
        if exec
            .asker
            .take_if(|asker| !connections.contains_key(asker))
            .is_none()
        {
            continue;
        }
        // What cannot be watched is closed: the process then ends as if its client had left.
        exec.outputs.retain(|output| {
            prepare(output) && poll.add(output.fd.as_fd(), Token::Left(output.number)).is_ok()
        });
    }
}

fn prepare(output: &Output) -> bool {
    if set_nonblocking(&output.fd).is_err() {
        return false;
    }
    if output.terminal {
        // Full of what was typed before, or hung up: it cannot be told, and goes on until its container ends.
        rustix::io::write(&output.fd, &END_OF_INPUT).ok();
    }
    true
}

/// Reads an output's turn. It may be one that has just gone.
pub(crate) fn pump(monitor: &mut Monitor<'_>, number: u64) {
    let Monitor { execs, poll, .. } = monitor;
    for exec in execs {
        let Some(place) = exec.outputs.iter().position(|output| output.number == number) else {
            continue;
        };
        let mut buffer = [0; CHUNK];
        for _ in 0..TURN {
            match rustix::io::read(&exec.outputs[place].fd, &mut buffer) {
                Ok(1..) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Ok(_) | Err(_) => {
                    let output = exec.outputs.remove(place);
                    return poll.remove(output.fd.as_fd());
                }
            }
        }
        return;
    }
}
