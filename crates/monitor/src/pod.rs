//! Makes the pod: what happens once, before any container.
//!
//! Order matters: namespaces first, then what lives in them; the pause process last, so that it is in all
//! of them; the socket after everything, so that whoever can connect finds a pod. In a pod with a user namespace
//! a child that is root there does the first two, and the monitor joins what it has made: see [`userns`].

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use pausa_monitor_protocol::{EXITS_DIR, Failure, FailureKind, PodPlan, SOCKET_NAME};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::failure::{failure, internal};
use crate::monitor::Pod;
use crate::pause;
use crate::userns::{self, UserNamespace};

/// Makes the pod in this directory.
///
/// # Errors
/// The step that failed. What was made until then goes with this process.
pub(crate) fn set_up(plan: &PodPlan, dir: OwnedFd) -> Result<Pod, Failure> {
    let exits = exits_directory(&dir)?;
    let users = plan.users.map(UserNamespace::make).transpose()?.map(Rc::new);
    match &users {
        None => make_and_furnish(plan)?,
        Some(users) => userns::make_inside(users, plan, make_and_furnish)?,
    }
    adjust_oom_score(plan.oom_score_adj)?;
    let pause = if plan.shared_pid {
        Some(pause::start(users.as_deref())?)
    } else {
        None
    };
    let listener = listen(&dir)?;
    Ok(Pod {
        dir,
        exits,
        listener,
        pause,
        users,
    })
}

/// The namespaces and what is set in them.
fn make_and_furnish(plan: &PodPlan) -> Result<(), Failure> {
    namespaces(plan)?;
    if let Some(hostname) = &plan.hostname {
        rustix::system::sethostname(hostname.as_bytes())
            .map_err(internal(format!("set the hostname: sethostname({hostname:?})")))?;
    }
    if plan.new_network {
        pausa_sys::loopback_up().map_err(internal("set lo up: ioctl(SIOCSIFFLAGS, lo, IFF_UP)"))?;
    }
    crate::sysctl::write_all(&plan.sysctls)
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

fn namespaces(plan: &PodPlan) -> Result<(), Failure> {
    let (network, ipc, uts) = (plan.new_network, plan.new_ipc, plan.hostname.is_some());
    if !(network || ipc || uts) {
        return Ok(());
    }
    pausa_sys::unshare_pod(network, ipc, uts).map_err(internal(format!(
        "make the pod's namespaces: unshare(network: {network}, ipc: {ipc}, uts: {uts})"
    )))
}

/// Sets the OOM killer's opinion of the monitor and, by inheritance, of the pause process.
fn adjust_oom_score(score: i32) -> Result<(), Failure> {
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Ok(()) => Ok(()),
        // Lowering takes CAP_SYS_RESOURCE; without it the score stays what the daemon's is.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(Failure {
            kind: FailureKind::Internal,
            step: format!("set the monitor's OOM score: write(/proc/self/oom_score_adj, {score})"),
            errno: error.raw_os_error().unwrap_or(0),
        }),
    }
}

/// The socket for daemons to come. A stale one of an earlier monitor of this pod is replaced.
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
    // By way of the directory's descriptor: its own path may be longer than a socket's address can be.
    let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", dir.as_raw_fd());
    let address = SocketAddrUnix::new(path).map_err(|_| {
        failure(
            FailureKind::Internal,
            "listen for daemons: the socket's path is too long",
        )
    })?;
    rustix::net::bind(&socket, &address).map_err(step("bind(monitor.sock)"))?;
    // Nobody can connect before listen(2).
    rustix::fs::chmodat(dir, SOCKET_NAME, Mode::RUSR | Mode::WUSR, AtFlags::empty())
        .map_err(step("fchmodat(monitor.sock, 0600)"))?;
    rustix::net::listen(&socket, 16).map_err(step("listen(monitor.sock, 16)"))?;
    Ok(socket)
}
