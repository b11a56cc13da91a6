//! A monitor process with a pod's directory, and a daemon's end of its socket.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pausa_monitor_protocol::{
    CapabilitySets, ContainerPlan, Event, ExecPlan, ExitStatus, Failure, FdRole, FromMonitor, IoPlan,
    LogPlan, MountPlan, Namespace, NamespacePlan, PROTOCOL_VERSION, PodNamespaces, PodPlan, ProcessPlan,
    Propagation, Reply, Request, SOCKET_NAME, ToMonitor, socket,
};
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// How long a test waits for the monitor. A bound on hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) process: Child,
    pub(crate) daemon: Daemon,
}

/// A connection to a monitor.
pub(crate) struct Daemon {
    socket: OwnedFd,
    next: u64,
    events: VecDeque<Event>,
    pub(crate) received: Vec<OwnedFd>,
}

/// Waits until `holds`, for half a minute at most.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < PATIENCE,
            "did not happen in {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Rig {
    /// A monitor process of this program, connected.
    pub(crate) fn bare(program: &str) -> Self {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let process = Command::new(program).stdin(Stdio::from(theirs)).spawn().unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            process,
            daemon: Daemon::new(ours),
        }
    }

    /// A monitor of plain processes with a pod that is set up.
    pub(crate) fn new(plan: &PodPlan) -> Self {
        let mut rig = Self::bare(env!("CARGO_BIN_EXE_plain-monitor"));
        rig.daemon.hello();
        rig.set_up(&PodNamespaces::default(), plan).unwrap();
        rig
    }

    /// Sets up a pod of which nothing has been made yet. Without root its processes cannot have mounts of their own.
    pub(crate) fn set_up(&mut self, namespaces: &PodNamespaces, plan: &PodPlan) -> Result<Reply, Failure> {
        self.daemon.ask(Request::Unshare(namespaces.clone()))?;
        let dir = File::open(self.dir.path()).unwrap();
        let mounts = match rustix::process::geteuid().is_root() {
            true => pausa_sys::base_mounts().unwrap(),
            false => File::open("/proc/self/ns/mnt").unwrap().into(),
        };
        self.daemon
            .ask_with(Request::Setup(plan.clone()), &[dir.as_fd(), mounts.as_fd()])
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.path().join("0.log")
    }

    /// Starts `sh -c script` with its log in [`Self::log`].
    pub(crate) fn start(&mut self, id: &str, script: &str) -> i32 {
        let log = open_log(&self.log());
        self.daemon.start(&container(id, script), &[log.as_fd()]).unwrap()
    }

    /// Tag and content of the log's entries, with their streams.
    pub(crate) fn entries(&self) -> Vec<String> {
        entries(&self.log())
    }

    pub(crate) fn connect(&self) -> Daemon {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let address = SocketAddrUnix::new(self.dir.path().join(SOCKET_NAME)).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        Daemon::new(socket)
    }

    pub(crate) fn shut_down(mut self) {
        assert_eq!(self.daemon.ask(Request::Shutdown).unwrap(), Reply::Done);
        assert!(self.process.wait().unwrap().success());
        assert!(!self.dir.path().join(SOCKET_NAME).exists());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Only a failed test has not waited for the process.
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}

pub(crate) fn open_log(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}

pub(crate) fn entries(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line[31..].to_owned()).collect()
}

impl Daemon {
    fn new(socket: OwnedFd) -> Self {
        rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).unwrap();
        Self {
            socket,
            next: 0,
            events: VecDeque::new(),
            received: Vec::new(),
        }
    }

    /// Ends the connection as a daemon's death would.
    pub(crate) fn hang_up(&mut self) {
        let (unused, _) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        self.socket = unused;
    }

    pub(crate) fn hello(&mut self) -> Reply {
        self.ask(Request::Hello {
            version: PROTOCOL_VERSION,
        })
        .unwrap()
    }

    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        self.ask_with(request, &[])
    }

    pub(crate) fn send(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> u64 {
        self.next += 1;
        socket::send(
            self.socket.as_fd(),
            &ToMonitor {
                id: self.next,
                request,
            },
            fds,
        )
        .unwrap();
        self.next
    }

    /// Sends bytes in place of a request.
    pub(crate) fn ask_raw(&mut self, request: &[u8]) -> Result<Reply, Failure> {
        self.next += 1;
        let id = u8::try_from(self.next).unwrap();
        assert!(id < 0x80, "fits into one byte");
        let packet = [&[0, id], request].concat();
        rustix::net::send(&self.socket, &packet, rustix::net::SendFlags::NOSIGNAL).unwrap();
        self.reply(self.next)
    }

    pub(crate) fn ask_with(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<Reply, Failure> {
        let asked = self.send(request, fds);
        self.reply(asked)
    }

    pub(crate) fn reply(&mut self, asked: u64) -> Result<Reply, Failure> {
        loop {
            match self.receive() {
                FromMonitor::Reply { id, result } if id == asked => return result,
                FromMonitor::Reply { id, .. } => panic!("a reply to {id}, which was not awaited"),
                FromMonitor::Event(event) => self.events.push_back(event),
            }
        }
    }

    /// The reply to this request. Earlier replies to others are dropped.
    pub(crate) fn reply_among(&mut self, asked: u64) -> Result<Reply, Failure> {
        loop {
            match self.receive() {
                FromMonitor::Reply { id, result } if id == asked => return result,
                FromMonitor::Reply { .. } => {}
                FromMonitor::Event(event) => self.events.push_back(event),
            }
        }
    }

    /// Receives all replies to earlier requests that are ready.
    pub(crate) fn settle(&mut self) {
        let asked = self.send(
            Request::Hello {
                version: PROTOCOL_VERSION,
            },
            &[],
        );
        self.reply_among(asked).unwrap();
    }

    fn receive(&mut self) -> FromMonitor {
        let (message, fds) = socket::receive(self.socket.as_fd()).unwrap();
        self.received = fds;
        message
    }

    pub(crate) fn event(&mut self) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match self.receive() {
            FromMonitor::Event(event) => event,
            FromMonitor::Reply { id, .. } => panic!("a reply to {id}, which was not awaited"),
        }
    }

    pub(crate) fn exit(&mut self, id: &str) -> ExitStatus {
        loop {
            match self.event() {
                Event::Exited { container, exit } if container == id => return exit,
                // Requested by another connection.
                Event::Started { .. } => {}
                other => panic!("{other:?} instead of the exit of {id}"),
            }
        }
    }

    pub(crate) fn start(&mut self, plan: &ContainerPlan, fds: &[BorrowedFd<'_>]) -> Result<i32, Failure> {
        match self.ask_with(Request::Start(Box::new(plan.clone())), fds)? {
            Reply::Started { pid, .. } => Ok(pid),
            other => panic!("{other:?} instead of Started"),
        }
    }
}

pub(crate) fn pod() -> PodPlan {
    PodPlan {
        pod: "pod".to_owned(),
        hostname: None,
        shared_pid: false,
        oom_score_adj: 0,
    }
}

/// A container that runs a script, with a log.
pub(crate) fn container(id: &str, script: &str) -> ContainerPlan {
    ContainerPlan {
        id: id.to_owned(),
        fds: vec![FdRole::Log],
        namespaces: NamespacePlan {
            pid: Namespace::Host,
            ipc: Namespace::Pod,
            network: Namespace::Pod,
            uts: Namespace::Pod,
            cgroup: Namespace::Host,
        },
        root_propagation: Propagation::Private,
        root_readonly: false,
        mounts: Vec::<MountPlan>::new(),
        devices: Vec::new(),
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        io: IoPlan::default(),
        log: Some(LogPlan { max_line: 16384 }),
        process: process(script),
    }
}

pub(crate) fn exec(id: &str, container: &str, script: &str) -> ExecPlan {
    ExecPlan {
        id: id.to_owned(),
        container: container.to_owned(),
        fds: vec![FdRole::Stdout],
        process: process(script),
    }
}

fn process(script: &str) -> ProcessPlan {
    let all = CapabilitySets {
        bounding: u64::MAX,
        effective: u64::MAX,
        permitted: u64::MAX,
        ..CapabilitySets::default()
    };
    ProcessPlan {
        args: vec![b"/bin/sh".to_vec(), b"-c".to_vec(), script.as_bytes().to_vec()],
        env: vec![b"PATH=/usr/bin:/bin".to_vec()],
        cwd: b"/".to_vec(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        groups: Vec::new(),
        umask: 0o022,
        capabilities: all,
        no_new_privs: false,
        seccomp: None,
        rlimits: Vec::new(),
        oom_score_adj: None,
        apparmor: None,
        selinux: None,
        terminal: false,
        terminal_size: None,
    }
}
