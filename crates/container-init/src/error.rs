//! The steps of a start and their errors.
//!
//! A step names its object and the system call with its arguments. An error is a step with an errno, or a violated rule.
//! Nothing is logged here: errors reach the daemon as a [`Failure`].

use std::fmt;

use pausa_monitor_protocol::{Failure, FailureKind};
use rustix::io::Errno;

use crate::hooks::HookStage;

/// Longest path or argument that is shown, in bytes. They come from images and may be of any length.
const SHOWN_MAX: usize = 256;

/// A path or argument of the container in an error's text: shortened, with control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown(Vec<u8>);

impl From<&[u8]> for Shown {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(SHOWN_MAX)].to_vec())
    }
}

impl From<&Vec<u8>> for Shown {
    fn from(bytes: &Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in String::from_utf8_lossy(&self.0).chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

/// A step on the way to `execve`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Step {
    #[error("make the report socket: socketpair(AF_UNIX, SOCK_SEQPACKET)")]
    Channel,
    #[error("read the reports of the container's process: recvmsg(2)")]
    Receive,
    #[error("join the PID namespace: setns(CLONE_NEWPID); its first process may have ended")]
    JoinPid,
    #[error(
        "take the proc file system from the holder of the PID namespace: setns(CLONE_NEWNS), open_tree(/proc)"
    )]
    HolderProc,
    #[error(
        "make the process: clone3({0}); EAGAIN means that a limit of processes is reached: of the container, of its pod, of its user or of the node"
    )]
    Clone(&'static str),
    #[error("protect the monitor's memory: prctl(PR_SET_DUMPABLE, 0)")]
    Undumpable,
    #[error("move a descriptor: fcntl(F_DUPFD_CLOEXEC)")]
    Duplicate,
    #[error("close the monitor's descriptors: close_range(2)")]
    CloseOthers,
    #[error("enter cgroup or resctrl group {0} of the plan: write(tasks, \"0\")")]
    EnterCgroup(usize),
    #[error("enter the cgroup that the command is made in: write(tasks, \"0\")")]
    EnterBirth,
    #[error("move the command into the container's cgroup: write({0}, process id)")]
    Admit(&'static str),
    #[error("make the cgroup namespace: unshare(CLONE_NEWCGROUP)")]
    CgroupNamespace,
    #[error("open the namespace {0}: open(2)")]
    OpenNamespace(Shown),
    #[error("join the {0} namespace: setns(2)")]
    JoinNamespace(&'static str),
    #[error("join the container's namespaces: setns(pidfd); the container may have ended")]
    JoinContainer,
    #[error("join the pod's user namespace: setns(CLONE_NEWUSER)")]
    JoinUsers,
    #[error("become root of the pod's user namespace: {0}")]
    NamespaceRoot(&'static str),
    #[error("hand over to the next process: write(2), read(2)")]
    HandOver,
    #[error("prepare memory for the last process: mmap(2), madvise(/proc/self/maps, MADV_DONTFORK)")]
    ChildMemory,
    #[error("prepare the arguments of the command: at most 6 MiB together with the environment")]
    Arguments,
    #[error(
        "map the owners of {path} for the mount on {target}: mount_setattr(MOUNT_ATTR_IDMAP); EINVAL means that its file system does not support it: use another volume, or a pod without a user namespace (hostUsers)"
    )]
    MapMount { path: Shown, target: Shown },
    #[error("bring up the loopback interface: ioctl(SIOCSIFFLAGS, lo)")]
    Loopback,
    #[error("set oom_score_adj to {0}: write(/proc/self/oom_score_adj)")]
    OomScore(i32),
    #[error("set the {kind} {label}: write(/proc/thread-self/attr/{file}); is it loaded on this node?")]
    Label {
        kind: &'static str,
        label: String,
        file: &'static str,
    },
    #[error("make a session keyring: keyctl(KEYCTL_JOIN_SESSION_KEYRING)")]
    Keyring,
    #[error("open the source of the mount on {target}: open_tree({path}, OPEN_TREE_CLONE)")]
    MountSource { path: Shown, target: Shown },
    #[error("leave the host's mounts: {0}")]
    BaseMounts(&'static str),
    #[error("attach the root: move_mount(root, {0})")]
    AttachRoot(Shown),
    #[error("run the {stage} hook {path}")]
    Hook { stage: HookStage, path: Shown },
    #[error("prepare the input and output of a hook: memfd_create(2)")]
    HookFiles,
    #[error("wait for the createRuntime hooks: read(2), readlink(/proc/self)")]
    AwaitHooks,
    #[error("find or make the mount target {0}: openat2(root, RESOLVE_IN_ROOT)")]
    MountTarget(Shown),
    #[error("mount {target}: fsopen({fstype})")]
    OpenFilesystem { target: Shown, fstype: String },
    #[error("mount {target}: fsconfig({fstype}, {option}){hint}")]
    ConfigureFilesystem {
        target: Shown,
        fstype: String,
        option: String,
        hint: String,
    },
    #[error("mount {target}: fsconfig({fstype}, FSCONFIG_CMD_CREATE){hint}")]
    CreateFilesystem {
        target: Shown,
        fstype: String,
        hint: String,
    },
    #[error("mount {target}: fsmount({fstype}, {attributes:#x})")]
    FilesystemMount {
        target: Shown,
        fstype: String,
        attributes: u64,
    },
    #[error("mount {target}: mount_setattr(set {set:#x}, clear {clear:#x}{how})")]
    MountAttributes {
        target: Shown,
        set: u64,
        clear: u64,
        how: &'static str,
    },
    #[error("mount {0}: move_mount(source, target)")]
    Attach(Shown),
    #[error("inspect {0}: fstat(2) or fstatfs(2)")]
    Inspect(Shown),
    #[error("make the device {0}: mknodat(2)")]
    Device(Shown),
    #[error("change the owner of the device {path} to {uid}:{gid}: fchownat(2)")]
    DeviceOwner { path: Shown, uid: u32, gid: u32 },
    #[error("make the link /dev/{0}: symlinkat(2)")]
    DeviceLink(&'static str),
    #[error("find the masked or read-only path {0}: openat2(root, RESOLVE_IN_ROOT)")]
    HiddenPath(Shown),
    #[error("make the working directory {0}: mkdirat(root)")]
    MakeDirectory(Shown),
    #[error("make the root read-only: mount_setattr(MOUNT_ATTR_RDONLY)")]
    ReadonlyRoot,
    #[error("change to the new root: {0}")]
    EnterRoot(&'static str),
    #[error("make the terminal: {0}; does the container have a devpts on /dev/pts?")]
    Terminal(&'static str),
    #[error("set up the standard streams: {0}")]
    Streams(&'static str),
    #[error("close inherited descriptors: close_range({0}, ~0)")]
    CloseAll(u32),
    #[error("reset the signals: rt_sigaction(2)")]
    Signals,
    #[error("set resource limit {resource}: setrlimit(soft {soft}, hard {hard})")]
    ResourceLimit { resource: u32, soft: u64, hard: u64 },
    #[error("drop capability {0} from the bounding set: prctl(PR_CAPBSET_DROP)")]
    Bounding(u32),
    #[error("keep capabilities over the change of user: prctl(PR_SET_KEEPCAPS)")]
    KeepCapabilities,
    #[error("set {0} supplementary groups: setgroups(2)")]
    Groups(usize),
    #[error("become group {0}: setresgid(2)")]
    Group(u32),
    #[error("become user {0}: setresuid(2)")]
    User(u32),
    #[error("read the capabilities: capget(2)")]
    ReadCapabilities,
    #[error("set the capabilities: capset(2)")]
    SetCapabilities,
    #[error("set ambient capability {0}: prctl(PR_CAP_AMBIENT_RAISE); it must be permitted and inheritable")]
    Ambient(u32),
    #[error("enter the working directory {0}: chdir(2)")]
    WorkingDirectory(Shown),
    #[error("set no_new_privs: prctl(PR_SET_NO_NEW_PRIVS)")]
    NoNewPrivileges,
    #[error("load the seccomp filter: seccomp(SECCOMP_SET_MODE_FILTER)")]
    Seccomp,
    #[error("set the CPU scheduling of the command: sched_setattr(policy {0})")]
    Scheduler(u32),
    #[error("set the I/O priority of the command: ioprio_set({0:#x})")]
    IoPriority(u16),
    #[error("set the memory policy of the command: set_mempolicy({0:#x})")]
    MemoryPolicy(u32),
    #[error("start the command {command}: execve({path})")]
    Exec { command: Shown, path: Shown },
    #[error("start the command {command}: no executable file of that name in the container's PATH {path}")]
    NotInPath { command: Shown, path: Shown },
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{step}")]
    Call {
        step: Step,
        #[source]
        source: Errno,
    },
    #[error("the plan has no descriptor for {0}")]
    MissingDescriptor(&'static str),
    #[error("the plan joins the {0} namespace of a container, but no container came with it")]
    MissingTarget(&'static str),
    #[error("{0} contains a zero byte")]
    ZeroByte(&'static str),
    #[error("the plan has no command to run")]
    NoCommand,
    #[error("the process that was to execute the command ended before it was in the container's cgroup")]
    NotAdmitted,
    #[error("{step}")]
    NotExecuted { step: String, errno: Errno },
    #[error("the {stage} hook {path} has failed: {how}")]
    Hook {
        stage: HookStage,
        path: Shown,
        how: String,
    },
    #[error("mount on {0}: the root itself cannot be a mount's target")]
    TargetIsRoot(Shown),
    #[error(
        "mount on {0}: it lies inside procfs; only single status files there (such as /proc/meminfo) may be mounted over"
    )]
    TargetInProc(Shown),
    #[error(
        "mount {target}: the path in the container contains a symbolic link or is not a directory; {fstype} is only mounted on a directory without links in its path"
    )]
    TargetNotPlain { target: Shown, fstype: String },
    #[error("{path}: expected {expected}, but the container has replaced it by something else")]
    Impostor { path: Shown, expected: &'static str },
    #[error("resource limit {0} is unknown")]
    UnknownLimit(u32),
    #[error("the working directory {0} lies outside the container")]
    OutsideDirectory(Shown),
    #[error("the seccomp filter is malformed: its length is not a multiple of 8 or out of range")]
    MalformedSeccomp,
    #[error(
        "a report came that the process never sends: other processes of the container have tampered with its start"
    )]
    UnexpectedReport,
    #[error(
        "the container's process was killed by signal {signal} before it could start the command; last step: {step}; for signal 9, check the cgroup's memory limit"
    )]
    Killed { signal: i32, step: String },
    #[error(
        "the container's process exited with code {code} before it could start the command; last step: {step}"
    )]
    Exited { code: i32, step: String },
    #[error("the start was cancelled; last step: {step}")]
    Cancelled { step: String },
    #[error(
        "gave up after {seconds} s; last step: {step}; a mount source on an unreachable network file system may be the cause"
    )]
    TimedOut { seconds: u64, step: String },
}

impl Error {
    /// errno if a system call failed, otherwise 0.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Self::Call { source: errno, .. } | Self::NotExecuted { errno, .. } => errno.raw_os_error(),
            _ => 0,
        }
    }

    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Call {
                step: Step::Channel | Step::Receive | Step::Clone(_) | Step::EnterBirth | Step::Admit(_),
                ..
            }
            | Self::Hook { .. }
            | Self::NotAdmitted => FailureKind::Internal,
            Self::MissingDescriptor(_) => FailureKind::Protocol,
            _ => FailureKind::Start,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            errno: error.errno(),
            step: error.to_string(),
        }
    }
}

/// Adds the failed step to an errno.
pub(crate) trait At<T> {
    fn at(self, step: Step) -> Result<T, Error>;
    /// As [`At::at`], with a step that is only built if it failed.
    fn at_with(self, step: impl FnOnce() -> Step) -> Result<T, Error>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Result<T, Error> {
        self.map_err(|source| Error::Call { step, source })
    }

    fn at_with(self, step: impl FnOnce() -> Step) -> Result<T, Error> {
        self.map_err(|source| Error::Call { step: step(), source })
    }
}

#[cfg(test)]
mod tests;
