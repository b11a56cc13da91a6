//! What takes longer than one turn of the loop.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

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
