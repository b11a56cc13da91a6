//! Exec'd processes that run, and the output of those whose daemon or client is gone.
//!
//! ```text
//!   the daemon reads the output ──its connection ends──▶ orphaned: the monitor reads and drops it until the process ends
//!             └──────────────────── HangUp ────────────▶ closed: EPIPE; on a terminal, SIGHUP
//! ```
//!
//! A restart of the daemon must not end the processes that it has started, so the output of an orphaned process still has
//! a reader. Its stdin ends as if the client had left: a pipe by itself, a terminal by its end-of-file character.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;

use crate::connections::Connections;
use crate::plan_fds::set_nonblocking;
use crate::poll::{Poll, Token};

/// Bytes read and dropped at once.
const CHUNK: usize = 16 * 1024;
/// Most chunks that are read before other descriptors are served.
const CHUNKS_PER_TURN: usize = 16;
/// The default VEOF of a terminal (termios(3)).
const END_OF_FILE: [u8; 1] = [4];

#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) container: String,
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// Number of the connection that asked for it; none once its output is orphaned.
    asker: Option<u64>,
    outputs: Vec<Output>,
}

/// The reading end of a stream, or the master of the terminal.
#[derive(Debug)]
struct Output {
    /// For epoll, once the output is orphaned.
    number: u64,
    fd: OwnedFd,
    is_terminal: bool,
}

#[derive(Debug)]
pub(crate) struct Execs {
    poll: Rc<Poll>,
    list: Vec<Exec>,
}

impl Execs {
    pub(crate) const fn new(poll: Rc<Poll>) -> Self {
        Self {
            poll,
            list: Vec::new(),
        }
    }

    /// Adds a running process with the reading ends of its streams and its terminal.
    pub(crate) fn add(
        &mut self,
        id: String,
        container: String,
        process: (i32, OwnedFd),
        asker: u64,
        pipes: Vec<OwnedFd>,
        terminal: Option<OwnedFd>,
    ) {
        let pipes = pipes.into_iter().map(|fd| (fd, false));
        let outputs = pipes.chain(terminal.map(|fd| (fd, true)));
        let outputs = outputs.map(|(fd, is_terminal)| Output {
            number: self.poll.next_number(),
            fd,
            is_terminal,
        });
        let outputs = outputs.collect();
        let (pid, pidfd) = process;
        self.list.push(Exec {
            id,
            container,
            pid,
            pidfd,
            asker: Some(asker),
            outputs,
        });
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Exec> {
        self.list.iter().find(|exec| exec.id == id)
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.list.iter().map(|exec| exec.id.clone()).collect()
    }

    /// Removes the exec whose process has ended. Returns its id if there was one.
    pub(crate) fn remove_ended(&mut self, pid: i32) -> Option<String> {
        let index = self.list.iter().position(|exec| exec.pid == pid)?;
        let exec = self.list.remove(index);
        for output in &exec.outputs {
            self.poll.remove(output.fd.as_fd());
        }
        Some(exec.id)
    }

    /// Closes the monitor's copies of an exec's streams, if the exec exists.
    pub(crate) fn hang_up(&mut self, id: &str) {
        for exec in self.list.iter_mut().filter(|exec| exec.id == id) {
            for output in exec.outputs.drain(..) {
                self.poll.remove(output.fd.as_fd());
            }
        }
    }

    /// Begins to read the output of execs whose connection has ended.
    pub(crate) fn adopt_orphans(&mut self, connections: &Connections) {
        for exec in &mut self.list {
            let orphaned = exec.asker.take_if(|asker| !connections.contains(*asker));
            if orphaned.is_some() {
                // An output that cannot be read is closed: then the process sees its client leave.
                exec.outputs.retain(|output| output.adopt(&self.poll));
            }
        }
    }

    /// Reads and drops some of an orphaned output. The exec may have ended meanwhile.
    pub(crate) fn drain_orphan(&mut self, number: u64) {
        for exec in &mut self.list {
            let outputs = &mut exec.outputs;
            let Some(index) = outputs.iter().position(|output| output.number == number) else {
                continue;
            };
            let mut buffer = [0; CHUNK];
            for _ in 0..CHUNKS_PER_TURN {
                match rustix::io::read(&outputs[index].fd, &mut buffer) {
                    Ok(1..) | Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return,
                    Ok(_) | Err(_) => {
                        let output = outputs.remove(index);
                        return self.poll.remove(output.fd.as_fd());
                    }
                }
            }
            return;
        }
    }
}

impl Output {
    fn adopt(&self, poll: &Poll) -> bool {
        if set_nonblocking(&self.fd).is_err() {
            return false;
        }
        if self.is_terminal {
            // Fails if the terminal's input is full or hung up. Then the process runs on until its container ends.
            rustix::io::write(&self.fd, &END_OF_FILE).ok();
        }
        poll.add(self.fd.as_fd(), Token::OrphanedOutput(self.number))
            .is_ok()
    }
}
