//! What the pod's monitor reports, and what follows when it is gone.

use pausa_monitor_protocol::{Event, ExitStatus};

use super::{Actor, Done, PodState};
use crate::container::{ExitInfo, RunState};
use crate::id::Id;
use crate::monitor::MonitorError;
use crate::sandbox::error::PodError;
use crate::sandbox::link::News;
use crate::sandbox::slot::{Busy, Slot};
use crate::sandbox::work::{self, Started};

impl Actor {
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Event(Event::Exited { container, exit }) => self.container_exited(&container, exit),
            News::Event(Event::ExecExited { exec, exit }) => self.handle.execs().ends.ended(&exec, exit),
            News::Event(Event::PauseExited) => self.pause_exited(),
            News::Event(Event::LogDropped {
                container,
                bytes,
                errno,
            }) => {
                let error = std::io::Error::from_raw_os_error(errno);
                tracing::warn!(container, bytes, %error, "log output was dropped so that the container goes on");
            }
            News::Event(Event::Started { container, pid, at }) => {
                self.start_ended(container, Ok(Started { pid, at }));
            }
            News::Event(Event::StartFailed { container, failure }) => {
                let error = MonitorError::Refused(failure);
                let failed = PodError::failed("start the container", error);
                self.start_ended(container, Err(failed));
            }
            News::Event(Event::Detached { attach, why }) => {
                self.handle.execs().detachments.ended(&attach, why);
            }
            News::Gone => self.monitor_gone(),
        }
    }

    /// A start that the daemon before this one has asked for is over. Those of our own are answered.
    fn start_ended(&mut self, container: String, result: Result<Started, PodError>) {
        let Ok(id) = Id::try_from(container) else { return };
        let slot = self.containers.get(&id);
        if slot.is_some_and(|slot| slot.busy == Some(Busy::Starting) && slot.inherited_start) {
            self.started(&id, result);
        }
    }

    fn container_exited(&mut self, container: &str, exit: ExitStatus) {
        let Some((id, slot)) = Id::try_from(container.to_owned()).ok().and_then(|id| {
            let slot = self.containers.get_mut(&id)?;
            Some((id, slot))
        }) else {
            return;
        };
        match slot.record.run {
            RunState::Running { started_at, .. } => {
                slot.change().run = RunState::Exited(ExitInfo::of(started_at, &exit));
                self.save_news(&id);
                self.publish();
                self.after_exit(&id);
            }
            // It was so quick that its end overtakes the answer to its start.
            RunState::Created if slot.busy == Some(Busy::Starting) => slot.early_exit = Some(exit),
            _ => {}
        }
    }

    /// What has to go when a container's processes are gone.
    pub(super) fn after_exit(&mut self, id: &Id) {
        self.handle.execs().set_process(id.clone(), None);
        let (services, pod, id) = (self.services.clone(), self.record.clone(), id.clone());
        self.work.spawn(async move {
            work::remove_cgroup(&services, &pod, &id).await;
            Done::Told
        });
    }

    /// The shared PID namespace is gone, and with it what ran in it: the containers' exits come by themselves.
    fn pause_exited(&mut self) {
        // A pod that is being stopped has its pause process ended by us.
        if !self.tearing_down {
            tracing::warn!(
                pod = self.record.id.short(),
                "the pause process ended: the pod is not ready any more"
            );
        }
        self.lose_readiness();
    }

    /// The monitor is gone without having been told to go. Its exit records tell what it has seen; what it
    /// has not is ended here, because nobody reads its output or would see it exit.
    fn monitor_gone(&mut self) {
        self.events = None;
        if self.tearing_down || self.handle.monitor().is_none() {
            return;
        }
        tracing::error!(
            pod = self.record.id.short(),
            pid = self.record.monitor_pid,
            "the pod's monitor died"
        );
        self.handle.set_monitor(None);
        self.handle.execs().abandon();
        let running: Vec<Id> = self
            .containers
            .iter()
            .filter(|(_, slot)| slot.running())
            .map(|(id, _)| id.clone())
            .collect();
        for id in running {
            self.lose_container(&id, "the pod's monitor died");
        }
        let inherited = |slot: &Slot| slot.inherited_start && slot.busy == Some(Busy::Starting);
        let starting = self.containers.iter().filter(|(_, slot)| inherited(slot));
        let starting: Vec<Id> = starting.map(|(id, _)| id.clone()).collect();
        for id in starting {
            let error = MonitorError::Gone {
                pid: self.record.monitor_pid,
            };
            self.started(&id, Err(PodError::failed("start the container", error)));
        }
        self.lose_readiness();
    }

    /// Ends a container nobody watches any more, by its exit record or as lost.
    pub(in crate::sandbox) fn lose_container(&mut self, id: &Id, why: &str) {
        let exits = self.services.store.layout().pod(&self.record.id);
        let Some(slot) = self.containers.get_mut(id) else {
            return;
        };
        let RunState::Running { started_at, .. } = slot.record.run else {
            return;
        };
        let info = match work::read_exit_record(&exits, id) {
            Some(record) => ExitInfo::of(started_at, &record.exit),
            None => ExitInfo::lost(started_at, crate::state::now(), why),
        };
        slot.change().run = RunState::Exited(info);
        let (services, pod, container) = (self.services.clone(), self.record.clone(), id.clone());
        self.work.spawn(async move {
            work::kill_cgroup(&services, &pod, &container).await;
            Done::Told
        });
        self.save_news(id);
        self.publish();
    }

    fn lose_readiness(&mut self) {
        if self.record.state == PodState::Ready {
            self.change().state = PodState::NotReady;
            if let Err(error) = self.save_pod() {
                tracing::error!(
                    pod = self.record.id.short(),
                    error = error.text(),
                    "news of a pod are not on file"
                );
            }
            self.publish();
        }
    }
}
