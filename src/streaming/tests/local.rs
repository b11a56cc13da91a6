//! Tickets whose container and pod are this machine.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::super::ticket::{Session, SessionTicket, Streams, TerminalSize, Ticket};
use crate::error::{ErrorKind, Failure};
use crate::id::Id;

fn id(of: &str) -> Id {
    Id::try_from(format!("{of:0<64}")).unwrap()
}

pub(in crate::streaming) fn exec(command: &[&str], streams: Streams, tty: bool) -> Ticket {
    let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
    Ticket::Exec(SessionTicket {
        pod: id("90d"),
        container: id("c0ffee"),
        streams,
        tty,
        begin: Box::new(move |size| Box::pin(async move { run(&command, streams, tty, size) })),
    })
}

/// Joins a process that answers every line.
pub(in crate::streaming) fn attach(streams: Streams) -> Ticket {
    let script = "while read line; do echo got $line; done";
    let command = ["sh", "-c", script].map(str::to_owned);
    Ticket::Attach(SessionTicket {
        pod: id("90d"),
        container: id("c0ffee"),
        streams,
        tty: false,
        begin: Box::new(move |_| Box::pin(async move { run(&command, streams, false, None) })),
    })
}

/// Connects to ports of this machine.
pub(in crate::streaming) fn port_forward(ports: Vec<u16>) -> Ticket {
    port_forward_of("90d", ports)
}

/// As [`port_forward`], for a pod whose id begins with these digits.
pub(in crate::streaming) fn port_forward_of(pod: &str, ports: Vec<u16>) -> Ticket {
    Ticket::PortForward {
        pod: id(pod),
        ports,
        connect: Arc::new(|port| {
            Box::pin(async move {
                let connected = TcpStream::connect(("127.0.0.1", port));
                connected.map(OwnedFd::from).map_err(|error| {
                    Failure::new(ErrorKind::Unavailable, format!("connect to 127.0.0.1: {error}"))
                })
            })
        }),
    }
}

fn run(
    words: &[String],
    streams: Streams,
    tty: bool,
    size: Option<TerminalSize>,
) -> Result<Session, Failure> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let Streams {
        stdin,
        stdout,
        stderr,
    } = streams;
    let wanted = |stream| if stream { Stdio::piped() } else { Stdio::null() };
    let mut terminal = None;
    if tty {
        let (master, slave) = pty(size);
        let slave = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(slave()).stdout(slave()).stderr(slave());
        terminal = Some(master);
    } else {
        command
            .stdin(wanted(stdin))
            .stdout(wanted(stdout))
            .stderr(wanted(stderr));
    }
    let spawned = command.spawn();
    // It holds copies of the terminal.
    drop(command);
    let mut child = spawned.map_err(|error| Failure::new(ErrorKind::NotFound, error.to_string()))?;
    let master = || terminal.as_ref().map(|fd| fd.try_clone().unwrap());
    let (stdin, stdout) = if tty {
        (master().filter(|_| stdin), master())
    } else {
        (
            child.stdin.take().map(Into::into),
            child.stdout.take().map(Into::into),
        )
    };
    let stderr = child.stderr.take().map(Into::into);
    let exit = tokio::task::spawn_blocking(move || {
        use std::os::unix::process::ExitStatusExt as _;
        let status = child.wait().unwrap();
        status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap()
    });
    Ok(Session {
        stdin,
        stdout,
        stderr,
        terminal,
        exit: Box::pin(async { Ok(exit.await.unwrap()) }),
    })
}

fn pty(size: Option<TerminalSize>) -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    if let Some(size) = size {
        let size = Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
    }
    (master, slave)
}
