//! The way out: nothing of the pod may be left behind by a monitor that leaves.
//!
//! ```text
//!   Shutdown ─────────────────────────▶ killing ──everything has ended──▶ socket removed, answered, gone
//!   SIGTERM ─▶ containers get SIGTERM ─▶   │  (10 s at most)
//!                                          └─ 10 s: who asked is told what is left, and the monitor stays
//! ```

use std::time::{Duration, Instant};

use pausa_monitor_protocol::{FailureKind, Reply, SOCKET_NAME};
use rustix::fs::AtFlags;

use crate::failure::failure;
use crate::monitor::{Answer, Leaving, Monitor, Setup, Stage};
use crate::{kills, process, start_container};

/// How long containers have to end by themselves when the host goes down.
const GRACE: Duration = Duration::from_secs(10);
/// How long killing may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Somebody asks the monitor to kill what runs and to leave.
pub(crate) fn asked(monitor: &mut Monitor<'_>, answer: Answer) {
    let now = Instant::now();
    match &mut monitor.leaving {
        Some(leaving) => {
            leaving.answers.push(answer);
            leaving.grace = now;
        }
        None => monitor.leaving = Some(Leaving::new(vec![answer], now)),
    }
}

/// The host goes down.
pub(crate) fn terminated(monitor: &mut Monitor<'_>) {
    if monitor.leaving.is_some() {
        return;
    }
    monitor.leaving = Some(Leaving::new(Vec::new(), Instant::now() + GRACE));
    start_container::give_up_all(monitor);
    for container in &monitor.containers {
        if let (Stage::Running, Some(live)) = (container.stage, &container.live) {
            // It may have just ended.
            rustix::process::pidfd_send_signal(&live.pidfd, rustix::process::Signal::TERM).ok();
        }
    }
}

impl Leaving {
    fn new(answers: Vec<Answer>, grace: Instant) -> Self {
        Self {
            answers,
            grace,
            killing: false,
            until: grace + LIMIT,
            done: false,
        }
    }
}

/// When to call [`advance`] even if nothing happens.
pub(crate) fn deadline(monitor: &Monitor<'_>) -> Option<Instant> {
    monitor.leaving.as_ref().map(|leaving| {
        if leaving.killing {
            leaving.until
        } else {
            leaving.grace
        }
    })
}

/// Goes on leaving, if the monitor is.
pub(crate) fn advance(monitor: &mut Monitor<'_>) {
    let now = Instant::now();
    let left = what_is_left(monitor);
    let Some(leaving) = &mut monitor.leaving else {
        return;
    };
    if left.is_empty() {
        leaving.done = true;
        let answers = std::mem::take(&mut leaving.answers);
        if let Setup::Done(pod) = &monitor.setup {
            // Whoever comes now shall find nobody rather than wait. The directory may be gone already.
            rustix::fs::unlinkat(&pod.dir, SOCKET_NAME, AtFlags::empty()).ok();
        }
        for answer in answers {
            monitor.answer(answer, Ok(Reply::Done), Vec::new());
        }
    } else if !leaving.killing && now >= leaving.grace {
        leaving.killing = true;
        leaving.until = now + LIMIT;
        kill_all(monitor);
    } else if leaving.killing && now >= leaving.until {
        give_up(monitor, &left.join(", "));
    }
}

fn give_up(monitor: &mut Monitor<'_>, left: &str) {
    if let Some(leaving) = monitor.leaving.take() {
        let told = failure(
            FailureKind::Internal,
            format!(
                "shut the pod down: still running {} s after SIGKILL: {left}",
                LIMIT.as_secs()
            ),
        );
        for answer in leaving.answers {
            monitor.answer(answer, Err(told.clone()), Vec::new());
        }
    }
}

/// What keeps the monitor from leaving.
fn what_is_left(monitor: &Monitor<'_>) -> Vec<String> {
    let containers = monitor
        .containers
        .iter()
        .filter(|container| !matches!(container.stage, Stage::Exited(_) | Stage::Starting))
        .map(|container| format!("container {}", container.id));
    let execs = monitor.execs.iter().map(|exec| format!("exec {}", exec.id));
    let pause = match &monitor.setup {
        Setup::Done(pod) => pod
            .pause
            .as_ref()
            .map(|pause| format!("pause (process {})", pause.pid)),
        _ => None,
    };
    containers
        .chain(execs)
        .chain(pause)
        .chain(start_container::unfinished(monitor))
        .collect()
}

fn kill_all(monitor: &mut Monitor<'_>) {
    start_container::give_up_all(monitor);
    let running: Vec<String> = monitor
        .containers
        .iter()
        .filter(|container| !matches!(container.stage, Stage::Exited(_)))
        .map(|container| container.id.clone())
        .collect();
    for id in running {
        // Cannot fail: the container is there.
        drop(kills::container(monitor, &id, None));
    }
    let execs: Vec<String> = monitor.execs.iter().map(|exec| exec.id.clone()).collect();
    for id in execs {
        // Cannot fail either.
        drop(kills::exec(monitor, &id, None));
    }
    if let Setup::Done(pod) = &monitor.setup
        && let Some(pause) = &pod.pause
    {
        // Takes everything in the shared PID namespace with it. If it cannot be, what_is_left says so.
        process::kill(&pause.pidfd);
    }
}
