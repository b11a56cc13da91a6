//! Reconciliation of the node in the background: one task from the daemon's start to its shutdown.
//!
//! ```text
//!   every 5 s     ask the network whether it could serve (CNI STATUS), for NetworkReady
//!                look for CPUs that have come or gone, for pinned containers
//!   after the monitors were greeted, and
//!   every 5 min   monitors      processes that hold a pod of ours without a record
//!                network       attachments of pods that are gone (CNI GC, the bridge's addresses and ports)
//!                 directories   of pods without a record, and what is mounted in them
//!                 limits        that systemd has overwritten when it was reloaded
//!                 memory        that the start, or work since the last round, has used and nobody uses any more
//! ```
//!
//! The same task samples what pods use, while somebody asks for it: see [`sampler`](super::sampler). It also makes monitors in
//! advance, where that is configured: see [`warm`](super::warm).
//!
//! Records are compared with the kernel, and what has no record is removed, with one line in the log each.
//!
//! Must never touch:
//! * what belongs to a pod that the registry knows, also while it is being created or removed. Of a stopped pod only the
//!   network may go, because the pod was detached before;
//! * what belongs to a pod whose record exists but cannot be read;
//! * another daemon's: two daemons share `/var/run/netns`, the process table and the cgroups, so nothing here goes by a name
//!   that both could use. A network namespace, for example, is found through its pod's record, which is saved before the
//!   namespace is bound and removed after it is unbound.
//!
//! Every step lists what exists *before* it asks which pods are known, because a pod is registered before anything of it is
//! made.

pub(super) mod directories;
pub(super) mod monitors;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::Pods;
use crate::cgroups::Driver;
use crate::container::{ContainerRecord, RunState};
use crate::error::chain;
use crate::telemetry::metrics;

/// How often the network is asked for its state, and the node for its CPUs.
const PROBE: Duration = Duration::from_secs(5);
/// How often the node is reconciled.
const ROUND: Duration = Duration::from_secs(5 * 60);

/// The task that reconciles the node.
#[derive(Debug)]
pub struct Reconciler {
    task: JoinHandle<()>,
}

impl Reconciler {
    /// Begins to reconcile the node, with rounds once all monitors were greeted.
    pub fn begin(pods: Pods, greetings: JoinHandle<()>) -> Self {
        let task = tokio::spawn(async move {
            tokio::join!(
                probe(&pods),
                watch_cpus(&pods),
                pods.sample_in_background(),
                pods.keep_warm(),
                async {
                    // Ended by a panic, it has ended all the same: every pod is registered.
                    drop(greetings.await);
                    let mut rounds = interval(ROUND);
                    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    loop {
                        rounds.tick().await;
                        restore_limits(&pods).await;
                        reconcile(&pods).await;
                    }
                }
            );
        });
        Self { task }
    }

    /// Ends it, wherever it is: what a round has not done, the next one does.
    pub async fn end(self) {
        self.task.abort();
        // Cancelled, which is what was asked for.
        drop(self.task.await);
    }
}

async fn probe(pods: &Pods) {
    let mut rounds = interval(PROBE);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        pods.services.network.probe().await;
    }
}

/// Moves pinned containers and the pool when CPUs go offline or come back, or a cpuset above becomes narrower.
async fn watch_cpus(pods: &Pods) {
    let mut rounds = interval(PROBE);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // So that the same is not reported every few seconds.
    let mut reported = BTreeSet::new();
    loop {
        rounds.tick().await;
        let displaced = pods.services.cpus.refresh().await.unwrap_or_else(|error| {
            let error = chain(&error);
            tracing::warn!(
                error,
                "cannot look at the node's CPUs; pinned containers stay as they are"
            );
            Vec::new()
        });
        reported.retain(|id| displaced.contains(id));
        for id in displaced {
            let moved = pods.repin(&id).await;
            if reported.insert(id.clone()) {
                let error = moved.err().map(|error| error.text());
                tracing::warn!(
                    container = id.short(),
                    cpus = pods
                        .services
                        .cpus
                        .pinned(&id)
                        .map(|pinning| pinning.cpus.to_string()),
                    error,
                    "a container had lost CPUs of its own, which went offline or out of the cgroup above; it runs on those in `cpus`, or in the pool"
                );
            }
        }
    }
}

pub(super) async fn reconcile(pods: &Pods) {
    let since = Instant::now();
    // First, because the network leaves alone what still has a namespace.
    let monitors = monitors::end_strays(pods).await;
    let for_network = pods.clone();
    let attachments = pods
        .services
        .network
        .collect_garbage(move || {
            let mut live = for_network.registry.attached();
            live.append(&mut directories::unread(&for_network));
            live
        })
        .await;
    let attachments = attachments.unwrap_or_else(|error| {
        metrics::reconciliation_failed("network");
        tracing::warn!(
            error = chain(&error),
            "cannot remove network attachments of pods that are gone; the next round tries again"
        );
        0
    });
    let for_directories = pods.clone();
    let directories = tokio::task::spawn_blocking(move || directories::remove_strays(&for_directories)).await;
    let directories = directories.unwrap_or_else(|error| {
        metrics::reconciliation_failed("directories");
        tracing::error!(%error, "the search for directories without a record panicked; the next round tries again");
        0
    });
    if attachments + monitors + directories > 0 {
        tracing::info!(
            attachments,
            monitors,
            directories,
            "removed what belonged to no pod"
        );
    }
    let removed = [
        ("attachment", attachments),
        ("monitor", monitors),
        ("directory", directories),
    ];
    metrics::reconciliation(removed, since.elapsed());
    pausa_sys::return_free_pages();
    pausa_sys::release_program();
}

/// Writes the limits of running containers again: on `daemon-reload` systemd writes its own idea of a scope into the files,
/// and for some of them it has none.
async fn restore_limits(pods: &Pods) {
    if pods.services.cgroups.driver() != Driver::Systemd {
        return;
    }
    for view in pods.views() {
        let running = |record: &&Arc<ContainerRecord>| matches!(record.run, RunState::Running { .. });
        for record in view.containers.values().filter(running) {
            // Through the pod's queue, so that no change of the resources is overtaken.
            if let Err(error) = pods.restore_resources(&record.id).await {
                tracing::debug!(
                    container = record.id.short(),
                    error = error.text(),
                    "did not check a container's limits; most likely it has ended"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
