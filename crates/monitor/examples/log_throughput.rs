//! How fast a monitor writes logs, what that costs it, and what it keeps of it.
//!
//! ```sh
//! log_throughput MONITOR [DIRECTORY]
//! ```
//!
//! MONITOR is a `plain-monitor` (a container here is a plain process); the log goes to DIRECTORY, by default
//! the one for temporary files. Writes 200 MB in lines of 100 bytes through one container.

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pausa_monitor_protocol::{
    CapabilitySets, ContainerPlan, Event, FdRole, FromMonitor, IoPlan, LogPlan, Namespace, NamespacePlan,
    PROTOCOL_VERSION, PodNamespaces, PodPlan, ProcessPlan, Propagation, Reply, Request, ToMonitor, socket,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

const LINES: usize = 2_000_000;

type BoxError = Box<dyn Error>;

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("write") => write(),
        Some(monitor) => measure(monitor, arguments.get(2).map(String::as_str), &arguments[0]),
        None => Err("usage: log_throughput MONITOR [DIRECTORY]".into()),
    }
}

/// The container: writes as fast as a program with a buffer does.
fn write() -> Result<(), BoxError> {
    let mut line = [b'x'; 100];
    line[99] = b'\n';
    let block = line.repeat(640);
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    for _ in 0..LINES / 640 {
        out.write_all(&block)?;
    }
    Ok(())
}

fn measure(monitor: &str, directory: Option<&str>, own: &str) -> Result<(), BoxError> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let mut child = Command::new(monitor).stdin(Stdio::from(theirs)).spawn()?;
    let pid = child.id();
    let mut daemon = Daemon {
        socket: ours,
        last: 0,
    };
    daemon.ask(
        Request::Hello {
            version: PROTOCOL_VERSION,
        },
        &[],
    )?;
    let pod = tempfile::tempdir()?;
    // Its processes are plain ones, which stay in this mount namespace.
    let mounts = File::open("/proc/self/ns/mnt")?;
    daemon.ask(Request::Unshare(PodNamespaces::default()), &[])?;
    daemon.ask(
        Request::Setup(plan_of_pod()),
        &[File::open(pod.path())?.as_fd(), mounts.as_fd()],
    )?;
    println!("memory before: {}", memory(pid)?);
    let log = match directory {
        Some(directory) => tempfile::tempfile_in(directory)?,
        None => tempfile::tempfile()?,
    };
    let before = cpu(pid)?;
    let begin = Instant::now();
    let own = std::fs::canonicalize(own)?;
    daemon.ask(
        Request::Start(Box::new(container(&own.to_string_lossy()))),
        &[log.as_fd()],
    )?;
    daemon.wait_for_exit()?;
    let seconds = begin.elapsed().as_secs_f64();
    let used = cpu(pid)?.saturating_sub(before);
    let megabytes = (LINES * 100) as f64 / 1e6;
    println!(
        "{megabytes} MB in {seconds:.3} s: {:.0} MB/s; the monitor's CPU time {used:?}",
        megabytes / seconds
    );
    println!("log: {} bytes", log.metadata()?.len());
    std::thread::sleep(Duration::from_millis(200));
    println!("memory after: {}", memory(pid)?);
    daemon.ask(Request::Shutdown, &[])?;
    child.wait()?;
    Ok(())
}

/// CPU time of a process with all of its threads, in ticks of 10 ms.
fn cpu(pid: u32) -> Result<Duration, BoxError> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit(')').next().ok_or("empty stat")?;
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}

fn memory(pid: u32) -> Result<String, BoxError> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let wanted = |line: &&str| line.starts_with("Pss:") || line.starts_with("Private_Dirty:");
    let words = text
        .lines()
        .filter(wanted)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    Ok(words.collect::<Vec<_>>().join(", "))
}

struct Daemon {
    socket: OwnedFd,
    last: u64,
}

impl Daemon {
    fn ask(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<Reply, BoxError> {
        self.last += 1;
        socket::send(
            self.socket.as_fd(),
            &ToMonitor {
                id: self.last,
                request,
            },
            fds,
        )?;
        loop {
            if let FromMonitor::Reply { result, .. } = socket::receive(self.socket.as_fd())?.0 {
                return Ok(result?);
            }
        }
    }

    fn wait_for_exit(&self) -> Result<(), BoxError> {
        loop {
            if let FromMonitor::Event(Event::Exited { .. }) = socket::receive(self.socket.as_fd())?.0 {
                return Ok(());
            }
        }
    }
}

fn plan_of_pod() -> PodPlan {
    PodPlan {
        pod: "measured".to_owned(),
        hostname: None,
        shared_pid: false,
        oom_score_adj: 0,
    }
}

fn container(program: &str) -> ContainerPlan {
    ContainerPlan {
        id: "measured".to_owned(),
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
        mounts: Vec::new(),
        devices: Vec::new(),
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        io: IoPlan::default(),
        log: Some(LogPlan { max_line: 16384 }),
        process: ProcessPlan {
            args: vec![program.as_bytes().to_vec(), b"write".to_vec()],
            env: Vec::new(),
            cwd: b"/".to_vec(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            umask: 0o022,
            capabilities: CapabilitySets::default(),
            no_new_privs: false,
            seccomp: None,
            rlimits: Vec::new(),
            oom_score_adj: None,
            apparmor: None,
            selinux: None,
            terminal: false,
            terminal_size: None,
        },
    }
}
