//! What the pod's monitor reports, and what follows when it is lost.

use pausa_monitor_protocol::{ContainerReport, Event, ExitRecord, ExitStatus, ProcessState};
use tokio::task::JoinHandle;

use super::error::PodError;
use super::lifecycle::{Change, ContainerPhase, Lifecycle, MonitorContact, PodPhase, StartedBy, Starting};
use super::ops::{self, Started};
use super::pod::Pod;
use super::recover::recovered;
use crate::container::{ExitInfo, RunState};
use crate::error::chain;
use crate::id::Id;
use crate::monitor::{Events, Monitor, MonitorError};
use crate::telemetry::metrics;

impl Lifecycle {
    /// A container's first process has ended.
    pub(super) fn exited(&mut self, id: &Id, exit: ExitStatus) -> Change {
        let Some(container) = self.containers.get_mut(id) else {
            return Change::default();
        };
        match (&mut container.phase, &container.record.run) {
            (ContainerPhase::Running(_), RunState::Running { started_at, .. }) => {
                let info = ExitInfo::of(*started_at, &exit);
                self.ended(id, info)
            }
            // It was so quick that its end overtakes the answer to its start.
            (ContainerPhase::Starting(starting), _) => {
                starting.early_exit = Some(exit);
                Change::default()
            }
            _ => Change::default(),
        }
    }

    /// Whether an earlier daemon asked for the start that is under way, so that its outcome comes as an event.
    pub(super) fn awaits_start_event(&self, id: &Id) -> bool {
        let phase = self.containers.get(id).map(|container| &container.phase);
        matches!(
            phase,
            Some(ContainerPhase::Starting(Starting {
                by: StartedBy::EarlierDaemon,
                ..
            }))
        )
    }

    /// A monitor that was greeted knows this of a container.
    pub(super) fn reported(&mut self, id: &Id, report: &ContainerReport, now: i64) -> Change {
        let Some(container) = self.containers.get_mut(id) else {
            return Change::default();
        };
        match (&container.phase, &report.state) {
            (ContainerPhase::Running(_), ProcessState::Exited(exit)) => self.exited(id, *exit),
            // An earlier daemon had asked for its start.
            (ContainerPhase::Created { .. }, _) => {
                let record = (*container.record).clone();
                let (record, phase) = recovered(record, Some(report), true, now);
                *container.record_mut() = record;
                container.phase = phase;
                Change::container(id)
            }
            _ => Change::default(),
        }
    }

    /// Nobody watches a running container any more: it counts as ended as its exit record says, or as lost.
    pub(super) fn lost_container(
        &mut self,
        id: &Id,
        exit: Option<&ExitRecord>,
        now: i64,
        why: &str,
    ) -> Change {
        self.ended_unreported(id, exit, |started_at| ExitInfo::lost(started_at, now, why))
    }
}

impl Pod {
    pub(super) fn monitor_event(&mut self, event: Event) {
        match event {
            Event::Exited { container, exit } => {
                if let Ok(id) = Id::try_from(container) {
                    let change = self.lifecycle.exited(&id, exit);
                    self.container_ended(&id, change);
                }
            }
            Event::ExecExited { exec, exit } => self.handle.execs().exits.complete(&exec, exit),
            Event::Detached { attach, why } => self.handle.execs().detachments.complete(&attach, why),
            Event::PauseExited => self.pause_exited(),
            Event::LogDropped {
                container,
                bytes,
                errno,
            } => {
                metrics::log_dropped(bytes);
                let error = std::io::Error::from_raw_os_error(errno);
                tracing::warn!(
                    container,
                    bytes,
                    %error,
                    "cannot write to a container's log: output was dropped, and the container goes on"
                );
            }
            Event::HookFailed { container, failure } => {
                tracing::warn!(
                    container,
                    error = %failure,
                    "a hook has failed that does not decide about its container: the container goes its way"
                );
            }
            Event::Started { container, pid, at } => self.start_event(container, Ok(Started { pid, at })),
            Event::StartFailed { container, failure } => {
                let failed = PodError::failed("start the container", MonitorError::Refused(failure));
                self.start_event(container, Err(failed));
            }
        }
    }

    /// The outcome of a start that an earlier daemon has asked for. Those of our own are answered.
    fn start_event(&mut self, container: String, outcome: Result<Started, PodError>) {
        if let Ok(id) = Id::try_from(container)
            && self.lifecycle.awaits_start_event(&id)
        {
            self.settle_start(&id, outcome);
        }
    }

    fn container_ended(&mut self, id: &Id, change: Change) {
        if change.containers.is_empty() {
            return;
        }
        self.commit("container_exit", change);
        self.clean_up_after(id);
    }

    /// Removes what is left in the kernel of a container whose processes have ended.
    pub(super) fn clean_up_after(&mut self, id: &Id) {
        self.handle.execs().forget(id);
        let seat = self.lifecycle.take_seat(id);
        let Some((services, pod, record)) = self.context(id) else {
            return;
        };
        self.begin_unattended(async move {
            ops::remove_cgroup(&services, &pod, &record.id).await;
            drop(seat);
            services.nri.stop_container(&services, &pod, &record).await;
        });
    }

    /// The shared PID namespace is gone, and with it what ran in it: the containers' exits come by themselves.
    fn pause_exited(&mut self) {
        if self.lifecycle.phase() == PodPhase::Ready {
            tracing::warn!(
                pod = self.id().short(),
                "the pause process ended: the pod is not ready any more"
            );
        }
        let change = self.lifecycle.lose_readiness();
        self.commit("lose_pod", change);
    }

    /// The connection to the monitor has ended. Most likely the monitor has, too, but it may also have run out of
    /// descriptors.
    pub(super) fn monitor_disconnected(&mut self) {
        if self.lifecycle.phase() == PodPhase::TearingDown
            || self.lifecycle.monitor != MonitorContact::Connected
        {
            return;
        }
        self.lifecycle.monitor = MonitorContact::Silent;
        self.handle.set_monitor(None);
        self.handle.execs().abandon();
        let dir = self.services.store.layout().pod(self.id());
        self.await_monitor(tokio::spawn(crate::monitor::connect(dir)));
    }

    /// Waits for a monitor that does not answer yet, as long as it lives.
    pub(super) fn await_monitor(&self, connecting: JoinHandle<Result<(Monitor, Events), MonitorError>>) {
        let handle = self.handle.clone();
        tokio::spawn(async move {
            let Ok(connected) = connecting.await else {
                // The daemon goes down.
                return;
            };
            handle.tell(move |pod| pod.monitor_answered(connected));
        });
    }

    /// A monitor that was silent has answered or ended.
    fn monitor_answered(&mut self, connected: Result<(Monitor, Events), MonitorError>) {
        if self.lifecycle.phase() == PodPhase::TearingDown || self.lifecycle.monitor != MonitorContact::Silent
        {
            return;
        }
        let (monitor, events) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                tracing::debug!(
                    pod = self.id().short(),
                    error = chain(&error),
                    "cannot connect to the monitor"
                );
                return self.monitor_lost();
            }
        };
        metrics::monitor_reconnected();
        tracing::info!(
            pod = self.id().short(),
            pid = monitor.pid(),
            "connected to the pod's monitor again"
        );
        self.connected(monitor, events, "the pod's monitor does not know it any more");
    }

    /// The monitor was greeted: what has happened since somebody last asked it becomes known. `unknown`: why a container that
    /// runs, and that it does not know, is lost.
    pub(super) fn connected(&mut self, monitor: Monitor, events: Events, unknown: &str) {
        self.lifecycle.monitor = MonitorContact::Connected;
        self.events = Some(events);
        let ids: Vec<Id> = self.lifecycle.containers.keys().cloned().collect();
        for id in ids {
            let mut reports = monitor.containers().iter();
            let Some(report) = reports.find(|report| report.container == id.as_str()) else {
                self.lose_container(&id, unknown);
                continue;
            };
            let change = self.lifecycle.reported(&id, report, crate::state::now());
            if change.containers.is_empty() {
                continue;
            }
            self.commit("recover", change);
            let ended = self.lifecycle.containers.get(&id);
            if ended.is_some_and(|container| matches!(container.phase, ContainerPhase::Exited)) {
                self.clean_up_after(&id);
            }
        }
        // After what it has told was published, so that nobody who finds it here goes by what was known before.
        self.handle.set_monitor(Some(monitor));
    }

    /// The monitor has gone without having been asked to. Its exit records say what it has seen; what it has not seen
    /// is ended here, because nobody reads its output or would see it exit.
    pub(super) fn monitor_lost(&mut self) {
        if self.lifecycle.phase() == PodPhase::TearingDown || self.lifecycle.monitor == MonitorContact::None {
            return;
        }
        let pid = self.lifecycle.record.monitor_pid;
        metrics::monitor_lost("died");
        tracing::error!(
            pod = self.id().short(),
            pid,
            "the pod's monitor died: its containers are killed, and the pod is not ready any more"
        );
        self.lifecycle.monitor = MonitorContact::None;
        let ids: Vec<Id> = self.lifecycle.containers.keys().cloned().collect();
        for id in ids {
            self.lose_container(&id, "the pod's monitor died");
            if self.lifecycle.awaits_start_event(&id) {
                let failed = PodError::failed("start the container", MonitorError::Gone { pid });
                self.settle_start(&id, Err(failed));
            }
        }
        let change = self.lifecycle.lose_readiness();
        self.commit("lose_pod", change);
    }

    /// Ends a running container that nobody watches any more.
    pub(super) fn lose_container(&mut self, id: &Id, why: &str) {
        let directory = self.services.store.layout().pod(self.id());
        let exit = ops::read_exit_record(&directory, id);
        let change = self
            .lifecycle
            .lost_container(id, exit.as_ref(), crate::state::now(), why);
        if change.containers.is_empty() {
            return;
        }
        self.commit("lose_container", change);
        self.kill_unwatched(id);
    }

    /// Kills what still runs of a container that counts as ended and that no monitor watches.
    pub(super) fn kill_unwatched(&mut self, id: &Id) {
        self.handle.execs().forget(id);
        let seat = self.lifecycle.take_seat(id);
        let Some((services, pod, record)) = self.context(id) else {
            return;
        };
        self.begin_unattended(async move {
            ops::kill_cgroup(&services, &pod, &record.id).await;
            drop(seat);
            services.nri.stop_container(&services, &pod, &record).await;
        });
    }
}
