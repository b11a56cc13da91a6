//! One container inside its pod's actor: the record, what is being done with it, and who waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handle::Answer;
use super::work::ContainerParts;
use crate::container::{ContainerRecord, RunState};
use crate::image::Lease;
use crate::proto::v1;

/// How long after the first KILL a process that does not die is reported instead of waited for.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// How often a start that is to end is called off: the first time it may not have reached the monitor yet.
pub(super) const CALL_OFF: Duration = Duration::from_secs(1);

/// A container that is being made: no record yet, hence nobody sees it.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) config: Box<v1::ContainerConfig>,
    pub(super) waiters: Vec<Answer<crate::id::Id>>,
}

/// A container that has a record.
#[derive(Debug)]
pub(super) struct Slot {
    /// Shared with what is published of it, and with work under way; [`Slot::change`] makes a new one.
    pub(super) record: Arc<ContainerRecord>,
    /// What lies ready for the start, or has to be made again from the record.
    pub(super) parts: Option<ContainerParts>,
    /// Keep the layers of its images while the container exists.
    #[expect(dead_code, reason = "held, not read: dropping it gives the layers up")]
    pub(super) leases: Vec<Lease>,
    /// Work under way that must end before anything else is begun.
    pub(super) busy: Option<Busy>,
    pub(super) start_waiters: Vec<Answer<()>>,
    pub(super) stop: Option<Stop>,
    pub(super) remove_waiters: Vec<Answer<()>>,
    pub(super) updates: VecDeque<(Box<v1::LinuxContainerResources>, Answer<()>)>,
    /// The start under way was asked for by the daemon before this one: the monitor tells its end as an event.
    pub(super) inherited_start: bool,
    /// The process ended while its start was still being answered.
    pub(super) early_exit: Option<pausa_monitor_protocol::ExitStatus>,
}

/// What is being done with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    Starting,
    Updating,
    Removing,
}

/// A stop under way.
#[derive(Debug)]
pub(super) struct Stop {
    /// When patience ends and KILL is sent. A later stop can only bring it nearer.
    pub(super) deadline: Instant,
    pub(super) signalled: bool,
    pub(super) killed: Option<Instant>,
    /// When a start under way was last told to end.
    pub(super) called_off: Option<Instant>,
    pub(super) waiters: Vec<Answer<()>>,
}

impl Slot {
    pub(super) fn new(record: ContainerRecord, parts: Option<ContainerParts>, leases: Vec<Lease>) -> Self {
        Self {
            record: Arc::new(record),
            parts,
            leases,
            busy: None,
            start_waiters: Vec::new(),
            stop: None,
            remove_waiters: Vec::new(),
            updates: VecDeque::new(),
            inherited_start: false,
            early_exit: None,
        }
    }

    /// The record, to be changed: whoever reads the published one keeps it as it was.
    pub(super) fn change(&mut self) -> &mut ContainerRecord {
        Arc::make_mut(&mut self.record)
    }

    pub(super) fn running(&self) -> bool {
        matches!(self.record.run, RunState::Running { .. })
    }

    /// Asks for a stop within `grace`; a shorter grace than before shortens the wait.
    pub(super) fn request_stop(&mut self, now: Instant, grace: Duration, waiter: Option<Answer<()>>) {
        let deadline = now + grace;
        let stop = self.stop.get_or_insert(Stop {
            deadline,
            signalled: false,
            killed: None,
            called_off: None,
            waiters: Vec::new(),
        });
        stop.deadline = stop.deadline.min(deadline);
        stop.waiters.extend(waiter);
    }

    /// When something has to be done although nothing happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let stop = self.stop.as_ref()?;
        if self.busy == Some(Busy::Starting) {
            return stop.called_off.map(|at| at + CALL_OFF);
        }
        let stop = Some(stop).filter(|_| self.running())?;
        Some(stop.killed.map_or(stop.deadline, |killed| killed + KILL_PATIENCE))
    }
}
