//! A target whose container is this machine.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::super::target::{AttachRequest, ExecRequest, Session, Streams, Target};
use crate::error::{ErrorKind, Failure};
use crate::id::Id;

pub(in crate::streaming) const CONTAINER: &str = "c0ffee";
pub(in crate::streaming) const POD: &str = "90d";

#[derive(Debug, Default)]
pub(in crate::streaming) struct Fake {
    /// Every command that was run.
    pub(in crate::streaming) execs: Mutex<Vec<ExecRequest>>,
}

fn id(of: &str) -> Id {
    Id::try_from(format!("{of:0<64}")).unwrap()
}

fn not_found(what: &str, id: &str) -> Failure {
    Failure::new(ErrorKind::NotFound, format!("no {what} has the id {id:?}"))
}

impl Target for Fake {
    fn running_container(&self, name: &str) -> Result<Id, Failure> {
        let known = (name == CONTAINER).then(|| id(CONTAINER));
        known.ok_or_else(|| not_found("container", name))
    }

    fn ready_pod(&self, name: &str) -> Result<Id, Failure> {
        let known = (name == POD).then(|| id(POD));
        known.ok_or_else(|| not_found("pod sandbox", name))
    }

    async fn exec(&self, request: ExecRequest) -> Result<Session, Failure> {
        self.execs.lock().unwrap().push(request.clone());
        run(&request)
    }

    async fn attach(&self, request: AttachRequest) -> Result<Session, Failure> {
        let command = ["sh", "-c", "while read line; do echo got $line; done"];
        run(&ExecRequest {
            container: request.container,
            command: command.map(str::to_owned).to_vec(),
            streams: request.streams,
            tty: false,
            size: None,
        })
    }

    async fn connect(&self, _: &Id, port: u16) -> Result<OwnedFd, Failure> {
        let connected = TcpStream::connect(("127.0.0.1", port));
        connected
            .map(OwnedFd::from)
            .map_err(|error| Failure::new(ErrorKind::Unavailable, format!("connect to 127.0.0.1: {error}")))
    }
}

fn run(request: &ExecRequest) -> Result<Session, Failure> {
    let mut command = Command::new(&request.command[0]);
    command.args(&request.command[1..]);
    let Streams {
        stdin,
        stdout,
        stderr,
    } = request.streams;
    let wanted = |stream| if stream { Stdio::piped() } else { Stdio::null() };
    let mut terminal = None;
    if request.tty {
        let (master, slave) = pty(request);
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
    let (stdin, stdout) = if request.tty {
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

fn pty(request: &ExecRequest) -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    if let Some(size) = request.size {
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
