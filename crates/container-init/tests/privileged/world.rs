//! A root file system with busybox, plans to start from, and a way to run them.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pausa_container_init::{ContainerFds, HostNamespaces, Pending, PodContext, Progress, Spawned, Streams};
use pausa_monitor_protocol::{
    Attributes, CapabilitySets, ContainerPlan, DeviceKind, DevicePlan, ExecPlan, Failure, IoPlan, MountPlan,
    MountSource, Namespace, NamespacePlan, ProcessPlan, Propagation,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

pub(crate) const RDONLY: u64 = 1;
pub(crate) const NOSUID: u64 = 2;
pub(crate) const NODEV: u64 = 4;
pub(crate) const NOEXEC: u64 = 8;

/// The default capabilities of containerd.
pub(crate) const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

const APPLETS: [&str; 22] = [
    "sh", "true", "cat", "ls", "id", "mount", "sleep", "stat", "readlink", "hostname", "touch", "mkdir",
    "test", "echo", "tty", "stty", "pwd", "umask", "ps", "grep", "kill", "chmod",
];

/// The directory that a test works in. It is removed at the end, which fails if a mount has leaked.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = Self { dir };
        let root = world.root();
        for name in ["bin", "etc", "proc", "dev", "sys", "tmp"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        world
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The mounts below this directory in the mount namespace of this process.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.dir.path().to_str().unwrap();
        table
            .lines()
            .filter(|line| line.contains(own))
            .map(str::to_owned)
            .collect()
    }

    /// Runs a plan to its end.
    pub(crate) fn run(&self, plan: &ContainerPlan) -> Result<Ended, Failure> {
        let (read, write) = pipe();
        let running = self.start(
            plan,
            &Streams {
                stdin: None,
                stdout: Some(write.as_fd()),
                stderr: Some(write.as_fd()),
            },
        );
        drop(write);
        running.map(|spawned| finish(&spawned, read))
    }

    /// Runs a shell script in a default container and returns what it wrote.
    pub(crate) fn script(&self, script: &str) -> String {
        self.run(&shell(script)).unwrap().output
    }

    /// Starts a plan.
    pub(crate) fn start(&self, plan: &ContainerPlan, streams: &Streams<'_>) -> Result<Spawned, Failure> {
        let root = detached(&self.root());
        let fds = ContainerFds {
            root: Some(root.as_fd()),
            ..ContainerFds::default()
        };
        start_with(plan, &fds, streams, None)
    }

    /// Starts a container that does nothing until it is killed.
    pub(crate) fn sleeper(&self, change: impl FnOnce(&mut ContainerPlan)) -> Running {
        let mut plan = shell("exec sleep 1000");
        change(&mut plan);
        Running(self.start(&plan, &Streams::default()).unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(
                self.mounts(),
                Vec::<String>::new(),
                "mounts were left on the host"
            );
        }
    }
}

/// A running container, killed at the end.
pub(crate) struct Running(pub(crate) Spawned);

impl Running {
    /// Runs one more process in it to its end.
    pub(crate) fn exec(&self, process: ProcessPlan) -> Result<Ended, Failure> {
        let (read, write) = pipe();
        let plan = exec_plan(process);
        let streams = Streams {
            stdin: None,
            stdout: Some(write.as_fd()),
            stderr: Some(write.as_fd()),
        };
        let spawned = exec(&plan, self.0.pidfd.as_fd(), &ContainerFds::default(), &streams);
        drop(write);
        spawned.map(|spawned| finish(&spawned, read))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        pidfd_send_signal(&self.0.pidfd, Signal::KILL).unwrap();
        waitid(WaitId::PidFd(self.0.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    }
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
}

pub(crate) fn finish(spawned: &Spawned, read: OwnedFd) -> Ended {
    let mut bytes = Vec::new();
    File::from(read).read_to_end(&mut bytes).unwrap();
    let status = waitid(WaitId::PidFd(spawned.pidfd.as_fd()), WaitIdOptions::EXITED)
        .unwrap()
        .unwrap();
    Ended {
        code: status.exit_status(),
        output: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

pub(crate) fn start_with(
    plan: &ContainerPlan,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
    joined: Option<&Spawned>,
) -> Result<Spawned, Failure> {
    let open = |name: &str| File::open(format!("/proc/self/ns/{name}")).unwrap();
    let [network, ipc, uts, pid, cgroup] = ["net", "ipc", "uts", "pid", "cgroup"].map(open);
    let base_mounts = pausa_sys::base_mounts().unwrap();
    let pod = PodContext {
        host: HostNamespaces {
            network: network.as_fd(),
            ipc: ipc.as_fd(),
            uts: uts.as_fd(),
            pid: pid.as_fd(),
            cgroup: cgroup.as_fd(),
        },
        base_mounts: base_mounts.as_fd(),
        pause: joined.map(|spawned| spawned.pidfd.as_fd()),
        target: joined.map(|spawned| spawned.pidfd.as_fd()),
    };
    #[expect(unsafe_code, reason = "cloning needs a process with one thread")]
    // SAFETY: tests and example have one thread: neither libtest nor anything here starts another.
    let pending = unsafe { pausa_container_init::spawn_init(&plan.clone().into(), fds, streams, &pod) };
    wait(pending?)
}

pub(crate) fn begin_exec(
    plan: &ExecPlan,
    container: BorrowedFd<'_>,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
) -> Result<Pending, Failure> {
    #[expect(unsafe_code, reason = "cloning needs a process with one thread")]
    // SAFETY: as in `start_with`.
    let pending = unsafe { pausa_container_init::spawn_exec(plan, container, fds, streams) };
    pending
}

pub(crate) fn exec(
    plan: &ExecPlan,
    container: BorrowedFd<'_>,
    fds: &ContainerFds<'_>,
    streams: &Streams<'_>,
) -> Result<Spawned, Failure> {
    wait(begin_exec(plan, container, fds, streams)?)
}

/// Waits until the child has passed `execve` or failed, and reaps it in the latter case.
fn wait(mut pending: Pending) -> Result<Spawned, Failure> {
    loop {
        let rest = pending.deadline().saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(rest).unwrap();
        let watched = match pending.is_closed() {
            true => pending.pidfd(),
            false => pending.as_fd(),
        };
        poll(
            &mut [PollFd::from_borrowed_fd(watched, PollFlags::IN)],
            Some(&timeout),
        )
        .unwrap();
        match pending.advance() {
            Progress::Waiting(still) => pending = still,
            Progress::Running(spawned) => return Ok(spawned),
            Progress::Failed(failed) => {
                waitid(WaitId::PidFd(failed.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
                return Err(failed.failure);
            }
        }
    }
}

pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// A detached bind mount of a directory.
pub(crate) fn detached(path: &Path) -> OwnedFd {
    open_tree(
        CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .unwrap()
}

/// A plan as for Kubernetes that runs a shell script.
pub(crate) fn shell(script: &str) -> ContainerPlan {
    ContainerPlan {
        id: "test".to_owned(),
        fds: Vec::new(),
        namespaces: NamespacePlan {
            pid: Namespace::New,
            ipc: Namespace::New,
            network: Namespace::Pod,
            uts: Namespace::New,
            cgroup: Namespace::New,
        },
        root_propagation: Propagation::Private,
        root_readonly: false,
        mounts: default_mounts(),
        devices: default_devices(),
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        io: IoPlan::default(),
        log: None,
        process: process(&["sh", "-c", script]),
    }
}

/// [`shell`] with more mounts.
pub(crate) fn with(script: &str, mounts: Vec<MountPlan>) -> ContainerPlan {
    let mut plan = shell(script);
    plan.mounts.extend(mounts);
    plan
}

pub(crate) fn process(args: &[&str]) -> ProcessPlan {
    let caps = DEFAULT_CAPABILITIES;
    ProcessPlan {
        args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        env: vec![b"PATH=/usr/bin:/bin".to_vec(), b"HOME=/root".to_vec()],
        cwd: b"/".to_vec(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        umask: 0o022,
        capabilities: CapabilitySets {
            bounding: caps,
            effective: caps,
            permitted: caps,
            inheritable: 0,
            ambient: 0,
        },
        no_new_privs: false,
        seccomp: None,
        rlimits: Vec::new(),
        oom_score_adj: None,
        apparmor: None,
        selinux: None,
        terminal: false,
        terminal_size: None,
    }
}

pub(crate) fn exec_plan(process: ProcessPlan) -> ExecPlan {
    ExecPlan {
        id: "exec".to_owned(),
        container: "test".to_owned(),
        fds: Vec::new(),
        process,
    }
}

pub(crate) fn filesystem(
    target: &str,
    fstype: &str,
    set: u64,
    options: &[(&str, Option<&str>)],
) -> MountPlan {
    MountPlan {
        target: target.into(),
        source: MountSource::Filesystem {
            fstype: fstype.to_owned(),
            source: fstype.to_owned(),
            options: options
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
                .collect(),
        },
        attributes: Attributes {
            set,
            ..Attributes::default()
        },
        propagation: None,
    }
}

pub(crate) fn bind(source: &Path, target: &str, attributes: Attributes) -> MountPlan {
    MountPlan {
        target: target.into(),
        source: MountSource::Bind {
            path: source.to_str().unwrap().into(),
            recursive: true,
        },
        attributes,
        propagation: None,
    }
}

pub(crate) fn default_mounts() -> Vec<MountPlan> {
    let strict = NOSUID | NODEV | NOEXEC;
    let pts = [
        ("newinstance", None),
        ("ptmxmode", Some("0666")),
        ("mode", Some("0620")),
        ("gid", Some("5")),
    ];
    vec![
        filesystem("/proc", "proc", strict, &[]),
        filesystem(
            "/dev",
            "tmpfs",
            NOSUID,
            &[("mode", Some("755")), ("size", Some("65536k"))],
        ),
        filesystem("/dev/pts", "devpts", NOSUID | NOEXEC, &pts),
        filesystem("/dev/mqueue", "mqueue", strict, &[]),
        filesystem("/sys", "sysfs", strict | RDONLY, &[]),
        filesystem("/dev/shm", "tmpfs", strict, &[("mode", Some("1777"))]),
    ]
}

pub(crate) fn default_devices() -> Vec<DevicePlan> {
    [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ]
    .into_iter()
    .map(|(name, major, minor)| DevicePlan {
        path: format!("/dev/{name}").into_bytes(),
        kind: DeviceKind::Character,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    })
    .collect()
}
