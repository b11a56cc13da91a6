//! Starts one container process from a flat plan: namespaces, mounts, identity, exec.
//!
//! For a pod's monitor, a process whose other threads never hold a lock: the child is cloned, not re-executed, and may run
//! ordinary code until `execve`. The daemon must never call this.
//!
//! ```text
//!   monitor                      child (PID 1 of its PID namespace if that is new, otherwise in the host's)
//!   clone3 ────────────────────▶ cgroup → mount sources → namespaces → rootfs and mounts → /dev → masked, read-only
//!     │                          → root → streams → cwd, ids, rlimits, seccomp, capabilities
//!     │ ◀── failure or EOF ───── execve (the report socket is close-on-exec: EOF means success)
//!     │                          (with hooks in between, see `hooks`)
//! ```
//!
//! There are up to two more children, each of which continues where the one before it ends: one in the pod's user
//! namespace (see `userns`), and one in a PID namespace that has other processes in it, which does nothing but execute
//! the command (see `process`).
//!
//! A start is asynchronous: [`spawn_init`] and [`spawn_exec`] return a [`Pending`] process at once, because a mount source
//! on a dead network file system may hang.

mod cgroup;
mod child;
mod devices;
mod error;
mod hooks;
mod masked_paths;
mod mount_ops;
mod mounts;
mod namespaces;
mod pending;
mod pid_namespace;
mod process;
mod report;
mod resolve;
mod terminal;
mod userns;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{ExecPlan, ExtendedPlan, Failure, HookPlan, IdRange};
use pausa_sys::CloneArgs;
use rustix::io::Errno;

use report::Reporter;

pub use hooks::HookStage;
pub use pending::{Failed, Pending, Progress};

/// Descriptors for the namespaces that a container's plan may ask to join. The monitor keeps them open.
#[derive(Debug)]
pub struct PodContext<'a> {
    /// The host's namespaces, opened before the monitor left them.
    pub host: HostNamespaces<'a>,
    /// The mount namespace that those of containers are copies of ([`pausa_sys::base_mounts`]).
    pub base_mounts: BorrowedFd<'a>,
    /// pidfd of the pause process, where the pod shares its PID namespace.
    pub pause: Option<BorrowedFd<'a>>,
    /// pidfd of the container whose PID namespace is joined (`Namespace::Container`).
    pub target: Option<BorrowedFd<'a>>,
}

/// The host's namespaces (`/proc/self/ns/*` of the monitor at its start).
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields are named after the namespaces")]
pub struct HostNamespaces<'a> {
    pub network: BorrowedFd<'a>,
    pub ipc: BorrowedFd<'a>,
    pub uts: BorrowedFd<'a>,
    pub pid: BorrowedFd<'a>,
    pub cgroup: BorrowedFd<'a>,
}

/// The standard streams of a new process; `/dev/null` where there is none.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the fields are named after the streams")]
pub struct Streams<'a> {
    pub stdin: Option<BorrowedFd<'a>>,
    pub stdout: Option<BorrowedFd<'a>>,
    pub stderr: Option<BorrowedFd<'a>>,
}

impl<'a> Streams<'a> {
    fn all(&self) -> impl Iterator<Item = BorrowedFd<'a>> {
        [self.stdin, self.stdout, self.stderr].into_iter().flatten()
    }
}

impl<'a> PodContext<'a> {
    fn all(&self) -> impl Iterator<Item = BorrowedFd<'a>> {
        let host = self.host;
        let namespaces = [
            host.network,
            host.ipc,
            host.uts,
            host.pid,
            host.cgroup,
            self.base_mounts,
        ];
        namespaces.into_iter().chain(self.target).chain(self.pause)
    }
}

/// The descriptors of a container's plan, sorted by role.
#[derive(Debug, Default)]
pub struct ContainerFds<'a> {
    /// `FdRole::Root`.
    pub root: Option<BorrowedFd<'a>>,
    /// `FdRole::Mount(n)` at index n.
    pub mounts: Vec<BorrowedFd<'a>>,
    /// `FdRole::CgroupTasks`.
    pub cgroup_tasks: Vec<BorrowedFd<'a>>,
    /// `FdRole::CgroupDir`.
    pub cgroup_dir: Option<BorrowedFd<'a>>,
    /// `FdRole::Birth`.
    pub birth: Option<BorrowedFd<'a>>,
    /// The pod's user namespace, if it has one.
    pub userns: Option<UserNamespace<'a>>,
}

/// A pod's user namespace and its id map.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "see the type")]
pub struct UserNamespace<'a> {
    pub fd: BorrowedFd<'a>,
    pub range: IdRange,
}

/// A process that has passed `execve`.
#[derive(Debug)]
pub struct Spawned {
    /// Process id in the caller's PID namespace.
    pub pid: i32,
    /// The pidfd.
    pub pidfd: OwnedFd,
    /// The master of the process's terminal, if it has one.
    pub terminal: Option<OwnedFd>,
}

/// Begins to start a container's first process.
///
/// # Safety
/// As of [`pausa_sys::clone`]: no other thread of the calling process can hold a lock or allocate memory.
///
/// # Errors
/// A [`Failure`] that names the step. No process is left then.
#[expect(unsafe_code, reason = "only the caller knows the threads of the process")]
pub unsafe fn spawn_init(
    plan: &ExtendedPlan,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
    pod: &PodContext<'_>,
) -> Result<Pending, Failure> {
    let sent = fds.root.ok_or(error::Error::MissingDescriptor("the root"))?;
    // A directory in the host's tree becomes a mount here, where the mount namespace is the host's. Before Linux 6.15 a mount
    // that is detached already cannot be cloned; it is used as it is.
    let cloned = mount_ops::clone_tree(sent);
    let root = cloned.as_ref().map_or(sent, |cloned| cloned.as_fd());
    let args = match fds.userns {
        None => namespaces::clone_args(&plan.container.namespaces, fds.cgroup_dir),
        // The new namespaces are for the second child.
        Some(_) => CloneArgs {
            cgroup: fds.cgroup_dir,
            ..CloneArgs::default()
        },
    };
    let kept: Vec<BorrowedFd<'_>> = std::iter::once(root)
        .chain(fds.mounts.iter().chain(&fds.cgroup_tasks).copied())
        .chain(streams.all())
        .chain(pod.all())
        .chain(fds.userns.map(|userns| userns.fd))
        .collect();
    let run = |reporter: &mut Reporter| child::run_init(plan, root, fds, streams, pod, reporter);
    // SAFETY: this function's own contract is the same.
    Ok(unsafe { pending::clone_child(&args, &kept, run) }?)
}

/// Begins to run the hooks of a stage in the host's namespaces. `Progress::Running` means that all of them have succeeded.
/// `pid` is that of the container's first process, for the state.
///
/// # Safety
/// As [`spawn_init`].
///
/// # Errors
/// As [`spawn_init`].
#[expect(unsafe_code, reason = "only the caller knows the threads of the process")]
pub unsafe fn spawn_hooks(
    stage: HookStage,
    plan: &HookPlan,
    pid: i32,
    host: &HostNamespaces<'_>,
) -> Result<Pending, Failure> {
    let run = |reporter: &mut Reporter| {
        child::begin()?;
        hooks::run_in_host(stage, plan, pid, host, reporter)?;
        reporter.ready();
        pausa_sys::exit_now(0)
    };
    let kept = [host.network, host.ipc, host.uts];
    // SAFETY: this function's own contract is the same.
    Ok(unsafe { pending::clone_child(&CloneArgs::default(), &kept, run) }?)
}

/// Begins to start one more process in a container, whose first process is `container` and whose cgroups are in `fds`.
///
/// Where those have no pids left, the processes of this start are made elsewhere (`fds.birth`), and the last one is moved
/// before it may execute the command: the limit holds for new processes, not for moved ones.
///
/// # Safety
/// As [`spawn_init`].
///
/// # Errors
/// As [`spawn_init`].
#[expect(unsafe_code, reason = "only the caller knows the threads of the process")]
pub unsafe fn spawn_exec(
    plan: &ExecPlan,
    container: BorrowedFd<'_>,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
) -> Result<Pending, Failure> {
    let kept: Vec<BorrowedFd<'_>> = std::iter::once(container)
        .chain(fds.cgroup_tasks.iter().copied())
        .chain(fds.birth)
        .chain(streams.all())
        .chain(fds.userns.map(|userns| userns.fd))
        .collect();
    let admission = match fds.birth {
        Some(_) => Some(cgroup::Admission::new(fds, container)?),
        None => None,
    };
    let clone_into = |cgroup| {
        let args = CloneArgs {
            cgroup,
            ..CloneArgs::default()
        };
        let run = |reporter: &mut Reporter| child::run_exec(&plan.process, container, fds, streams, reporter);
        // SAFETY: this function's own contract is the same.
        unsafe { pending::clone_child(&args, &kept, run) }
    };
    if let Some(admission) = admission {
        // cgroup v1 has no CLONE_INTO_CGROUP: there the child joins by itself.
        let birth = fds.birth.filter(|_| fds.cgroup_dir.is_some());
        return Ok(clone_into(birth)?.admitted_by(admission));
    }
    match (clone_into(fds.cgroup_dir), fds.cgroup_dir) {
        (Err(busy), Some(directory)) if busy.errno() == Errno::BUSY.raw_os_error() => {
            let Ok(current) = cgroup::of_process(directory, container) else {
                return Err(busy.into());
            };
            Ok(clone_into(Some(current.as_fd()))?)
        }
        (result, _) => Ok(result?),
    }
}
