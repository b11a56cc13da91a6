//! Killing everything of a container or an exec, without waiting in place.
//!
//! ```text
//!   asked ─▶ look: who is there? ──nobody──▶ answer: done
//!               ▲        │ somebody: kill them
//!               └─ wait ─┤ (1, 2, 4 … 50 ms, or until a child has ended)
//!                        └ after 5 s ─▶ answer: who is left, and in what state
//! ```
//!
//! Processes are killed by pidfd, and only if they are still on the list after their pidfd was opened:
//! a number that has come to mean another process is never killed.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pausa_monitor_protocol::{Failure, FailureKind, Reply};

use crate::failure::failure;
use crate::monitor::{Answer, Container, Kill, Monitor, Stage, Target};
use crate::{process, start_container};

/// How long to try.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest time between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Begins to kill everything in a container, or joins the kill under way.
///
/// # Errors
/// No such container.
pub(crate) fn container(monitor: &mut Monitor<'_>, id: &str, answer: Option<Answer>) -> Result<(), Failure> {
    start_container::settle(monitor, id);
    if let Some(live) = &mut monitor.container(id)?.live {
        live.told_to_die = true;
    }
    let same = |kill: &&mut Kill| matches!(&kill.target, Target::Container(other) if other == id);
    if let Some(kill) = monitor.kills.iter_mut().find(same) {
        kill.answers.extend(answer);
        kill.until = Instant::now() + LIMIT;
        return Ok(());
    }
    begin(monitor, Target::Container(id.to_owned()), answer);
    Ok(())
}

/// Begins to kill an exec'd process and all that came of it.
///
/// # Errors
/// No such exec, or it has ended.
pub(crate) fn exec(monitor: &mut Monitor<'_>, id: &str, answer: Option<Answer>) -> Result<(), Failure> {
    if start_container::kill_exec(monitor, id, answer) {
        return Ok(());
    }
    let Some(exec) = monitor.execs.iter().find(|exec| exec.id == id) else {
        return Err(failure(
            FailureKind::NotFound,
            format!("no exec {id} runs in this pod"),
        ));
    };
    let target = Target::Exec {
        id: id.to_owned(),
        container: exec.container.clone(),
        session: exec.pid,
        family: BTreeSet::from([exec.pid]),
    };
    begin(monitor, target, answer);
    Ok(())
}

fn begin(monitor: &mut Monitor<'_>, target: Target, answer: Option<Answer>) {
    let now = Instant::now();
    monitor.kills.push(Kill {
        target,
        answers: answer.into_iter().collect(),
        until: now + LIMIT,
        next: now,
        pause: Duration::from_millis(1),
    });
}

/// Whether a kill of this container is under way.
pub(crate) fn under_way(monitor: &Monitor<'_>, id: &str) -> bool {
    let same = |kill: &Kill| matches!(&kill.target, Target::Container(other) if other == id);
    monitor.kills.iter().any(same)
}

/// A child has ended: whoever waits for that looks at once.
pub(crate) fn hasten(monitor: &mut Monitor<'_>) {
    let now = Instant::now();
    for kill in &mut monitor.kills {
        kill.next = now;
    }
}

/// When to call [`advance`] next.
pub(crate) fn deadline(monitor: &Monitor<'_>) -> Option<Instant> {
    monitor.kills.iter().map(|kill| kill.next).min()
}

/// Takes the next step of every kill whose time has come.
pub(crate) fn advance(monitor: &mut Monitor<'_>) {
    let now = Instant::now();
    for mut kill in std::mem::take(&mut monitor.kills) {
        if kill.next > now {
            monitor.kills.push(kill);
            continue;
        }
        let left = strike(monitor, &mut kill.target);
        if left.is_empty() {
            finish(monitor, &kill, &Ok(Reply::Done));
        } else if now >= kill.until {
            finish(monitor, &kill, &Err(still_there(&kill.target, &left)));
        } else {
            kill.next = now + kill.pause;
            kill.pause = (kill.pause * 2).min(PAUSE_MAX);
            monitor.kills.push(kill);
        }
    }
}

fn finish(monitor: &mut Monitor<'_>, kill: &Kill, result: &Result<Reply, Failure>) {
    for answer in &kill.answers {
        monitor.answer(*answer, result.clone(), Vec::new());
    }
}

/// Kills once and says who was there. Nobody: it is over.
fn strike(monitor: &mut Monitor<'_>, target: &mut Target) -> BTreeSet<i32> {
    match target {
        Target::Container(id) => match monitor.container(id) {
            Ok(container) => strike_container(container),
            Err(_) => BTreeSet::new(),
        },
        Target::Exec {
            id,
            container,
            session,
            family,
        } => {
            let runs = monitor.execs.iter().find(|exec| exec.id == *id);
            let held = runs.map(|exec| (exec.pid, exec.pidfd.try_clone().ok()));
            let cgroup = monitor
                .container(container)
                .ok()
                .and_then(|found| found.live.as_ref());
            let look = |family: &mut BTreeSet<i32>| {
                let everyone = cgroup.and_then(|live| live.cgroup.members());
                relatives(&everyone.unwrap_or_else(process::all), *session, family)
            };
            let first = look(family);
            let mut struck = kill_listed(&first, || look(family));
            if let Some((pid, pidfd)) = held {
                // Not reaped yet, so its number is still its own.
                pidfd.iter().for_each(process::kill);
                struck.insert(pid);
            }
            struck
        }
    }
}

fn strike_container(container: &Container) -> BTreeSet<i32> {
    let Some(live) = &container.live else {
        return BTreeSet::new();
    };
    live.cgroup.kill();
    let list = || BTreeSet::from_iter(live.cgroup.members().unwrap_or_default());
    let mut struck = kill_listed(&list(), list);
    if matches!(container.stage, Stage::Running | Stage::Starting) {
        process::kill(&live.pidfd);
        struck.insert(container.pid);
    }
    struck
}

/// Kills those on the list who are on it still when their pidfd is open.
fn kill_listed(listed: &BTreeSet<i32>, list_again: impl FnOnce() -> BTreeSet<i32>) -> BTreeSet<i32> {
    if listed.is_empty() {
        return BTreeSet::new();
    }
    let held: Vec<(i32, OwnedFd)> = listed
        .iter()
        .filter_map(|pid| Some((*pid, process::open(*pid)?)))
        .collect();
    let again = list_again();
    for (pid, pidfd) in &held {
        if again.contains(pid) {
            process::kill(pidfd);
        }
    }
    again
}

/// Those of `everyone` who are in the session or descend from a member of the family; they join it.
/// The dead who wait to be reaped do not count.
fn relatives(everyone: &[i32], session: i32, family: &mut BTreeSet<i32>) -> BTreeSet<i32> {
    let kin: Vec<_> = everyone
        .iter()
        .filter_map(|pid| Some((*pid, process::kin(*pid)?)))
        .collect();
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for (pid, kin) in &kin {
            if kin.session == session || family.contains(&kin.parent) || found.contains(&kin.parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    family.extend(&found);
    found.retain(|pid| kin.iter().any(|(other, kin)| other == pid && kin.state != 'Z'));
    found
}

fn still_there(target: &Target, left: &BTreeSet<i32>) -> Failure {
    let what = match target {
        Target::Container(id) => format!("container {id}"),
        Target::Exec { id, .. } => format!("exec {id}"),
    };
    let example = left
        .iter()
        .find_map(|pid| Some((*pid, process::kin(*pid)?.state)));
    let state = match example {
        Some((pid, 'D')) => format!("process {pid} waits in the kernel (state D, see /proc/{pid}/stack)"),
        Some((pid, state)) => format!("process {pid} is in state {state}"),
        None => "new ones keep coming".to_owned(),
    };
    let count = left.len();
    failure(
        FailureKind::Internal,
        format!(
            "kill {what}: {count} processes are left after {} s, {state}",
            LIMIT.as_secs()
        ),
    )
}

#[cfg(test)]
mod tests;
