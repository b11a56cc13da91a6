//! What takes longer than one turn of the loop.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pausa_container_init::Pending;
use pausa_monitor_protocol::Failure;

use super::Answer;

/// Who is to be killed.
#[derive(Debug)]
pub(crate) enum Target {
    /// Everything in a container.
    Container(String),
    /// An exec'd process and all that came of it.
    Exec {
        /// Its id.
        id: String,
        /// Its container's id.
        container: String,
        /// Its process, which leads its session.
        session: i32,
        /// Everything found to have come of it so far.
        family: BTreeSet<i32>,
    },
}

/// A kill under way: repeated, because what is killed may be forking, until nothing is left.
#[derive(Debug)]
pub(crate) struct Kill {
    /// Who.
    pub(crate) target: Target,
    /// Who asked.
    pub(crate) answers: Vec<Answer>,
    /// When to give up.
    pub(crate) until: Instant,
    /// When to look next.
    pub(crate) next: Instant,
    /// How long to wait after that.
    pub(crate) pause: Duration,
}

/// The way out.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// Who asked.
    pub(crate) answers: Vec<Answer>,
    /// Until when containers may end by themselves.
    pub(crate) grace: Instant,
    /// What is left has been killed.
    pub(crate) killing: bool,
    /// When to give up; then whoever asked is told what is left.
    pub(crate) until: Instant,
    /// Nothing is left.
    pub(crate) done: bool,
}

/// What a process that is being started is to become.
#[derive(Debug)]
pub(crate) enum Started {
    /// The first process of the container of this id, which is in the list already.
    Container {
        /// Its id.
        id: String,
        /// Longest line of its log.
        max_line: usize,
    },
    /// One more process in a container.
    Exec {
        /// Its id.
        id: String,
        /// Its container's id.
        container: String,
        /// Reading ends of its streams.
        outputs: Vec<OwnedFd>,
        /// The client has gone already: nothing is kept of its streams.
        hung_up: bool,
    },
}

/// A process on its way to `execve`.
#[derive(Debug)]
pub(crate) struct Starting {
    /// Its number in the poll.
    pub(crate) number: u64,
    /// Who asked.
    pub(crate) answer: Answer,
    /// What it is to become.
    pub(crate) what: Started,
    /// Who has asked for its end.
    pub(crate) killers: Vec<Answer>,
    /// How far it is.
    pub(crate) way: Way,
}

/// How far a process is that is being started.
#[derive(Debug)]
pub(crate) enum Way {
    /// It is being set up.
    Pending(Pending),
    /// It was killed, and is not reaped yet.
    Ending {
        /// Its process id.
        pid: i32,
        /// Why, until it is told.
        failure: Option<Failure>,
        /// When it is told even if it is not reaped.
        until: Instant,
    },
}

impl Starting {
    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        match &self.way {
            Way::Pending(pending) => pending.pid(),
            Way::Ending { pid, .. } => *pid,
        }
    }

    /// When something has to be done about it; never for one that hangs and is told of.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.way {
            Way::Pending(pending) => Some(pending.deadline()),
            Way::Ending { failure, until, .. } => failure.as_ref().map(|_| *until),
        }
    }

    /// Whether its end has not been told yet.
    pub(crate) const fn is_told_later(&self) -> bool {
        match &self.way {
            Way::Pending(_) => true,
            Way::Ending { failure, .. } => failure.is_some(),
        }
    }
}
