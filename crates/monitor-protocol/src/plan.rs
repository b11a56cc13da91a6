//! Plans: everything the monitor does to make a pod or a process, decided by the daemon beforehand.
//!
//! A plan holds no policy and nothing to look up: ids are resolved, seccomp is compiled, options are
//! parsed. Paths in [`MountSource::Bind`] are the host's; every other path is the container's and is
//! resolved beneath its root, never through it.
//!
//! Plans may change from version to version, in any way: see the crate's rules.

use serde::{Deserialize, Serialize};

/// How to make a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPlan {
    /// Pod sandbox id.
    pub pod: String,
    /// Give the pod a network namespace of its own, loopback up.
    pub new_network: bool,
    /// Give the pod an IPC namespace of its own.
    pub new_ipc: bool,
    /// Give the pod a UTS namespace of its own, with this hostname.
    pub hostname: Option<String>,
    /// Give the pod a shared PID namespace: starts the pause process.
    pub shared_pid: bool,
    /// Sysctls to write once the namespaces are there: name with dots or slashes, value.
    pub sysctls: Vec<(String, String)>,
    /// oom_score_adj of the monitor and the pause process (proc(5)); clamped where it may not be lowered.
    pub oom_score_adj: i32,
    /// Give the pod a user namespace of its own (user_namespaces(7)), which owns its other namespaces and which all
    /// its containers are in. The monitor itself stays outside.
    pub users: Option<IdRange>,
}

/// The users and groups of a user namespace: 0 to `length` - 1 inside are `first` and the following outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// What 0 is outside.
    pub first: u32,
    /// How many.
    pub length: u32,
}

impl IdRange {
    /// What an id inside is outside; none if it is none of these.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        (inside < self.length)
            .then(|| self.first.checked_add(inside))
            .flatten()
    }
}

/// How to make a container. Steps happen in the order of the fields of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// Container id.
    pub id: String,
    /// What each descriptor sent with the plan is, in order.
    pub fds: Vec<FdRole>,
    /// Namespaces to make or join.
    pub namespaces: NamespacePlan,
    /// Propagation of the container's root: `Private` unless a mount asks for more.
    pub root_propagation: Propagation,
    /// Remount the root read-only at the end.
    pub root_readonly: bool,
    /// Mounts, in order; those of [`MountSource::OwnRoot`] first.
    pub mounts: Vec<MountPlan>,
    /// Device nodes to make, beside the standard links of `/dev` (fd, stdin, stdout, stderr, core, ptmx).
    pub devices: Vec<DevicePlan>,
    /// Paths hidden from the container: files by `/dev/null`, directories by an empty read-only tmpfs. Absent ones are skipped.
    pub masked_paths: Vec<Vec<u8>>,
    /// Paths made read-only. Absent ones are skipped.
    pub readonly_paths: Vec<Vec<u8>>,
    /// Where the streams go.
    pub io: IoPlan,
    /// Where the log goes; none: output is read and dropped.
    pub log: Option<LogPlan>,
    /// The first process.
    pub process: ProcessPlan,
}

/// How to run one more process in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// Exec id, unique in the pod.
    pub id: String,
    /// Container id.
    pub container: String,
    /// What each descriptor sent with the plan is, in order: `Stdin`, `Stdout`, `Stderr`. What is not
    /// sent is `/dev/null`. `OutputReader` may come for each of the last two: see there.
    pub fds: Vec<FdRole>,
    /// The process.
    pub process: ProcessPlan,
}

/// How to attach to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachPlan {
    /// Attach id, unique in the pod.
    pub id: String,
    /// Container id.
    pub container: String,
    /// What each descriptor sent with the plan is, in order: of `Stdin` the reading end of a pipe, of `Stdout`
    /// and `Stderr` the writing ends. The other ends are the asker's; how much a pipe holds is how far a
    /// reader may fall behind. A container with a terminal has no `Stderr`.
    pub fds: Vec<FdRole>,
}

/// What a descriptor sent along is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FdRole {
    /// The container's root: a detached mount (fsmount(2) or open_tree(2)), or an `O_PATH` directory.
    Root,
    /// A detached mount that is the source of `MountSource::Fd` with this index.
    Mount(u32),
    /// The log file, open for appending.
    Log,
    /// cgroup v1: the `tasks` file of a cgroup, open for writing; one a hierarchy. Kept for exec.
    ///
    /// Not `cgroup.procs`: to move a whole process the kernel stops every fork on the machine and waits for a
    /// grace period, several milliseconds; a thread that moves itself waits for nothing, and what joins here
    /// has a single one.
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
    /// The reading end of an exec's `Stdout` or `Stderr`. The monitor keeps it and reads from it only when the
    /// connection that asked for the exec has ended, so that the process goes on without its daemon.
    OutputReader,
}

/// Where a namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The pod's, which is the host's where the pod made none.
    Pod,
    /// The host's.
    Host,
    /// A new one.
    New,
    /// That of a running container of this pod (its id).
    Container(String),
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
    /// MS_SLAVE: what the host mounts later appears.
    Slave,
    /// MS_SHARED: what the container mounts appears on the host too.
    Shared,
}

/// Mount attributes as for mount_setattr(2), `MOUNT_ATTR_*` bits. `MOUNT_ATTR_IDMAP` in `set` of a bind mount means
/// the map of the pod's user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Set on the mount itself.
    pub set: u64,
    /// Cleared on the mount itself.
    pub clear: u64,
    /// Set on the mount and everything below it (`AT_RECURSIVE`): recursive read-only and the like.
    pub set_recursive: u64,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Where, in the container. Made if absent, as what the source is (directory or empty file).
    pub target: Vec<u8>,
    /// What.
    pub source: MountSource,
    /// With what attributes.
    pub attributes: Attributes,
    /// Propagation; none: private.
    pub propagation: Option<Propagation>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host, symlinks followed, opened by the container's own child before it loses sight of it.
    Bind {
        /// Absolute path.
        path: Vec<u8>,
        /// With the mounts below it.
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
    /// A part of the container's own root: made as a directory (0755) if absent, and mounted before all that is
    /// not of this kind. It stays writable when the root becomes read-only. Skipped where `path` leads
    /// nowhere or to the root itself, since an image says it.
    OwnRoot {
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

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Path in the container.
    pub path: Vec<u8>,
    /// Kind.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The container's streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPlan {
    /// Keep a stdin open for attach; else stdin is `/dev/null`.
    pub stdin: bool,
    /// Close stdin when the first attached client leaves.
    pub stdin_once: bool,
    /// A pseudo terminal (pty(7)) for all three; output is one stream, `stdout`.
    pub terminal: bool,
}

/// The container's log, in CRI log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// Longest content of one entry in bytes; a longer line is split into `P` entries and a final `F`.
    pub max_line: u32,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// Arguments; the first is looked up in the `PATH` of `env` inside the container if it has no slash.
    pub args: Vec<Vec<u8>>,
    /// Environment, `KEY=value` each. `HOME` is added from the container's passwd entry by the daemon.
    pub env: Vec<Vec<u8>>,
    /// Working directory, made if absent.
    pub cwd: Vec<u8>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, all of them.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
    /// Capabilities (capabilities(7)); what the monitor itself lacks is left out.
    pub capabilities: CapabilitySets,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// Seccomp program: `struct sock_filter`s in the machine's byte order, and the flags of seccomp(2).
    pub seccomp: Option<(Vec<u8>, u32)>,
    /// Resource limits; hard limits that may not be raised are clamped.
    pub rlimits: Vec<Rlimit>,
    /// oom_score_adj; clamped where it may not be lowered.
    pub oom_score_adj: Option<i32>,
    /// AppArmor profile to change to at exec.
    pub apparmor: Option<String>,
    /// SELinux label to take at exec.
    pub selinux: Option<String>,
    /// A pseudo terminal for this process.
    pub terminal: bool,
    /// Size of the terminal: rows, columns.
    pub terminal_size: Option<(u16, u16)>,
}

/// Capability sets as bit masks, bit n for capability number n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// Bounding.
    pub bounding: u64,
    /// Effective.
    pub effective: u64,
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Ambient.
    pub ambient: u64,
}

/// One resource limit (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*` number.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}
