//! From a fresh process to a monitor: descriptors, session, signals.
//!
//! Done before the first message is read, so that nothing of the daemon's is inherited by the pod.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pausa_container_init::HostNamespaces;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::DumpableBehavior;

use crate::failure::from_nix;

/// Why a process could not become a monitor. Read by whoever started it by hand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Standard input is something else.
    #[error(
        "standard input is not a socket of pausa's monitor protocol; monitors are started by the pausa daemon"
    )]
    NoSocket,
    /// A system call failed.
    #[error("cannot become a monitor: {call} failed")]
    Os {
        /// The call with its arguments.
        call: &'static str,
        /// errno.
        #[source]
        errno: Errno,
    },
}

impl StartError {
    /// Exit status, as in sysexits.h.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::NoSocket => 64,
            Self::Os { .. } => 71,
        }
    }

    /// The error with what caused it.
    pub(crate) fn chain(&self) -> String {
        match self {
            Self::NoSocket => self.to_string(),
            Self::Os { errno, .. } => format!("{self}: {errno}"),
        }
    }
}

fn os(call: &'static str) -> impl FnOnce(Errno) -> StartError {
    move |errno| StartError::Os { call, errno }
}

/// The host's namespaces, kept open for containers that want them.
#[derive(Debug)]
pub(crate) struct HostFds {
    network: OwnedFd,
    ipc: OwnedFd,
    uts: OwnedFd,
    pid: OwnedFd,
    cgroup: OwnedFd,
}

impl HostFds {
    fn open() -> Result<Self, StartError> {
        let open = |path| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(Self {
            network: open("/proc/self/ns/net").map_err(os("open(/proc/self/ns/net)"))?,
            ipc: open("/proc/self/ns/ipc").map_err(os("open(/proc/self/ns/ipc)"))?,
            uts: open("/proc/self/ns/uts").map_err(os("open(/proc/self/ns/uts)"))?,
            pid: open("/proc/self/ns/pid").map_err(os("open(/proc/self/ns/pid)"))?,
            cgroup: open("/proc/self/ns/cgroup").map_err(os("open(/proc/self/ns/cgroup)"))?,
        })
    }

    /// Lends them.
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

/// A monitor that has not served yet.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The daemon that started it.
    pub(crate) first: OwnedFd,
    /// SIGCHLD and SIGTERM.
    pub(crate) signals: SignalFd,
    /// Where it came from.
    pub(crate) host: HostFds,
}

/// Allocations from this size on go back to the kernel when freed: among them the buffer of every packet
/// received, which would otherwise stay for good.
const RETURNED: u32 = 32 * 1024;

/// Makes this process a monitor.
pub(crate) fn become_monitor() -> Result<Begun, StartError> {
    let input = std::io::stdin();
    match rustix::net::sockopt::socket_type(&input) {
        Ok(SocketType::SEQPACKET) => {}
        _ => return Err(StartError::NoSocket),
    }
    pausa_sys::return_allocations_from(RETURNED);
    #[expect(unsafe_code, reason = "closes descriptors by number")]
    // SAFETY: by the contract of `run` no value in this process owns a descriptor above 2.
    let closed = unsafe { pausa_sys::close_from(3) };
    closed.map_err(os("close_range(3, ~0)"))?;
    let first = rustix::io::fcntl_dupfd_cloexec(&input, 3).map_err(os("fcntl(0, F_DUPFD_CLOEXEC)"))?;
    let flags = rustix::fs::fcntl_getfl(&first).map_err(os("fcntl(F_GETFL)"))?;
    rustix::fs::fcntl_setfl(&first, flags | OFlags::NONBLOCK).map_err(os("fcntl(F_SETFL, O_NONBLOCK)"))?;
    let host = HostFds::open()?;
    let signals = block_signals()?;
    leave_session()?;
    // Last, so that everything before could be said on standard error.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(os("open(/dev/null)"))?;
    rustix::stdio::dup2_stdin(&null).map_err(os("dup2(/dev/null, 0)"))?;
    rustix::stdio::dup2_stdout(&null).map_err(os("dup2(/dev/null, 1)"))?;
    rustix::stdio::dup2_stderr(&null).map_err(os("dup2(/dev/null, 2)"))?;
    Ok(Begun { first, signals, host })
}

/// Blocks every signal and reads the two that matter from a descriptor: the kernel's news of children,
/// and the host's request to end. What the container init starts gets an empty mask.
fn block_signals() -> Result<SignalFd, StartError> {
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

/// A session of its own, nobody's debuggee, heir of the pod's orphans, in nobody's way.
fn leave_session() -> Result<(), StartError> {
    match rustix::process::setsid() {
        // EPERM: it leads its process group already, as when started from a shell.
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(os("setsid()")(errno)),
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(os("prctl(PR_SET_DUMPABLE, 0)"))?;
    // Only whether there is an argument counts, not which process it names.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(os("prctl(PR_SET_CHILD_SUBREAPER, 1)"))?;
    // It may have been started from a descriptor, whose number is a poor name.
    rustix::thread::set_name(c"pausa-monitor").map_err(os("prctl(PR_SET_NAME, pausa-monitor)"))?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::chdir("/").map_err(os("chdir(/)"))
}
