//! Pods and containers: every operation of CRI's RuntimeService on them.
//!
//! ```text
//!   Pods ──── registry: id, prefix, name ─▶ handle
//!     │                                       │ queue            │ view (immutable, replaced)
//!     │ ask                                   ▼                  ▼
//!     └───────────────────────────────▶ Pod, an actor        list, status, exec
//!                                             │ begins
//!                                             ▼
//!                                        work that takes time
//! ```
//!
//! [`ops`] has the operations, [`lifecycle`] the states, [`pod`] the actor, `recover` and `reconcile` what happens at the
//! daemon's start and every few minutes.
//!
//! Invariants: a pod and its containers are changed by their actor only; a record is saved before anybody sees or is told
//! what is in it; an operation, once accepted, goes on whether or not its client still waits, and the same request again
//! joins it or gets its result; readers never wait.
//!
//! Must never: look into an image, form an OCI spec, speak CNI: it calls the modules that do.
//!
//! Sources: CRI v1 RuntimeService; kubelet's expectations of idempotency.

mod error;
mod events;
mod handle;
mod lifecycle;
mod metrics;
mod monitor_events;
mod nri;
mod ops;
mod pod;
mod queries;
mod reconcile;
mod record;
mod recover;
mod registry;
mod reset;
mod sampler;
mod services;
mod stats;
mod status;
mod validate;
mod warm;

use std::sync::Arc;

pub use nri::Nri;
pub use ops::{NetworkCheck, NetworkOutcome};
pub use queries::{Operation, Workload};
pub use reconcile::Reconciler;
pub use services::{Services, Settings};

use error::PodError;
use events::ContainerEvents;
use recover::Recovered;
use registry::Registry;
use sampler::Sampler;
use warm::WarmMonitors;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::error::{ErrorKind, Kinded, chain};
use crate::id::LookupError;
use crate::image::Images;

/// All pods of this node.
#[derive(Debug, Clone)]
pub struct Pods {
    services: Arc<Services>,
    registry: Arc<Registry>,
    container_events: Arc<ContainerEvents>,
    sampler: Arc<Sampler>,
    warm: Arc<WarmMonitors>,
    /// Where the writable layers are, as ImageFsInfo has it.
    writable_layers: Arc<str>,
}

impl Pods {
    /// Takes over what is on disk, and says what was found. What is in the kernel is looked at in the background: until that is
    /// done, pods are as they were recorded, and operations on them wait.
    pub fn open(services: Services) -> (Self, Recovered) {
        let settings = services.settings();
        let netns_dir = &settings.netns_dir;
        if let Err(error) = ops::share_netns_dir(netns_dir) {
            tracing::warn!(
                path = %netns_dir.display(),
                error = chain(&error),
                "cannot make the directory of network namespaces a mount of its own; the namespaces of pods that run when `ip netns add` is first used stay after their pods"
            );
        }
        let pods = Self {
            sampler: Arc::new(Sampler::new(settings.stats_interval)),
            warm: Arc::new(WarmMonitors::new(&settings)),
            writable_layers: stats::mountpoint(&services.images),
            services: Arc::new(services),
            registry: Arc::new(Registry::default()),
            container_events: Arc::default(),
        };
        let recovered = recover::recover(&pods);
        (pods, recovered)
    }

    /// The images that containers are made from.
    pub fn images(&self) -> &Images {
        &self.services.images
    }

    /// The modules that pods are made with.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Has other settings from now on, for what is begun.
    pub fn configure(&self, settings: Settings) {
        self.sampler.set_interval(settings.stats_interval);
        self.warm.configure(&settings);
        self.services.settings.store(Arc::new(settings));
    }

    /// Completes when pods answer: an actor, any of them, has taken a turn. At once if there are none.
    pub async fn alive(&self) {
        let handles = self.registry.pods();
        let mut turns: FuturesUnordered<_> = handles
            .iter()
            .filter(|handle| !handle.is_greeting())
            .map(|handle| handle.ask(|_, answer| drop(answer.send(Ok(())))))
            .collect();
        // An actor that has just ended is as good.
        turns.next().await;
    }
}

/// Stop and remove of what is not there are done.
fn absent_is_done(error: LookupError) -> Result<(), PodError> {
    match error {
        LookupError::NotFound { .. } => Ok(()),
        other => Err(other.into()),
    }
}

/// What was removed in the meantime is stopped and removed.
fn gone_is_done(outcome: Result<(), PodError>) -> Result<(), PodError> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
