//! Ending a pod. Every step is tried, whatever became of the one before; the first failure is told.

use std::sync::Arc;
use std::time::Duration;

use pausa_monitor_protocol::Request;

use super::files::{SHM, unbind_netns, unmount};
use super::pod::pod_network;
use super::{blocking, cgroup};
use crate::error::chain;
use crate::sandbox::actor::TornDown;
use crate::sandbox::error::PodError;
use crate::sandbox::link::Link;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;
use crate::telemetry::Steps;

/// How long a monitor may take to leave before it is killed.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);
/// Pauses in seconds between attempts to pay a debt of the network; the last one repeats.
const DETACH_PAUSES: [u64; 6] = [5, 15, 30, 60, 120, 300];
/// After so many attempts the debt is left to the garbage collection of the network.
const DETACH_ATTEMPTS: usize = 24;

/// Ends network, namespaces, monitor and their traces. Containers must have ended.
pub(in crate::sandbox) async fn tear_down(
    services: &Arc<Services>,
    record: &PodRecord,
    monitor: Option<Arc<Link>>,
    steps: &Steps,
) -> TornDown {
    steps.enter("network and monitor");
    let (network, ()) = tokio::join!(detach(services, record), async {
        if let Some(monitor) = &monitor {
            end_monitor(monitor).await;
        }
    });
    let (netns, shm) = (
        record.netns.clone(),
        services.store.layout().pod(&record.id).join(SHM),
    );
    let unmounted = blocking(move || {
        if let Some(netns) = netns {
            unbind_netns(&netns);
        }
        unmount(&shm);
        Ok(())
    });
    steps.enter("unmount");
    let unmounted = unmounted.await;
    steps.enter("cgroup");
    if record.monitor_cgroup {
        cgroup::remove_monitor(services, record).await;
    }
    TornDown {
        network_debt: network.is_err(),
        result: network.and(unmounted),
    }
}

async fn detach(services: &Services, record: &PodRecord) -> Result<(), PodError> {
    let Some(netns) = &record.netns else { return Ok(()) };
    let detached = services
        .network
        .detach(&pod_network(record, netns), netns.exists())
        .await;
    detached.map_err(|error| PodError::failed("detach the pod from its network", error))
}

/// Detaches a pod that is being undone.
pub(super) async fn detach_or_warn(services: &Services, record: &PodRecord) {
    if let Err(error) = detach(services, record).await {
        tracing::error!(
            pod = record.id.short(),
            error = error.text(),
            "a failed pod stays attached to its network"
        );
    }
}

/// Tells a monitor to leave, and sees to it that it does.
pub(super) async fn end_monitor(monitor: &Link) {
    let asked = tokio::time::timeout(SHUTDOWN_PATIENCE, monitor.request(Request::Shutdown, Vec::new())).await;
    if !matches!(asked, Ok(Ok(_))) {
        monitor.kill();
    }
    if tokio::time::timeout(SHUTDOWN_PATIENCE, monitor.exited())
        .await
        .is_err()
    {
        monitor.kill();
    }
}

/// Goes on trying to detach a pod in the background: the pod's own end does not wait for it.
pub(in crate::sandbox) fn queue_detach(services: &Arc<Services>, record: &PodRecord) {
    let (services, record) = (Arc::clone(services), record.clone());
    tokio::spawn(async move {
        let Some(netns) = &record.netns else { return };
        let pod = pod_network(&record, netns);
        for attempt in 0..DETACH_ATTEMPTS {
            let pause = DETACH_PAUSES[attempt.min(DETACH_PAUSES.len() - 1)];
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let Err(error) = services.network.detach(&pod, netns.exists()).await else {
                tracing::info!(pod = record.id.short(), attempt, "a network debt is paid");
                return;
            };
            tracing::warn!(
                pod = record.id.short(),
                attempt,
                error = chain(&error),
                "a network debt remains"
            );
        }
    });
}
