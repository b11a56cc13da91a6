//! Containers: stopped and removed.
//!
//! A stop sends the container's signal at once and KILL to everything in it when patience ends; it is over
//! when the monitor reports the exit. A removal of a running container is a stop without patience, then the
//! removal.

use std::time::{Duration, Instant};

use pausa_monitor_protocol::Request;

use super::containers::unknown;
use super::{Actor, Answer, Done, Goal, PodError, answer, answer_all};
use crate::error::{ErrorKind, Kinded};
use crate::id::Id;
use crate::sandbox::slot::{Busy, CALL_OFF, KILL_PATIENCE};
use crate::sandbox::work;

impl Actor {
    pub(super) fn stop_container(&mut self, id: &Id, grace: Duration, waiter: Answer<()>) {
        let Some(slot) = self.containers.get_mut(id) else {
            return answer(waiter, Ok(()));
        };
        if slot.running() || slot.busy == Some(Busy::Starting) {
            slot.request_stop(Instant::now(), grace, Some(waiter));
        } else {
            // Made and never started, or ended already: there is nothing to stop.
            answer(waiter, Ok(()));
        }
    }

    pub(super) fn remove_container(&mut self, id: &Id, waiter: Answer<()>) {
        match self.containers.get_mut(id) {
            Some(slot) => slot.remove_waiters.push(waiter),
            None => answer(waiter, Err(unknown(id))),
        }
    }

    pub(super) fn advance_containers(&mut self, now: Instant) {
        let ids: Vec<Id> = self.containers.keys().cloned().collect();
        for id in ids {
            self.advance_stop(&id, now);
            self.advance_update(&id);
            self.advance_removal(&id);
        }
    }

    /// Sends what a wished stop still lacks.
    fn advance_stop(&mut self, id: &Id, now: Instant) {
        let goal = self.goal;
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        if slot.busy == Some(Busy::Starting) {
            return self.call_off(id, now);
        }
        if !slot.running() {
            if let Some(mut stop) = slot.stop.take() {
                answer_all(&mut stop.waiters, &Ok(()));
            }
            return;
        }
        if goal != Goal::Run || !slot.remove_waiters.is_empty() {
            slot.request_stop(now, Duration::ZERO, None);
        }
        let signal = slot.record.stop_signal;
        let Some(stop) = slot.stop.as_mut() else { return };
        let container = id.to_string();
        match stop.killed {
            None if now >= stop.deadline => {
                stop.killed = Some(now);
                self.tell(id, Request::KillAll { container });
            }
            None if !stop.signalled => {
                stop.signalled = true;
                self.tell(
                    id,
                    Request::Signal {
                        container,
                        signal: work::signal_number(signal),
                    },
                );
            }
            Some(killed) if now >= killed + KILL_PATIENCE => {
                stop.killed = Some(now);
                let error = work::undying(&slot.record, now - killed);
                answer_all(&mut stop.waiters, &Err(error.clone()));
                answer_all(&mut slot.remove_waiters, &Err(error.clone()));
                answer_all(&mut self.stop_waiters, &Err(error.clone()));
                answer_all(&mut self.remove_waiters, &Err(error));
                self.tell(id, Request::KillAll { container });
            }
            _ => {}
        }
    }

    /// Ends a start that nobody wants any more. It may take long, and there is no command yet that could be asked.
    fn call_off(&mut self, id: &Id, now: Instant) {
        let goal = self.goal;
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        if goal != Goal::Run || !slot.remove_waiters.is_empty() {
            slot.request_stop(now, Duration::ZERO, None);
        }
        let signal = work::signal_number(slot.record.stop_signal);
        let Some(stop) = slot.stop.as_mut() else { return };
        if stop.called_off.is_none_or(|at| now >= at + CALL_OFF) {
            stop.called_off = Some(now);
            let container = id.to_string();
            // Should it have begun to run meanwhile, this is its stop signal.
            self.tell(id, Request::Signal { container, signal });
        }
    }

    /// Tells the monitor something about a container and does not wait.
    fn tell(&mut self, id: &Id, request: Request) {
        let (monitor, id) = (self.handle.monitor(), id.clone());
        self.work.spawn(async move {
            if let Some(monitor) = monitor
                && let Err(error) = monitor.request(request, Vec::new()).await
                // What it does not know (yet, or any more) needs no ending.
                && error.kind() != ErrorKind::NotFound
            {
                let error = crate::error::chain(&error);
                tracing::warn!(
                    container = id.short(),
                    error,
                    "the monitor could not do what a stop needs"
                );
            }
            Done::Told
        });
    }

    /// Begins a wished removal once nothing runs any more.
    fn advance_removal(&mut self, id: &Id) {
        let removing_pod = self.goal == Goal::Remove && !self.needs_running_monitor();
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        let wished = removing_pod || !slot.remove_waiters.is_empty();
        if !wished || slot.running() || slot.busy.is_some() {
            return;
        }
        slot.busy = Some(Busy::Removing);
        slot.parts = None;
        let (services, pod, monitor) = (self.services.clone(), self.record.clone(), self.handle.monitor());
        let (id, record) = (id.clone(), slot.record.clone());
        let steps = self.handle.begin("RemoveContainer", id.short());
        self.work.spawn(async move {
            Done::Removed(
                id,
                work::remove_container(&services, &pod, &record, monitor, &steps).await,
            )
        });
    }

    /// While containers still run, a removal of the pod leaves the ended ones alone: one failure is enough.
    fn needs_running_monitor(&self) -> bool {
        self.containers
            .values()
            .any(|slot| slot.running() || slot.busy == Some(Busy::Starting))
    }

    pub(super) fn removed(&mut self, id: &Id, result: Result<(), PodError>) {
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        slot.busy = None;
        let mut waiters = std::mem::take(&mut slot.remove_waiters);
        match result {
            Ok(()) => {
                self.containers.remove(id);
                self.registry.leave_container(id);
                self.handle.execs().set_process(id.clone(), None);
                self.publish();
                answer_all(&mut waiters, &Ok(()));
            }
            Err(error) => {
                answer_all(&mut waiters, &Err(error.clone()));
                answer_all(&mut self.remove_waiters, &Err(error));
                self.goal = self.goal.min(Goal::Stop);
            }
        }
    }
}
