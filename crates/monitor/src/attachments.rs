//! The clients that are attached to a container: they receive its output and may write to its stdin.
//!
//! ```text
//!   stdout, stderr ──same bytes as the log──▶ a pipe per client ──(full)──────▶ detached: TooSlow
//!                                                  └──────(no reader left)────▶ detached: Left
//!   client ─▶ its pipe ─▶ unwritten, while the container's stdin is full ─▶ the container's stdin
//!                 └──(end of file)──▶ with stdin_once: the container's stdin is closed, too
//! ```
//!
//! Neither the log nor the container ever waits for a client. A client's output has no gaps: it ends instead. A client
//! that leaves does not affect the container, except that with `stdin_once` its stdin is closed. The client of a container
//! with a terminal gets the terminal's master and writes to that.

use std::os::fd::{AsFd, OwnedFd};

use pausa_monitor_protocol::{Detachment, Event, ExitStatus, Failure};
use rustix::io::Errno;

use crate::connections::Connections;
use crate::failure::internal;
use crate::log::Source;
use crate::plan_fds::{PlanFds, set_nonblocking};
use crate::poll::{Poll, Token};

/// Bytes read at once from a client.
const CHUNK: usize = 4 * 1024;
/// Most chunks that are read from a client before other descriptors are served.
const CHUNKS_PER_TURN: usize = 16;

/// The attached clients of a container, and the container's stdin.
#[derive(Debug)]
pub(crate) struct Attachments {
    clients: Vec<Client>,
    stdin: Option<ContainerStdin>,
    /// The first client that had the stdin closes it by leaving.
    stdin_once: bool,
}

/// The writing end of a container's stdin. Held open while the container runs, since its reader would see end of file.
#[derive(Debug)]
struct ContainerStdin {
    /// Non-blocking.
    fd: OwnedFd,
    number: u64,
    /// It was full, and epoll reports when there is room.
    is_full: bool,
}

#[derive(Debug)]
struct Client {
    id: String,
    /// Number of the connection that has attached it.
    connection: u64,
    stdin: Option<ClientStdin>,
    /// The client had the container's stdin at some time.
    had_stdin: bool,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Why it is being detached.
    ended: Option<Detachment>,
}

/// The reading end of the pipe for a client's input.
#[derive(Debug)]
struct ClientStdin {
    number: u64,
    /// Non-blocking.
    fd: OwnedFd,
    /// Bytes that the container has not accepted yet. The client's pipe is not read while there are any.
    unwritten: Vec<u8>,
}

impl Client {
    const fn output(&mut self, source: Source) -> &mut Option<OwnedFd> {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }

    const fn has_no_stream(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && self.stdin.is_none()
    }

    fn detach(self, why: Detachment, connections: &mut Connections, poll: &Poll) {
        if let Some(stdin) = &self.stdin {
            poll.remove(stdin.fd.as_fd());
        }
        let attach = self.id;
        connections.send_event(self.connection, Event::Detached { attach, why });
    }
}

impl Attachments {
    /// Takes the writing end of the container's stdin, if that is a pipe.
    pub(crate) fn new(stdin: Option<OwnedFd>, stdin_once: bool, poll: &Poll) -> Self {
        let stdin = stdin.map(|fd| ContainerStdin {
            fd,
            number: poll.next_number(),
            is_full: false,
        });
        Self {
            clients: Vec::new(),
            stdin,
            stdin_once,
        }
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.clients.iter().any(|client| client.id == id)
    }

    pub(crate) fn attach(
        &mut self,
        id: &str,
        connection: u64,
        fds: PlanFds,
        poll: &Poll,
    ) -> Result<(), Failure> {
        for fd in [&fds.stdin, &fds.stdout, &fds.stderr].into_iter().flatten() {
            set_nonblocking(fd)?;
        }
        // If the container has no stdin, the pipe is closed, and the client gets EPIPE when it writes.
        let stdin = fds.stdin.filter(|_| self.stdin.is_some()).map(|fd| ClientStdin {
            number: poll.next_number(),
            fd,
            unwritten: Vec::new(),
        });
        if let Some(stdin) = &stdin {
            poll.add(stdin.fd.as_fd(), Token::AttachStdin(stdin.number))
                .map_err(internal("attach: epoll_ctl(EPOLL_CTL_ADD)"))?;
        }
        self.clients.push(Client {
            id: id.to_owned(),
            connection,
            had_stdin: stdin.is_some(),
            stdin,
            stdout: fds.stdout,
            stderr: fds.stderr,
            ended: None,
        });
        Ok(())
    }

    /// Marks a client of this connection as detached, if there is one of this id.
    pub(crate) fn detach(&mut self, connection: u64, id: &str) {
        for client in &mut self.clients {
            if client.connection == connection && client.id == id {
                client.ended = Some(Detachment::Left);
            }
        }
    }

    /// Copies output to all clients. A client whose pipe cannot take all of it is detached.
    pub(crate) fn write_output(&mut self, source: Source, bytes: &[u8]) {
        for client in self.clients.iter_mut().filter(|client| client.ended.is_none()) {
            let output = client.output(source);
            let Some(fd) = output else { continue };
            match write(fd, bytes) {
                Written::All => {}
                Written::Part(_) => client.ended = Some(Detachment::TooSlow),
                Written::Closed => {
                    *output = None;
                    if client.has_no_stream() {
                        client.ended = Some(Detachment::Left);
                    }
                }
            }
        }
    }

    /// Closes this output of all clients, since the container's has ended.
    pub(crate) fn close_output(&mut self, source: Source) {
        for client in &mut self.clients {
            *client.output(source) = None;
        }
    }

    /// Moves input of the client whose pipe has this number to the container's stdin. Returns false if there is none.
    pub(crate) fn read_client_stdin(&mut self, number: u64, poll: &Poll) -> bool {
        let has_number = |client: &Client| client.stdin.as_ref().is_some_and(|stdin| stdin.number == number);
        let Some(index) = self.clients.iter().position(has_number) else {
            return false;
        };
        let mut buffer = [0; CHUNK];
        for _ in 0..CHUNKS_PER_TURN {
            let Some(stdin) = &self.clients[index].stdin else {
                break;
            };
            match rustix::io::read(&stdin.fd, &mut buffer) {
                Ok(read @ 1..) => {
                    if !self.write_stdin(index, &buffer[..read], poll) {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // End of file. The client may continue to read output.
                Ok(_) | Err(_) => {
                    self.end_client_stdin(index, poll);
                    break;
                }
            }
        }
        true
    }

    /// Writes a client's input to the container. Returns false if no more can be written for now.
    fn write_stdin(&mut self, index: usize, bytes: &[u8], poll: &Poll) -> bool {
        let (Some(stdin), Some(client)) = (&mut self.stdin, &mut self.clients[index].stdin) else {
            return false;
        };
        match write(&stdin.fd, bytes) {
            Written::All => return true,
            Written::Part(written) => {
                poll.remove(client.fd.as_fd());
                client.unwritten = bytes[written..].to_vec();
                if !stdin.is_full {
                    stdin.is_full = true;
                    let token = Token::ContainerStdin(stdin.number);
                    if poll.add_for_writing(stdin.fd.as_fd(), token).is_err() {
                        self.close_stdin(poll);
                    }
                }
            }
            Written::Closed => self.close_stdin(poll),
        }
        false
    }

    /// Continues to write to the container's stdin, if it has this number. Returns false if it has not.
    pub(crate) fn stdin_has_room(&mut self, number: u64, poll: &Poll) -> bool {
        let Some(stdin) = self.stdin.as_mut().filter(|stdin| stdin.number == number) else {
            return false;
        };
        let clients = self.clients.iter_mut().filter_map(|client| client.stdin.as_mut());
        for client in clients.filter(|client| !client.unwritten.is_empty()) {
            match write(&stdin.fd, &client.unwritten) {
                Written::All => {
                    client.unwritten = Vec::new();
                    // Fails only for lack of memory. Then no more is read from this client.
                    poll.add(client.fd.as_fd(), Token::AttachStdin(client.number))
                        .ok();
                }
                Written::Part(written) => {
                    client.unwritten.drain(..written);
                    return true;
                }
                Written::Closed => {
                    self.close_stdin(poll);
                    return true;
                }
            }
        }
        stdin.is_full = false;
        poll.remove(stdin.fd.as_fd());
        true
    }

    /// The input of a client has ended.
    fn end_client_stdin(&mut self, index: usize, poll: &Poll) {
        let client = &mut self.clients[index];
        if let Some(stdin) = client.stdin.take() {
            poll.remove(stdin.fd.as_fd());
        }
        if client.has_no_stream() {
            client.ended = Some(Detachment::Left);
        }
        if self.stdin_once {
            self.close_stdin(poll);
        }
    }

    /// Closes the container's stdin for good.
    fn close_stdin(&mut self, poll: &Poll) {
        if let Some(stdin) = self.stdin.take().filter(|stdin| stdin.is_full) {
            poll.remove(stdin.fd.as_fd());
        }
        for stdin in self.clients.iter_mut().filter_map(|client| client.stdin.take()) {
            poll.remove(stdin.fd.as_fd());
        }
    }

    /// Detaches clients that have ended and clients whose connection is gone.
    pub(crate) fn advance(&mut self, connections: &mut Connections, poll: &Poll) {
        let ended = |client: &mut Client| {
            if client.ended.is_none() && !connections.contains(client.connection) {
                client.ended = Some(Detachment::Left);
            }
            client.ended.is_some()
        };
        let detached: Vec<Client> = self.clients.extract_if(.., ended).collect();
        if self.stdin_once && detached.iter().any(|client| client.had_stdin) {
            self.close_stdin(poll);
        }
        for client in detached {
            let why = client.ended.unwrap_or(Detachment::Left);
            client.detach(why, connections, poll);
        }
    }

    /// Detaches all clients of a container that has exited, after all of its output has been written.
    pub(crate) fn detach_all(&mut self, exit: ExitStatus, connections: &mut Connections, poll: &Poll) {
        for client in self.clients.drain(..) {
            let why = client.ended.unwrap_or(Detachment::Exited(exit));
            client.detach(why, connections, poll);
        }
    }
}

/// The outcome of a write to a non-blocking descriptor.
enum Written {
    All,
    /// Only the first bytes; more would block.
    Part(usize),
    /// The other end is closed.
    Closed,
}

fn write(fd: &OwnedFd, bytes: &[u8]) -> Written {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::write(fd, &bytes[done..]) {
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Written::Part(done),
            Err(_) => return Written::Closed,
        }
    }
    Written::All
}
