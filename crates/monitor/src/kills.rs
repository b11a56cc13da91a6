//! Kills of all processes of a container or an exec, without blocking.
//!
//! ```text
//!   begun ─▶ list the processes ──none──▶ done
//!               ▲       │ some: kill them
//!               └─ wait ┤ (1, 2, 4 … 50 ms, or until a child has ended)
//!                       └ after 5 s ─▶ failure: how many are left, and the state of one
//! ```
//!
//! A kill is repeated because the processes may be forking. Processes are killed by pidfd, and only if they are still listed
//! after their pidfd was opened, so that a reused process id is never killed.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pausa_monitor_protocol::{Failure, FailureKind, Reply};

use crate::connections::ReplyTo;
use crate::containers::{Container, Containers};
use crate::execs::{Exec, Execs};
use crate::failure::failure;
use crate::process;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait between two attempts.
const INTERVAL_MAX: Duration = Duration::from_millis(50);

#[derive(Debug)]
enum Target {
    /// All processes of a container, by its id.
    Container(String),
    /// An exec'd process, the members of its session and their descendants.
    Exec {
        id: String,
        container: String,
        /// The exec'd process leads its session.
        session: i32,
        /// All processes found so far, including dead ones: the children of a dead process are still descendants.
        family: BTreeSet<i32>,
    },
}

#[derive(Debug)]
struct Kill {
    target: Target,
    waiters: Vec<ReplyTo>,
    give_up_at: Instant,
    next_attempt: Instant,
    /// The wait after the next attempt.
    interval: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Kills {
    list: Vec<Kill>,
}

impl Kills {
    /// Begins to kill a container, or joins the kill under way and extends its time.
    pub(crate) fn kill_container(&mut self, id: &str, waiter: Option<ReplyTo>) {
        match self.list.iter_mut().find(|kill| kill.is_of_container(id)) {
            Some(kill) => {
                kill.waiters.extend(waiter);
                kill.give_up_at = Instant::now() + TIMEOUT;
            }
            None => self.begin(Target::Container(id.to_owned()), waiter),
        }
    }

    /// Begins to kill an exec.
    pub(crate) fn kill_exec(&mut self, exec: &Exec, waiter: Option<ReplyTo>) {
        let target = Target::Exec {
            id: exec.id.clone(),
            container: exec.container.clone(),
            session: exec.pid,
            family: BTreeSet::from([exec.pid]),
        };
        self.begin(target, waiter);
    }

    fn begin(&mut self, target: Target, waiter: Option<ReplyTo>) {
        let now = Instant::now();
        self.list.push(Kill {
            target,
            waiters: waiter.into_iter().collect(),
            give_up_at: now + TIMEOUT,
            next_attempt: now,
            interval: Duration::from_millis(1),
        });
    }

    pub(crate) fn is_killing_container(&self, id: &str) -> bool {
        self.list.iter().any(|kill| kill.is_of_container(id))
    }

    /// Makes the next attempt of every kill due, since a child has ended.
    pub(crate) fn hasten(&mut self) {
        let now = Instant::now();
        for kill in &mut self.list {
            kill.next_attempt = now;
        }
    }

    /// When [`Self::advance`] must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.list.iter().map(|kill| kill.next_attempt).min()
    }

    /// Makes the attempts that are due. Returns the results of the kills that are over.
    pub(crate) fn advance(
        &mut self,
        containers: &Containers,
        execs: &Execs,
    ) -> Vec<(Vec<ReplyTo>, Result<Reply, Failure>)> {
        let now = Instant::now();
        let mut results = Vec::new();
        for mut kill in std::mem::take(&mut self.list) {
            if kill.next_attempt > now {
                self.list.push(kill);
                continue;
            }
            let left = kill.target.attempt(containers, execs);
            if left.is_empty() {
                results.push((kill.waiters, Ok(Reply::Done)));
            } else if now >= kill.give_up_at {
                results.push((kill.waiters, Err(kill.target.failure(&left))));
            } else {
                kill.next_attempt = now + kill.interval;
                kill.interval = (kill.interval * 2).min(INTERVAL_MAX);
                self.list.push(kill);
            }
        }
        results
    }
}

impl Kill {
    fn is_of_container(&self, id: &str) -> bool {
        matches!(&self.target, Target::Container(other) if other == id)
    }
}

impl Target {
    /// Kills all processes once. Returns those that were there.
    fn attempt(&mut self, containers: &Containers, execs: &Execs) -> BTreeSet<i32> {
        match self {
            Self::Container(id) => containers.get(id).map(kill_container_once).unwrap_or_default(),
            Self::Exec {
                id,
                container,
                session,
                family,
            } => {
                let live = containers.get(container).ok().and_then(Container::live);
                let list = |family: &mut BTreeSet<i32>| {
                    let members = live.and_then(|live| live.cgroup().members());
                    relatives(&members.unwrap_or_else(process::all), *session, family)
                };
                let listed = list(family);
                let mut found = kill_listed(&listed, || list(family));
                if let Some(exec) = execs.get(id) {
                    // Not reaped yet, so its process id is not reused.
                    process::kill(&exec.pidfd);
                    found.insert(exec.pid);
                }
                found
            }
        }
    }

    fn failure(&self, left: &BTreeSet<i32>) -> Failure {
        let what = match self {
            Self::Container(id) => format!("container {id}"),
            Self::Exec { id, .. } => format!("exec {id}"),
        };
        let example = left
            .iter()
            .find_map(|pid| Some((*pid, process::stat(*pid)?.state)));
        let state = match example {
            Some((pid, 'D')) => {
                format!("process {pid} waits in the kernel (state D, see /proc/{pid}/stack)")
            }
            Some((pid, state)) => format!("process {pid} is in state {state}"),
            None => "and new ones keep appearing".to_owned(),
        };
        failure(
            FailureKind::Internal,
            format!(
                "kill {what}: {} processes are left after {} s, {state}",
                left.len(),
                TIMEOUT.as_secs()
            ),
        )
    }
}

fn kill_container_once(container: &Container) -> BTreeSet<i32> {
    let Some(live) = container.live() else {
        return BTreeSet::new();
    };
    live.cgroup().kill();
    let list = || BTreeSet::from_iter(live.cgroup().members().unwrap_or_default());
    let mut found = kill_listed(&list(), list);
    if let Some((pid, pidfd)) = container.first_process() {
        process::kill(pidfd);
        found.insert(pid);
    }
    found
}

/// Kills the listed processes that are still listed once their pidfds are open. Returns the second list.
fn kill_listed(listed: &BTreeSet<i32>, list_again: impl FnOnce() -> BTreeSet<i32>) -> BTreeSet<i32> {
    if listed.is_empty() {
        return BTreeSet::new();
    }
    let opened: Vec<(i32, OwnedFd)> = listed
        .iter()
        .filter_map(|pid| Some((*pid, process::open(*pid)?)))
        .collect();
    let again = list_again();
    for (pid, pidfd) in &opened {
        if again.contains(pid) {
            process::kill(pidfd);
        }
    }
    again
}

/// The processes among `pids` that are in the session or descend from a member of the family. Adds them to the family.
/// Zombies are not returned.
fn relatives(pids: &[i32], session: i32, family: &mut BTreeSet<i32>) -> BTreeSet<i32> {
    let stats: Vec<_> = pids
        .iter()
        .filter_map(|pid| Some((*pid, process::stat(*pid)?)))
        .collect();
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for (pid, stat) in &stats {
            if stat.session == session || family.contains(&stat.parent) || found.contains(&stat.parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    family.extend(&found);
    found.retain(|pid| {
        stats
            .iter()
            .any(|(other, stat)| other == pid && stat.state != 'Z')
    });
    found
}

#[cfg(test)]
mod tests;
