//! Leaving and joining namespaces: unshare(2) with those flags that are safe, and setns(2) by pidfd.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe};

/// Kinds of namespaces.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceKinds {
    /// Mount; joined only by a process with one thread (else EINVAL).
    pub mount: bool,
    /// PID; joined by later children, not by the process itself.
    pub pid: bool,
    /// IPC.
    pub ipc: bool,
    /// UTS.
    pub uts: bool,
    /// Network.
    pub network: bool,
    /// cgroup.
    pub cgroup: bool,
    /// User; the kernel joins it first, so that the other ones may belong to it. Joined only by a process with one thread (else EINVAL).
    pub user: bool,
}

/// Joins namespaces of the process behind `pidfd`, all of `kinds` or none (setns(2), kernel 5.8).
///
/// # Errors
/// The errno of setns(2): ESRCH once the process has ended.
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

/// Makes a cgroup namespace whose root is the cgroup that the calling process is in.
///
/// # Errors
/// The errno of unshare(2).
pub fn unshare_cgroup() -> Result<(), Errno> {
    // SAFETY: CLONE_NEWCGROUP does not affect the descriptor table.
    unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }
}

/// Gives the calling thread new network, IPC and UTS namespaces, each if its argument is true.
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
    // SAFETY: none of these flags affects the descriptor table.
    unsafe { unshare_unsafe(flags) }
}
