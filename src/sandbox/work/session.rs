//! Exec and attach for clients that stay: their streams are descriptors, their end is told by the monitor.
//!
//! ```text
//!   daemon                                        monitor                     process
//!     │ pipes, or a terminal asked for ─────────▶ │ the process's ends ─────▶ │
//!     │ ◀──────────────── master of the terminal  │                           │
//!     │ ◀═════════════════ the data (exec: past the monitor) ═══════════════▶ │
//!     │ ◀──────────────── ExecExited, Detached    │ ◀──────────────── its end │
//!     │ client gone: HangUp, Detach ────────────▶ │
//! ```
//!
//! No byte of an exec goes through the monitor; of an attach each does, since the log gets it as well. Should
//! the daemon die, the monitor reads an exec's output, so that it goes on; the client has gone with the daemon.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use pausa_monitor_protocol::{AttachPlan, Detachment, ExecPlan, FdRole, Request};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::sync::oneshot;

use super::exec::{monitor_of, process};
use crate::container::ContainerRecord;
use crate::error::{ErrorKind, Failure};
use crate::id::Id;
use crate::oci;
use crate::sandbox::error::PodError;
use crate::sandbox::handle::PodHandle;
use crate::sandbox::link::Link;
use crate::sandbox::services::Services;
use crate::streaming::target::{AttachRequest, ExecRequest, Session, Streams};

/// How far a client may fall behind a container's output before it is let go, in bytes. Memory of the pod's, while
/// it does. The second is what the kernel grants without asking (`fs.pipe-max-size`).
const BEHIND: [usize; 2] = [4 * 1024 * 1024, 1024 * 1024];

/// Starts a command, and gives its streams once it runs.
pub(in crate::sandbox) async fn exec(
    services: &Services,
    handle: &Arc<PodHandle>,
    record: &ContainerRecord,
    request: ExecRequest,
) -> Result<Session, PodError> {
    let monitor = monitor_of(handle, record)?;
    let mut process = process(services, handle, record, request.command)?;
    if request.tty {
        process.terminal = true;
        process.terminal_size = request.size.map(|size| (size.height, size.width));
        oci::add_term(&mut process.env);
    }
    let wanted = request.streams;
    let ends = match request.tty {
        true => Ends::default(),
        false => Ends::of_exec(wanted)?,
    };
    let id = Id::random().to_string();
    let ended = handle.execs().ends.expect(id.clone());
    let client = Client {
        handle: Arc::clone(handle),
        monitor,
        what: What::Exec(id.clone()),
        over: false,
    };
    let (fds, sent) = ends.sent.into_iter().unzip();
    let plan = ExecPlan {
        id,
        container: record.id.to_string(),
        fds,
        process,
    };
    let failed = |error: crate::monitor::MonitorError| PodError::failed("run the command", error);
    let request = Request::Exec(Box::new(plan));
    let terminal = client.monitor.request_fds(request, sent).await.map_err(failed)?;
    let exit = Box::pin(client.until(ended, |exit| Ok(exit.code)));
    match terminal {
        Some(terminal) => over_terminal(terminal, wanted.stdin, wanted.stdout, exit),
        None => Ok(Session {
            stdin: ends.stdin,
            stdout: ends.stdout,
            stderr: ends.stderr,
            terminal: None,
            exit,
        }),
    }
}

/// Joins the streams of a container's first process.
pub(in crate::sandbox) async fn attach(
    handle: &Arc<PodHandle>,
    record: &ContainerRecord,
    request: AttachRequest,
) -> Result<Session, PodError> {
    let monitor = monitor_of(handle, record)?;
    let (wanted, config) = (request.streams, &record.config);
    let types = wanted.stdin && config.stdin;
    let mut ends = Ends::default();
    if types && !config.tty {
        ends.stdin = Some(ends.input()?);
    }
    if wanted.stdout {
        ends.stdout = Some(ends.output(FdRole::Stdout)?);
    }
    if wanted.stderr && !config.tty {
        ends.stderr = Some(ends.output(FdRole::Stderr)?);
    }
    for (_, pipe) in ends.sent.iter().filter(|(role, _)| *role != FdRole::Stdin) {
        // Refused where the node's limits are lower: then a client may fall behind by as much as there is.
        let _ = BEHIND
            .into_iter()
            .any(|size| fcntl_setpipe_size(pipe, size).is_ok());
    }
    let id = Id::random().to_string();
    let ended = handle.execs().detachments.expect(id.clone());
    let client = Client {
        handle: Arc::clone(handle),
        monitor,
        what: What::Attach(id.clone()),
        over: false,
    };
    let (fds, sent) = ends.sent.into_iter().unzip();
    let plan = AttachPlan {
        id,
        container: record.id.to_string(),
        fds,
    };
    let failed = |error: crate::monitor::MonitorError| PodError::failed("attach", error);
    let request = Request::Attach(Box::new(plan));
    let terminal = client.monitor.request_fds(request, sent).await.map_err(failed)?;
    let exit = Box::pin(client.until(ended, why_detached));
    let mut session = match terminal {
        Some(terminal) => over_terminal(terminal, types, false, exit)?,
        None => Session {
            stdin: ends.stdin,
            stdout: None,
            stderr: ends.stderr,
            terminal: None,
            exit,
        },
    };
    session.stdout = ends.stdout;
    Ok(session)
}

/// What an attach means to its client.
fn why_detached(why: Detachment) -> Result<i32, Failure> {
    match why {
        Detachment::Exited(exit) => Ok(exit.code),
        Detachment::TooSlow => Err(Failure::new(
            ErrorKind::ResourceExhausted,
            "the client did not keep up with the container's output and was let go; it is all in the log",
        )),
        Detachment::Left => Err(Failure::new(
            ErrorKind::Unavailable,
            "nobody reads the container's output here any more",
        )),
    }
}

/// A session whose streams are a terminal.
fn over_terminal(
    master: OwnedFd,
    stdin: bool,
    stdout: bool,
    exit: BoxFuture<'static, Result<i32, Failure>>,
) -> Result<Session, PodError> {
    Ok(Session {
        stdin: stdin.then(|| clone(&master)).transpose()?,
        stdout: stdout.then(|| clone(&master)).transpose()?,
        stderr: None,
        terminal: Some(master),
        exit,
    })
}

/// Ends of pipes: the client's, and what the monitor gets.
#[derive(Default)]
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    sent: Vec<(FdRole, OwnedFd)>,
}

impl Ends {
    /// Pipes for a command, with readers of its output for the monitor.
    fn of_exec(wanted: Streams) -> Result<Self, PodError> {
        let mut ends = Self::default();
        if wanted.stdin {
            ends.stdin = Some(ends.input()?);
        }
        if wanted.stdout {
            ends.stdout = Some(ends.output(FdRole::Stdout)?);
        }
        if wanted.stderr {
            ends.stderr = Some(ends.output(FdRole::Stderr)?);
        }
        for reader in [&ends.stdout, &ends.stderr].into_iter().flatten() {
            ends.sent.push((FdRole::OutputReader, clone(reader)?));
        }
        Ok(ends)
    }

    fn input(&mut self) -> Result<OwnedFd, PodError> {
        let (read, write) = pipe()?;
        self.sent.push((FdRole::Stdin, read));
        Ok(write)
    }

    fn output(&mut self, role: FdRole) -> Result<OwnedFd, PodError> {
        let (read, write) = pipe()?;
        self.sent.push((role, write));
        Ok(read)
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), PodError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| PodError::io("make a pipe: pipe2(O_CLOEXEC)", error))
}

fn clone(fd: &OwnedFd) -> Result<OwnedFd, PodError> {
    fd.try_clone()
        .map_err(|error| PodError::io("keep a descriptor: fcntl(F_DUPFD_CLOEXEC)", error))
}

/// What a client is connected with.
enum What {
    Exec(String),
    Attach(String),
}

/// A client that is there; dropping it takes leave of the monitor, unless the end has come.
struct Client {
    handle: Arc<PodHandle>,
    monitor: Arc<Link>,
    what: What,
    over: bool,
}

impl Client {
    /// Waits for the end.
    async fn until<T: Send>(
        mut self,
        ended: oneshot::Receiver<T>,
        how: impl FnOnce(T) -> Result<i32, Failure> + Send,
    ) -> Result<i32, Failure> {
        let end = ended.await;
        self.over = true;
        let lost = |_| {
            let text = "the pod's monitor has gone: how the process ended will never be known";
            Failure::new(ErrorKind::Unavailable, text)
        };
        how(end.map_err(lost)?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let request = match &self.what {
            What::Exec(exec) => {
                self.handle.execs().ends.forget(exec);
                Request::HangUp { exec: exec.clone() }
            }
            What::Attach(attach) => {
                self.handle.execs().detachments.forget(attach);
                Request::Detach {
                    attach: attach.clone(),
                }
            }
        };
        // Without a runtime the daemon is on its way out, and its connections end by that.
        if let (false, Ok(runtime)) = (self.over, tokio::runtime::Handle::try_current()) {
            let monitor = Arc::clone(&self.monitor);
            // A monitor that has gone has let go of everything.
            runtime.spawn(async move { drop(monitor.request(request, Vec::new()).await) });
        }
    }
}
