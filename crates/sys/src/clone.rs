//! Process creation as by fork(2), through clone3(2): with a pidfd, namespaces and a cgroup.
//!
//! The address space is never shared (no CLONE_VM), so the child owns a copy of everything, and has one thread. Locks that
//! another thread held at the moment of the call stay locked in the child for ever. [`clone`] therefore requires a process
//! whose other threads never hold one; its child may then run any code. A [`crate::FileWriter`] is such a thread.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::syscall::check;

const CLONE_PIDFD: u64 = 0x0000_1000;
const CLONE_PARENT: u64 = 0x0000_8000;
const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_NEWUTS: u64 = 0x0400_0000;
const CLONE_NEWIPC: u64 = 0x0800_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Namespaces and cgroup of the child. A new cgroup namespace cannot be asked for: clone3 would root it at the *caller's*
/// cgroup; see [`crate::unshare_cgroup`].
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneArgs<'a> {
    /// A new mount namespace.
    pub mount: bool,
    /// A new PID namespace.
    pub pid: bool,
    /// A new IPC namespace.
    pub ipc: bool,
    /// A new UTS namespace.
    pub uts: bool,
    /// A new network namespace.
    pub network: bool,
    /// The cgroup v2 directory the child starts in (CLONE_INTO_CGROUP).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child's parent is the caller's parent (CLONE_PARENT), which reaps it.
    pub sibling: bool,
}

/// The process in which [`clone`] has returned.
#[derive(Debug)]
pub enum Forked {
    /// The new one.
    Child,
    /// The calling one.
    Parent(Child),
}

/// A new process as its parent holds it.
#[derive(Debug)]
pub struct Child {
    /// Process id in the caller's PID namespace.
    pub pid: i32,
    /// The pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

/// Makes a process as fork(2) does, with namespaces and a cgroup of its own. Its end raises SIGCHLD.
///
/// # Safety
/// The calling process has no other threads than those of [`crate::FileWriter`], which never hold a lock and never allocate
/// memory. (A debug build panics if it has others.)
///
/// # Errors
/// The errno of clone3(2).
pub unsafe fn clone(args: &CloneArgs<'_>) -> Result<Forked, Errno> {
    debug_assert!(
        has_no_other_threads(),
        "clone() in a process with threads that may hold locks"
    );
    let mut flags = 0;
    for (wanted, flag) in [
        (args.mount, CLONE_NEWNS),
        (args.pid, CLONE_NEWPID),
        (args.ipc, CLONE_NEWIPC),
        (args.uts, CLONE_NEWUTS),
        (args.network, CLONE_NEWNET),
        (args.cgroup.is_some(), CLONE_INTO_CGROUP),
    ] {
        if wanted {
            flags |= flag;
        }
    }
    if args.sibling {
        flags |= CLONE_PARENT;
    }
    // SAFETY: by this function's own contract no other thread can hold a lock.
    match unsafe { clone_raw(flags, args.cgroup) }? {
        None => Ok(Forked::Child),
        Some(child) => Ok(Forked::Parent(child)),
    }
}

/// clone3(2) with a pidfd. Returns `None` in the child.
///
/// # Safety
/// If the calling process has other threads that hold locks or allocate memory, the child only makes system calls until it
/// ends: it takes no lock and allocates no memory, since a lock that another thread held is never released in the child.
pub(crate) unsafe fn clone_raw(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<Child>, Errno> {
    let mut pidfd: RawFd = -1;
    // With CLONE_PARENT the child's exit signal is that of the caller (clone(2)).
    let signal = if flags & CLONE_PARENT == 0 {
        libc::SIGCHLD
    } else {
        0
    };
    let mut raw = KernelCloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: signal.unsigned_abs().into(),
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd().unsigned_abs().into()),
        ..KernelCloneArgs::default()
    };
    // SAFETY: `raw` is a live clone_args of the size passed, and `pidfd`, to which it points, outlives the call. Without
    // CLONE_VM and without a stack the child continues on its own copy of this stack, as after fork. What the
    // child may do is the caller's contract.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut raw, size_of::<KernelCloneArgs>()) };
    match check(result)? {
        0 => Ok(None),
        pid => Ok(Some(Child {
            pid: i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?,
            // SAFETY: the kernel has stored a new descriptor there, and this is its only owner.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        })),
    }
}

/// Ends the process at once, without destructors and exit handlers. For the child of [`clone`]: what it inherited is the
/// parent's to clean up.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no requirements.
    unsafe { libc::_exit(code) }
}

/// `struct clone_args`, version 2 (88 bytes, kernel 5.7).
#[repr(C, align(8))]
#[derive(Debug, Default)]
struct KernelCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Whether this process has no thread besides the calling one and file writers, by the link count of its task directory;
/// true where that cannot be read.
fn has_no_other_threads() -> bool {
    // One that has ended may be listed for a moment.
    (0..1000).any(|_| {
        let tasks = rustix::fs::stat(c"/proc/self/task").map_or(0, |task| task.st_nlink);
        let others = usize::try_from(tasks.saturating_sub(3)).unwrap_or(0);
        if others > crate::file_writer::threads() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        others <= crate::file_writer::threads()
    })
}
