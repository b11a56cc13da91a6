//! RemovePodSandbox: stops a pod, removes its containers, then its record and directories.

use std::sync::Arc;

use super::files::{SHM, unmount};
use super::layer;
use crate::blocking::blocking;
use crate::error::Failure;
use crate::failpoint::failpoint_before;
use crate::id::Id;
use crate::proto::v1;
use crate::require;
use crate::sandbox::error::PodError;
use crate::sandbox::lifecycle::{Answer, Change, Desired, Lifecycle, PodPhase};
use crate::sandbox::pod::Pod;
use crate::sandbox::services::Services;
use crate::sandbox::{Pods, absent_is_done, gone_is_done};

const OPERATION: &str = "remove_pod";

impl Pods {
    /// Ends a pod and removes all that is left of it. An unknown pod counts as removed.
    ///
    /// # Errors
    /// As [`Pods::stop_pod_sandbox`].
    pub async fn remove_pod_sandbox(
        &self,
        request: v1::RemovePodSandboxRequest,
    ) -> Result<v1::RemovePodSandboxResponse, Failure> {
        require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
        match self.registry.pod(&request.pod_sandbox_id) {
            Ok(pod) => gone_is_done(pod.ask(|pod, answer| pod.lifecycle.want_removed(answer)).await)?,
            Err(error) => absent_is_done(error)?,
        }
        Ok(v1::RemovePodSandboxResponse {})
    }
}

impl Lifecycle {
    pub(in crate::sandbox) fn want_removed(&mut self, answer: Answer<()>) {
        self.desired = Desired::Removed;
        self.remove_waiters.push(answer);
    }

    /// The removal of the directories has ended: the pod is gone, or has to be removed again.
    pub(in crate::sandbox) fn forgotten(&mut self, outcome: Result<(), PodError>) -> Change {
        let removals = self.remove_waiters.take();
        match outcome {
            Ok(()) => {
                self.enter(PodPhase::Forgotten);
                let stops = self.stop_waiters.take();
                Change::default().answer(stops, Ok(())).answer(removals, Ok(()))
            }
            Err(error) => {
                self.enter(PodPhase::NotReady);
                self.desired = Desired::Stopped;
                let ready = self.ready_waiters.take();
                Change::default()
                    .answer(ready, Err(error.clone()))
                    .answer(removals, Err(error))
            }
        }
    }
}

impl Pod {
    pub(super) fn settle_removal(&mut self, outcome: Result<Result<(), PodError>, PodError>) {
        let change = self.lifecycle.forgotten(outcome.flatten());
        if self.lifecycle.phase() == PodPhase::Forgotten {
            failpoint_before(OPERATION, "publish");
            self.handle.forget();
            self.registry.leave(&self.handle);
            if let Some(last) = self.handle.view() {
                self.container_events.removed(&last);
            }
        }
        self.commit(OPERATION, change);
    }
}

/// Removes a pod's directories and records.
pub(super) async fn forget(services: &Arc<Services>, id: &Id) -> Result<(), PodError> {
    let (services, id) = (Arc::clone(services), id.clone());
    blocking(move || {
        failpoint_before(OPERATION, "forget");
        unmount(&services.store.layout().pod(&id).join(SHM));
        layer::release_pod(&services.projects, &services.store.layout().persistent_pod(&id));
        let forgotten = services.store.forget_pod(&id);
        forgotten
            .map_err(|error| PodError::failed(format!("remove the records of pod {}", id.short()), error))
    })
    .await
}
