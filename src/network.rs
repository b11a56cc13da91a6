//! The network of pods: an interface, addresses and host ports for a network namespace that is already there.
//!
//! Two back ends, one face. `cni` runs whatever conflist the administrator or a network add-on installed; `bridge`
//! makes a bridge and veth pairs itself, with nothing to install. Loopback is set up in process either way.
//!
//! What this room must never do: enter a pod's namespace on a thread that lives on, keep anything half-made after a
//! failed or abandoned [`Network::attach`], or block a thread of the async runtime on the kernel or on a program.
//!
//! ```text
//!             attach                    detach
//!   nothing ───────────▶ attached ───────────────▶ nothing
//!      ▲                    │
//!      └── undo, when it failed or nobody took the attachment any more
//! ```
//!
//! Every step back is idempotent and works when the namespace is already gone. What could not be undone is returned
//! as [`NetworkError::NotUndone`]: a debt of the caller's, who retries [`Network::detach`].
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

pub use bridge::BridgeConfig;
pub use error::NetworkError;
pub use types::{Attachment, NetworkConfig, NetworkMode, NotReady, PodNetwork, PortMapping, Protocol};

use bridge::Bridge;
use cni::Cni;

/// The interface of every pod, as Kubernetes and the other runtimes name it.
const INTERFACE: &str = "eth0";
/// How often [`Network::wait_ready`] looks.
const READY_POLL: Duration = Duration::from_millis(200);
/// How often the end of a removal in the background is looked for, by the few who wait for it.
const LEAVING_POLL: Duration = Duration::from_millis(2);

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

/// Runs work that calls the kernel or programs where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(source) => Err(NetworkError::Interrupted { source }),
    }
}

impl Network {
    /// The network a configuration describes. Nothing is touched until the first pod comes.
    #[must_use]
    pub fn new(config: NetworkConfig) -> Self {
        let backend = match config.mode {
            NetworkMode::Cni => Backend::Cni(Arc::new(Cni::new(config))),
            NetworkMode::Bridge => Backend::Bridge(Arc::new(Bridge::new(config.bridge))),
        };
        Self { backend }
    }

    /// Attaches a pod. When it fails, or when the caller goes away before it has the attachment, everything is
    /// undone: in the second case in the background. A repeated attach gives the pod what it has, or makes it anew.
    ///
    /// # Errors
    /// Why the pod has no network. [`NetworkError::NotUndone`] says that something is left to detach.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<Attachment, NetworkError> {
        pod.validate()?;
        let (mut answer, waiter) = oneshot::channel();
        let (network, pod) = (self.clone(), pod.clone());
        tokio::spawn(async move {
            let outcome = network.try_attach(&pod, answer.closed()).await;
            let outcome = match outcome {
                Ok(attachment) => Ok(Untaken {
                    attachment: Some(attachment),
                    network,
                    pod,
                }),
                Err(cause) => Err(network.undo(&pod, cause).await),
            };
            // A caller that has gone: dropping an attachment nobody took undoes it.
            drop(answer.send(outcome));
        });
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
            // A few milliseconds on a thread that cannot be stopped half-way: let it finish, then undo.
            Backend::Bridge(bridge) => {
                while bridge.is_leaving(Some(&pod.pod_id)) {
                    sleep(LEAVING_POLL).await;
                }
                let (bridge, pod) = (Arc::clone(bridge), pod.clone());
                blocking(move || bridge.attach(&pod)).await
            }
        }
    }

    async fn undo(&self, pod: &PodNetwork, cause: NetworkError) -> NetworkError {
        let undone = match &self.backend {
            Backend::Cni(cni) => cni.detach(pod, true).await,
            Backend::Bridge(bridge) => {
                let (bridge, pod) = (Arc::clone(bridge), pod.pod_id.clone());
                blocking(move || bridge.detach(&pod)).await
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

    /// Detaches a pod: success means that nothing is left that anybody could want, also for a pod that was never
    /// attached. The bridge deletes the veth pair and frees the address right after ([`Self::settle`] waits for
    /// that). Without the pod's namespace, plugins are told so by an empty path.
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
                blocking(move || begin.begin_detach(&pod)).await?;
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = finish.finish_detach(&again) {
                        tracing::warn!(
                            pod = again,
                            error = crate::error::chain(&error),
                            "the network of an ended pod is not removed yet; garbage collection will retry"
                        );
                    }
                });
                Ok(())
            }
        }
    }

    /// Waits until removals in the background have ended: for an orderly end of the daemon, and for tests.
    pub async fn settle(&self) {
        if let Backend::Bridge(bridge) = &self.backend {
            while bridge.is_leaving(None) {
                sleep(LEAVING_POLL).await;
            }
        }
    }

    /// Whether pods can be attached now, as far as can be told without asking a plugin; for the NetworkReady
    /// condition. The last answer of [`Self::probe`] counts.
    ///
    /// # Errors
    /// Why not.
    pub fn readiness(&self) -> Result<(), NotReady> {
        match &self.backend {
            Backend::Cni(cni) => cni.readiness(),
            Backend::Bridge(_) => Ok(()),
        }
    }

    /// Asks the plugins whether they could serve (CNI STATUS, 1.1 and later), for [`Self::readiness`] to tell. To be
    /// called every few seconds by whoever owns the node's status.
    pub async fn probe(&self) {
        if let Backend::Cni(cni) = &self.backend {
            cni.probe().await;
        }
    }

    /// Waits until pods can be attached, at most `limit`.
    ///
    /// # Errors
    /// Why they still cannot.
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

    /// What the verbose form of CRI `Status` tells: `cniconfig` and `lastCNILoadStatus`, as tools know them.
    #[must_use]
    pub fn describe(&self) -> Value {
        match &self.backend {
            Backend::Cni(cni) => cni.describe(),
            Backend::Bridge(bridge) => json!({ "bridge": bridge.describe(), "lastCNILoadStatus": "OK" }),
        }
    }

    /// Takes the node's pod ranges from CRI `UpdateRuntimeConfig` (comma separated). The bridge gives new pods
    /// addresses of the first IPv4 range, also after a restart; plugins that declare `ipRanges` get all of them.
    ///
    /// # Errors
    /// A range is none, or it cannot be saved.
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

    /// Removes what belongs to no pod any more and tells plugins which pods there are (CNI GC). `live` must give
    /// every pod, including those that are just being attached; it is asked once, *after* the attachments were
    /// listed, so that a pod that comes meanwhile is in it. Returns how many dead attachments were removed.
    ///
    /// # Errors
    /// The first thing that could not be removed, after everything was tried.
    pub async fn collect_garbage(
        &self,
        live: impl FnOnce() -> BTreeSet<String> + Send + 'static,
    ) -> Result<usize, NetworkError> {
        match &self.backend {
            Backend::Cni(cni) => cni.collect_garbage(live).await,
            Backend::Bridge(bridge) => {
                let bridge = Arc::clone(bridge);
                blocking(move || bridge.collect_garbage(live)).await
            }
        }
    }
}

/// An attachment on its way to the caller. Dropped untaken, it is undone.
struct Untaken {
    attachment: Option<Attachment>,
    network: Network,
    pod: PodNetwork,
}

impl Untaken {
    fn take(mut self) -> Result<Attachment, NetworkError> {
        self.attachment.take().ok_or(NetworkError::Abandoned)
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        if self.attachment.take().is_none() {
            return;
        }
        let (network, pod) = (self.network.clone(), self.pod.clone());
        // Without a runtime the daemon is ending; what is left is found by the next one's garbage collection.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = network.detach(&pod, true).await {
                    tracing::warn!(
                        pod = pod.pod_id,
                        error = crate::error::chain(&error),
                        "an attachment nobody waited for could not be undone; garbage collection will retry"
                    );
                }
            });
        }
    }
}
