//! Turns a new process into a monitor: descriptors, session, signals.
//!
//! Done before the first message is read, so that the pod inherits nothing from the daemon.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pausa_container_init::HostNamespaces;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::DumpableBehavior;

use crate::failure::from_nix;

/// Why a process could not become a monitor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    #[error(
        "standard input is not a socket of pausa's monitor protocol; monitors are started by the pausa daemon"
    )]
    NoSocket,
    #[error("cannot become a monitor: {call} failed")]
    Os {
        /// With its arguments.
        call: &'static str,
        #[source]
        errno: Errno,
    },
}

impl BootstrapError {
    /// The exit status, as in sysexits.h.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::NoSocket => 64,
            Self::Os { .. } => 71,
        }
    }

    /// The error with its cause.
    pub(crate) fn chain(&self) -> String {
        match self {
            Self::NoSocket => self.to_string(),
            Self::Os { errno, .. } => format!("{self}: {errno}"),
        }
    }
}

fn os(call: &'static str) -> impl FnOnce(Errno) -> BootstrapError {
    move |errno| BootstrapError::Os { call, errno }
}

/// The host's namespaces, kept open for containers that join them.
#[derive(Debug)]
pub(crate) struct HostNamespaceFds {
    network: OwnedFd,
    ipc: OwnedFd,
    uts: OwnedFd,
    pid: OwnedFd,
    cgroup: OwnedFd,
}

impl HostNamespaceFds {
    fn open() -> Result<Self, BootstrapError> {
        let open = |path| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(Self {
            network: open("/proc/self/ns/net").map_err(os("open(/proc/self/ns/net)"))?,
            ipc: open("/proc/self/ns/ipc").map_err(os("open(/proc/self/ns/ipc)"))?,
            uts: open("/proc/self/ns/uts").map_err(os("open(/proc/self/ns/uts)"))?,
            pid: open("/proc/self/ns/pid").map_err(os("open(/proc/self/ns/pid)"))?,
            cgroup: open("/proc/self/ns/cgroup").map_err(os("open(/proc/self/ns/cgroup)"))?,
        })
    }

    pub(crate) fn borrow(&self) -> HostNamespaces<'_> {
        HostNamespaces {
            network: self.network.as_fd(),
            ipc: self.ipc.as_fd(),
            uts: self.uts.as_fd(),
            pid: self.pid.as_fd(),
            cgroup: self.cgroup.as_fd(),
        }
    }
}

/// What a new monitor starts with.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    /// The connection of the daemon that started it.
    pub(crate) first_connection: OwnedFd,
    /// SIGCHLD and SIGTERM.
    pub(crate) signals: SignalFd,
    pub(crate) host: HostNamespaceFds,
}

/// Allocations of at least this size are returned to the kernel when freed. Among them is the buffer of every received
/// packet, which would otherwise stay for good.
const RETURNED: u32 = 32 * 1024;

pub(crate) fn bootstrap() -> Result<Bootstrap, BootstrapError> {
    let input = std::io::stdin();
    match rustix::net::sockopt::socket_type(&input) {
        Ok(SocketType::SEQPACKET) => {}
        _ => return Err(BootstrapError::NoSocket),
    }
    pausa_sys::return_allocations_from(RETURNED);
    #[expect(unsafe_code, reason = "closes descriptors by number")]
    // SAFETY: by the contract of `run` no value in this process owns a descriptor above 2.
    let closed = unsafe { pausa_sys::close_from(3) };
    closed.map_err(os("close_range(3, ~0)"))?;
    let first_connection =
        rustix::io::fcntl_dupfd_cloexec(&input, 3).map_err(os("fcntl(0, F_DUPFD_CLOEXEC)"))?;
    let flags = rustix::fs::fcntl_getfl(&first_connection).map_err(os("fcntl(F_GETFL)"))?;
    rustix::fs::fcntl_setfl(&first_connection, flags | OFlags::NONBLOCK)
        .map_err(os("fcntl(F_SETFL, O_NONBLOCK)"))?;
    let host = HostNamespaceFds::open()?;
    let signals = block_signals()?;
    leave_session()?;
    // Last, so that earlier errors can be printed to standard error.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(os("open(/dev/null)"))?;
    rustix::stdio::dup2_stdin(&null).map_err(os("dup2(/dev/null, 0)"))?;
    rustix::stdio::dup2_stdout(&null).map_err(os("dup2(/dev/null, 1)"))?;
    rustix::stdio::dup2_stderr(&null).map_err(os("dup2(/dev/null, 2)"))?;
    Ok(Bootstrap {
        first_connection,
        signals,
        host,
    })
}

/// Blocks all signals and makes a descriptor for the two that the monitor handles: SIGCHLD, and SIGTERM of a host that
/// shuts down. Processes of containers get an empty signal mask.
fn block_signals() -> Result<SignalFd, BootstrapError> {
    SigSet::all()
        .thread_block()
        .map_err(from_nix)
        .map_err(os("sigprocmask(SIG_BLOCK, all)"))?;
    let mut read = SigSet::empty();
    read.add(Signal::SIGCHLD);
    read.add(Signal::SIGTERM);
    SignalFd::with_flags(&read, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(from_nix)
        .map_err(os("signalfd(SIGCHLD, SIGTERM)"))
}

/// Makes a session, forbids tracing, becomes the reaper of the pod's orphans, and releases the working directory.
fn leave_session() -> Result<(), BootstrapError> {
    match rustix::process::setsid() {
        // EPERM: the process already leads its process group, as when started from a shell.
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(os("setsid()")(errno)),
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(os("prctl(PR_SET_DUMPABLE, 0)"))?;
    // Only the presence of the argument matters, not which process it names.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(os("prctl(PR_SET_CHILD_SUBREAPER, 1)"))?;
    // A program started from a memfd is named after its descriptor number otherwise.
    rustix::thread::set_name(c"pausa-monitor").map_err(os("prctl(PR_SET_NAME, pausa-monitor)"))?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::chdir("/").map_err(os("chdir(/)"))
}
