//! UpdatePodSandboxResources: what kubelet has changed on a pod's own cgroup, which is kubelet's. It is kept and shown.

use crate::error::Failure;
use crate::proto::v1;
use crate::require;
use crate::sandbox::Pods;
use crate::sandbox::lifecycle::{Change, Lifecycle};
use crate::sandbox::nri::told;

const OPERATION: &str = "update_pod";

impl Pods {
    /// Takes note of a pod's new resources and overhead; what is not given stays.
    ///
    /// # Errors
    /// There is no such pod.
    pub async fn update_pod_sandbox_resources(
        &self,
        request: v1::UpdatePodSandboxResourcesRequest,
    ) -> Result<v1::UpdatePodSandboxResourcesResponse, Failure> {
        require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
        let pod = self.registry.pod(&request.pod_sandbox_id)?;
        let services = self.services.clone();
        told("note the pod's resources", &self.services, async move {
            let nri = &services.nri;
            if let Some(view) = pod.view() {
                nri.update_pod(&services, &view.pod, &request).await?;
            }
            pod.ask(move |pod, answer| {
                let change = pod.lifecycle.update_pod(request);
                pod.commit(OPERATION, change.answer(answer.into(), Ok(())));
            })
            .await?;
            if let Some(view) = pod.view() {
                nri.post_update_pod(&services, &view.pod).await;
            }
            Ok(())
        })
        .await?;
        Ok(v1::UpdatePodSandboxResourcesResponse {})
    }
}

impl Lifecycle {
    fn update_pod(&mut self, request: v1::UpdatePodSandboxResourcesRequest) -> Change {
        let new = |now: &mut Option<_>, given: Option<_>| {
            let differs = given.is_some() && *now != given;
            if differs {
                *now = given;
            }
            differs
        };
        let record = self.record_mut();
        let changed = [
            new(&mut record.overhead, request.overhead),
            new(&mut record.resources, request.resources),
        ];
        match changed.contains(&true) {
            true => Change::pod(),
            false => Change::default(),
        }
    }
}
