//! UpdateContainerResources: new limits for a container, in place. Changes of one container are made one after the other.

use std::sync::Arc;

use super::cgroup;
use super::create_container::write_limits;
use crate::cgroups::QosClass;
use crate::cgroups::cpus::Pinning;
use crate::container::{ContainerRecord, RunState};
use crate::error::Failure;
use crate::id::Id;
use crate::oci;
use crate::proto::v1;
use crate::require;
use crate::sandbox::Pods;
use crate::sandbox::error::PodError;
use crate::sandbox::handle::PodHandle;
use crate::sandbox::lifecycle::{
    Answer, Change, Container, ContainerPhase, Lifecycle, PendingUpdate, UPDATE_HINT, Update, refused,
};
use crate::sandbox::nri::told;
use crate::sandbox::pod::Pod;
use crate::sandbox::record::PodRecord;
use crate::sandbox::registry::Registry;
use crate::sandbox::services::Services;
use crate::telemetry::metrics;

const OPERATION: &str = "update_resources";

impl Pods {
    /// Changes the resources of a container; what is zero or empty stays.
    ///
    /// # Errors
    /// It has exited, or the kernel refuses.
    pub async fn update_container_resources(
        &self,
        request: v1::UpdateContainerResourcesRequest,
    ) -> Result<v1::UpdateContainerResourcesResponse, Failure> {
        require::text("container_id", &request.container_id)?;
        let change = request.linux.unwrap_or_default();
        oci::oom_score_adj(&change)
            .map_err(|error| PodError::failed("change the container's resources", error))?;
        let (id, pod) = self.registry.container(&request.container_id)?;
        let services = self.services.clone();
        told("change the container's resources", &self.services, async move {
            let mut change = change;
            if let Some((pod, record)) = both(&pod, &id) {
                change = services
                    .nri
                    .update_container(&services, &pod, &record, &change)
                    .await?;
            }
            update(&pod, id.clone(), Update::Change(Box::new(change))).await?;
            if let Some((pod, record)) = both(&pod, &id) {
                services.nri.post_update(&services, &pod, &record).await;
            }
            Ok(())
        })
        .await?;
        Ok(v1::UpdateContainerResourcesResponse {})
    }

    /// Writes a container's limits into its cgroup again.
    ///
    /// # Errors
    /// It has exited, or the kernel refuses.
    pub(in crate::sandbox) async fn restore_resources(&self, id: &Id) -> Result<(), PodError> {
        let (id, pod) = self.registry.container(id.as_str())?;
        update(&pod, id, Update::Restore).await
    }

    /// Finds other CPUs for a pinned container that has lost some of its own.
    ///
    /// # Errors
    /// It has exited, or there are none.
    pub(in crate::sandbox) async fn repin(&self, id: &Id) -> Result<(), PodError> {
        let (id, pod) = self.registry.container(id.as_str())?;
        update(&pod, id, Update::Repin).await
    }
}

/// Changes a container's resources as an NRI plugin wants; no plugin is told of that.
pub(in crate::sandbox) async fn plugin_update(
    registry: &Registry,
    id: &str,
    change: v1::LinuxContainerResources,
) -> Result<(), PodError> {
    let (id, pod) = registry.container(id)?;
    update(&pod, id, Update::Change(Box::new(change))).await
}

async fn update(pod: &PodHandle, id: Id, update: Update) -> Result<(), PodError> {
    pod.ask(move |pod, waiter| {
        let change = pod
            .lifecycle
            .update_resources(&id, PendingUpdate { update, waiter });
        pod.commit(OPERATION, change);
    })
    .await
}

/// A container and its pod as they were published last.
fn both(pod: &PodHandle, id: &Id) -> Option<(Arc<PodRecord>, Arc<ContainerRecord>)> {
    let view = pod.view()?;
    Some((view.pod.clone(), view.containers.get(id)?.clone()))
}

impl Lifecycle {
    /// A container gets its change when its turn comes: one that is starting, once it runs.
    pub(in crate::sandbox) fn update_resources(&mut self, id: &Id, pending: PendingUpdate) -> Change {
        let container = match self.container(id) {
            Ok(container) => container,
            Err(error) => return Change::default().answer(pending.waiter.into(), Err(error)),
        };
        match container.phase {
            ContainerPhase::Created { .. } | ContainerPhase::Starting(_) | ContainerPhase::Running(_) => {
                container.updates.push_back(pending);
                Change::default()
            }
            ContainerPhase::Exited | ContainerPhase::Removing => {
                let outcome = Err(refused(id, "exited", UPDATE_HINT));
                Change::default().answer(pending.waiter.into(), outcome)
            }
        }
    }

    /// The change that begins now, if there is one and none is under way.
    pub(in crate::sandbox) fn advance_update(&mut self, id: &Id) -> Option<PendingUpdate> {
        let container = self.containers.get_mut(id)?;
        if *container.updating_mut()? {
            return None;
        }
        let pending = container.updates.pop_front()?;
        *container.updating_mut()? = true;
        Some(pending)
    }

    /// A change has been made; of one that was refused, nothing is.
    pub(in crate::sandbox) fn updated_resources(
        &mut self,
        id: &Id,
        update: &Update,
        waiter: Answer<()>,
        outcome: Result<Option<Pinning>, PodError>,
    ) -> Change {
        let mut change = Change::default();
        if let Some(container) = self.containers.get_mut(id)
            && let Some(updating) = container.updating_mut()
        {
            *updating = false;
            if let Ok(pinning) = &outcome
                && adopt(container, update, pinning.as_ref())
            {
                change = Change::container(id);
            }
        }
        change.answer(waiter.into(), outcome.map(drop))
    }
}

/// Writes a change into the container's record; whether that has changed.
fn adopt(container: &mut Container, update: &Update, pinning: Option<&Pinning>) -> bool {
    let record = &container.record;
    let resources = resources_after(record, update);
    let differs = record.resources != resources || record.pinning.as_ref() != pinning;
    if differs {
        let record = container.record_mut();
        record.resources = resources;
        record.pinning = pinning.cloned();
    }
    differs
}

fn resources_after(record: &ContainerRecord, update: &Update) -> v1::LinuxContainerResources {
    match update {
        Update::Change(change) => merge(&record.resources, change),
        Update::Restore | Update::Repin => record.resources.clone(),
    }
}

impl Pod {
    pub(in crate::sandbox) fn advance_update(&mut self, id: &Id) {
        let Some(PendingUpdate { update, waiter }) = self.lifecycle.advance_update(id) else {
            return;
        };
        let Some((services, pod, record)) = self.context(id) else {
            return;
        };
        let (id, wanted) = (id.clone(), update.clone());
        let class = self
            .lifecycle
            .qos_class(&resources_after(&record, &update), Some(&id));
        let operation = match update {
            Update::Change(_) => "UpdateContainerResources",
            Update::Restore => "RestoreLimits",
            Update::Repin => "MoveToOtherCpus",
        };
        let work = async move { apply(&services, &pod, &record, class, &wanted).await };
        let work = metrics::operation(operation, work);
        self.begin("change the container's resources", work, move |pod, outcome| {
            let outcome = outcome.flatten();
            let change = pod.lifecycle.updated_resources(&id, &update, waiter, outcome);
            pod.commit(OPERATION, change);
        });
    }
}

/// Returns the CPUs that the container has of its own afterwards.
async fn apply(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
    class: QosClass,
    update: &Update,
) -> Result<Option<Pinning>, PodError> {
    if *update == Update::Restore {
        if record.run != RunState::Created {
            cgroup::restore(services, pod, record).await?;
        }
        return Ok(record.pinning.clone());
    }
    let new = resources_after(record, update);
    let pinning = cgroup::update(services, pod, record, class, &new).await?;
    let changed = ContainerRecord {
        resources: new,
        pinning: pinning.clone(),
        ..record.clone()
    };
    write_limits(services, &changed);
    Ok(pinning)
}

/// The resources in force after a change: a field that the change leaves empty stays as it was.
pub(super) fn merge(
    now: &v1::LinuxContainerResources,
    change: &v1::LinuxContainerResources,
) -> v1::LinuxContainerResources {
    let number = |new: i64, old: i64| if new == 0 { old } else { new };
    let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let mut unified = now.unified.clone();
    unified.extend(change.unified.clone());
    v1::LinuxContainerResources {
        cpu_period: number(change.cpu_period, now.cpu_period),
        cpu_quota: number(change.cpu_quota, now.cpu_quota),
        cpu_shares: number(change.cpu_shares, now.cpu_shares),
        memory_limit_in_bytes: number(change.memory_limit_in_bytes, now.memory_limit_in_bytes),
        oom_score_adj: number(change.oom_score_adj, now.oom_score_adj),
        cpuset_cpus: text(&change.cpuset_cpus, &now.cpuset_cpus),
        cpuset_mems: text(&change.cpuset_mems, &now.cpuset_mems),
        hugepage_limits: if change.hugepage_limits.is_empty() {
            now.hugepage_limits.clone()
        } else {
            change.hugepage_limits.clone()
        },
        unified,
        memory_swap_limit_in_bytes: number(change.memory_swap_limit_in_bytes, swap_with(now, change)),
    }
}

/// The limit of memory and swap together after a change of memory alone: the swap part of it stays.
fn swap_with(now: &v1::LinuxContainerResources, change: &v1::LinuxContainerResources) -> i64 {
    let (memory, both) = (now.memory_limit_in_bytes, now.memory_swap_limit_in_bytes);
    match change.memory_limit_in_bytes {
        0 => both,
        // None, or no limit.
        _ if both <= 0 => both,
        new if new > 0 => new.saturating_add(both.saturating_sub(memory)),
        // Memory without a limit has swap without one.
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
