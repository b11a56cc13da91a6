//! Measures how long it takes to start a container's first process and an exec. Needs root and a release build:
//! `cargo run --release -p pausa-container-init --example measure`. With `spawn` or `exec` and a number as arguments it
//! only does that, so that strace(1) can watch it.

#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]

#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../tests/privileged/world.rs"]
mod world;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pausa_container_init::{ContainerFds, Spawned, Streams};
use pausa_monitor_protocol::{Attributes, ContainerPlan};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::world::{Running, World, bind, detached, exec, exec_plan, process, shell, start_with};

/// The cgroup v1 hierarchies a container is usually in.
const HIERARCHIES: [&str; 6] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "devices"];

fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_else(|| "all".to_owned());
    let count = args.next().and_then(|count| count.parse().ok()).unwrap_or(200);
    let world = World::new();
    let cgroups = Cgroups::new();
    let root = detached(&world.root());
    let plan = kubernetes_like(&world);
    for (name, procs) in [("", Vec::new()), (" in cgroups v1", cgroups.procs())] {
        if matches!(what.as_str(), "spawn" | "all") {
            let run = || {
                // A root is used up by its container.
                let root = detached(&world.root());
                let fds = ContainerFds {
                    root: Some(root.as_fd()),
                    cgroup_tasks: procs.clone(),
                    ..ContainerFds::default()
                };
                start_with(&plan, &fds, &Streams::default(), None).unwrap()
            };
            report(&format!("spawn{name}"), &mut repeat(count, run));
        }
        if matches!(what.as_str(), "exec" | "all") {
            let mut sleeper = plan.clone();
            sleeper.process = process(&["/bin/sleep", "1000"]);
            let fds = ContainerFds {
                root: Some(root.as_fd()),
                cgroup_tasks: procs.clone(),
                ..ContainerFds::default()
            };
            let running = Running(start_with(&sleeper, &fds, &Streams::default(), None).unwrap());
            let exec_plan = exec_plan(plan.process.clone());
            let run = || exec(&exec_plan, running.0.pidfd.as_fd(), &fds, &Streams::default()).unwrap();
            report(&format!("exec{name}"), &mut repeat(count, run));
        }
    }
}

/// A cgroup in each hierarchy, removed at the end.
struct Cgroups(Vec<(PathBuf, File)>);

impl Cgroups {
    fn new() -> Self {
        let make = |hierarchy: &&str| {
            let path = PathBuf::from(format!(
                "/sys/fs/cgroup/{hierarchy}/pausa-measure-{}",
                std::process::id()
            ));
            std::fs::create_dir(&path).ok()?;
            for file in ["cpuset.cpus", "cpuset.mems"]
                .iter()
                .filter(|_| *hierarchy == "cpuset")
            {
                let inherited = std::fs::read(path.parent().unwrap().join(file)).unwrap();
                std::fs::write(path.join(file), inherited).unwrap();
            }
            let procs = File::options().write(true).open(path.join("tasks")).unwrap();
            Some((path, procs))
        };
        Self(HIERARCHIES.iter().filter_map(make).collect())
    }

    fn procs(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(|(_, procs)| procs.as_fd()).collect()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.0
            .iter()
            .for_each(|(path, _)| std::fs::remove_dir(path).unwrap());
    }
}

fn kubernetes_like(world: &World) -> ContainerPlan {
    let mut plan = shell("");
    for name in ["hosts", "hostname", "resolv.conf", "termination-log"] {
        std::fs::write(world.path(name), "").unwrap();
        plan.mounts.push(bind(
            &world.path(name),
            &format!("/etc/{name}"),
            Attributes::default(),
        ));
    }
    plan.process = process(&["/bin/true"]);
    plan.process.no_new_privs = true;
    // One instruction: allow. What a filter of hundreds costs to load is the filter's own business.
    plan.process.seccomp = Some((vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f], 0));
    let list = |paths: &[&str]| paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    plan.masked_paths = list(&[
        "/proc/asound",
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/proc/interrupts",
    ]);
    plan.readonly_paths = list(&[
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ]);
    plan
}

/// Time to the return of `run`, and from there to the end of the process.
fn repeat(count: usize, mut run: impl FnMut() -> Spawned) -> Vec<(Duration, Duration)> {
    (0..count)
        .map(|_| {
            let start = Instant::now();
            let spawned = run();
            let started = start.elapsed();
            waitid(WaitId::PidFd(spawned.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap();
            (started, start.elapsed())
        })
        .collect()
}

fn report(name: &str, times: &mut [(Duration, Duration)]) {
    times.sort();
    let (started, _) = times[times.len() / 2];
    times.sort_by_key(|(_, ended)| *ended);
    let (_, ended) = times[times.len() / 2];
    println!(
        "{name}: started after {started:?}, ended after {ended:?} (medians of {})",
        times.len()
    );
}
