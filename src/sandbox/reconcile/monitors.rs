//! Monitors that no daemon will ever connect to.
//!
//! A monitor whose daemon dies before the Setup request ends by itself: its only connection is gone. One that is just
//! serving that request goes on and then listens; the next daemon may have looked for it before. It is found in the process
//! table, by the pod's id among its arguments.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::directories::{self, has_record};
use crate::cgroups::Driver;
use crate::error::chain;
use crate::id::Id;
use crate::sandbox::{Pods, ops};
use crate::state::CONTAINERS;

/// How long a monitor may take to end what it holds and leave, then to die.
const PATIENCE: Duration = Duration::from_secs(25);

#[derive(Debug)]
struct Process {
    pod: Id,
    pid: Pid,
    handle: OwnedFd,
}

/// Kills the monitor of a pod if there is one, and waits for its end: for recorded pods whose monitor does not listen.
pub(in crate::sandbox) async fn kill_leftover(pod: &Id) {
    let wanted = pod.clone();
    for process in find(move |found| *found == wanted).await {
        tracing::warn!(
            pod = pod.short(),
            pid = process.pid.as_raw_nonzero(),
            "killing a monitor that no daemon can connect to"
        );
        if !process.ends_by(Signal::KILL).await {
            tracing::error!(
                pod = pod.short(),
                pid = process.pid.as_raw_nonzero(),
                "a monitor does not end after SIGKILL; /proc/PID/wchan says what it waits for"
            );
        }
    }
}

/// Ends the monitors that hold a directory of ours for a pod nobody knows. Returns how many.
pub(super) async fn end_strays(pods: &Pods) -> usize {
    let Ok(tree) = fs::canonicalize(pods.services.store.layout().pods()) else {
        return 0;
    };
    // The monitors first, then who is known: a pod is registered before its monitor is started.
    let mut strays = find(|_| true).await;
    let layout = pods.services.store.layout();
    strays.retain(|process| {
        let unknown = !pods.registry.knows(&process.pod) && !has_record(layout, &process.pod);
        unknown && process.holds(&tree.join(process.pod.as_str()))
    });
    let mut ended = 0;
    for process in strays {
        let containers = directories::ids(&layout.pod(&process.pod).join(CONTAINERS));
        ended += usize::from(end_stray(pods, process, containers.into_iter().collect()).await);
    }
    ended
}

/// Ends the monitor of a pod of ours that has no record, if there is one, and removes the cgroups of the pod's containers.
pub(in crate::sandbox) async fn end_without_record(pods: &Pods, pod: &Id, containers: &[Id]) {
    let wanted = pod.clone();
    for process in find(move |found| *found == wanted).await {
        end_stray(pods, process, containers.to_vec()).await;
    }
}

async fn end_stray(pods: &Pods, process: Process, containers: Vec<Id>) -> bool {
    let parent = process.cgroup_parent();
    let pid = process.pid.as_raw_nonzero();
    // Told to leave, it ends its containers first; killed, it could not.
    if !process.ends_by(Signal::TERM).await && !process.ends_by(Signal::KILL).await {
        tracing::error!(
            pod = process.pod.short(),
            pid,
            "a monitor without a record does not end after SIGKILL; the next round tries again"
        );
        return false;
    }
    tracing::warn!(
        pod = process.pod.short(),
        pid,
        "ended a monitor without a record, and what ran in its pod"
    );
    remove_traces(pods, parent, process.pod, containers).await;
    true
}

/// Removes what can only be found by way of the monitor: the place of its network namespace, and its cgroup and those of
/// its containers.
async fn remove_traces(pods: &Pods, parent: Option<String>, pod: Id, containers: Vec<Id>) {
    let services = pods.services.clone();
    let removed = tokio::task::spawn_blocking(move || {
        ops::unbind_netns(&services.settings().netns(&pod));
        // systemd removes a scope that is empty by itself.
        let Some(parent) = parent.filter(|_| services.cgroups.driver() == Driver::Cgroupfs) else {
            return Ok(());
        };
        for container in containers {
            let path = services.cgroups.container_path(&parent, container.as_str())?;
            services.cgroups.remove(&path)?;
        }
        services.cgroups.remove_of_monitor(&parent, pod.as_str())
    });
    if let Ok(Err(error)) = removed.await {
        tracing::warn!(
            error = chain(&error),
            "cannot remove the cgroup of a monitor without a record; it stays, empty"
        );
    }
}

/// The monitors of pods that are `wanted`.
async fn find(wanted: impl Fn(&Id) -> bool + Send + 'static) -> Vec<Process> {
    let found = tokio::task::spawn_blocking(move || {
        let numbers = fs::read_dir("/proc")?.filter_map(Result::ok);
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok::<_, std::io::Error>(
            numbers
                .filter_map(Pid::from_raw)
                .filter_map(|pid| Process::of(pid, &wanted))
                .collect(),
        )
    });
    match found.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot look for monitors without a record: readdir(/proc)");
            Vec::new()
        }
        Err(error) => {
            tracing::error!(%error, "the search for monitors without a record panicked; the next round tries again");
            Vec::new()
        }
    }
}

/// The pod in a monitor's command line, `pausa-monitor POD`.
pub(in crate::sandbox) fn pod_of(command: &[u8]) -> Option<Id> {
    let mut words = command.split(|byte| *byte == 0);
    if words.next() != Some(b"pausa-monitor") {
        return None;
    }
    let pod = String::from_utf8(words.next()?.to_vec()).ok()?;
    Id::try_from(pod).ok()
}

impl Process {
    fn of(pid: Pid, wanted: &impl Fn(&Id) -> bool) -> Option<Self> {
        let read = || fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok();
        let pod = pod_of(&read()?).filter(wanted)?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number may have gone to another process before it was held.
        (pod_of(&read()?).as_ref() == Some(&pod)).then_some(Self { pod, pid, handle })
    }

    /// Whether it has this directory open, which may be removed by now: only the daemon that has the directory can have
    /// given it to the monitor.
    fn holds(&self, dir: &Path) -> bool {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero()));
        let removed = format!("{} (deleted)", dir.display());
        fds.into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|target| target == dir || target == Path::new(&removed))
    }

    /// The cgroup of its pod, if it is in one of its own there.
    fn cgroup_parent(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid.as_raw_nonzero())).ok()?;
        let (own, earlier) = (
            format!("/pausa-monitor-{}", self.pod),
            format!("/pausa-monitor-{}", self.pod.short()),
        );
        // On v1 its pids are not counted there.
        let is_pods = |line: &&str| !line.split([':', ',']).any(|word| word == "pids");
        text.lines()
            .filter(is_pods)
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .filter_map(|path| path.strip_suffix(&own).or_else(|| path.strip_suffix(&earlier)))
            .map(str::to_owned)
            .next()
    }

    /// Sends a signal and waits a while for the end.
    async fn ends_by(&self, signal: Signal) -> bool {
        if pidfd_send_signal(&self.handle, signal) == Err(rustix::io::Errno::SRCH) {
            return true;
        }
        let Ok(handle) = self.handle.try_clone() else {
            return false;
        };
        tokio::time::timeout(PATIENCE, crate::monitor::exited(handle))
            .await
            .is_ok_and(|ended| ended.is_ok())
    }
}
