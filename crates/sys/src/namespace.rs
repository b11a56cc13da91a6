//! Leaving and joining namespaces: unshare(2) with the flags that are safe, setns(2) by pidfd.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe};

/// Which namespaces of another process to join.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceKinds {
    /// Mount; needs a process with one thread.
    pub mount: bool,
    /// PID, for the children to come.
    pub pid: bool,
    /// IPC.
    pub ipc: bool,
    /// UTS.
    pub uts: bool,
    /// Network.
    pub network: bool,
    /// cgroup.
    pub cgroup: bool,
    /// User, before all others, so that what belongs to it may be joined; needs a process with one thread.
    pub user: bool,
}

/// Joins namespaces of the process `pidfd` stands for, all or none (setns(2), kernel 5.8).
///
/// # Errors
/// The errno of setns(2); ESRCH once the process is gone.
pub fn join_by_pidfd(pidfd: BorrowedFd<'_>, kinds: NamespaceKinds) -> Result<(), Errno> {
    let mut flags = ThreadNameSpaceType::empty();
    for (wanted, flag) in [
        (kinds.mount, ThreadNameSpaceType::MOUNT),
        (kinds.pid, ThreadNameSpaceType::PROCESS_ID),
        (kinds.ipc, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        (kinds.uts, ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        (kinds.network, ThreadNameSpaceType::NETWORK),
        (kinds.cgroup, ThreadNameSpaceType::CONTROL_GROUP),
        (kinds.user, ThreadNameSpaceType::USER),
    ] {
        flags.set(flag, wanted);
    }
    if flags.is_empty() {
        return Ok(());
    }
    move_into_thread_name_spaces(pidfd, flags)
}

/// Makes a cgroup namespace rooted at the calling process's present cgroups.
///
/// # Errors
/// The errno of unshare(2).
pub fn unshare_cgroup() -> Result<(), Errno> {
    // SAFETY: CLONE_NEWCGROUP does not touch the descriptor table.
    unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }
}

/// Gives the calling thread network, IPC and UTS namespaces of its own, as asked.
///
/// # Errors
/// The errno of unshare(2).
pub fn unshare_pod(network: bool, ipc: bool, uts: bool) -> Result<(), Errno> {
    let mut flags = UnshareFlags::empty();
    flags.set(UnshareFlags::NEWNET, network);
    flags.set(UnshareFlags::NEWIPC, ipc);
    flags.set(UnshareFlags::NEWUTS, uts);
    if flags.is_empty() {
        return Ok(());
    }
    // SAFETY: none of these flags touches the descriptor table.
    unsafe { unshare_unsafe(flags) }
}
