//! The pod: its set-up, which happens once and before any container, and what the monitor holds of it.
//!
//! Order matters. Namespaces come first, then sysctls in them, both on a request of their own. The pause process comes after
//! that, so that it is in all of them, and the socket last, so that a daemon that connects finds a complete pod. In a pod with
//! a user namespace the first two steps are done by a child that is root there, and the monitor joins the namespaces: see
//! [`userns`].

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use pausa_monitor_protocol::{EXITS_DIR, Failure, FailureKind, PodNamespaces, PodPlan, SOCKET_NAME};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::failure::{failure, internal};
use crate::pause::{self, Pause};
use crate::userns::{self, UserNamespace};

/// Whether the pod is set up.
#[derive(Debug)]
pub(crate) enum Setup {
    NotDone,
    /// The monitor is in the pod's namespaces.
    Unshared(Option<UserNamespace>),
    /// Something of the pod may exist already, so that it cannot be tried again.
    Failed,
    Done(Pod),
}

/// A pod that is set up.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) dir: OwnedFd,
    /// The mount namespace that those of the pod's processes are copies of ([`pausa_sys::base_mounts`]).
    pub(crate) base_mounts: OwnedFd,
    /// The directory of exit records in `dir`.
    pub(crate) exits: OwnedFd,
    /// The socket for daemons.
    pub(crate) listener: OwnedFd,
    /// The pause process, if the pod shares its PID namespace and the process lives.
    pub(crate) pause: Option<Pause>,
    pub(crate) userns: Option<UserNamespace>,
}

impl Setup {
    pub(crate) fn pod(&self) -> Result<&Pod, Failure> {
        match self {
            Self::Done(pod) => Ok(pod),
            Self::NotDone | Self::Unshared(_) => {
                Err(failure(FailureKind::State, "the pod is not set up yet"))
            }
            Self::Failed => Err(failure(FailureKind::State, "the pod's setup has failed")),
        }
    }

    pub(crate) fn pause(&self) -> Option<&Pause> {
        self.pod().ok()?.pause.as_ref()
    }

    /// Forgets the pause process if it is the one that has ended.
    pub(crate) fn pause_ended(&mut self, pid: i32) -> bool {
        match self {
            Self::Done(pod) => pod.pause.take_if(|pause| pause.pid == pid).is_some(),
            Self::NotDone | Self::Unshared(_) | Self::Failed => false,
        }
    }
}

impl Pod {
    /// Sets up a pod in this directory and in the namespaces that [`unshare`] has made.
    ///
    /// # Errors
    /// The step that failed. What was made until then ends with this process.
    pub(crate) fn set_up(
        plan: &PodPlan,
        userns: Option<UserNamespace>,
        dir: OwnedFd,
        base_mounts: OwnedFd,
    ) -> Result<Self, Failure> {
        let exits = exits_directory(&dir)?;
        if let Some(hostname) = &plan.hostname {
            rustix::system::sethostname(hostname.as_bytes())
                .map_err(internal(format!("set the hostname: sethostname({hostname:?})")))?;
        }
        adjust_oom_score(plan.oom_score_adj)?;
        let pause = match plan.shared_pid {
            true => Some(pause::start(userns.as_ref(), base_mounts.as_fd())?),
            false => None,
        };
        let listener = listen(&dir)?;
        Ok(Self {
            dir,
            base_mounts,
            exits,
            listener,
            pause,
            userns,
        })
    }
}

/// Makes the pod's namespaces and joins them. Returns the user namespace, if the pod has one.
///
/// # Errors
/// The step that failed. What was made until then ends with this process.
pub(crate) fn unshare(namespaces: &PodNamespaces) -> Result<Option<UserNamespace>, Failure> {
    let userns = namespaces.users.map(UserNamespace::make).transpose()?;
    match &userns {
        None => make_namespaces(namespaces)?,
        Some(userns) => userns::make_inside(userns, namespaces, make_namespaces)?,
    }
    Ok(userns)
}

/// Makes the namespaces and sets loopback and sysctls in them.
fn make_namespaces(namespaces: &PodNamespaces) -> Result<(), Failure> {
    let PodNamespaces {
        network, ipc, uts, ..
    } = *namespaces;
    pausa_sys::unshare_pod(network, ipc, uts).map_err(internal(format!(
        "make the pod's namespaces: unshare(network: {network}, ipc: {ipc}, uts: {uts})"
    )))?;
    if network {
        pausa_sys::loopback_up().map_err(internal("set lo up: ioctl(SIOCSIFFLAGS, lo, IFF_UP)"))?;
    }
    crate::sysctl::write_all(&namespaces.sysctls)
}

fn exits_directory(dir: &OwnedFd) -> Result<OwnedFd, Failure> {
    match rustix::fs::mkdirat(dir, EXITS_DIR, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(internal("make the pod's directory: mkdirat(exits, 0700)")(errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, EXITS_DIR, flags, Mode::empty())
        .map_err(internal("make the pod's directory: openat(exits, O_DIRECTORY)"))
}

/// Sets oom_score_adj of the monitor and, by inheritance, of the pause process.
fn adjust_oom_score(score: i32) -> Result<(), Failure> {
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Ok(()) => Ok(()),
        // Lowering needs CAP_SYS_RESOURCE. Without it the score stays that of the daemon.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(Failure {
            kind: FailureKind::Internal,
            step: format!("set the monitor's OOM score: write(/proc/self/oom_score_adj, {score})"),
            errno: error.raw_os_error().unwrap_or(0),
        }),
    }
}

/// Makes the socket for daemons. Replaces a stale one of an earlier monitor of this pod.
fn listen(dir: &OwnedFd) -> Result<OwnedFd, Failure> {
    let step = |call: &str| internal(format!("listen for daemons: {call}"));
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(step("socket(AF_UNIX, SOCK_SEQPACKET)"))?;
    match rustix::fs::unlinkat(dir, SOCKET_NAME, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(step("unlinkat(monitor.sock)")(errno)),
    }
    // Through the directory's descriptor: the directory's path may be too long for a socket address.
    let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd());
    let address = SocketAddrUnix::new(path).map_err(|_| {
        failure(
            FailureKind::Internal,
            "listen for daemons: the socket's path is too long",
        )
    })?;
    rustix::net::bind(&socket, &address).map_err(step("bind(monitor.sock)"))?;
    // No process can connect before listen(2).
    rustix::fs::chmodat(dir, SOCKET_NAME, Mode::RUSR | Mode::WUSR, AtFlags::empty())
        .map_err(step("fchmodat(monitor.sock, 0600)"))?;
    rustix::net::listen(&socket, 16).map_err(step("listen(monitor.sock, 16)"))?;
    Ok(socket)
}
