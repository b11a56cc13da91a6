//! The pause process: process 1 of a pod's shared PID namespace.
//!
//! ```text
//!   monitor ──clone──▶ ( an empty root, no descriptors, no user, no capabilities, seven system calls )
//!     │ ◀── "ready" or errno ────────────┘        │ reaps orphans until SIGTERM, or until the monitor dies
//! ```
//!
//! No program is loaded. The containers of the pod see it, and one with CAP_SYS_PTRACE may trace it. So it must not hold or
//! be able to do anything: no way to the host's files through `/proc/1/root`, no open descriptor, no privilege, no memory of
//! the monitor's, no system call but those it needs. It dies with the monitor, and the kernel then kills all processes in
//! the namespace: no process of a pod may run unattended.
//!
//! Its root has one directory, `/proc`, with procfs of its PID namespace. That is where containers which join the namespace
//! get theirs from.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use pausa_monitor_protocol::{Failure, FailureKind};
use pausa_sys::{AUDIT_ARCHITECTURE, BareCloneArgs, ChildMemory, SeccompError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Gid, Pid, PidfdFlags, Signal, Uid, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::failure::{failure, internal};
use crate::userns::UserNamespace;

/// A running pause process.
#[derive(Debug)]
pub(crate) struct Pause {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// The user and group that it runs as. No other process uses them.
const NOBODY: u32 = 65_535;

/// The steps before it is ready. The child reports the index of a failed step.
const STEPS: [&str; 8] = [
    "prctl(PR_SET_NAME, pause)",
    "mount procfs of its PID namespace",
    "change its root to an empty one",
    "drop its capabilities and become nobody",
    "prctl(PR_SET_PDEATHSIG, SIGKILL)",
    "find its parent alive",
    "close its descriptors",
    "load its seccomp filter",
];

/// Starts the pause process, in the pod's user namespace if it has one, and returns when it is ready.
///
/// # Errors
/// The step that failed. Nothing is left then.
pub(crate) fn start(userns: Option<&UserNamespace>, base_mounts: BorrowedFd<'_>) -> Result<Pause, Failure> {
    const CLONE: &str = "start pause: clone(CLONE_NEWPID | CLONE_NEWNS)";
    let (reports, report) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(internal("start pause: pipe2(O_CLOEXEC)"))?;
    let parent = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(internal("start pause: pidfd_open(self)"))?;
    let inherited = Inherited {
        parent: parent.as_raw_fd(),
        report: report.as_raw_fd(),
    };
    // Its mounts are a copy of those of the process that clones it.
    let cloned = pausa_sys::in_mount_namespace(base_mounts, || match userns {
        None => clone_pause(inherited, false).map_err(internal(CLONE)),
        Some(userns) => userns.clone_inside(|| clone_pause(inherited, true).map_err(internal(CLONE))),
    });
    let pid = cloned.map_err(internal("start pause: setns(base mounts), and back"))??;
    drop(report);
    // It is a child of the monitor and not reaped yet, so the process id is not reused.
    let pid = Pid::from_raw(pid).ok_or_else(|| failure(FailureKind::Internal, CLONE))?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(internal("start pause: pidfd_open(pause)"))?;
    let pid = pid.as_raw_nonzero().get();
    let mut text = [0; 5];
    let read = rustix::io::read(&reports, &mut text).unwrap_or(0);
    if text[..read] == [READY] {
        return Ok(Pause { pid, pidfd });
    }
    // Not reaped here, but like an orphan of the pod.
    crate::process::kill(&pidfd);
    let [step, errno @ ..] = text;
    Err(Failure {
        kind: FailureKind::Internal,
        step: format!(
            "start pause: {}",
            STEPS.get(usize::from(step)).unwrap_or(&"it died")
        ),
        errno: if read == text.len() {
            i32::from_ne_bytes(errno)
        } else {
            0
        },
    })
}

const READY: u8 = 255;

/// Descriptors that the child uses until it is ready.
#[derive(Debug, Clone, Copy)]
struct Inherited {
    /// pidfd of the monitor.
    parent: RawFd,
    report: RawFd,
}

/// Clones the pause process, as a child of the caller's parent if `sibling`. Returns its process id.
fn clone_pause(inherited: Inherited, sibling: bool) -> Result<i32, Errno> {
    let maps =
        File::open("/proc/self/maps").map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let memory = ChildMemory::new()?;
    let args = BareCloneArgs {
        mount: true,
        pid: true,
        sibling,
    };
    #[expect(unsafe_code, reason = "the child lacks most memory")]
    // SAFETY: no log is written before the pod is set up, so the monitor has one thread, and its children have one as well.
    // No other child is made before the memory is restored. `child` refers to nothing but its argument, and makes system
    // calls through rustix and pausa_sys, which do not use the C library.
    let (cloned, withheld) = unsafe {
        let withheld = memory.withhold_the_rest(maps)?;
        (pausa_sys::clone_bare(args, &memory, inherited, child), withheld)
    };
    withheld.restore()?;
    cloned
}

/// Runs in the child. Returns the exit status.
fn child(inherited: &Inherited) -> i32 {
    #[expect(unsafe_code, reason = "descriptors by number")]
    // SAFETY: the monitor has them open while it clones this process, and nothing here closes them before `prepare` does,
    // which then uses only descriptor 0.
    let (parent, report) = unsafe {
        (
            BorrowedFd::borrow_raw(inherited.parent),
            BorrowedFd::borrow_raw(inherited.report),
        )
    };
    if let Err((step, errno)) = prepare(parent, report) {
        let [a, b, c, d] = errno.raw_os_error().to_ne_bytes();
        // The report is one of the two, depending on the step.
        rustix::io::write(report, &[step, a, b, c, d]).ok();
        rustix::io::write(rustix::stdio::stdin(), &[step, a, b, c, d]).ok();
        return 1;
    }
    rustix::io::write(rustix::stdio::stdin(), &[READY]).ok();
    #[expect(unsafe_code, reason = "closes a descriptor by number")]
    // SAFETY: this process uses no descriptor from here on.
    unsafe {
        rustix::io::close(0);
    }
    reap_orphans()
}

/// Gives up all but the report, which becomes descriptor 0.
fn prepare(parent: BorrowedFd<'_>, report: BorrowedFd<'_>) -> Result<(), (u8, Errno)> {
    let at = |step| move |errno| (step, errno);
    rustix::thread::set_name(c"pause").map_err(at(0))?;
    let procfs = make_procfs().map_err(at(1))?;
    empty_root(procfs.as_fd()).map_err(at(2))?;
    drop_privileges().map_err(at(3))?;
    // After the change of user, which clears it (prctl(2)).
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(4))?;
    // The parent may have died before the line above. getppid() is 0 for process 1 in any case, so its pidfd is polled.
    let mut fds = [PollFd::from_borrowed_fd(parent, PollFlags::IN)];
    match rustix::event::poll(&mut fds, Some(&Timespec::default())).map_err(at(5))? {
        0 => {}
        _ => return Err((5, Errno::CHILD)),
    }
    rustix::stdio::dup2_stdin(report).map_err(at(6))?;
    #[expect(unsafe_code, reason = "closes descriptors by number")]
    // SAFETY: only descriptor 0 is used from here on.
    unsafe { pausa_sys::close_from(1) }.map_err(at(6))?;
    pausa_sys::load_seccomp(FILTER.as_flattened(), 0).map_err(|error| match error {
        SeccompError::Malformed => (7, Errno::INVAL),
        SeccompError::Kernel(errno) => (7, errno),
    })
}

/// The descriptors are never closed by their owners, since that uses the C library.
fn make_procfs() -> Result<ManuallyDrop<OwnedFd>, Errno> {
    let context = ManuallyDrop::new(rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?);
    // What `/proc/mounts` of the pod's containers shows, as in those with a procfs of their own.
    rustix::mount::fsconfig_set_string(context.as_fd(), c"source", c"proc")?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map(ManuallyDrop::new)
}

/// Makes a read-only root with `/proc` the only mounts of the new mount namespace.
fn empty_root(procfs: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Any directory of the base mounts serves as the mount point.
    rustix::mount::mount("pause", "/proc", "tmpfs", flags, c"nr_inodes=3,mode=555")?;
    rustix::process::chdir("/proc")?;
    rustix::fs::mkdirat(CWD, "proc", Mode::from_raw_mode(0o555))?;
    rustix::mount::move_mount(procfs, "", CWD, "proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    // Puts the old root on top of the new one, from where it is unmounted (pivot_root(2), NOTES).
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    rustix::mount::mount_remount("/", flags | MountFlags::RDONLY | MountFlags::BIND, "")
}

fn drop_privileges() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)?;
    for capability in CapabilitySet::all() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // EINVAL: this kernel does not know the capability.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
}

/// Reaps orphans until SIGTERM. All signals are blocked, as in the monitor.
fn reap_orphans() -> i32 {
    loop {
        match pausa_sys::wait_for_signal(&[Signal::CHILD, Signal::TERM]) {
            Ok(signal) if signal == Signal::TERM.as_raw() => return 0,
            Ok(_) => while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {},
            Err(Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
}

/// The system calls that it makes from then on: all others kill it, whoever makes it do them.
const FILTER: [[u8; 8]; 13] = {
    const RET: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const KILL_PROCESS: u32 = 0x8000_0000;
    [
        // Load the architecture and compare it.
        instruction(0x20, 0, 0, 4),
        instruction(0x15, 1, 0, AUDIT_ARCHITECTURE),
        instruction(RET, 0, 0, KILL_PROCESS),
        // Load the number.
        instruction(0x20, 0, 0, 0),
        allowed(libc::SYS_rt_sigtimedwait, 7),
        allowed(libc::SYS_wait4, 6),
        allowed(libc::SYS_restart_syscall, 5),
        allowed(libc::SYS_exit_group, 4),
        allowed(libc::SYS_exit, 3),
        // For the report that it is ready.
        allowed(libc::SYS_write, 2),
        allowed(libc::SYS_close, 1),
        instruction(RET, 0, 0, KILL_PROCESS),
        instruction(RET, 0, 0, ALLOW),
    ]
};

/// Jumps forward if the number that was loaded is this one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "system calls have small numbers"
)]
const fn allowed(call: libc::c_long, jump: u8) -> [u8; 8] {
    instruction(0x15, jump, 0, call as u32)
}

/// A `struct sock_filter`.
const fn instruction(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> [u8; 8] {
    let [c0, c1] = code.to_ne_bytes();
    let [k0, k1, k2, k3] = operand.to_ne_bytes();
    [c0, c1, jump_true, jump_false, k0, k1, k2, k3]
}
