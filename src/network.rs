//! The network of pods: an interface, addresses and host ports for a network namespace that is already there.
//!
//! There are two back ends. `cni` runs the conflist that the administrator or a network add-on installed; `bridge`
//! creates a bridge and veth pairs itself, with nothing to install. Loopback is set up in process with both.
//!
//! Must never: enter a pod's namespace on a thread that is used again, leave a partial attachment after a failed or
//! abandoned [`Network::attach`], or block a thread of the async runtime on the kernel or on a program.
//!
//! ```text
//!             attach                    detach
//!   nothing ───────────▶ attached ───────────────▶ nothing
//!      ▲                    │
//!      └── undo, when it failed or its caller was dropped
//! ```
//!
//! Every undo is idempotent and works without the namespace. [`NetworkError::NotUndone`] means that a detach is
//! pending: the caller retries [`Network::detach`].
//!
//! Specifications: CNI 1.1.0 (<https://www.cni.dev/docs/spec/>), CRI `PodSandboxConfig`.

pub mod files;

mod bandwidth;
mod bridge;
mod cni;
mod error;
mod types;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

pub use bridge::BridgeConfig;
pub use error::NetworkError;
pub use types::{Attachment, NetworkConfig, NotReady, PodNetwork, PortMapping, Protocol};

use crate::blocking::blocking;
use crate::error::Kinded;
use crate::telemetry::metrics;
use bridge::Bridge;
use cni::Cni;

use crate::config::NetworkMode;

/// The interface of every pod, as Kubernetes and the other runtimes name it.
const INTERFACE: &str = "eth0";
/// How often [`Network::wait_ready`] checks.
const READY_POLL: Duration = Duration::from_millis(200);
/// How often [`Network::settle`] and an attach of the same pod check for the end of a detach in the background.
const DETACH_POLL: Duration = Duration::from_millis(2);

/// The network of this node's pods. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    backend: Backend,
}

#[derive(Debug, Clone)]
enum Backend {
    Cni(Arc<Cni>),
    Bridge(Arc<Bridge>),
}

impl Network {
    /// The network of a configuration. Nothing is changed before the first pod.
    #[must_use]
    pub fn new(config: NetworkConfig) -> Self {
        let backend = match config.mode {
            NetworkMode::Cni => Backend::Cni(Arc::new(Cni::new(config))),
            NetworkMode::Bridge => Backend::Bridge(Arc::new(Bridge::new(config.bridge))),
        };
        Self { backend }
    }

    /// Attaches a pod. If it fails, everything is undone; if the caller is dropped before it has the attachment, in the
    /// background. A repeated attach returns what the pod has, or creates it again.
    ///
    /// # Errors
    /// Why the pod has no network. After [`NetworkError::NotUndone`] something is left to detach.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<Attachment, NetworkError> {
        pod.validate()?;
        let (mut answer, waiter) = oneshot::channel();
        let (network, pod) = (self.clone(), pod.clone());
        let attach = async move {
            let outcome = network.try_attach(&pod, answer.closed()).await;
            let outcome = match outcome {
                Ok(attachment) => Ok(Undelivered {
                    attachment: Some(attachment),
                    network,
                    pod,
                }),
                Err(cause) => Err(network.undo(&pod, cause).await),
            };
            // If the caller is gone, dropping the undelivered attachment undoes it.
            drop(answer.send(outcome));
        };
        tokio::spawn(attach.in_current_span());
        match waiter.await {
            Ok(outcome) => outcome?.take(),
            Err(_) => Err(NetworkError::Abandoned),
        }
    }

    async fn try_attach(
        &self,
        pod: &PodNetwork,
        abandoned: impl Future<Output = ()>,
    ) -> Result<Attachment, NetworkError> {
        match &self.backend {
            Backend::Cni(cni) => tokio::select! {
                biased;
                outcome = cni.attach(pod) => outcome,
                () = abandoned => Err(NetworkError::Abandoned),
            },
            // It takes a few milliseconds on a thread that cannot be stopped: an abandoned one finishes and is undone.
            Backend::Bridge(bridge) => {
                while bridge.is_detaching(Some(&pod.pod_id)) {
                    sleep(DETACH_POLL).await;
                }
                let (bridge, pod) = (Arc::clone(bridge), pod.clone());
                blocking(move || counted("ADD", || bridge.attach(&pod))).await
            }
        }
    }

    async fn undo(&self, pod: &PodNetwork, cause: NetworkError) -> NetworkError {
        let undone = match &self.backend {
            Backend::Cni(cni) => cni.detach(pod, true).await,
            Backend::Bridge(bridge) => {
                let (bridge, pod) = (Arc::clone(bridge), pod.pod_id.clone());
                blocking(move || counted("DEL", || bridge.detach(&pod))).await
            }
        };
        match undone {
            Ok(()) => cause,
            Err(undo) => NetworkError::NotUndone {
                cause: Box::new(cause),
                undo: Box::new(undo),
            },
        }
    }

    /// Detaches a pod; one that was never attached counts as detached. Afterwards its host ports are free. The bridge
    /// deletes the veth pair and frees the address in the background ([`Self::settle`] waits for that). Without the
    /// pod's namespace, plugins get an empty path.
    ///
    /// # Errors
    /// What could not be undone; everything else was. Call again later.
    pub async fn detach(&self, pod: &PodNetwork, netns_exists: bool) -> Result<(), NetworkError> {
        pod.validate_id()?;
        match &self.backend {
            Backend::Cni(cni) => cni.detach(pod, netns_exists).await,
            Backend::Bridge(bridge) => {
                let (begin, finish) = (Arc::clone(bridge), Arc::clone(bridge));
                let (pod, again) = (pod.pod_id.clone(), pod.pod_id.clone());
                let begun = blocking(move || begin.begin_detach(&pod)).await;
                // One that has begun is counted when it is finished.
                begun.or_else(|error| counted("DEL", || Err(error)))?;
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = counted("DEL", || finish.finish_detach(&again)) {
                        tracing::warn!(
                            pod = again,
                            error = crate::error::chain(&error),
                            "cannot remove the network of a stopped pod; its address stays reserved, and garbage collection will retry"
                        );
                    }
                });
                Ok(())
            }
        }
    }

    /// Waits for detaches in the background, at the daemon's shutdown and in tests.
    pub async fn settle(&self) {
        if let Backend::Bridge(bridge) = &self.backend {
            while bridge.is_detaching(None) {
                sleep(DETACH_POLL).await;
            }
        }
    }

    /// Whether pods can be attached now, for the NetworkReady condition: the configuration as it is, and the result of
    /// the last [`Self::probe`]. No plugin is run.
    ///
    /// # Errors
    /// Why pods cannot be attached.
    pub fn readiness(&self) -> Result<(), NotReady> {
        match &self.backend {
            Backend::Cni(cni) => cni.readiness(),
            Backend::Bridge(_) => Ok(()),
        }
    }

    /// Runs CNI STATUS (1.1 and later) for [`Self::readiness`]. The daemon calls it every few seconds.
    pub async fn probe(&self) {
        if let Backend::Cni(cni) = &self.backend {
            cni.probe().await;
        }
    }

    /// Waits until pods can be attached, at most `limit`.
    ///
    /// # Errors
    /// Why pods still cannot be attached.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), NotReady> {
        let begin = Instant::now();
        loop {
            let Err(reason) = self.readiness() else {
                return Ok(());
            };
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(reason);
            }
            sleep(left.min(READY_POLL)).await;
            self.probe().await;
        }
    }

    /// For the verbose form of CRI `Status`: `cniconfig` and `lastCNILoadStatus`, as in containerd.
    #[must_use]
    pub fn describe(&self) -> Value {
        match &self.backend {
            Backend::Cni(cni) => cni.describe(),
            Backend::Bridge(bridge) => json!({ "bridge": bridge.describe(), "lastCNILoadStatus": "OK" }),
        }
    }

    /// Sets the node's pod ranges from CRI `UpdateRuntimeConfig` (comma separated). The bridge gives new pods
    /// addresses of the first IPv4 range, also after a restart; plugins that declare `ipRanges` get all of them.
    ///
    /// # Errors
    /// A range is invalid or cannot be saved.
    pub async fn set_pod_cidr(&self, cidr: &str) -> Result<(), NetworkError> {
        let ranges = types::parse_ranges(cidr)?;
        match &self.backend {
            Backend::Cni(cni) => {
                cni.set_pod_ranges(ranges);
                Ok(())
            }
            Backend::Bridge(bridge) => {
                let bridge = Arc::clone(bridge);
                blocking(move || bridge.set_pod_ranges(&ranges)).await
            }
        }
    }

    /// Removes attachments whose pod no longer exists and sends plugins the list of pods (CNI GC). `live` returns every
    /// pod, including those being attached; it is called once, *after* the attachments were listed, so that it includes
    /// pods that were added meanwhile. Returns how many attachments were removed.
    ///
    /// # Errors
    /// The first failure, after everything was tried.
    pub async fn collect_garbage(
        &self,
        live: impl FnOnce() -> BTreeSet<String> + Send + 'static,
    ) -> Result<usize, NetworkError> {
        match &self.backend {
            Backend::Cni(cni) => cni.collect_garbage(live).await,
            Backend::Bridge(bridge) => {
                let bridge = Arc::clone(bridge);
                blocking(move || counted("GC", || bridge.collect_garbage(live))).await
            }
        }
    }
}

/// Counts what the bridge does, under the name of CNI's command for it.
fn counted<T>(
    command: &'static str,
    work: impl FnOnce() -> Result<T, NetworkError>,
) -> Result<T, NetworkError> {
    let since = Instant::now();
    let outcome = work();
    metrics::network_call(
        "bridge",
        command,
        outcome.as_ref().err().map(Kinded::kind),
        since.elapsed(),
    );
    outcome
}

/// An attachment on its way to the caller. If it is dropped before, it is undone.
struct Undelivered {
    attachment: Option<Attachment>,
    network: Network,
    pod: PodNetwork,
}

impl Undelivered {
    fn take(mut self) -> Result<Attachment, NetworkError> {
        self.attachment.take().ok_or(NetworkError::Abandoned)
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        if self.attachment.take().is_none() {
            return;
        }
        let (network, pod) = (self.network.clone(), self.pod.clone());
        // Without a runtime the daemon is shutting down; the next one's garbage collection finds the attachment.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = network.detach(&pod, true).await {
                    tracing::warn!(
                        pod = pod.pod_id,
                        error = crate::error::chain(&error),
                        "cannot undo the attachment of an abandoned request; garbage collection will retry"
                    );
                }
            });
        }
    }
}
