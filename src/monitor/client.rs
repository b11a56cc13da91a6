//! Requests and events over one connection.
//!
//! ```text
//!   request ──▶ waiting[id] ──send──▶ socket          socket ──▶ reader ─┬─ reply ──▶ waiting[id]
//!                                                                        └─ event ──▶ Events
//! ```
//!
//! The reader ends with the connection; then every request under way fails with [`MonitorError::Gone`]
//! and [`Events`] ends. The connection ends with the last [`Monitor`]. A request whose future is dropped
//! goes on in the monitor; its reply is thrown away.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pausa_monitor_protocol::socket::{self, SocketError};
use pausa_monitor_protocol::{
    BIRTHS, ContainerReport, EXTENSIONS, Event, Failure, FailureKind, FromMonitor, HookPlan, OLDEST_PLANS,
    PROTOCOL_VERSION, PodNamespaces, PodPlan, Reply, Request, SOCKET_NAME, ToMonitor, negotiated,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::Instrument as _;

use super::binary::exited;
use super::error::MonitorError;
use crate::async_fd;

/// What a monitor tells unasked, in order. Ends with the connection.
///
/// Not bounded: the reader must never wait for the one who may be waiting for a reply. A monitor sends few
/// events, and each is about something that a request of ours has started.
pub type Events = mpsc::UnboundedReceiver<Event>;

/// The pause between attempts to connect to a monitor whose queue of connections is full.
const BACKLOG_PAUSE: Duration = Duration::from_secs(2);

type Answer = Result<(Reply, Vec<OwnedFd>), Failure>;

/// A pod's monitor: the connection, and the process.
#[derive(Debug)]
pub struct Monitor {
    connection: Arc<Connection>,
    greeting: Greeting,
    /// None where the process was gone before it could be held.
    process: Option<OwnedFd>,
    _reader: Reader,
}

#[derive(Debug)]
struct Greeting {
    /// What both speak; see the protocol's rules.
    version: u32,
    pid: i32,
    containers: Vec<ContainerReport>,
}

#[derive(Debug)]
struct Connection {
    socket: AsyncFd<OwnedFd>,
    last: AtomicU64,
    /// The monitor's process id, once it has greeted.
    pid: AtomicI32,
    /// None once the connection has ended.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
}

/// The task that reads; ended with the last who could be answered.
#[derive(Debug)]
struct Reader(AbortHandle);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connect_once(pod_dir: &Path) -> Result<(Monitor, Events), MonitorError> {
    let failed = |call| {
        let path = pod_dir.join(SOCKET_NAME).display().to_string();
        move |errno: Errno| MonitorError::Connect {
            path,
            call,
            source: errno.into(),
        }
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(pod_dir, flags, Mode::empty()).map_err(failed("open(O_PATH)"))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(failed("socket(AF_UNIX, SOCK_SEQPACKET)"))?;
    // By way of the directory: its own path may be longer than a socket's address can be.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd()))
        .map_err(failed("connect"))?;
    rustix::net::connect(&socket, &address).map_err(failed("connect"))?;
    let (mut monitor, events) = greet(socket, None).await?;
    let pid = Pid::from_raw(monitor.pid());
    monitor.process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    Ok((monitor, events))
}

/// Connects to the monitor of the pod in this directory and greets it. Waits while the monitor lives and does not answer.
///
/// # Errors
/// [`MonitorError::Connect`] if nobody listens. A monitor of any version is understood.
pub async fn connect(pod_dir: PathBuf) -> Result<(Monitor, Events), MonitorError> {
    loop {
        match connect_once(&pod_dir).await {
            Err(MonitorError::Connect { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(BACKLOG_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Begins to talk over a connected, non-blocking socket to the monitor that is this process.
pub(super) async fn greet(
    socket: OwnedFd,
    process: Option<OwnedFd>,
) -> Result<(Monitor, Events), MonitorError> {
    let socket = async_fd::register(socket).map_err(|error| socket_error(0, &error))?;
    let connection = Arc::new(Connection {
        socket,
        last: AtomicU64::new(0),
        pid: AtomicI32::new(0),
        waiting: Mutex::new(Some(HashMap::new())),
    });
    let (sender, events) = mpsc::unbounded_channel();
    let reader = tokio::spawn(read(Arc::clone(&connection), sender));
    let reader = Reader(reader.abort_handle());
    let hello = connection
        .ask(
            0,
            Request::Hello {
                version: PROTOCOL_VERSION,
            },
            &[],
        )
        .await?;
    let Reply::Hello {
        version,
        pid,
        containers,
        ..
    } = hello.0
    else {
        return Err(MonitorError::Unexpected {
            pid: 0,
            request: "Hello",
        });
    };
    connection.pid.store(pid, Ordering::Relaxed);
    let monitor = Monitor {
        connection,
        greeting: Greeting {
            version: negotiated(PROTOCOL_VERSION, version),
            pid,
            containers,
        },
        process,
        _reader: reader,
    };
    Ok((monitor, events))
}

/// What a request with a plan asks for, and the oldest version that can do it; only those depend on the version.
const fn with_plan(request: &Request) -> Option<(&'static str, u32)> {
    match request {
        Request::Unshare(_) | Request::Setup(_) => Some(("make a pod", OLDEST_PLANS)),
        Request::Start(_) => Some(("start a container", OLDEST_PLANS)),
        Request::StartExtended(_) => Some((
            "start a container with hooks, sysctls or scheduling of its own",
            EXTENSIONS,
        )),
        Request::Poststop { .. } => Some(("run hooks", EXTENSIONS)),
        Request::Exec(_) => Some(("run a command", OLDEST_PLANS)),
        Request::Attach(_) => Some(("attach", OLDEST_PLANS)),
        _ => None,
    }
}

fn socket_error(pid: i32, error: &io::Error) -> MonitorError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    MonitorError::Socket {
        pid,
        source: SocketError::Os {
            call: "epoll_ctl",
            errno,
        },
    }
}

impl Monitor {
    pub fn pid(&self) -> i32 {
        self.greeting.pid
    }

    /// Whether it can make an exec's process in another cgroup than the container's.
    pub fn knows_births(&self) -> bool {
        self.greeting.version >= BIRTHS
    }

    /// The containers the monitor held when this connection was made. What came after is in [`Events`].
    pub fn containers(&self) -> &[ContainerReport] {
        &self.greeting.containers
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`MonitorError::Refused`] with the monitor's own words, [`MonitorError::Gone`] if it ends meanwhile.
    pub async fn request(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Reply, MonitorError> {
        self.request_fds(request, &fds).await.map(|(reply, _)| reply)
    }

    /// As [`Self::request`], for the terminal that comes along with the answer, where one does. The caller keeps the
    /// descriptors, to ask again.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_terminal(
        &self,
        request: Request,
        fds: &[OwnedFd],
    ) -> Result<Option<OwnedFd>, MonitorError> {
        let (_, fds) = self.request_fds(request, fds).await?;
        Ok(fds.into_iter().next())
    }

    async fn request_fds(
        &self,
        request: Request,
        fds: &[OwnedFd],
    ) -> Result<(Reply, Vec<OwnedFd>), MonitorError> {
        let version = self.greeting.version;
        if let Some((what, oldest)) = with_plan(&request)
            && version < oldest
        {
            return Err(MonitorError::Version {
                pid: self.pid(),
                what,
                theirs: version,
                oldest,
            });
        }
        let span = tracing::trace_span!("monitor", otel.name = request.name(), pid = self.pid());
        self.connection
            .ask(self.pid(), request, fds)
            .instrument(span)
            .await
    }

    /// Makes the pod's namespaces, after the monitor has joined its cgroup by `tasks`.
    ///
    /// # Errors
    /// As [`Self::request`]; the monitor can then only be shut down.
    pub async fn unshare(&self, namespaces: PodNamespaces, tasks: Vec<OwnedFd>) -> Result<(), MonitorError> {
        let request = Request::Unshare(namespaces);
        self.request_done("Unshare", request, tasks).await
    }

    /// Runs the `poststop` hooks of a container whose own monitor has been lost.
    ///
    /// # Errors
    /// As [`Self::request`]; the reason names the hook.
    pub async fn run_poststop(&self, container: String, hooks: HookPlan) -> Result<(), MonitorError> {
        let hooks = Box::new(hooks);
        self.request_done("Poststop", Request::Poststop { container, hooks }, Vec::new())
            .await
    }

    async fn request_done(
        &self,
        name: &'static str,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<(), MonitorError> {
        match self.request(request, fds).await? {
            Reply::Done => Ok(()),
            _ => Err(MonitorError::Unexpected {
                pid: self.pid(),
                request: name,
            }),
        }
    }

    /// Makes the pod whose directory this is, in its namespaces. The mount namespaces of its processes become copies of `base_mounts`.
    ///
    /// # Errors
    /// As [`Self::request`]; the monitor can then only be shut down.
    pub async fn set_up(
        &self,
        plan: PodPlan,
        pod_dir: &Path,
        base_mounts: &OwnedFd,
        tasks: Vec<OwnedFd>,
    ) -> Result<(), MonitorError> {
        let failed = |call| {
            let pod = plan.pod.clone();
            move |source| MonitorError::Start { pod, call, source }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(pod_dir, flags, Mode::empty())
            .map_err(io::Error::from)
            .map_err(failed("open(pod directory, O_DIRECTORY)"))?;
        let base_mounts = base_mounts
            .try_clone()
            .map_err(failed("fcntl(base mounts, F_DUPFD_CLOEXEC)"))?;
        let fds = [dir, base_mounts].into_iter().chain(tasks).collect();
        self.request_done("Setup", Request::Setup(plan), fds).await
    }

    /// Kills the monitor. Its containers are not killed by that.
    pub fn kill(&self) {
        let killed = self
            .process
            .as_ref()
            .map(|process| pidfd_send_signal(process, Signal::KILL));
        if let Some(Err(errno)) = killed.filter(|result| *result != Err(Errno::SRCH)) {
            let pid = self.pid();
            tracing::error!(pid, %errno, "cannot kill a pod's monitor: pidfd_send_signal(SIGKILL); it is left running");
        }
    }

    /// Whether the monitor's process has ended, so that its number may be given to another one.
    pub fn has_ended(&self) -> bool {
        let Some(process) = &self.process else { return true };
        let mut ended = [PollFd::new(process, PollFlags::IN)];
        !matches!(poll(&mut ended, Some(&Timespec::default())), Ok(0))
    }

    /// Waits until the monitor's process has ended.
    ///
    /// # Errors
    /// Its descriptor cannot be waited for.
    pub async fn exited(&self) -> io::Result<()> {
        match &self.process {
            Some(process) => exited(process.try_clone()?).await.map(drop),
            None => Ok(()),
        }
    }
}

impl Connection {
    async fn ask(
        &self,
        pid: i32,
        request: Request,
        fds: &[OwnedFd],
    ) -> Result<(Reply, Vec<OwnedFd>), MonitorError> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        match self.waiting.lock().as_mut() {
            Some(waiting) => drop(waiting.insert(id, sender)),
            None => return Err(MonitorError::Gone { pid }),
        }
        if let Err(error) = self.send(pid, &ToMonitor { id, request }, fds).await {
            if let Some(waiting) = self.waiting.lock().as_mut() {
                waiting.remove(&id);
            }
            return Err(error);
        }
        match answer.await {
            Ok(answer) => answer.map_err(MonitorError::Refused),
            Err(_) => Err(MonitorError::Gone { pid }),
        }
    }

    /// Fails the request whose reply is of a later version and cannot be read; an event of a later version is ignored.
    fn pass_over(&self, head: &[u8]) {
        let id = FromMonitor::id_of(head);
        tracing::debug!(reply = id, "ignored a message of a monitor of a later version");
        let asker = id.and_then(|id| self.waiting.lock().as_mut()?.remove(&id));
        if let Some(asker) = asker {
            let step =
                format!("the monitor's answer is unknown to version {PROTOCOL_VERSION} of the protocol");
            let kind = FailureKind::Protocol;
            asker.send(Err(Failure { kind, step, errno: 0 })).ok();
        }
    }

    async fn send(&self, pid: i32, message: &ToMonitor, fds: &[OwnedFd]) -> Result<(), MonitorError> {
        loop {
            let mut ready = self
                .socket
                .writable()
                .await
                .map_err(|error| socket_error(pid, &error))?;
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(OwnedFd::as_fd).collect();
            match socket::send(self.socket.as_fd(), message, &fds) {
                Ok(()) => return Ok(()),
                Err(error) if error.would_block() => ready.clear_ready(),
                Err(SocketError::Os {
                    errno: Errno::PIPE | Errno::CONNRESET,
                    ..
                }) => {
                    return Err(MonitorError::Gone { pid });
                }
                Err(source) => return Err(MonitorError::Socket { pid, source }),
            }
        }
    }

    /// The next message that this version knows.
    async fn receive(&self) -> Option<(FromMonitor, Vec<OwnedFd>)> {
        loop {
            let mut ready = self.socket.readable().await.ok()?;
            match socket::receive(self.socket.as_fd()) {
                Ok(message) => return Some(message),
                Err(error) if error.would_block() => ready.clear_ready(),
                // A monitor that is newer may say more than is understood here.
                Err(SocketError::Unknown { head, .. }) => self.pass_over(&head),
                Err(error) => {
                    if !matches!(error, SocketError::Closed) {
                        tracing::warn!(
                            pid = self.pid.load(Ordering::Relaxed),
                            error = crate::error::chain(&error),
                            "cannot read from a pod's monitor: it counts as dead from now on"
                        );
                    }
                    return None;
                }
            }
        }
    }
}

/// Reads until the connection ends.
async fn read(connection: Arc<Connection>, events: mpsc::UnboundedSender<Event>) {
    while let Some((message, fds)) = connection.receive().await {
        match message {
            FromMonitor::Reply { id, result } => {
                let asker = connection
                    .waiting
                    .lock()
                    .as_mut()
                    .and_then(|waiting| waiting.remove(&id));
                if let Some(asker) = asker {
                    // Whoever does not wait any more does not want it.
                    asker.send(result.map(|reply| (reply, fds))).ok();
                }
            }
            // Without anybody listening there is nobody to tell.
            FromMonitor::Event(event) => drop(events.send(event)),
        }
    }
    // Drops the senders: every request under way fails.
    connection.waiting.lock().take();
}
