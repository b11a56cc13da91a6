//! RemoveContainer: what the monitor knows, cgroup, writable layer, bundle and record of a container that has ended.
//!
//! A running container is stopped without grace period first. The log stays: it is kubelet's to remove.

use std::path::Path;
use std::sync::Arc;

use pausa_monitor_protocol::{EXITS_DIR, ExitRecord, Request};

use super::cgroup;
use super::create_container::read_spec;
use super::layer::remove_layer;
use crate::blocking::blocking;
use crate::container::{ContainerRecord, RunState};
use crate::error::{Failure, Kinded};
use crate::failpoint::failpoint_before;
use crate::id::Id;
use crate::monitor::{Monitor, MonitorError};
use crate::oci;
use crate::proto::v1;
use crate::require;
use crate::sandbox::error::PodError;
use crate::sandbox::lifecycle::{
    Answer, Change, Container, ContainerPhase, Desired, Lifecycle, PendingUpdate, UPDATE_HINT, refused,
};
use crate::sandbox::pod::Pod;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;
use crate::sandbox::{Pods, absent_is_done, gone_is_done};
use crate::telemetry::Steps;

const OPERATION: &str = "remove_container";

impl Pods {
    /// Removes a container, ending it first if need be. An unknown container counts as removed.
    ///
    /// # Errors
    /// It does not end, or something of it cannot be removed; asked again, the rest is.
    pub async fn remove_container(
        &self,
        request: v1::RemoveContainerRequest,
    ) -> Result<v1::RemoveContainerResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        match self.registry.container(&request.container_id) {
            Ok((id, pod)) => {
                let removed = pod.ask(move |pod, answer| pod.lifecycle.remove_container(&id, answer));
                gone_is_done(removed.await)?;
            }
            Err(error) => absent_is_done(error)?,
        }
        Ok(v1::RemoveContainerResponse {})
    }
}

/// Whether a container's removal can begin. While containers still run, a removal of the pod leaves those that have ended
/// alone: one failure is enough.
fn decide(pod: &Lifecycle, id: &Id) -> bool {
    let pod_goes = pod.desired == Desired::Removed && !pod.containers.values().any(Container::is_active);
    pod.containers.get(id).is_some_and(|container| {
        let idle = matches!(
            container.phase,
            ContainerPhase::Created { updating: false, .. } | ContainerPhase::Exited
        );
        idle && (pod_goes || !container.removal.is_empty())
    })
}

impl Lifecycle {
    pub(in crate::sandbox) fn remove_container(&mut self, id: &Id, answer: Answer<()>) {
        match self.container(id) {
            Ok(container) => container.removal.push(answer),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Whether the container's removal begins now.
    pub(in crate::sandbox) fn advance_removal(&mut self, id: &Id) -> bool {
        let begins = decide(self, id);
        if let Some(container) = self.containers.get_mut(id).filter(|_| begins) {
            container.phase = ContainerPhase::Removing;
            for PendingUpdate { waiter, .. } in container.updates.drain(..) {
                // Fails where the client has gone.
                waiter.send(Err(refused(id, "being removed", UPDATE_HINT))).ok();
            }
        }
        begins
    }

    /// The removal has ended: the container is gone, or as it was.
    pub(in crate::sandbox) fn removed_container(&mut self, id: &Id, outcome: Result<(), PodError>) -> Change {
        let Some(container) = self.containers.get_mut(id) else {
            return Change::default();
        };
        let waiters = container.removal.take();
        match outcome {
            Ok(()) => {
                self.containers.remove(id);
                Change::container(id).answer(waiters, Ok(()))
            }
            Err(error) => {
                container.phase = match container.record.run {
                    RunState::Created => ContainerPhase::created(None),
                    RunState::Running { .. } | RunState::Exited(_) => ContainerPhase::Exited,
                };
                self.desired = self.desired.min(Desired::Stopped);
                let removals = self.remove_waiters.take();
                Change::default()
                    .answer(waiters, Err(error.clone()))
                    .answer(removals, Err(error))
            }
        }
    }
}

impl Pod {
    /// Begins the removal of a container that is to go, once nothing of it runs any more.
    pub(in crate::sandbox) fn advance_removal(&mut self, id: &Id) {
        if !self.lifecycle.advance_removal(id) {
            return;
        }
        let Some((services, pod, record)) = self.context(id) else {
            return;
        };
        let (monitor, id) = (self.handle.monitor(), id.clone());
        let steps = self.handle.begin("RemoveContainer", Some((&*record).into()));
        let work = steps.run(Kinded::kind, async move |steps| {
            services.nri.remove_container(&services, &pod, &record).await;
            remove(&services, &pod, &record, monitor, steps).await
        });
        self.begin_told("remove the container", work, move |pod, outcome| {
            pod.settle_container_removal(&id, outcome.flatten());
        });
    }

    fn settle_container_removal(&mut self, id: &Id, outcome: Result<(), PodError>) {
        if outcome.is_ok() {
            self.registry.leave_container(id);
            self.handle.execs().forget(id);
        }
        let change = self.lifecycle.removed_container(id, outcome);
        self.commit(OPERATION, change);
    }
}

async fn remove(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
    monitor: Option<Arc<Monitor>>,
    steps: &Steps,
) -> Result<(), PodError> {
    failpoint_before(OPERATION, "forget");
    steps.enter("monitor and cgroup");
    if let Some(monitor) = monitor {
        let container = record.id.to_string();
        // Fails for one that was never started or is forgotten already.
        drop(monitor.request(Request::Forget { container }, Vec::new()).await);
    }
    cgroup::clear(services, pod, &record.id).await?;
    if let RunState::Exited(exit) = &record.run
        && !exit.was_reported()
    {
        steps.enter("hooks");
        run_poststop(services, record).await;
    }
    failpoint_before(OPERATION, "files");
    steps.enter("files");
    let (services, pod, id) = (Arc::clone(services), record.pod.clone(), record.id.clone());
    blocking(move || {
        let kept = services.store.layout().persistent_container(&pod, &id);
        remove_layer(&services.projects, &kept)?;
        failpoint_before(OPERATION, "record");
        let forgotten = services.store.forget_container(&pod, &id);
        forgotten.map_err(|error| {
            PodError::failed(format!("remove the record of container {}", id.short()), error)
        })
    })
    .await
}

/// Runs the `poststop` hooks of a container whose monitor was lost before it could. Another monitor does it, which ends
/// with the connection.
async fn run_poststop(services: &Services, record: &ContainerRecord) {
    // After a reboot there is no bundle any more, and nothing that a hook would have to undo.
    let Ok(spec) = read_spec(services, record) else {
        return;
    };
    let bundle = services.store.layout().bundle(&record.pod, &record.id);
    let ran = async {
        let hooks = oci::hook_plan(&spec, record.id.as_str(), &bundle)
            .map_err(|error| PodError::failed("read the hooks of its spec", error))?;
        if hooks.poststop.is_empty() {
            return Ok(());
        }
        let failed = |error: MonitorError| PodError::failed("run its hooks", error);
        let (monitor, _events) = services
            .monitors
            .spawn(record.pod.as_str())
            .await
            .map_err(failed)?;
        let ran = monitor.run_poststop(record.id.to_string(), hooks).await;
        ran.map_err(failed)
    };
    if let Err(error) = ran.await {
        tracing::warn!(
            container = record.id.short(),
            error = error.text(),
            "a container's poststop hooks have failed, whose monitor was lost; it is removed all the same"
        );
    }
}

/// What a monitor left on file about a container's end, if it got that far. `pod` is the pod's directory.
pub(in crate::sandbox) fn read_exit_record(pod: &Path, container: &Id) -> Option<ExitRecord> {
    let path = pod.join(EXITS_DIR).join(format!("{container}.json"));
    let record: ExitRecord = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (record.version == ExitRecord::VERSION && record.container == container.as_str()).then_some(record)
}
