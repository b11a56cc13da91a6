//! StopPodSandbox: ends the containers, then network, monitor, mounts and cgroup of a pod.
//!
//! Every step is tried, whatever became of the one before. A network that cannot be detached is reported once, and then
//! retried in the background.

use std::sync::Arc;
use std::time::Duration;

use pausa_monitor_protocol::Request;

use super::cgroup;
use super::files::{SHM, unbind_netns, unmount};
use super::remove_pod::forget;
use super::run_pod::{NOT_READY_HINT, pod_network};
use crate::blocking::blocking;
use crate::error::{Failure, Kinded, chain};
use crate::failpoint::failpoint_before;
use crate::monitor::Monitor;
use crate::proto::v1;
use crate::require;
use crate::sandbox::error::PodError;
use crate::sandbox::lifecycle::{
    Answer, Change, Container, ContainerPhase, Desired, Lifecycle, MonitorContact, PodPhase,
};
use crate::sandbox::pod::Pod;
use crate::sandbox::reconcile::monitors;
use crate::sandbox::record::{PodRecord, PodState};
use crate::sandbox::services::Services;
use crate::sandbox::{Pods, absent_is_done, gone_is_done};
use crate::telemetry::{Steps, metrics};

const OPERATION: &str = "stop_pod";

/// How long a monitor may take to leave before it is killed.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);
/// Pauses in seconds between attempts to detach a pod in the background; the last one repeats.
const DETACH_PAUSES: [u64; 6] = [5, 15, 30, 60, 120, 300];
/// After so many attempts the attachment is left to the garbage collection of the network.
const DETACH_ATTEMPTS: usize = 24;

impl Pods {
    /// Ends everything in a pod. An unknown pod counts as stopped.
    ///
    /// # Errors
    /// The first step that failed; the others were done. Asked again, the rest is.
    pub async fn stop_pod_sandbox(
        &self,
        request: v1::StopPodSandboxRequest,
    ) -> Result<v1::StopPodSandboxResponse, Failure> {
        require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
        match self.registry.pod(&request.pod_sandbox_id) {
            Ok(pod) => gone_is_done(pod.ask(|pod, answer| pod.lifecycle.want_stopped(answer)).await)?,
            Err(error) => absent_is_done(error)?,
        }
        Ok(v1::StopPodSandboxResponse {})
    }
}

/// What a pod's desired state still lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum PodStep {
    /// Nothing, or it waits for something under way.
    Nothing,
    TearDown,
    /// It is stopped: the clients that asked for that can be answered.
    ReportStopped,
    Forget,
}

/// Decides what is to be done with the pod as a whole. A pod that is still being created is stopped afterwards.
pub(in crate::sandbox) fn next_step(pod: &Lifecycle) -> PodStep {
    let settled = matches!(pod.phase(), PodPhase::Ready | PodPhase::NotReady);
    let busy =
        |container: &Container| container.is_active() || matches!(container.phase, ContainerPhase::Removing);
    if pod.desired == Desired::Running
        || !settled
        || !pod.creating.is_empty()
        || pod.containers.values().any(busy)
    {
        return PodStep::Nothing;
    }
    if needs_teardown(pod) {
        return PodStep::TearDown;
    }
    if !pod.stop_waiters.is_empty() {
        return PodStep::ReportStopped;
    }
    if pod.desired == Desired::Removed && pod.containers.is_empty() {
        return PodStep::Forget;
    }
    PodStep::Nothing
}

/// Whether the pod still has something outside of its directories.
pub(in crate::sandbox) fn needs_teardown(pod: &Lifecycle) -> bool {
    let record = &pod.record;
    record.state == PodState::Ready
        || record.netns.is_some()
        || record.pending_detach
        || record.monitor_cgroup
        || pod.monitor != MonitorContact::None
}

impl Lifecycle {
    pub(in crate::sandbox) fn want_stopped(&mut self, answer: Answer<()>) {
        self.desired = self.desired.max(Desired::Stopped);
        self.stop_waiters.push(answer);
    }

    /// The teardown has ended. A network that could not be detached is the background's from now on: it must not hold up
    /// the pod's end. The failure is reported once; asked again, the pod is stopped.
    pub(in crate::sandbox) fn torn_down(&mut self, outcome: Result<(), PodError>) -> Change {
        self.enter(PodPhase::NotReady);
        self.monitor = MonitorContact::None;
        let record = self.record_mut();
        record.pending_detach = outcome.is_err();
        record.netns = None;
        record.monitor_cgroup = false;
        let Err(error) = outcome else { return Change::pod() };
        self.desired = self.desired.min(Desired::Stopped);
        let (stops, removals) = (self.stop_waiters.take(), self.remove_waiters.take());
        Change::pod()
            .answer(stops, Err(error.clone()))
            .answer(removals, Err(error))
    }
}

impl Pod {
    /// Begins what the pod as a whole still lacks.
    pub(in crate::sandbox) fn advance_pod(&mut self) {
        if self.lifecycle.desired != Desired::Removed && self.lifecycle.phase() == PodPhase::NotReady {
            let stays = self.lifecycle.not_ready(NOT_READY_HINT);
            self.lifecycle.ready_waiters.take().answer(&Err(stays));
        }
        loop {
            match next_step(&self.lifecycle) {
                PodStep::Nothing => return,
                PodStep::TearDown => self.begin_teardown(),
                PodStep::ReportStopped => {
                    failpoint_before(OPERATION, "answer");
                    self.lifecycle.stop_waiters.take().answer(&Ok(()));
                }
                PodStep::Forget => {
                    self.lifecycle.enter(PodPhase::Forgetting);
                    let (services, record) = (self.services.clone(), self.lifecycle.record.clone());
                    let work = async move {
                        services.nri.remove_pod(&services, &record).await;
                        forget(&services, &record.id).await
                    };
                    let work = metrics::operation("RemovePodSandbox", work);
                    self.begin_told("remove the pod's directories", work, Self::settle_removal);
                }
            }
        }
    }

    fn begin_teardown(&mut self) {
        self.lifecycle.enter(PodPhase::TearingDown);
        let (services, record) = (self.services.clone(), self.lifecycle.record.clone());
        let containers: Vec<_> = self
            .lifecycle
            .containers
            .values()
            .map(|container| container.record.clone())
            .collect();
        let monitor = match (self.handle.monitor(), self.lifecycle.monitor) {
            (Some(monitor), _) => Ending::Asked(monitor),
            (None, MonitorContact::Silent) => Ending::Killed,
            (None, _) => Ending::Nothing,
        };
        let steps = self.handle.begin("StopPodSandbox", None);
        let work = steps.run(Kinded::kind, async move |steps| {
            steps.enter("plugins");
            for container in &containers {
                services.nri.stop_container(&services, &record, container).await;
            }
            services.nri.stop_pod(&services, &record).await;
            tear_down(&services, &record, monitor, steps).await
        });
        self.begin_told("tear down the pod", work, Self::settle_teardown);
    }

    fn settle_teardown(&mut self, outcome: Result<Result<(), PodError>, PodError>) {
        // After a panic it is not known whether the pod is still attached.
        let outcome = outcome.flatten();
        if let Err(error) = &outcome {
            tracing::warn!(
                pod = self.id().short(),
                error = error.text(),
                "cannot detach the pod from its network; it is stopped otherwise, and detaching is tried again"
            );
            retry_detach(&self.services, &self.lifecycle.record);
        }
        let change = self.lifecycle.torn_down(outcome);
        self.handle.set_monitor(None);
        self.events = None;
        self.commit(OPERATION, change);
        // Saved and published as pending; from here on it is the background task's.
        self.lifecycle.record_mut().pending_detach = false;
    }
}

/// How a pod's monitor is ended.
enum Ending {
    /// There is none.
    Nothing,
    Asked(Arc<Monitor>),
    /// It does not answer.
    Killed,
}

/// Ends network, namespaces, monitor and their traces. Containers must have ended. Fails where the network could not be
/// detached; the other steps are done all the same.
async fn tear_down(
    services: &Arc<Services>,
    record: &PodRecord,
    monitor: Ending,
    steps: &Steps,
) -> Result<(), PodError> {
    failpoint_before(OPERATION, "network");
    steps.enter("network and monitor");
    let (network, ()) = tokio::join!(detach(services, record), async {
        match &monitor {
            Ending::Nothing => {}
            Ending::Asked(monitor) => end_monitor(monitor).await,
            Ending::Killed => monitors::kill_leftover(&record.id).await,
        }
    });
    failpoint_before(OPERATION, "unmount");
    steps.enter("unmount");
    let netns = record.netns.clone();
    let shm = services.store.layout().pod(&record.id).join(SHM);
    blocking(move || {
        if let Some(netns) = netns {
            unbind_netns(&netns);
        }
        unmount(&shm);
    })
    .await;
    failpoint_before(OPERATION, "cgroup");
    steps.enter("cgroup");
    if record.monitor_cgroup {
        cgroup::remove_monitor(services, record).await;
    }
    network
}

/// Detaches a pod from its network.
pub(super) async fn detach(services: &Services, record: &PodRecord) -> Result<(), PodError> {
    let Some(netns) = &record.netns else { return Ok(()) };
    let pod = pod_network(record, netns);
    let detached = services.network.detach(&pod, netns.exists()).await;
    detached.map_err(|error| PodError::failed("detach the pod from its network", error))
}

/// Asks a monitor to leave, and kills it if it does not.
pub(super) async fn end_monitor(monitor: &Monitor) {
    let asked = tokio::time::timeout(SHUTDOWN_PATIENCE, monitor.request(Request::Shutdown, Vec::new())).await;
    if !matches!(asked, Ok(Ok(_))) {
        monitor.kill();
    }
    let exited = tokio::time::timeout(SHUTDOWN_PATIENCE, monitor.exited()).await;
    if exited.is_err() {
        monitor.kill();
    }
}

/// Goes on trying to detach a pod in the background.
fn retry_detach(services: &Arc<Services>, record: &Arc<PodRecord>) {
    let (services, record) = (Arc::clone(services), Arc::clone(record));
    tokio::spawn(async move {
        let Some(netns) = &record.netns else { return };
        let pod = pod_network(&record, netns);
        let _pending = metrics::PendingDetach::begin();
        for attempt in 0..DETACH_ATTEMPTS {
            let pause = DETACH_PAUSES[attempt.min(DETACH_PAUSES.len() - 1)];
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let Err(error) = services.network.detach(&pod, netns.exists()).await else {
                tracing::info!(
                    pod = record.id.short(),
                    attempt,
                    "detached the pod from its network, which had failed before"
                );
                return;
            };
            tracing::warn!(
                pod = record.id.short(),
                attempt,
                error = chain(&error),
                "cannot detach the pod from its network; its addresses stay taken, and it is tried again"
            );
        }
    });
}
