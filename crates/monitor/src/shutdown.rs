//! The state of a shutdown: a monitor leaves nothing of its pod behind.
//!
//! ```text
//!   Shutdown ──────────────────────────────▶ Killing ──nothing left──▶ socket removed, answered, exit
//!   SIGTERM ─▶ Grace: containers get SIGTERM ─▶ │  (10 s at most)
//!                                               └─ 10 s: the requests fail with what is left, and the monitor stays
//! ```

use std::time::{Duration, Instant};

use crate::connections::ReplyTo;

/// How long containers may take to end by themselves when the host shuts down.
const GRACE: Duration = Duration::from_secs(10);
/// How long killing may take.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Shutdown {
    /// Requests to answer at the end.
    pub(crate) waiters: Vec<ReplyTo>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Containers may end by themselves until this time.
    Grace(Instant),
    /// Everything was killed. Give up at this time.
    Killing(Instant),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    KillAll,
    Finish,
    GiveUp,
}

impl Shutdown {
    /// A shutdown that kills at once.
    pub(crate) fn by_request(waiter: ReplyTo, now: Instant) -> Self {
        Self {
            waiters: vec![waiter],
            phase: Phase::Grace(now),
        }
    }

    /// A shutdown that lets containers end by themselves first.
    pub(crate) fn by_sigterm(now: Instant) -> Self {
        Self {
            waiters: Vec::new(),
            phase: Phase::Grace(now + GRACE),
        }
    }

    /// A request joins the shutdown, which ends the grace period.
    pub(crate) fn join(&mut self, waiter: ReplyTo, now: Instant) {
        self.waiters.push(waiter);
        if matches!(self.phase, Phase::Grace(_)) {
            self.phase = Phase::Grace(now);
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// When [`Self::advance`] must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Grace(until) | Phase::Killing(until) => Some(until),
            Phase::Done => None,
        }
    }

    /// Decides the next step. After `GiveUp` the shutdown is over.
    pub(crate) fn advance(&mut self, now: Instant, anything_left: bool) -> Step {
        match self.phase {
            Phase::Done => Step::Wait,
            _ if !anything_left => {
                self.phase = Phase::Done;
                Step::Finish
            }
            Phase::Grace(until) if now >= until => {
                self.phase = Phase::Killing(now + KILL_TIMEOUT);
                Step::KillAll
            }
            Phase::Killing(until) if now >= until => Step::GiveUp,
            Phase::Grace(_) | Phase::Killing(_) => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests;
