//! The pod's user namespace.
//!
//! The monitor stays outside of it, since it writes to cgroups, logs and records that no process inside may change.
//! Namespaces that belong to the user namespace are made by short-lived children that are root there:
//!
//! ```text
//!   monitor                       child, root inside
//!   user_namespace(first, length)
//!   fork ───────────────────────▶ setns(user), unshare(net, ipc, uts), hostname, lo, sysctls
//!   setns(pidfd: net, ipc, uts) ◀ done
//!   kill ───────────────────────▶
//! ```
//!
//! The daemon has checked the id map.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{Failure, FailureKind, IdRange, PodNamespaces};
use pausa_sys::{Child, CloneArgs, Forked, NamespaceKinds};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::process::{Gid, Uid, WaitId, WaitIdOptions};
use rustix::thread::LinkNameSpaceType;

use crate::failure::{failure, internal};
use crate::process;

/// A user namespace and its id map.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    fd: OwnedFd,
    range: IdRange,
}

/// Longest failure that a child reports, in bytes.
const TEXT_MAX: usize = 1024;

impl UserNamespace {
    pub(crate) fn make(range: IdRange) -> Result<Self, Failure> {
        let fd = pausa_sys::user_namespace(range.first, range.length).map_err(|error| {
            let hint = match error.errno {
                Errno::NOSPC => "; see the sysctl user.max_user_namespaces",
                _ => "",
            };
            internal(format!("make the pod's user namespace: {error}{hint}"))(error.errno)
        })?;
        Ok(Self { fd, range })
    }

    pub(crate) fn borrow(&self) -> pausa_container_init::UserNamespace<'_> {
        pausa_container_init::UserNamespace {
            fd: self.fd.as_fd(),
            range: self.range,
        }
    }

    /// Calls `make` as root of the user namespace, in a short-lived process whose parent is the monitor. It returns the id of a
    /// process that it has made as a sibling of its own, so as a child of the monitor.
    ///
    /// # Errors
    /// The call that failed.
    pub(crate) fn clone_inside(&self, make: impl FnOnce() -> Result<i32, Failure>) -> Result<i32, Failure> {
        const STEP: &str =
            "make a process in the pod's user namespace: setns(CLONE_NEWUSER), clone(CLONE_PARENT)";
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(internal(
            "make a process in the pod's user namespace: pipe2(O_CLOEXEC)",
        ))?;
        #[expect(
            unsafe_code,
            reason = "clone() needs a process without other threads that may hold locks"
        )]
        // SAFETY: the monitor has no other threads but file writers, see `run`.
        let forked = unsafe { pausa_sys::clone(&CloneArgs::default()) };
        let helper =
            match forked.map_err(internal("make a process in the pod's user namespace: clone3(2)"))? {
                Forked::Child => {
                    let number = match enter(self.fd.as_fd()).and_then(|()| make()) {
                        Ok(pid) => pid,
                        Err(failure) => -failure.errno,
                    };
                    rustix::io::write(&write, &number.to_ne_bytes()).ok();
                    pausa_sys::exit_now(0)
                }
                Forked::Parent(helper) => helper,
            };
        drop(write);
        let mut number = [0; 4];
        let read_result = rustix::io::retry_on_intr(|| rustix::io::read(&read, &mut number));
        let exited = rustix::process::waitid(WaitId::PidFd(helper.pidfd.as_fd()), WaitIdOptions::EXITED);
        read_result.map_err(internal(STEP))?;
        exited.map_err(internal(STEP))?;
        match i32::from_ne_bytes(number) {
            pid if pid > 0 => Ok(pid),
            0 => Err(failure(FailureKind::Internal, STEP)),
            errno => Err(internal(STEP)(Errno::from_raw_os_error(-errno))),
        }
    }
}

/// Enters the user namespace and becomes root there.
fn enter(userns: BorrowedFd<'_>) -> Result<(), Failure> {
    let step = |call: &str| internal(format!("enter the pod's user namespace: {call}"));
    rustix::thread::move_into_link_name_space(userns, Some(LinkNameSpaceType::User))
        .map_err(step("setns(CLONE_NEWUSER)"))?;
    rustix::thread::set_thread_groups(&[]).map_err(step("setgroups(0)"))?;
    let (gid, uid) = (Gid::ROOT, Uid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("setresgid(0, 0, 0)"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("setresuid(0, 0, 0)"))?;
    // This process holds a copy of the monitor's memory, and the change of user may have made it dumpable.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(step("prctl(PR_SET_DUMPABLE, 0)"))
}

/// Calls `make`, which makes the pod's namespaces, in a child inside the user namespace, and joins those namespaces.
///
/// # Errors
/// The failure of `make`, or the step that failed.
pub(crate) fn make_inside(
    userns: &UserNamespace,
    namespaces: &PodNamespaces,
    make: fn(&PodNamespaces) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(internal(
        "make the pod's namespaces: socketpair(AF_UNIX, SOCK_SEQPACKET)",
    ))?;
    #[expect(
        unsafe_code,
        reason = "clone() needs a process without other threads that may hold locks"
    )]
    // SAFETY: the monitor has no other threads but file writers, see `run`.
    let forked = unsafe { pausa_sys::clone(&CloneArgs::default()) };
    let child = match forked.map_err(internal("make the pod's namespaces: clone3(2)"))? {
        Forked::Child => {
            drop(ours);
            send_result(&theirs, enter(userns.fd.as_fd()).and_then(|()| make(namespaces)));
            wait_for_end(&theirs);
            pausa_sys::exit_now(0)
        }
        Forked::Parent(child) => child,
    };
    drop(theirs);
    let joined = receive_result(&ours).and_then(|()| join(namespaces, &child));
    process::kill(&child.pidfd);
    // The child has no reason to hang. If it does, it is reaped like an orphan of the pod.
    rustix::process::waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).ok();
    joined
}

fn join(namespaces: &PodNamespaces, child: &Child) -> Result<(), Failure> {
    let kinds = NamespaceKinds {
        network: namespaces.network,
        ipc: namespaces.ipc,
        uts: namespaces.uts,
        ..NamespaceKinds::default()
    };
    pausa_sys::join_by_pidfd(child.pidfd.as_fd(), kinds).map_err(internal(
        "join the namespaces of the pod's user namespace: setns(pidfd, net, ipc, uts)",
    ))
}

/// Sends a packet with `kind errno text`, or a single zero for success.
fn send_result(socket: &OwnedFd, result: Result<(), Failure>) {
    let packet = match result {
        Ok(()) => vec![0],
        Err(Failure { kind, step, errno }) => {
            let mut packet = vec![if kind == FailureKind::Start { 1 } else { 2 }];
            packet.extend_from_slice(&errno.to_ne_bytes());
            packet.extend_from_slice(step.as_bytes());
            packet.truncate(TEXT_MAX);
            packet
        }
    };
    // Fails only if the monitor has died.
    rustix::net::send(socket, &packet, SendFlags::NOSIGNAL).ok();
}

fn receive_result(socket: &OwnedFd) -> Result<(), Failure> {
    let mut buffer = [0; TEXT_MAX];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut buffer))
        .map_err(internal("make the pod's namespaces: read(child)"))?;
    let Some((kind, rest)) = buffer[..length].split_first() else {
        return Err(failure(
            FailureKind::Internal,
            "make the pod's namespaces: the child in the user namespace died",
        ));
    };
    let Some((errno, text)) = rest.split_first_chunk() else {
        return Ok(());
    };
    Err(Failure {
        kind: if *kind == 1 {
            FailureKind::Start
        } else {
            FailureKind::Internal
        },
        step: String::from_utf8_lossy(text).into_owned(),
        errno: i32::from_ne_bytes(*errno),
    })
}

/// Waits until the other end of the socket is closed.
fn wait_for_end(socket: &OwnedFd) {
    let mut hung_up = [PollFd::new(socket, PollFlags::empty())];
    while !matches!(poll(&mut hung_up, None), Ok(1)) {}
}
