//! The room of pods, as the door asks it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::backend::{NotReady, PodService};
use crate::error::Failure;
use crate::proto::v1;
use crate::sandbox::Pods;

impl PodService for Pods {
    async fn run(&self, config: v1::PodSandboxConfig, handler: String) -> Result<String, Failure> {
        Ok(Self::run(self, config, handler).await?.into())
    }

    async fn stop(&self, id: String) -> Result<(), Failure> {
        Ok(Self::stop(self, &id).await?)
    }

    async fn remove(&self, id: String) -> Result<(), Failure> {
        Ok(Self::remove(self, &id).await?)
    }

    async fn pods(&self, filter: v1::PodSandboxFilter) -> Result<Vec<v1::PodSandbox>, Failure> {
        let mut pods = self.pod_items();
        pods.retain(|pod| filter.matches(pod));
        Ok(pods)
    }

    async fn pod_status(&self, id: String, verbose: bool) -> Result<v1::PodSandboxStatusResponse, Failure> {
        Ok(Self::pod_status(self, &id, verbose)?)
    }

    async fn create_container(
        &self,
        pod_id: String,
        config: v1::ContainerConfig,
        _sandbox: Option<v1::PodSandboxConfig>,
    ) -> Result<String, Failure> {
        // The pod's own record is what it was made with; the client's memory of it could differ.
        Ok(Self::create_container(self, &pod_id, config).await?.into())
    }

    async fn start_container(&self, id: String) -> Result<(), Failure> {
        Ok(Self::start_container(self, &id).await?)
    }

    async fn stop_container(&self, id: String, timeout_seconds: i64) -> Result<(), Failure> {
        let grace = Duration::from_secs(u64::try_from(timeout_seconds).unwrap_or(0));
        Ok(Self::stop_container(self, &id, grace).await?)
    }

    async fn remove_container(&self, id: String) -> Result<(), Failure> {
        Ok(Self::remove_container(self, &id).await?)
    }

    async fn containers(&self, filter: v1::ContainerFilter) -> Result<Vec<v1::Container>, Failure> {
        let mut containers = self.container_items();
        containers.retain(|container| filter.matches(container));
        Ok(containers)
    }

    async fn container_status(
        &self,
        id: String,
        verbose: bool,
    ) -> Result<v1::ContainerStatusResponse, Failure> {
        Ok(Self::container_status(self, &id, verbose)?)
    }

    async fn container_stats(&self, id: String) -> Result<v1::ContainerStats, Failure> {
        Ok(Self::container_stats(self, &id).await?)
    }

    async fn list_container_stats(
        &self,
        filter: v1::ContainerStatsFilter,
    ) -> Result<Vec<v1::ContainerStats>, Failure> {
        Ok(Self::list_container_stats(self, &filter).await?)
    }

    async fn pod_stats(&self, id: String) -> Result<v1::PodSandboxStats, Failure> {
        Ok(Self::pod_stats(self, &id).await?)
    }

    async fn list_pod_stats(
        &self,
        filter: v1::PodSandboxStatsFilter,
    ) -> Result<Vec<v1::PodSandboxStats>, Failure> {
        Ok(Self::list_pod_stats(self, &filter).await?)
    }

    async fn update_container_resources(
        &self,
        id: String,
        resources: v1::LinuxContainerResources,
        _annotations: BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        Ok(self.update_resources(&id, resources).await?)
    }

    async fn reopen_container_log(&self, id: String) -> Result<(), Failure> {
        Ok(self.reopen_log(&id).await?)
    }

    async fn exec_sync(
        &self,
        id: String,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<v1::ExecSyncResponse, Failure> {
        Ok(Self::exec_sync(self, &id, command, timeout.unwrap_or_default()).await?)
    }

    async fn update_pod_resources(
        &self,
        id: String,
        _overhead: Option<v1::LinuxContainerResources>,
        _resources: Option<v1::LinuxContainerResources>,
    ) -> Result<(), Failure> {
        // The pod's cgroup is kubelet's; there is nobody behind this runtime who had to be told.
        self.view(&id)?;
        Ok(())
    }

    async fn network_readiness(&self) -> Result<(), NotReady> {
        self.services()
            .network
            .readiness()
            .map_err(|reason| (reason.reason.to_owned(), reason.message))
    }

    async fn set_pod_cidr(&self, cidr: String) -> Result<(), Failure> {
        let set = self.services().network.set_pod_cidr(&cidr).await;
        Ok(set?)
    }

    async fn describe(&self) -> BTreeMap<String, String> {
        let described = self.services().network.describe();
        let entries = described.as_object().cloned().unwrap_or_default();
        entries
            .into_iter()
            .map(|(key, value)| (key, value.to_string()))
            .collect()
    }
}
