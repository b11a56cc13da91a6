//! The pod itself: made, stopped, forgotten.
//!
//! ```text
//!            made                stop, or monitor or pause process lost        remove
//!  CREATING ──────▶ READY ───────────────────────────────────────▶ NOT READY ─────────▶ (forgotten)
//!      └── not made: undone, forgotten, everybody who waited is told why
//! ```

use super::{Actor, Answer, Done, Goal, PodError, PodMade, PodState, TornDown, answer, answer_all};
use crate::sandbox::registry::POD;
use crate::sandbox::work;

impl Actor {
    /// Begins to make the pod. Called once, before [`Actor::run`].
    pub(in crate::sandbox) fn make(&mut self) {
        let (services, record) = (self.services.clone(), self.record.clone());
        let steps = self.handle.begin("RunPodSandbox", record.id.short());
        self.work.spawn(async move {
            Done::PodMade(work::make_pod(&services, &record, &steps).await.map(Box::new))
        });
    }

    /// Hears what a monitor tells that was there before this daemon.
    pub(in crate::sandbox) fn listen(&mut self, events: crate::monitor::Events) {
        self.events = Some(events);
    }

    /// Takes a container that was there before this daemon.
    pub(in crate::sandbox) fn adopt(&mut self, slot: crate::sandbox::slot::Slot) {
        self.containers.insert(slot.record.id.clone(), Box::new(slot));
    }

    /// All that was there before is taken over. What was being made is unmade; what a reboot ended is torn down,
    /// so that its addresses are free again.
    pub(in crate::sandbox) fn taken_over(&mut self, unmade: bool, this_boot: bool) {
        if unmade {
            self.goal = Goal::Remove;
            return;
        }
        if !this_boot && self.needs_teardown() {
            self.goal = Goal::Stop;
        }
        let ids: Vec<_> = self.containers.keys().cloned().collect();
        for id in ids {
            self.save_news(&id);
        }
        if let Err(error) = self.save_pod() {
            tracing::error!(
                pod = self.record.id.short(),
                error = error.text(),
                "news of a pod are not on file"
            );
        }
        self.publish();
    }

    /// Of a pod on its way out this is answered when it is gone, so that another may have its name; or when it
    /// turns out that it stays.
    pub(super) fn await_ready(&mut self, waiter: Answer<()>) {
        if self.goal == Goal::Remove {
            return self.ready_waiters.push(waiter);
        }
        match self.record.state {
            PodState::Creating => self.ready_waiters.push(waiter),
            PodState::Ready => answer(waiter, Ok(())),
            PodState::NotReady => answer(
                waiter,
                Err(self.not_ready("remove it, or raise metadata.attempt")),
            ),
        }
    }

    pub(super) fn not_ready(&self, hint: &'static str) -> PodError {
        PodError::State {
            what: POD,
            id: self.record.id.to_string(),
            state: "not ready",
            hint,
        }
    }

    pub(super) fn pod_made(&mut self, result: Result<Box<PodMade>, PodError>) {
        let made = match result {
            Ok(made) => *made,
            Err(error) => return self.pod_failed(&error),
        };
        self.change().network = made.network;
        self.change().network_debt = false;
        self.change().monitor_pid = made.monitor.pid();
        self.change().state = PodState::Ready;
        self.handle.set_monitor(Some(made.monitor));
        self.events = Some(made.events);
        if let Err(error) = self.save_pod() {
            // Nobody was told of it yet: unmake it like any other pod.
            self.change().state = PodState::NotReady;
            self.goal = Goal::Remove;
            return answer_all(&mut self.ready_waiters, &Err(error));
        }
        if self.goal == Goal::Run {
            self.publish();
        }
        answer_all(&mut self.ready_waiters, &Ok(()));
    }

    /// Nothing of the pod is left but its record, unless a debt of the network: then it stays, to be stopped.
    fn pod_failed(&mut self, error: &PodError) {
        tracing::warn!(pod = self.record.id.short(), name = %self.handle.name, error = error.text(), "pod not made");
        self.change().state = PodState::NotReady;
        if work::owes_network(error) {
            if let Err(save) = self.save_pod() {
                tracing::error!(
                    pod = self.record.id.short(),
                    error = save.text(),
                    "a network debt is not on file"
                );
            }
            self.publish();
        } else {
            self.goal = Goal::Remove;
        }
        answer_all(&mut self.ready_waiters, &Err(error.clone()));
    }

    /// A wish of the pod as a whole; never taken back.
    pub(super) fn wish(&mut self, goal: Goal, waiter: Answer<()>) {
        self.goal = self.goal.max(goal);
        match goal {
            Goal::Run => answer(waiter, Ok(())),
            Goal::Stop => self.stop_waiters.push(waiter),
            Goal::Remove => self.remove_waiters.push(waiter),
        }
    }

    pub(super) fn advance_pod(&mut self) {
        if self.goal != Goal::Remove && self.record.state == PodState::NotReady {
            let stays = self.not_ready("remove it, or raise metadata.attempt");
            answer_all(&mut self.ready_waiters, &Err(stays));
        }
        // A stop or removal of a pod that is still being made waits for that to end.
        let busy = self.record.state == PodState::Creating || self.tearing_down || self.forgetting;
        if self.goal == Goal::Run
            || busy
            || !self.making.is_empty()
            || self.containers.values().any(|c| c.running() || c.busy.is_some())
        {
            return;
        }
        if self.needs_teardown() {
            self.tearing_down = true;
            let (services, record, monitor) =
                (self.services.clone(), self.record.clone(), self.handle.monitor());
            let steps = self.handle.begin("StopPodSandbox", record.id.short());
            self.work.spawn(async move {
                Done::TornDown(work::tear_down(&services, &record, monitor, &steps).await)
            });
            return;
        }
        answer_all(&mut self.stop_waiters, &Ok(()));
        if self.goal == Goal::Remove && self.containers.is_empty() {
            self.forgetting = true;
            let (services, id) = (self.services.clone(), self.record.id.clone());
            self.work
                .spawn(async move { Done::PodForgotten(work::forget_pod(&services, &id).await) });
        }
    }

    fn needs_teardown(&self) -> bool {
        let record = &self.record;
        record.state == PodState::Ready
            || record.netns.is_some()
            || record.network_debt
            || record.monitor_cgroup
            || self.handle.monitor().is_some()
    }

    pub(super) fn torn_down(&mut self, torn: TornDown) {
        self.tearing_down = false;
        if torn.network_debt {
            // The debt is the background's from now on: it must not hold up the pod's end for ever.
            work::queue_detach(&self.services, &self.record);
        }
        self.change().state = PodState::NotReady;
        self.change().network_debt = torn.network_debt;
        self.change().netns = None;
        self.change().monitor_cgroup = false;
        self.handle.set_monitor(None);
        self.events = None;
        let saved = self.save_pod();
        self.publish();
        self.change().network_debt = false;
        if let Err(error) = torn.result.and(saved) {
            tracing::warn!(
                pod = self.record.id.short(),
                error = error.text(),
                "pod stopped with a failure"
            );
            answer_all(&mut self.stop_waiters, &Err(error.clone()));
            answer_all(&mut self.remove_waiters, &Err(error));
            // Asked again, the rest is done.
            self.goal = self.goal.min(Goal::Stop);
        }
    }

    pub(super) fn pod_forgotten(&mut self, result: Result<(), PodError>) {
        self.forgetting = false;
        match result {
            Ok(()) => {
                self.registry.leave(&self.handle);
                self.forgotten = true;
                answer_all(&mut self.stop_waiters, &Ok(()));
                answer_all(&mut self.remove_waiters, &Ok(()));
            }
            Err(error) => {
                self.goal = Goal::Stop;
                answer_all(&mut self.ready_waiters, &Err(error.clone()));
                answer_all(&mut self.remove_waiters, &Err(error));
            }
        }
    }
}
