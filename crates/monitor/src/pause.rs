//! The pause process: process 1 of a pod's shared PID namespace.
//!
//! ```text
//!   monitor ──clone3──▶ ( an empty root, no descriptors, no user, no capabilities )
//!     │ ◀── "ready" or errno ────────────┘        │ reaps orphans until SIGTERM, or until the monitor dies
//! ```
//!
//! It is a clone of the monitor that shares its pages; no program is loaded. The containers of the pod see it, and one with
//! CAP_SYS_PTRACE may trace it. So it must not hold anything: no way to the host's files through `/proc/1/root`, no open
//! descriptor, no privilege. It dies with the monitor, and the kernel then kills all processes in the namespace: no process
//! of a pod may run unattended.

use std::os::fd::OwnedFd;

use nix::sys::signal::{SigSet, Signal};
use pausa_monitor_protocol::{Failure, FailureKind};
use pausa_sys::{Child, CloneArgs, Forked};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Gid, PidfdFlags, Uid, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::failure::internal;
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
const STEPS: [&str; 6] = [
    "prctl(PR_SET_NAME, pause)",
    "change its root to an empty one",
    "drop its capabilities and become nobody",
    "prctl(PR_SET_PDEATHSIG, SIGKILL)",
    "find its parent alive",
    "close its descriptors",
];

/// Starts the pause process, in the pod's user namespace if it has one, and returns when it is ready.
///
/// # Errors
/// The step that failed. Nothing is left then.
pub(crate) fn start(userns: Option<&UserNamespace>) -> Result<Pause, Failure> {
    let (reports, report) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(internal("start pause: pipe2(O_CLOEXEC)"))?;
    let parent = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(internal("start pause: pidfd_open(self)"))?;
    let arguments = CloneArgs {
        pid: true,
        mount: true,
        ..CloneArgs::default()
    };
    let forked = match userns {
        None => {
            #[expect(unsafe_code, reason = "clone() needs a process with one thread")]
            // SAFETY: the monitor has one thread, see `run`.
            let forked = unsafe { pausa_sys::clone(&arguments) };
            forked.map_err(internal("start pause: clone3(CLONE_NEWPID | CLONE_NEWNS)"))?
        }
        Some(userns) => userns.clone_inside(arguments)?,
    };
    let (pid, pidfd) = match forked {
        Forked::Child => pausa_sys::exit_now(child(&parent, &report)),
        Forked::Parent(Child { pid, pidfd }) => (pid, pidfd),
    };
    drop(report);
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

/// Runs in the child. Returns the exit status.
fn child(parent: &OwnedFd, report: &OwnedFd) -> i32 {
    if let Err((step, errno)) = prepare(parent) {
        let [a, b, c, d] = errno.raw_os_error().to_ne_bytes();
        rustix::io::write(report, &[step, a, b, c, d]).ok();
        return 1;
    }
    rustix::io::write(report, &[READY]).ok();
    #[expect(unsafe_code, reason = "closes descriptors by number")]
    // SAFETY: this process uses no descriptor from here on. Their owners are copies of the monitor's values, in frames to
    // which this process never returns: it ends by exit_now.
    let closed = unsafe { pausa_sys::close_from(0) };
    if closed.is_err() {
        return 1;
    }
    reap_orphans()
}

fn prepare(parent: &OwnedFd) -> Result<(), (u8, Errno)> {
    let at = |step| move |errno| (step, errno);
    rustix::thread::set_name(c"pause").map_err(at(0))?;
    empty_root().map_err(at(1))?;
    drop_privileges().map_err(at(2))?;
    // After the change of user, which clears it (prctl(2)).
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(at(3))?;
    // The parent may have died before the line above. getppid() is 0 for process 1 in any case, so its pidfd is polled.
    let mut fds = [PollFd::new(parent, PollFlags::IN)];
    match rustix::event::poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
    .map_err(at(4))?
    {
        0 => Ok(()),
        _ => Err((4, Errno::CHILD)),
    }
}

/// Makes an empty read-only root the only mount of the new mount namespace.
fn empty_root() -> Result<(), Errno> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Any directory that always exists serves as the mount point.
    rustix::mount::mount("pause", "/proc", "tmpfs", flags, c"nr_inodes=2,mode=555")?;
    rustix::process::chdir("/proc")?;
    // Puts the old root on top of the new one, from where it is unmounted (pivot_root(2), NOTES).
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
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
    let mut awaited = SigSet::empty();
    awaited.add(Signal::SIGCHLD);
    awaited.add(Signal::SIGTERM);
    loop {
        match awaited.wait() {
            Ok(Signal::SIGTERM) => return 0,
            Ok(_) => while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {},
            Err(_) => return 1,
        }
    }
}
