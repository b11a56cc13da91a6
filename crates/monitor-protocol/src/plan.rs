//! Plans: all that a monitor needs to make a pod or a process, decided by the daemon beforehand.
//!
//! A plan leaves nothing to decide or to look up: ids are resolved, seccomp is compiled, options are parsed. The paths in
//! [`MountSource::Bind`] are the host's. All other paths are the container's and are resolved beneath its root.
//!
//! Plans may change between versions in any way: see the crate's rules.

use serde::{Deserialize, Serialize};

/// The namespaces that a pod has for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNamespaces {
    /// A network namespace, with loopback up.
    pub network: bool,
    /// An IPC namespace.
    pub ipc: bool,
    /// A UTS namespace.
    pub uts: bool,
    /// Sysctls to write in the namespaces: name with dots or slashes, and value.
    pub sysctls: Vec<(String, String)>,
    /// A user namespace (user_namespaces(7)), which owns the other namespaces and contains all containers of the pod. The
    /// monitor itself stays outside.
    pub users: Option<IdRange>,
}

/// How to make a pod in its namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPlan {
    /// Pod sandbox id.
    pub pod: String,
    /// The hostname to set in the pod's UTS namespace.
    pub hostname: Option<String>,
    /// Give the pod a shared PID namespace, held by a pause process.
    pub shared_pid: bool,
    /// oom_score_adj of the monitor and the pause process (proc(5)). Ignored if it may not be lowered.
    pub oom_score_adj: i32,
}

/// The id map of a user namespace: users and groups 0 to `length` - 1 inside are `first` and the following ones outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The id outside of id 0 inside.
    pub first: u32,
    /// How many ids are mapped, one by one.
    pub length: u32,
}

impl IdRange {
    /// The id outside of an id inside; none if it is not mapped.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        (inside < self.length)
            .then(|| self.first.checked_add(inside))
            .flatten()
    }
}

/// How to make a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// Container id.
    pub id: String,
    /// What each descriptor sent with the plan is, in order.
    pub fds: Vec<FdRole>,
    /// Namespaces to make, inherit or join.
    pub namespaces: NamespacePlan,
    /// Propagation of the container's root: `Private` unless a mount needs more.
    pub root_propagation: Propagation,
    /// Make the root read-only at the end.
    pub root_readonly: bool,
    /// Mounts, in order; those of [`MountSource::RootfsPath`] first.
    pub mounts: Vec<MountPlan>,
    /// Device nodes to make, in addition to the standard links in `/dev` (fd, stdin, stdout, stderr, core, ptmx).
    pub devices: Vec<DevicePlan>,
    /// Paths to mask: files by `/dev/null`, directories by an empty read-only tmpfs. Absent paths are skipped.
    pub masked_paths: Vec<Vec<u8>>,
    /// Paths to make read-only. Absent paths are skipped.
    pub readonly_paths: Vec<Vec<u8>>,
    /// Which standard streams there are.
    pub io: IoPlan,
    /// The log. If there is none, output is read and dropped.
    pub log: Option<LogPlan>,
    /// Program, environment and privileges of the first process.
    pub process: ProcessPlan,
}

/// How to make a container of which more is asked than a [`ContainerPlan`] says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedPlan {
    /// All that a container without the rest needs.
    pub container: ContainerPlan,
    /// Programs to run at stages of its life.
    pub hooks: HookPlan,
    /// Sysctls to write in the container's namespaces, which are mostly the pod's: name with dots or slashes, and value.
    pub sysctls: Vec<(String, String)>,
    /// How the kernel schedules the first process and what comes of it.
    pub scheduling: Scheduling,
}

impl From<ContainerPlan> for ExtendedPlan {
    fn from(container: ContainerPlan) -> Self {
        Self {
            container,
            hooks: HookPlan::default(),
            sysctls: Vec::new(),
            scheduling: Scheduling::default(),
        }
    }
}

/// Hooks, as the OCI runtime specification defines them (config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPlan {
    /// Run in the host's namespaces when the container's mounts are made. Those of the stage `prestart` are the first.
    pub create_runtime: Vec<HookCommand>,
    /// Run after them in the container's namespaces, with the host's root.
    pub create_container: Vec<HookCommand>,
    /// Run in the container, as its user, before its command.
    pub start_container: Vec<HookCommand>,
    /// Run in the host's namespaces when the command runs.
    pub poststart: Vec<HookCommand>,
    /// Run in the host's namespaces when all of the container has ended.
    pub poststop: Vec<HookCommand>,
    /// The bundle, which is the working directory of hooks that see the host's root.
    pub bundle: Vec<u8>,
    /// Where hooks find the container's root: an empty directory of the host.
    pub root: Vec<u8>,
    /// Members of the JSON object of the container's state, without `status` and `pid`, without braces.
    pub state: Vec<u8>,
}

/// A program that is run as a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCommand {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Arguments, with the name first.
    pub args: Vec<Vec<u8>>,
    /// The whole environment, as `KEY=value`.
    pub env: Vec<Vec<u8>>,
    /// Seconds until it is killed and has failed.
    pub timeout: Option<u32>,
}

/// Scheduling of a process. What is not set is inherited from the monitor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// CPU scheduling.
    pub scheduler: Option<Scheduler>,
    /// I/O priority as ioprio_set(2) takes it: class and level.
    pub io_priority: Option<u16>,
    /// Where memory is allocated.
    pub memory: Option<MemoryPolicy>,
}

/// `struct sched_attr` of sched_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of sched_setattr(2)")]
pub struct Scheduler {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// The arguments of set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*` with the `MPOL_F_*` flags.
    pub mode: u32,
    /// The NUMA nodes, as a bit mask in 64-bit words.
    pub nodes: Vec<u64>,
}

/// How to run one more process in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// Exec id, unique in the pod.
    pub id: String,
    /// Container id.
    pub container: String,
    /// What each descriptor sent with the plan is, in order: `Stdin`, `Stdout`, `Stderr`. A stream that is not sent is
    /// `/dev/null`. An `OutputReader` may be sent for each of the last two, and one `Birth`.
    pub fds: Vec<FdRole>,
    /// Program, environment and privileges.
    pub process: ProcessPlan,
}

/// How to attach to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachPlan {
    /// Attach id, unique in the pod.
    pub id: String,
    /// Container id.
    pub container: String,
    /// What each descriptor sent with the plan is, in order: for `Stdin` the reading end of a pipe, for `Stdout` and `Stderr`
    /// the writing ends. The daemon keeps the other ends. A reader may fall behind by as much as its pipe holds. A
    /// container with a terminal has no `Stderr`.
    pub fds: Vec<FdRole>,
}

/// The role of a descriptor that is sent with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FdRole {
    /// The container's root: a detached mount (fsmount(2) or open_tree(2)), or an `O_PATH` directory.
    Root,
    /// A detached mount that is the source of `MountSource::Fd` with this index.
    Mount(u32),
    /// The log file, open for appending.
    Log,
    /// cgroup v1: the `tasks` file of a cgroup, open for writing; one per hierarchy. After them, on v2 as well, that of a
    /// resctrl group, which takes processes the same way. Kept for exec.
    ///
    /// Not `cgroup.procs`: to move a whole process the kernel stops every fork on the machine and waits for a grace period of
    /// several milliseconds. A thread that moves itself does not wait, and the processes that join here have one thread.
    CgroupTasks,
    /// cgroup v2: the cgroup's directory, for CLONE_INTO_CGROUP. Kept for exec.
    CgroupDir,
    /// `memory.events` (v2) or `memory.oom_control` (v1) of the container's cgroup, read at its exit.
    OomEvents,
    /// Standard input of an exec, or a pipe to a container's input.
    Stdin,
    /// Standard output of an exec, or a pipe for a container's output.
    Stdout,
    /// Standard error of an exec, or a pipe for a container's output.
    Stderr,
    /// The reading end of an exec's `Stdout` or `Stderr`. The monitor reads from it only after the connection that requested
    /// the exec has ended, so that the process can continue without its daemon.
    OutputReader,
    /// For an exec: where its processes are made, instead of the container's cgroup. As `CgroupTasks` of the pids controller
    /// where the container has those, else as `CgroupDir`. The monitor moves the process that executes the command into the
    /// container's cgroup before it may do so. Since version 3.
    Birth,
}

/// Where a namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The pod's, which is the host's if the pod has no own one.
    Pod,
    /// The host's.
    Host,
    /// A new one.
    New,
    /// That of a running container of this pod, by its id.
    Container(String),
    /// The one behind this file of the host, by its absolute path. Not for `pid`. Since version 6.
    File(Vec<u8>),
}

/// The namespaces of a container. Its mount namespace is always new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespacePlan {
    /// `Pod` joins the pause process's; `New` makes the first process PID 1.
    pub pid: Namespace,
    /// `Pod`, `Host` or `New`.
    pub ipc: Namespace,
    /// `Pod` or `Host`.
    pub network: Namespace,
    /// `Pod` or `Host`.
    pub uts: Namespace,
    /// `New` or `Host`.
    pub cgroup: Namespace,
}

/// Mount propagation (mount_namespaces(7)); applies recursively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// MS_PRIVATE.
    Private,
    /// MS_SLAVE: later mounts of the host appear in the container.
    Slave,
    /// MS_SHARED: in addition, mounts of the container appear on the host.
    Shared,
}

/// Mount attributes as for mount_setattr(2), `MOUNT_ATTR_*` bits. `MOUNT_ATTR_IDMAP` of a bind mount selects the map of the
/// pod's user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Set on the mount itself.
    pub set: u64,
    /// Cleared on the mount itself.
    pub clear: u64,
    /// Set on the mount and all mounts below it (`AT_RECURSIVE`), for example recursive read-only.
    pub set_recursive: u64,
}

/// One mount (mount_setattr(2), move_mount(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Path in the container. If absent, it is made as a directory or an empty file, like the source.
    pub target: Vec<u8>,
    /// What is mounted.
    pub source: MountSource,
    /// Flags such as read-only.
    pub attributes: Attributes,
    /// Its propagation; private if none.
    pub propagation: Option<Propagation>,
}

/// The source of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host, opened by the container's process before it leaves the host's mounts. Symbolic links are followed.
    Bind {
        /// Absolute path.
        path: Vec<u8>,
        /// Include the mounts below it.
        recursive: bool,
    },
    /// The detached mount sent with [`FdRole::Mount`] of this index.
    Fd(u32),
    /// A new file system (fsopen(2)).
    Filesystem {
        /// Type: `proc`, `tmpfs`, `sysfs`, `devpts`, `mqueue`, `cgroup2`, `cgroup` …
        fstype: String,
        /// `source` parameter.
        source: String,
        /// Parameters, flags without a value. For `cgroup` (v1): the controllers, or `none` and `name=…`.
        options: Vec<(String, Option<String>)>,
    },
    /// A path of the container's own root file system, bound onto the target: made as a directory (0755) if absent, and
    /// mounted before all mounts of other kinds. It stays writable when the root becomes read-only. Skipped if `path`, which
    /// comes from the image, leads nowhere or to the root itself.
    RootfsPath {
        /// Path in the container, resolved beneath its root.
        path: Vec<u8>,
    },
}

/// Kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Character device.
    Character,
    /// Block device.
    Block,
    /// Named pipe.
    Fifo,
}

/// A device node (mknod(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Path in the container.
    pub path: Vec<u8>,
    /// Type of the node.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits, whatever the umask.
    pub mode: u32,
    /// Owner, as a user id in the container.
    pub uid: u32,
    /// Group, as a group id in the container.
    pub gid: u32,
}

/// Standard streams of a container's first process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPlan {
    /// Keep stdin open for attach. Otherwise stdin is `/dev/null`.
    pub stdin: bool,
    /// Close stdin when the first client that was attached to it leaves.
    pub stdin_once: bool,
    /// A pseudo terminal (pty(7)) for all three streams. Its output is logged as `stdout`.
    pub terminal: bool,
}

/// The container's log, in CRI log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// Longest content of an entry, in bytes. A longer line is split into `P` entries and a final `F` entry.
    pub max_line: u32,
}

/// A process, up to its execve(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// Arguments. The first is searched in the `PATH` of `env` inside the container if it has no slash.
    pub args: Vec<Vec<u8>>,
    /// Environment, as `KEY=value`. The daemon has added `HOME` from the container's passwd file.
    pub env: Vec<Vec<u8>>,
    /// Working directory, made if absent.
    pub cwd: Vec<u8>,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Supplementary groups, all of them.
    pub groups: Vec<u32>,
    /// umask(2).
    pub umask: u32,
    /// Capabilities (capabilities(7)). Those that the monitor lacks are left out.
    pub capabilities: CapabilitySets,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// Seccomp program: `struct sock_filter`s in the machine's byte order, and the flags of seccomp(2).
    pub seccomp: Option<(Vec<u8>, u32)>,
    /// Resource limits. Hard limits that may not be raised are clamped.
    pub rlimits: Vec<Rlimit>,
    /// oom_score_adj, clamped if it may not be lowered.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile to change to at exec.
    pub apparmor: Option<String>,
    /// SELinux label to change to at exec.
    pub selinux: Option<String>,
    /// A pseudo terminal for this process.
    pub terminal: bool,
    /// Size of the terminal: rows, columns.
    pub terminal_size: Option<(u16, u16)>,
}

/// Capability sets as bit masks, with bit n for capability number n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// What execve(2) can grant at most.
    pub bounding: u64,
    /// What the kernel checks.
    pub effective: u64,
    /// What the process may make effective.
    pub permitted: u64,
    /// What programs with file capabilities may keep.
    pub inheritable: u64,
    /// What other programs keep.
    pub ambient: u64,
}

/// A resource limit (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*` number.
    pub resource: u32,
    /// What the kernel enforces; `u64::MAX` is no limit.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}
