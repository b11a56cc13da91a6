//! cgroups of both versions.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use pausa_container_init::{ContainerFds, Streams};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::Case;
use crate::privileged::world::*;

pub(crate) const CASES: &[Case] = &[
    (
        "cgroups::cgroup_v1_is_joined_and_is_the_namespaces_root",
        cgroup_v1,
    ),
    (
        "cgroups::cgroup_v2_is_joined_and_is_the_namespaces_root",
        cgroup_v2,
    ),
    (
        "cgroups::exec_is_made_elsewhere_and_moved_where_no_pids_are_left",
        exec_beyond_the_limit,
    ),
    (
        "cgroups::exec_is_made_elsewhere_and_moved_with_cgroup_v2",
        exec_by_another_cgroup_v2,
    ),
    (
        "cgroups::exec_follows_a_container_that_manages_cgroups",
        cgroup_v2_delegated,
    ),
    (
        "cgroups::hierarchies_are_mounted_at_the_containers_own_cgroup",
        hierarchies_are_mounted,
    ),
    (
        "cgroups::a_child_killed_before_exec_is_reported",
        killed_before_exec,
    ),
];

/// A cgroup of its own, removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(hierarchy: &str) -> Option<Self> {
        let path = PathBuf::from(format!(
            "/sys/fs/cgroup/{hierarchy}/pausa-init-test-{}",
            std::process::id()
        ));
        match std::fs::create_dir(&path) {
            Ok(()) => Some(Self(path)),
            Err(_) => {
                println!("skipped: no cgroup hierarchy at /sys/fs/cgroup/{hierarchy}");
                None
            }
        }
    }

    fn name(&self) -> String {
        format!("/{}", self.0.file_name().unwrap().to_str().unwrap())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).unwrap();
    }
}

/// A cgroup beside another one, with a limit.
struct Birth(PathBuf);

impl Birth {
    fn beside(cgroup: &Cgroup, file: &str, limit: &str) -> Self {
        let path = cgroup.0.with_extension("birth");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(file), limit).unwrap();
        Self(path)
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).unwrap();
    }
}

fn root_of_v2() -> &'static str {
    if std::fs::exists("/sys/fs/cgroup/cgroup.procs").unwrap() {
        "."
    } else {
        "unified"
    }
}

/// Runs a sleeper in the cgroup and an exec, and says where each is, seen from the host and from inside.
fn in_cgroup(world: &World, fds: &ContainerFds<'_>) -> (String, String, String) {
    let root = detached(&world.root());
    let fds = ContainerFds {
        root: Some(root.as_fd()),
        mounts: Vec::new(),
        cgroup_tasks: fds.cgroup_tasks.clone(),
        cgroup_dir: fds.cgroup_dir,
        ..ContainerFds::default()
    };
    let first = start_with(&shell("exec sleep 1000"), &fds, &Streams::default(), None).unwrap();
    let first = Running(first);
    let outside = std::fs::read_to_string(format!("/proc/{}/cgroup", first.0.pid)).unwrap();
    let inside = first.exec(process(&["cat", "/proc/1/cgroup"])).unwrap().output;
    let plan = exec_plan(process(&["sleep", "1000"]));
    let second = exec(&plan, first.0.pidfd.as_fd(), &fds, &Streams::default()).unwrap();
    let exec = std::fs::read_to_string(format!("/proc/{}/cgroup", second.pid)).unwrap();
    pidfd_send_signal(&second.pidfd, Signal::KILL).unwrap();
    waitid(WaitId::PidFd(second.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
    (outside, inside, exec)
}

fn cgroup_v1() {
    let world = World::new();
    let Some(cgroup) = Cgroup::new("pids") else { return };
    let tasks = File::options().write(true).open(cgroup.0.join("tasks")).unwrap();
    let fds = ContainerFds {
        cgroup_tasks: vec![tasks.as_fd()],
        ..ContainerFds::default()
    };
    let (outside, inside, exec) = in_cgroup(&world, &fds);
    assert!(
        outside.contains(&format!(":pids:{}\n", cgroup.name())),
        "{outside}"
    );
    assert!(inside.contains(":pids:/\n"), "{inside}");
    assert!(exec.contains(&format!(":pids:{}\n", cgroup.name())), "{exec}");
}

/// The container's cgroup is full; `birth` is the one that takes two processes.
fn exec_beyond_the_limit() {
    let world = World::new();
    let Some(cgroup) = Cgroup::new("pids") else { return };
    let birth = Birth::beside(&cgroup, "pids.max", "2");
    let tasks = |path: &Path| File::options().write(true).open(path.join("tasks")).unwrap();
    let (own, other) = (tasks(&cgroup.0), tasks(&birth.0));
    let root = detached(&world.root());
    let mut fds = ContainerFds {
        root: Some(root.as_fd()),
        cgroup_tasks: vec![own.as_fd()],
        ..ContainerFds::default()
    };
    let first = start_with(&shell("exec sleep 1000"), &fds, &Streams::default(), None).unwrap();
    let first = Running(first);
    std::fs::write(cgroup.0.join("pids.max"), "1").unwrap();
    let plan = exec_plan(process(&["sleep", "1000"]));
    let container = first.0.pidfd.as_fd();
    let failure = exec(&plan, container, &fds, &Streams::default()).unwrap_err();
    assert_eq!(failure.errno, Errno::AGAIN.raw_os_error());
    assert!(failure.step.contains("limit of processes"), "{failure}");
    fds.birth = Some(other.as_fd());
    let second = Running(exec(&plan, container, &fds, &Streams::default()).unwrap());
    let place = std::fs::read_to_string(format!("/proc/{}/cgroup", second.0.pid)).unwrap();
    assert!(place.contains(&format!(":pids:{}\n", cgroup.name())), "{place}");
    // Without room in the other one, nothing is made.
    std::fs::write(birth.0.join("pids.max"), "0").unwrap();
    let failure = exec(&plan, container, &fds, &Streams::default()).unwrap_err();
    assert_eq!(failure.errno, Errno::AGAIN.raw_os_error());
}

fn exec_by_another_cgroup_v2() {
    let world = World::new();
    let Some(cgroup) = Cgroup::new(root_of_v2()) else {
        return;
    };
    let birth = Birth::beside(&cgroup, "cgroup.max.depth", "max");
    let (own, other) = (File::open(&cgroup.0).unwrap(), File::open(&birth.0).unwrap());
    let root = detached(&world.root());
    let fds = ContainerFds {
        root: Some(root.as_fd()),
        cgroup_dir: Some(own.as_fd()),
        birth: Some(other.as_fd()),
        ..ContainerFds::default()
    };
    let first = start_with(&shell("exec sleep 1000"), &fds, &Streams::default(), None).unwrap();
    let first = Running(first);
    let plan = exec_plan(process(&["sleep", "1000"]));
    let second = exec(&plan, first.0.pidfd.as_fd(), &fds, &Streams::default()).unwrap();
    let second = Running(second);
    let place = std::fs::read_to_string(format!("/proc/{}/cgroup", second.0.pid)).unwrap();
    assert!(place.contains(&format!("0::{}\n", cgroup.name())), "{place}");
    let left = std::fs::read_to_string(birth.0.join("cgroup.procs")).unwrap();
    assert_eq!(left, "", "nothing is left where it was made");
}

fn cgroup_v2() {
    let world = World::new();
    let Some(cgroup) = Cgroup::new(root_of_v2()) else {
        return;
    };
    let dir = File::open(&cgroup.0).unwrap();
    let fds = ContainerFds {
        cgroup_dir: Some(dir.as_fd()),
        ..ContainerFds::default()
    };
    let (outside, inside, exec) = in_cgroup(&world, &fds);
    assert!(outside.contains(&format!("0::{}\n", cgroup.name())), "{outside}");
    assert!(inside.contains("0::/\n"), "{inside}");
    assert!(exec.contains(&format!("0::{}\n", cgroup.name())), "{exec}");
}

fn killed_before_exec() {
    let world = World::new();
    let Some(cgroup) = Cgroup::new("memory") else {
        return;
    };
    if !cgroup.0.join("memory.limit_in_bytes").exists() {
        println!("skipped: no cgroup v1 memory controller");
        return;
    }
    std::fs::write(cgroup.0.join("memory.limit_in_bytes"), "4096").unwrap();
    let tasks = File::options().write(true).open(cgroup.0.join("tasks")).unwrap();
    let root = detached(&world.root());
    let fds = ContainerFds {
        root: Some(root.as_fd()),
        cgroup_tasks: vec![tasks.as_fd()],
        ..ContainerFds::default()
    };
    let failure = start_with(&shell("true"), &fds, &Streams::default(), None).unwrap_err();
    assert!(failure.step.contains("killed by signal 9"), "{failure}");
}

fn cgroup_v2_delegated() {
    let world = World::new();
    let Some((hierarchy, controllers)) =
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .iter()
            .find_map(|path| {
                let controllers = std::fs::read_to_string(format!("{path}/cgroup.subtree_control")).ok()?;
                let first = controllers
                    .split_whitespace()
                    .find(|name| *name != "cpu" && *name != "pids")?;
                Some((
                    if path.ends_with("unified") { "unified" } else { "." },
                    format!("+{first}"),
                ))
            })
    else {
        println!("skipped: no controller of cgroup v2 is handed down from its root");
        return;
    };
    let Some(cgroup) = Cgroup::new(hierarchy) else {
        return;
    };
    let dir = File::open(&cgroup.0).unwrap();
    let root = detached(&world.root());
    let fds = ContainerFds {
        root: Some(root.as_fd()),
        cgroup_dir: Some(dir.as_fd()),
        ..ContainerFds::default()
    };
    let first = start_with(&shell("exec sleep 1000"), &fds, &Streams::default(), None).unwrap();
    let first = Running(first);
    let inner = cgroup.0.join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("cgroup.procs"), first.0.pid.to_string()).unwrap();
    std::fs::write(cgroup.0.join("cgroup.subtree_control"), controllers).unwrap();
    let plan = exec_plan(process(&["sleep", "1000"]));
    let second = exec(&plan, first.0.pidfd.as_fd(), &fds, &Streams::default()).unwrap();
    let found = std::fs::read_to_string(format!("/proc/{}/cgroup", second.pid)).unwrap();
    drop(Running(second));
    drop(first);
    std::fs::remove_dir(&inner).unwrap();
    assert!(
        found.contains(&format!("0::{}/inner\n", cgroup.name())),
        "{found}"
    );
}

fn hierarchies_are_mounted() {
    let world = World::new();
    let (Some(pids), Some(unified)) = (Cgroup::new("pids"), Cgroup::new("unified")) else {
        return;
    };
    let mark = "pausa-mark";
    for cgroup in [&pids, &unified] {
        std::fs::create_dir(cgroup.0.join(mark)).unwrap();
    }
    let mut plan = shell("cd /sys/fs/cgroup; ls -d */pausa-mark; mkdir pids/x 2>&1; ls -d /sys/fs/cgroup/*");
    plan.mounts.extend([
        filesystem(
            "/sys/fs/cgroup",
            "tmpfs",
            NOSUID | NODEV | NOEXEC,
            &[("mode", Some("755"))],
        ),
        filesystem(
            "/sys/fs/cgroup/pids",
            "cgroup",
            RDONLY | NOSUID,
            &[("pids", None)],
        ),
        filesystem(
            "/sys/fs/cgroup/systemd",
            "cgroup",
            RDONLY,
            &[("none", None), ("name", Some("systemd"))],
        ),
        filesystem("/sys/fs/cgroup/unified", "cgroup2", RDONLY, &[]),
    ]);
    let tasks = File::options().write(true).open(pids.0.join("tasks")).unwrap();
    let dir = File::open(&unified.0).unwrap();
    let root = detached(&world.root());
    let fds = ContainerFds {
        root: Some(root.as_fd()),
        cgroup_tasks: vec![tasks.as_fd()],
        cgroup_dir: Some(dir.as_fd()),
        ..ContainerFds::default()
    };
    let (read, write) = pipe();
    let streams = Streams {
        stdout: Some(write.as_fd()),
        stderr: Some(write.as_fd()),
        stdin: None,
    };
    let spawned = start_with(&plan, &fds, &streams, None).unwrap();
    drop(write);
    let output = finish(&spawned, read).output;
    for cgroup in [&pids, &unified] {
        std::fs::remove_dir(cgroup.0.join(mark)).unwrap();
    }
    assert_eq!(
        output,
        "pids/pausa-mark\nunified/pausa-mark\nmkdir: can't create directory 'pids/x': Read-only file system\n\
        /sys/fs/cgroup/pids\n/sys/fs/cgroup/systemd\n/sys/fs/cgroup/unified\n"
    );
}
