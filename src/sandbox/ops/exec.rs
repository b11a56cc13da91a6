//! ExecSync, Exec and Attach: processes in a running container whose streams are descriptors.
//!
//! ```text
//!   daemon                                        monitor                     process
//!     │ pipes, or a terminal asked for ─────────▶ │ the process's ends ─────▶ │
//!     │ ◀──────────────── master of the terminal  │                           │
//!     │ ◀═════════════════ the data (exec: past the monitor) ═══════════════▶ │
//!     │ ◀──────────────── ExecExited, Detached    │ ◀──────────────── its end │
//!     │ client gone: KillExec, HangUp, Detach ──▶ │
//! ```
//!
//! They change nothing of the pod, so they do not go through its actor: what is published says whether the container
//! runs, and the monitor has the last word. Only after a restart of the daemon they wait until the monitor was greeted.
//!
//! No byte of an exec goes through the monitor; of an attach each does, since the log gets it as well. Should the daemon
//! die, the monitor reads the output of what was exec'd, so that it goes on; the client has gone with the daemon.
//!
//! ExecSync: output beyond the limit is read and dropped, so that the command goes on. When the command ends while a child
//! of it keeps the output open, that child is waited for a moment only. When nobody waits any more, or time is up, the
//! command and all that came of it are killed.

mod output;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use pausa_monitor_protocol::{AttachPlan, Detachment, ExecPlan, FdRole, ProcessPlan, Request};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::output::Stream;
use super::cgroup::Birth;
use super::confine::ensure_profile;
use super::create_container::{device_rules, read_spec};
use crate::container::{ContainerRecord, RunState};
use crate::error::{ErrorKind, Failure};
use crate::id::Id;
use crate::monitor::{Monitor, MonitorError};
use crate::oci;
use crate::proto::v1;
use crate::require;
use crate::sandbox::Pods;
use crate::sandbox::error::PodError;
use crate::sandbox::handle::PodHandle;
use crate::sandbox::lifecycle::refused;
use crate::sandbox::services::Services;
use crate::streaming::ticket::{Session, SessionTicket, Streams, TerminalSize, Ticket};
use crate::telemetry::metrics;

/// How long the monitor may take to kill a command. It gives up after 5 s itself and says what is left: this is for one
/// that does not answer.
const KILL_PATIENCE: Duration = Duration::from_secs(8);

/// How far a client may fall behind a container's output before it is detached, in bytes. This is memory of the pod's.
/// The second size is what the kernel grants without asking (`fs.pipe-max-size`).
const ATTACH_BUFFER: [usize; 2] = [4 * 1024 * 1024, 1024 * 1024];

impl Pods {
    /// Runs a command in a container and waits for it; a `timeout` of zero waits as long as it takes. A command that fails
    /// is an answer with its exit code.
    ///
    /// # Errors
    /// The container is not running, the command cannot be started; DeadlineExceeded if it did not end in time and was
    /// killed, which is what kubelet counts as a failed probe.
    pub async fn exec_sync(&self, request: v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        check_command(&request.cmd)?;
        let timeout = u64::try_from(request.timeout).map_err(|_| {
            require::invalid(format!(
                "the field timeout is {} seconds; 0 waits without limit, less makes no sense",
                request.timeout
            ))
        })?;
        let target = self.running(&request.container_id).await?;
        let timeout = Some(Duration::from_secs(timeout)).filter(|timeout| !timeout.is_zero());
        let exec = target.exec_sync(request.cmd, timeout);
        Ok(metrics::operation("ExecSync", exec).await?)
    }

    /// A URL at which one client can run a command in a container.
    ///
    /// # Errors
    /// The container is not running, or too many URLs are unused.
    pub async fn exec(&self, request: v1::ExecRequest) -> Result<v1::ExecResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        check_command(&request.cmd)?;
        let streams = Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        let (command, tty) = (request.cmd, request.tty);
        let ticket = self.ticket(&request.container_id, streams, tty, move |target, size| {
            target.exec(command, streams, tty, size)
        });
        let ticket = ticket.await?;
        let url = self.services.streaming.url(Ticket::Exec(ticket))?;
        Ok(v1::ExecResponse { url })
    }

    /// A URL at which one client can join the streams of a container's first process.
    ///
    /// # Errors
    /// As [`Pods::exec`].
    pub async fn attach(&self, request: &v1::AttachRequest) -> Result<v1::AttachResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        let streams = Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        let ticket = self.ticket(&request.container_id, streams, request.tty, move |target, _| {
            target.attach(streams)
        });
        let ticket = ticket.await?;
        let url = self.services.streaming.url(Ticket::Attach(ticket))?;
        Ok(v1::AttachResponse { url })
    }

    /// A ticket for a session in a container, which must run now and still when its client comes.
    async fn ticket<F>(
        &self,
        container: &str,
        streams: Streams,
        tty: bool,
        begin: impl FnOnce(Target, Option<TerminalSize>) -> F + Send + 'static,
    ) -> Result<SessionTicket, Failure>
    where
        F: Future<Output = Result<Session, PodError>> + Send,
    {
        check_streams(streams, tty)?;
        let target = self.running(container).await?;
        let (pods, id) = (self.clone(), target.record.id.clone());
        Ok(SessionTicket {
            pod: target.pod.id.clone(),
            container: id.clone(),
            streams,
            tty,
            begin: Box::new(move |size| {
                Box::pin(async move { Ok(begin(pods.running(id.as_str()).await?, size).await?) })
            }),
        })
    }

    /// A running container, by id or unique prefix, and its pod.
    async fn running(&self, id: &str) -> Result<Target, PodError> {
        let (id, pod) = self.registry.container(id)?;
        pod.greeted().await?;
        let record = pod.view().and_then(|view| view.containers.get(&id).cloned());
        let Some(record) = record else {
            return Err(not_running(&id));
        };
        match record.run {
            RunState::Running { .. } => Ok(Target {
                monitor: pod.reachable_monitor("run a command or attach")?,
                services: self.services.clone(),
                pod,
                record,
            }),
            RunState::Created | RunState::Exited(_) => Err(not_running(&id)),
        }
    }
}

fn not_running(id: &Id) -> PodError {
    refused(
        id,
        "not running",
        "only a running container has processes to exec into or attach to",
    )
}

fn check_command(command: &[String]) -> Result<(), Failure> {
    require::text("cmd", command.first().map_or("", String::as_str))?;
    if command.iter().any(|argument| argument.contains('\0')) {
        let problem = "has a NUL byte, which no argument can hold".into();
        return Err(PodError::Invalid {
            field: "cmd",
            problem,
        }
        .into());
    }
    Ok(())
}

/// Whether these streams can be had together.
fn check_streams(wanted: Streams, tty: bool) -> Result<(), Failure> {
    if tty && wanted.stderr {
        // A terminal has one output.
        return Err(require::invalid("tty and stderr cannot both be true"));
    }
    if wanted == Streams::default() {
        return Err(require::invalid("one of stdin, stdout and stderr must be set"));
    }
    Ok(())
}

/// A running container that something is to be done in.
struct Target {
    services: Arc<Services>,
    pod: Arc<PodHandle>,
    record: Arc<ContainerRecord>,
    monitor: Arc<Monitor>,
}

impl Target {
    async fn exec_sync(
        self,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<v1::ExecSyncResponse, PodError> {
        let process = self.process(command).await?;
        let (stdout, out) = Stream::open()?;
        let (stderr, err) = Stream::open()?;
        let id = Id::random().to_string();
        let exited = self.pod.execs().exits.expect(id.clone());
        let mut attachment = self.attachment(Kind::ExecSync, id.clone());
        let plan = ExecPlan {
            id,
            container: self.record.id.to_string(),
            fds: vec![FdRole::Stdout, FdRole::Stderr],
            process,
        };
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // It may hang before the command runs, too: in a working directory on a dead volume, say.
        let started = self.start(plan, vec![out, err]);
        match within(deadline, started).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                attachment.over = true;
                return Err(error);
            }
            None => return Err(attachment.time_out(&self.record, timeout).await),
        }
        let exit = match within(deadline, exited).await {
            Some(exit) => exit.map_err(|_| self.monitor_lost())?,
            None => return Err(attachment.time_out(&self.record, timeout).await),
        };
        attachment.over = true;
        let drain = self.services.settings().exec_drain;
        let (mut stdout, mut stderr) = tokio::join!(stdout.finish(drain), stderr.finish(drain));
        let dropped = output::fit(&mut stdout, &mut stderr);
        if dropped > 0 {
            tracing::warn!(
                container = self.record.id.short(),
                dropped,
                "the output of a command is larger than an answer, or what all running commands share: its end was left out"
            );
        }
        Ok(v1::ExecSyncResponse {
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            exit_code: exit.code,
        })
    }

    /// Starts a command, and gives its streams once it runs.
    async fn exec(
        self,
        command: Vec<String>,
        wanted: Streams,
        tty: bool,
        size: Option<TerminalSize>,
    ) -> Result<Session, PodError> {
        let mut process = self.process(command).await?;
        let mut ends = Ends::default();
        if tty {
            process.terminal = true;
            process.terminal_size = size.map(|size| (size.height, size.width));
            oci::add_term(&mut process.env);
        } else {
            ends.for_exec(wanted)?;
        }
        let id = Id::random().to_string();
        let exited = self.pod.execs().exits.expect(id.clone());
        let attachment = self.attachment(Kind::Exec, id.clone());
        let plan = ExecPlan {
            id,
            container: self.record.id.to_string(),
            fds: ends.roles(),
            process,
        };
        let exit = Box::pin(attachment.until(exited, |exit| Ok(exit.code)));
        let sent = ends.take_sent();
        let terminal = self.start(plan, sent).await?;
        ends.session(terminal, wanted, exit)
    }

    /// Has the monitor start a command; gives its terminal, if it has one.
    ///
    /// A container or pod that is at its limit of pids accepts no new process, but does accept one that exists already. So
    /// the process is then made in a cgroup of its own and moved: see `docs/design/0011-exec-at-the-pids-limit.md`.
    async fn start(&self, mut plan: ExecPlan, mut fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>, PodError> {
        let request = Request::Exec(Box::new(plan.clone()));
        let started = self.monitor.request_terminal(request, &fds).await;
        let at_the_limit = matches!(&started, Err(MonitorError::Refused(failure))
            if failure.errno == Errno::AGAIN.raw_os_error());
        let started = if at_the_limit && self.monitor.knows_births() {
            let devices = device_rules(&read_spec(&self.services, &self.record)?);
            let birth = Birth::make(&self.services, &self.pod.id, plan.id.clone(), devices).await?;
            fds.extend(birth.fds()?);
            plan.fds.resize(fds.len(), FdRole::Birth);
            let request = Request::Exec(Box::new(plan));
            self.monitor.request_terminal(request, &fds).await
        } else {
            started
        };
        started.map_err(|error| PodError::failed("run the command", error))
    }

    /// Joins the streams of the container's first process.
    async fn attach(self, wanted: Streams) -> Result<Session, PodError> {
        let config = &self.record.config;
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
            let _ = ATTACH_BUFFER
                .into_iter()
                .any(|size| fcntl_setpipe_size(pipe, size).is_ok());
        }
        let id = Id::random().to_string();
        let detached = self.pod.execs().detachments.expect(id.clone());
        let attachment = self.attachment(Kind::Attach, id.clone());
        let plan = AttachPlan {
            id,
            container: self.record.id.to_string(),
            fds: ends.roles(),
        };
        let exit = Box::pin(attachment.until(detached, why_detached));
        let request = Request::Attach(Box::new(plan));
        let wanted = Streams {
            stdin: types,
            ..wanted
        };
        let sent = ends.take_sent();
        let terminal = self.monitor.request_terminal(request, &sent).await;
        let terminal = terminal.map_err(|error| PodError::failed("attach", error))?;
        ends.session(terminal, wanted, exit)
    }

    /// The container's own process with another command.
    async fn process(&self, command: Vec<String>) -> Result<ProcessPlan, PodError> {
        let execs = self.pod.execs();
        let first = match execs.process(&self.record.id) {
            Some(known) => known,
            None => {
                // An earlier daemon has started the container.
                let spec = read_spec(&self.services, &self.record)?;
                let plan = oci::exec_process(&spec, &self.services.seccomp);
                let plan = Arc::new(plan.map_err(|error| PodError::failed("plan the command", error))?);
                execs.remember(self.record.id.clone(), Arc::clone(&plan));
                plan
            }
        };
        ensure_profile(&self.services, &first).await?;
        let mut process = ProcessPlan::clone(&first);
        process.oom_score_adj = self.record.oom_score_adj();
        process.args = command.into_iter().map(String::into_bytes).collect();
        process.terminal = false;
        process.terminal_size = None;
        Ok(process)
    }

    fn attachment(&self, kind: Kind, id: String) -> Attachment {
        Attachment {
            pod: Arc::clone(&self.pod),
            monitor: Arc::clone(&self.monitor),
            kind,
            id,
            over: false,
        }
    }

    fn monitor_lost(&self) -> PodError {
        PodError::MonitorLost {
            container: self.record.id.short().to_owned(),
        }
    }
}

/// What comes until the deadline; without one, whenever it comes.
async fn within<T>(deadline: Option<Instant>, what: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, what).await.ok(),
        None => Some(what.await),
    }
}

/// What the end of an attachment means to its client.
fn why_detached(why: Detachment) -> Result<i32, Failure> {
    match why {
        Detachment::Exited(exit) => Ok(exit.code),
        Detachment::TooSlow => Err(Failure::new(
            ErrorKind::ResourceExhausted,
            "the client did not keep up with the container's output and was detached; all of it is in the log",
        )),
        Detachment::Left => Err(Failure::new(
            ErrorKind::Unavailable,
            "nobody reads the container's output here any more",
        )),
    }
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
    /// Pipes for a command. The monitor gets the reading ends as well, for when the daemon dies.
    fn for_exec(&mut self, wanted: Streams) -> Result<(), PodError> {
        if wanted.stdin {
            self.stdin = Some(self.input()?);
        }
        if wanted.stdout {
            self.stdout = Some(self.output(FdRole::Stdout)?);
        }
        if wanted.stderr {
            self.stderr = Some(self.output(FdRole::Stderr)?);
        }
        for reader in [&self.stdout, &self.stderr].into_iter().flatten() {
            self.sent.push((FdRole::OutputReader, clone(reader)?));
        }
        Ok(())
    }

    /// What the monitor gets.
    fn take_sent(&mut self) -> Vec<OwnedFd> {
        self.sent.drain(..).map(|(_, fd)| fd).collect()
    }

    /// The client's session. A terminal is the end of each wanted stream that has no pipe.
    fn session(
        self,
        terminal: Option<OwnedFd>,
        wanted: Streams,
        exit: BoxFuture<'static, Result<i32, Failure>>,
    ) -> Result<Session, PodError> {
        let end = |pipe: Option<OwnedFd>, wanted: bool| match &terminal {
            Some(master) if wanted && pipe.is_none() => clone(master).map(Some),
            _ => Ok(pipe),
        };
        Ok(Session {
            stdin: end(self.stdin, wanted.stdin)?,
            stdout: end(self.stdout, wanted.stdout)?,
            stderr: self.stderr,
            terminal,
            exit,
        })
    }

    /// What the monitor gets them as.
    fn roles(&self) -> Vec<FdRole> {
        self.sent.iter().map(|(role, _)| *role).collect()
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

/// What the monitor does for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ExecSync,
    Exec,
    Attach,
}

/// A client's process or attachment in the monitor. When it is dropped before its end, the client has gone: a command of
/// ExecSync is killed with all that came of it, one of Exec loses its streams, an attachment ends.
struct Attachment {
    pod: Arc<PodHandle>,
    monitor: Arc<Monitor>,
    kind: Kind,
    id: String,
    over: bool,
}

impl Attachment {
    /// Waits for the end and makes an exit code of it.
    async fn until<T: Send>(
        mut self,
        ended: oneshot::Receiver<T>,
        how: impl FnOnce(T) -> Result<i32, Failure> + Send,
    ) -> Result<i32, Failure> {
        let end = ended.await;
        self.over = true;
        let lost = |_| {
            let text = "the pod's monitor died: how the process ended will never be known";
            Failure::new(ErrorKind::Unavailable, text)
        };
        how(end.map_err(lost)?)
    }

    /// Kills a command whose time is up.
    async fn time_out(&mut self, record: &ContainerRecord, timeout: Option<Duration>) -> PodError {
        let request = Request::KillExec {
            exec: self.id.clone(),
        };
        let killed = tokio::time::timeout(KILL_PATIENCE, self.monitor.request(request, Vec::new())).await;
        self.over = matches!(killed, Ok(Ok(_)));
        let detail = match killed {
            Ok(Ok(_)) => "it and all processes it started were killed".to_owned(),
            Ok(Err(error)) => format!("it cannot be killed: {}", crate::error::chain(&error)),
            Err(_) => format!(
                "the pod's monitor did not say within {} s whether it is killed: it may still run",
                KILL_PATIENCE.as_secs()
            ),
        };
        PodError::TimedOut {
            what: format!("the command in container {}", record.id.short()),
            seconds: timeout.unwrap_or_default().as_secs(),
            detail,
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let execs = self.pod.execs();
        let id = std::mem::take(&mut self.id);
        let request = match self.kind {
            Kind::ExecSync | Kind::Exec => {
                execs.exits.cancel(&id);
                match self.kind {
                    Kind::ExecSync => Request::KillExec { exec: id },
                    _ => Request::HangUp { exec: id },
                }
            }
            Kind::Attach => {
                execs.detachments.cancel(&id);
                Request::Detach { attach: id }
            }
        };
        // Without a runtime the daemon is stopping, which ends its connections.
        if let (false, Ok(runtime)) = (self.over, tokio::runtime::Handle::try_current()) {
            let monitor = Arc::clone(&self.monitor);
            // A monitor that has died has let go of everything.
            runtime.spawn(async move { drop(monitor.request(request, Vec::new()).await) });
        }
    }
}
