//! Makes one container process from a flat plan: namespaces, mounts, identity, exec.
//!
//! Called by a pod's monitor, which is single-threaded: the child is cloned, not re-executed, and may
//! run ordinary code until `execve`. The daemon must never call this. In a pod with a user namespace the child is two
//! processes, one after the other: see `userns`.
//!
//! ```text
//!   monitor                      child (PID 1 of a new PID namespace, or a member of a joined one)
//!   clone3 ────────────────────▶ cgroup → namespaces → rootfs and mounts → /dev → masked, read-only
//!     │                          → pivot_root → terminal → cwd, ids, rlimits, seccomp, capabilities
//!     │ ◀── failure or EOF ───── execve (the report pipe is close-on-exec: EOF means success)
//! ```

mod cgroup;
mod child;
mod devices;
mod error;
mod masked_paths;
mod mounts;
mod namespaces;
mod pending;
mod process;
mod report;
mod resolve;
mod terminal;
mod userns;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pausa_monitor_protocol::{ContainerPlan, ExecPlan, Failure, IdRange};
use pausa_sys::CloneArgs;
pub use pending::{Failed, Pending, Progress};
use rustix::io::Errno;

/// What a container joins besides what its plan says; borrowed from the monitor, which keeps them open.
#[derive(Debug)]
pub struct PodContext<'a> {
    /// The host's namespaces, opened before the monitor left them.
    pub host: HostNamespaces<'a>,
    /// pidfd of the pause process, where the pod shares its PID namespace.
    pub pause: Option<BorrowedFd<'a>>,
    /// pidfd of the container whose PID namespace is joined (`Namespace::Container`).
    pub target: Option<BorrowedFd<'a>>,
}

/// The host's namespaces (`/proc/self/ns/*` of the monitor at its start).
#[derive(Debug, Clone, Copy)]
pub struct HostNamespaces<'a> {
    /// Network.
    pub network: BorrowedFd<'a>,
    /// IPC.
    pub ipc: BorrowedFd<'a>,
    /// UTS.
    pub uts: BorrowedFd<'a>,
    /// PID.
    pub pid: BorrowedFd<'a>,
    /// cgroup.
    pub cgroup: BorrowedFd<'a>,
}

/// The streams of a new process. None: `/dev/null`.
#[derive(Debug, Default)]
pub struct Streams<'a> {
    /// Standard input.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error.
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
        let namespaces = [host.network, host.ipc, host.uts, host.pid, host.cgroup];
        namespaces.into_iter().chain(self.target).chain(self.pause)
    }
}

/// The descriptors of a container's plan, sorted by role.
#[derive(Debug, Default)]
pub struct ContainerFds<'a> {
    /// `FdRole::Root`.
    pub root: Option<BorrowedFd<'a>>,
    /// `FdRole::Mount(n)` at n.
    pub mounts: Vec<BorrowedFd<'a>>,
    /// `FdRole::CgroupTasks`.
    pub cgroup_tasks: Vec<BorrowedFd<'a>>,
    /// `FdRole::CgroupDir`.
    pub cgroup_dir: Option<BorrowedFd<'a>>,
    /// The pod's user namespace, where it has one.
    pub users: Option<Users<'a>>,
}

/// A pod's user namespace.
#[derive(Debug, Clone, Copy)]
pub struct Users<'a> {
    /// The namespace.
    pub namespace: BorrowedFd<'a>,
    /// Its map.
    pub range: IdRange,
}

/// A process that has passed `execve`.
#[derive(Debug)]
pub struct Spawned {
    /// Its id in the caller's PID namespace.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The master of its terminal, where it has one.
    pub terminal: Option<OwnedFd>,
}

/// Starts a container's first process and returns when `execve` has succeeded.
///
/// # Errors
/// A [`Failure`] of kind `Start` that names the step; then the child is reaped and nothing is left.
pub fn spawn(
    plan: &ContainerPlan,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
    pod: &PodContext<'_>,
) -> Result<Spawned, Failure> {
    begin_spawn(plan, fds, streams, pod)?.wait()
}

/// [`spawn`] without the waiting: for an event loop that must go on while a mount source is slow.
///
/// # Errors
/// As [`spawn`], for what happens before the child runs.
pub fn begin_spawn(
    plan: &ContainerPlan,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
    pod: &PodContext<'_>,
) -> Result<Pending, Failure> {
    let sent = fds.root.ok_or(error::Error::MissingDescriptor("the root"))?;
    // A directory of the host's tree becomes a mount of its own here, where that tree is ours. A mount
    // that is detached already refuses to be cloned before Linux 6.15, and needs no clone.
    let cloned = mounts::clone_tree(sent);
    let root = cloned.as_ref().map_or(sent, |cloned| cloned.as_fd());
    let (args, holder) = match fds.users {
        None => (
            namespaces::clone_args(&plan.namespaces, fds.cgroup_dir),
            namespaces::pid_holder(&plan.namespaces, pod)?,
        ),
        // The second child gets the namespaces.
        Some(_) => {
            let cgroup = fds.cgroup_dir;
            let args = CloneArgs {
                cgroup,
                ..CloneArgs::default()
            };
            (args, None)
        }
    };
    let kept: Vec<BorrowedFd<'_>> = std::iter::once(root)
        .chain(fds.mounts.iter().chain(&fds.cgroup_tasks).copied())
        .chain(streams.all())
        .chain(pod.all())
        .chain(fds.users.map(|users| users.namespace))
        .collect();
    Ok(pending::launch(&args, holder, &kept, |reporter| {
        child::run_init(plan, root, fds, streams, pod, reporter)
    })?)
}

/// Runs one more process in the container whose first process is `container` and whose cgroups are `fds`.
///
/// # Errors
/// As [`spawn`].
pub fn exec(
    plan: &ExecPlan,
    container: BorrowedFd<'_>,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
) -> Result<Spawned, Failure> {
    begin_exec(plan, container, fds, streams)?.wait()
}

/// [`exec`] without the waiting.
///
/// # Errors
/// As [`begin_spawn`].
pub fn begin_exec(
    plan: &ExecPlan,
    container: BorrowedFd<'_>,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
) -> Result<Pending, Failure> {
    let kept: Vec<BorrowedFd<'_>> = std::iter::once(container)
        .chain(fds.cgroup_tasks.iter().copied())
        .chain(streams.all())
        .chain(fds.users.map(|users| users.namespace))
        .collect();
    let launch = |cgroup| {
        let args = CloneArgs {
            cgroup,
            ..CloneArgs::default()
        };
        pending::launch(&args, Some(container), &kept, |reporter| {
            child::run_exec(&plan.process, container, fds, streams, reporter)
        })
    };
    match (launch(fds.cgroup_dir), fds.cgroup_dir) {
        (Err(busy), Some(directory)) if busy.errno() == Errno::BUSY.raw_os_error() => {
            let Ok(present) = cgroup::present(directory, container) else {
                return Err(busy.into());
            };
            Ok(launch(Some(present.as_fd()))?)
        }
        (result, _) => Ok(result?),
    }
}
