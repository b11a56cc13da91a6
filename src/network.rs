//! The network of pods: an interface, addresses and host ports for a network namespace that is already there.
//!
//! A network is a CNI configuration list: the one that the administrator or a network add-on installed, or the
//! [built-in one](built_in), which needs no plugins. Plugin types that pausa implements itself run in process, others are
//! processes. Loopback is set up in any case. Host ports are opened by the plugin that takes them, or else [here](host_ports).
//!
//! The configuration directory is read at every use: there is no watch that could fail or lag. A pod is detached from
//! the network it was attached to, which the result cache has, even if the configuration has changed since.
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
//! Invariant of garbage collection: an attachment is not touched unless its network namespace is known to be gone. Other
//! runtimes and tools have their attachments in the same cache.
//!
//! Specifications: CNI 1.1.0 (<https://www.cni.dev/docs/spec/>), CRI `PodSandboxConfig`.

pub mod check;
pub mod files;

mod bandwidth;
mod built_in;
pub mod devices;
mod error;
mod firewall;
mod host_ports;
mod isolation;
mod source_filter;
mod sysctl;
mod types;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use parking_lot::Mutex;
use pausa_cni::{
    AddResult, AttachmentId, CachedAttachment, ConfDir, InProcess, Loaded, NetworkConfigList, Observed,
    Observer, Request, ResultCache, Runtime, Tried,
};
use pausa_netlink::open_netns;
use serde_json::{Map, Value, json};
use tokio::sync::{RwLock, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument as _;

pub use built_in::BridgeConfig;
pub use error::NetworkError;
pub use types::{Attachment, NetworkConfig, NotReady, PodNetwork, PortMapping, Protocol};

use crate::blocking::blocking;
use crate::config::NetworkMode;
use crate::error::chain;
use crate::telemetry::metrics;
use built_in::BuiltIn;
use error::of_cni;
use firewall::Rules;
use host_ports::{HostPorts, OpenedBy};
use isolation::Isolation;

/// The interface of every pod, as Kubernetes and the other runtimes name it.
const INTERFACE: &str = "eth0";
/// The reason that kubelet and containerd use.
const NOT_READY: &str = "NetworkPluginNotReady";
/// The capability of plugins that open host ports.
const PORT_MAPPINGS: &str = "portMappings";
/// How often [`Network::wait_ready`] checks.
const READY_POLL: Duration = Duration::from_millis(200);
/// How long garbage collection waits for a moment without ADD and DEL.
const EXCLUSIVE_WAIT: Duration = Duration::from_secs(2);

/// The network of this node's pods. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    plugins: ArcSwap<Plugins>,
    host_ports: Arc<HostPorts>,
    pod_ranges: Mutex<Vec<IpNet>>,
    /// The configuration whose last STATUS failed, and the error.
    failed_status: Mutex<Option<(Vec<u8>, String)>>,
    /// ADD and DEL take it shared, GC exclusively.
    gc_lock: RwLock<()>,
}

/// Networks and what attaches pods to them.
#[derive(Debug)]
struct Plugins {
    source: Source,
    bin_dirs: Vec<PathBuf>,
    runtime: Runtime,
}

/// The network's configuration, tried without a pod.
#[derive(Debug)]
pub struct DryRun {
    pub network: Option<NetworkConfigList>,
    /// Why there is none.
    pub unusable: Option<String>,
    /// Files that were skipped before it, and why.
    pub rejected: Vec<String>,
    pub plugins: Vec<Tried>,
}

/// Where the configuration comes from.
#[derive(Debug)]
enum Source {
    Directory(ConfDir),
    BuiltIn(BuiltIn),
}

impl Source {
    fn load(&self) -> Loaded {
        match self {
            Self::Directory(dir) => dir.load(),
            Self::BuiltIn(built_in) => match built_in.conflist() {
                Ok(network) => Loaded {
                    network: Some(network),
                    rejected: Vec::new(),
                },
                Err(error) => Loaded {
                    network: None,
                    rejected: vec![error],
                },
            },
        }
    }
}

impl Plugins {
    fn new(config: NetworkConfig, host_ports: &Arc<HostPorts>) -> Self {
        let mut in_process = pausa_cni_plugins::all();
        let observer: Observer = match config.mode {
            NetworkMode::Cni => |call| count("cni", call),
            NetworkMode::Bridge => |call| count("bridge", call),
        };
        let source = match config.mode {
            NetworkMode::Cni => {
                in_process.retain(|plugin, _| config.in_process.includes(plugin));
                Source::Directory(ConfDir::new(config.cni_conf_dir))
            }
            NetworkMode::Bridge => {
                let cache = ResultCache::new(&config.cni_cache_dir);
                let isolation = Isolation::new(Arc::clone(host_ports), cache);
                in_process.insert(
                    isolation::TYPE.to_owned(),
                    Arc::new(isolation) as Arc<dyn InProcess>,
                );
                Source::BuiltIn(BuiltIn::new(config.bridge))
            }
        };
        let runtime = Runtime::new(config.cni_bin_dirs.clone(), &config.cni_cache_dir, in_process);
        Self {
            source,
            bin_dirs: config.cni_bin_dirs,
            runtime: runtime.with_observer(observer),
        }
    }
}

impl Network {
    /// The network of a configuration. Nothing is changed before the first pod.
    #[must_use]
    pub fn new(config: NetworkConfig) -> Self {
        let ports_dir = config
            .bridge
            .state_dir
            .join(format!("{}.ports", config.bridge.name));
        let rules = Rules {
            instance: config.bridge.name.clone(),
            masquerade: config.bridge.masquerade,
        };
        let host_ports = Arc::new(HostPorts::new(ports_dir, rules));
        let plugins = Plugins::new(config, &host_ports);
        Self {
            inner: Arc::new(Inner {
                plugins: ArcSwap::from_pointee(plugins),
                host_ports,
                pod_ranges: Mutex::default(),
                failed_status: Mutex::default(),
                gc_lock: RwLock::default(),
            }),
        }
    }

    /// Takes directories and types of plugins of a configuration for what is begun from now on. The built-in network, whose
    /// configuration has none of these, stays.
    pub fn configure(&self, config: NetworkConfig) {
        if config.mode == NetworkMode::Cni {
            let plugins = Plugins::new(config, &self.inner.host_ports);
            self.inner.plugins.store(Arc::new(plugins));
        }
    }

    /// Attaches a pod, in whose namespace loopback is up. If it fails, everything is undone; if the caller is dropped before it
    /// has the attachment, in the background. A pod that may be attached already has to be detached first.
    ///
    /// # Errors
    /// Why the pod has no network. After [`NetworkError::NotUndone`] something is left to detach.
    pub async fn attach(&self, pod: &PodNetwork) -> Result<Attachment, NetworkError> {
        pod.validate()?;
        let (mut answer, waiter) = oneshot::channel();
        let (network, pod) = (self.clone(), pod.clone());
        let attach = async move {
            let outcome = tokio::select! {
                biased;
                outcome = network.inner.attach(&pod) => outcome,
                () = answer.closed() => Err(NetworkError::Abandoned),
            };
            let outcome = match outcome {
                Ok(attachment) => Ok(Undelivered {
                    attachment: Some(attachment),
                    network,
                    pod,
                }),
                Err(cause) => Err(match network.detach(&pod, true).await {
                    Ok(()) => cause,
                    Err(undo) => NetworkError::NotUndone {
                        cause: Box::new(cause),
                        undo: Box::new(undo),
                    },
                }),
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

    /// Detaches a pod; one that was never attached counts as detached. Without the pod's namespace, plugins get an empty
    /// path.
    ///
    /// # Errors
    /// What could not be undone. Call again later.
    pub async fn detach(&self, pod: &PodNetwork, netns_exists: bool) -> Result<(), NetworkError> {
        pod.validate_id()?;
        if pod.validate().is_err() {
            // Attach refused this pod, so no plugin has seen it.
            return Ok(());
        }
        let inner = &self.inner;
        let _shared = inner.gc_lock.read().await;
        let network = self.load().await.network;
        // Both are tried.
        let host_ports = Arc::clone(&inner.host_ports);
        let (id, path) = (pod.pod_id.clone(), pod.netns.clone());
        let (closed, is_namespace) = blocking(move || {
            let is_namespace = netns_exists && matches!(open_netns(&path), Ok(Some(_)));
            (host_ports.close(&id), is_namespace)
        })
        .await;
        // A path that is no namespace confuses plugins more than an empty one.
        let netns = Some(pod.netns.clone())
            .filter(|_| is_namespace)
            .unwrap_or_default();
        // Bad annotations must not prevent a detach. ADD refused them, so no plugin has seen them.
        let request = inner
            .request(pod, netns.clone())
            .unwrap_or_else(|_| bare_request(pod, netns));
        let name = network.as_ref().map_or("", NetworkConfigList::name);
        let failed = |source| cni_error(&pod.pod_id, name, "DEL", source);
        let detached = inner
            .runtime()
            .del(network.as_ref(), &request)
            .await
            .map_err(failed);
        detached.and(closed)
    }

    /// Whether pods can be attached now, for the NetworkReady condition: the configuration as it is, and the result of
    /// the last [`Self::probe`]. No plugin is run.
    ///
    /// # Errors
    /// Why pods cannot be attached.
    pub fn readiness(&self) -> Result<(), NotReady> {
        let loaded = self.inner.plugins.load().source.load();
        let Some(network) = loaded.network else {
            return Err(NotReady {
                reason: NOT_READY,
                message: self.inner.explain(&loaded.rejected),
            });
        };
        match &*self.inner.failed_status.lock() {
            Some((bytes, message)) if bytes == network.bytes() => Err(NotReady {
                reason: NOT_READY,
                message: message.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Runs CNI STATUS (1.1 and later) for [`Self::readiness`]. The daemon calls it every few seconds.
    pub async fn probe(&self) {
        let Some(network) = self.load().await.network else {
            return;
        };
        let failure = self.inner.runtime().status(&network).await.err();
        let failed_status = failure.map(|error| (network.bytes().to_vec(), chain(&error)));
        *self.inner.failed_status.lock() = failed_status;
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

    /// The configuration as a pod would get it now, and what its plugins resolve to. Binaries are run with VERSION only.
    pub async fn dry_run(&self) -> DryRun {
        let loaded = self.load().await;
        let plugins = match &loaded.network {
            Some(network) => self.inner.runtime().dry_run(network).await,
            None => Vec::new(),
        };
        DryRun {
            unusable: loaded
                .network
                .is_none()
                .then(|| self.inner.explain(&loaded.rejected)),
            rejected: loaded.rejected.iter().map(|error| chain(error)).collect(),
            network: loaded.network,
            plugins,
        }
    }

    /// For the verbose form of CRI `Status`: `cniconfig` and `lastCNILoadStatus`, as in containerd.
    #[must_use]
    pub fn describe(&self) -> Value {
        let plugins = self.inner.plugins.load();
        let loaded = plugins.source.load();
        let status = match &loaded.network {
            Some(_) => "OK".to_owned(),
            None => self.inner.explain(&loaded.rejected),
        };
        let networks: Vec<Value> = loaded.network.iter().map(describe_network).collect();
        let rejected: Vec<String> = loaded.rejected.iter().map(|error| chain(error)).collect();
        let dir = match &plugins.source {
            Source::Directory(dir) => dir.path(),
            Source::BuiltIn(_) => Path::new(""),
        };
        json!({
            "cniconfig": {
                "PluginDirs": plugins.bin_dirs,
                "PluginConfDir": dir,
                "PluginMaxConfNum": 1,
                "Prefix": "eth",
                "Networks": networks,
                "Rejected": rejected,
            },
            "lastCNILoadStatus": status,
        })
    }

    /// Sets the node's pod ranges from CRI `UpdateRuntimeConfig` (comma separated). The built-in network gives new pods
    /// addresses of the first range of each family, also after a restart; plugins that declare `ipRanges` get all of them.
    ///
    /// # Errors
    /// A range is invalid or cannot be saved.
    pub async fn set_pod_cidr(&self, cidr: &str) -> Result<(), NetworkError> {
        let ranges = types::parse_ranges(cidr)?;
        let inner = Arc::clone(&self.inner);
        blocking(move || match &inner.plugins.load().source {
            Source::Directory(_) => {
                *inner.pod_ranges.lock() = ranges;
                Ok(())
            }
            Source::BuiltIn(built_in) => built_in.set_ranges(&ranges),
        })
        .await
    }

    /// Removes attachments whose pod no longer exists and sends plugins the list of pods (CNI GC). `live` returns every
    /// pod, including those being attached; it is called once, *after* the attachments were listed, so that it includes
    /// pods that were added meanwhile, and while nothing is being attached: CNI requires GC to run alone ("Lifecycle &
    /// Ordering"). Returns how many attachments were removed.
    ///
    /// # Errors
    /// The first failure, after everything was tried.
    pub async fn collect_garbage(
        &self,
        live: impl FnOnce() -> BTreeSet<String> + Send + 'static,
    ) -> Result<usize, NetworkError> {
        let inner = &self.inner;
        // Waiting for exclusive access blocks later ADD and DEL, and a plugin may hang: the wait is bounded.
        let Ok(_exclusive) = timeout(EXCLUSIVE_WAIT, inner.gc_lock.write()).await else {
            tracing::debug!("CNI GC postponed: pods are being attached and detached without a pause");
            return Ok(0);
        };
        let network = self.load().await.network;
        let name = network.as_ref().map_or("", NetworkConfigList::name).to_owned();
        let cache = inner.runtime().cache().clone();
        let entries = blocking(move || cache.entries()).await;
        let entries = entries.map_err(|source| cni_error("", &name, "GC", source))?;
        let live = live();
        let (kept, dead): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|entry| live.contains(&entry.container_id) || may_be_in_use(entry));
        let (mut removed, mut first) = (0, Ok(()));
        for entry in &dead {
            let request = Request {
                container_id: entry.container_id.clone(),
                if_name: entry.if_name.clone(),
                ..Request::default()
            };
            match inner.runtime().del(None, &request).await {
                Ok(()) => removed += 1,
                Err(source) if first.is_ok() => {
                    first = Err(cni_error(&entry.container_id, &name, "DEL", source));
                }
                // Only the first error is reported; the next collection retries all of them.
                Err(_) => {}
            }
        }
        if let Some(network) = network {
            let valid = valid_attachments(&network, &live, &kept);
            let outcome = inner.runtime().gc(&network, &valid).await;
            if first.is_ok() {
                first = outcome.map_err(|source| cni_error("", &name, "GC", source));
            }
        }
        let host_ports = Arc::clone(&inner.host_ports);
        let closed = blocking(move || close_ports_of_others(&host_ports, &live)).await;
        first.and(closed).map(|()| removed)
    }

    /// Removes what the pods of this daemon have shared: the rules, and the bridge unless something is attached to it. No pod
    /// may be left.
    ///
    /// # Errors
    /// What could not be removed. Call again later.
    pub async fn remove(&self) -> Result<(), NetworkError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.host_ports.remove_all()).await
    }

    async fn load(&self) -> Loaded {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.plugins.load().source.load()).await
    }
}

impl Inner {
    /// As it is now; what uses it goes on with it.
    fn runtime(&self) -> Runtime {
        self.plugins.load().runtime.clone()
    }

    async fn attach(self: &Arc<Self>, pod: &PodNetwork) -> Result<Attachment, NetworkError> {
        let _shared = self.gc_lock.read().await;
        let inner = Arc::clone(self);
        let loaded = blocking(move || inner.plugins.load().source.load()).await;
        let network = loaded.network.ok_or_else(|| NetworkError::NotReady {
            message: self.explain(&loaded.rejected),
        })?;
        let request = self.request(pod, pod.netns.clone())?;
        let failed = |source| cni_error(&pod.pod_id, network.name(), "ADD", source);
        let value = self.runtime().add(&network, &request).await.map_err(failed)?;
        let result = AddResult::from_value(&value).unwrap_or_default();
        let addresses = result.addresses_of(INTERFACE);
        if addresses.is_empty() {
            return Err(NetworkError::NoAddress {
                pod: pod.pod_id.clone(),
                network: network.name().to_owned(),
            });
        }
        let ips = addresses.iter().map(IpNet::addr).collect();
        if pod.host_ports().next().is_some() {
            self.open_ports(pod, &network, &result, addresses).await?;
        }
        Ok(Attachment {
            ips,
            network: network.name().to_owned(),
            interface: INTERFACE.to_owned(),
            result: Attachment::text(&value),
        })
    }

    async fn open_ports(
        self: &Arc<Self>,
        pod: &PodNetwork,
        network: &NetworkConfigList,
        result: &AddResult,
        addresses: Vec<IpNet>,
    ) -> Result<(), NetworkError> {
        let has_plugin = network
            .plugins()
            .iter()
            .any(|plugin| plugin.has_capability(PORT_MAPPINGS));
        let opened_by = if has_plugin {
            OpenedBy::Plugin
        } else {
            OpenedBy::Pausa
        };
        let host_end = match self.plugins.load().source {
            // The network is named after its bridge.
            Source::BuiltIn(_) => isolation::host_end(network.name(), result).cloned(),
            Source::Directory(_) => None,
        };
        let (host_ports, pod) = (Arc::clone(&self.host_ports), pod.clone());
        blocking(move || {
            if let Some(host_end) = host_end {
                host_ports::allow_hairpin(&host_end.name)?;
            }
            host_ports.open(&pod, &addresses, opened_by)
        })
        .await
    }

    fn explain(&self, rejected: &[pausa_cni::Error]) -> String {
        let place = match &self.plugins.load().source {
            Source::Directory(dir) => format!("in {}", dir.path().display()),
            Source::BuiltIn(_) => "for the built-in bridge".to_owned(),
        };
        if rejected.is_empty() {
            return format!("no network configuration (*.conf, *.conflist, *.json) {place}");
        }
        let reasons: Vec<String> = rejected.iter().map(|error| chain(error)).collect();
        format!("no valid network configuration {place}: {}", reasons.join("; "))
    }

    fn request(&self, pod: &PodNetwork, netns: PathBuf) -> Result<Request, NetworkError> {
        let mut arguments = Map::new();
        let ports: Vec<Value> = pod.host_ports().map(describe_port).collect();
        if !ports.is_empty() {
            arguments.insert(PORT_MAPPINGS.to_owned(), Value::Array(ports));
        }
        if let Some(bandwidth) = bandwidth::capability(&pod.annotations)? {
            arguments.insert("bandwidth".to_owned(), bandwidth);
        }
        if let Some(dns) = pod.dns.as_ref().filter(|dns| !dns.is_empty()) {
            let value = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
            arguments.insert("dns".to_owned(), value);
        }
        let ranges = self.pod_ranges.lock().clone();
        if !ranges.is_empty() {
            let sets: Vec<Value> = ranges.iter().map(|range| json!([{ "subnet": range }])).collect();
            arguments.insert("ipRanges".to_owned(), Value::Array(sets));
        }
        if !pod.cgroup_parent.is_empty() {
            arguments.insert("cgroupPath".to_owned(), Value::from(pod.cgroup_parent.clone()));
        }
        if !pod.annotations.is_empty() {
            arguments.insert(
                "io.kubernetes.cri.pod-annotations".to_owned(),
                json!(pod.annotations),
            );
        }
        Ok(Request {
            capability_args: arguments,
            ..bare_request(pod, netns)
        })
    }
}

/// Counts a call of a plugin, or of a list as a whole.
fn count(backend: &'static str, call: &Observed<'_>) {
    let (command, failure) = (call.command.as_str(), call.error.map(of_cni));
    match call.plugin {
        Some(plugin) => metrics::plugin_call(plugin, command, failure, call.took),
        None => metrics::network_call(backend, command, failure, call.took),
    }
}

/// Whether somebody else may have the attachment. Older versions of libcni, and so runtimes that use it, do not record the
/// namespace; pausa always does.
fn may_be_in_use(entry: &CachedAttachment) -> bool {
    entry.netns.is_empty() || Path::new(&entry.netns).exists()
}

fn bare_request(pod: &PodNetwork, netns: PathBuf) -> Request {
    let args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &pod.pod_id),
        ("K8S_POD_UID", &pod.uid),
    ];
    Request {
        container_id: pod.pod_id.clone(),
        netns,
        if_name: INTERFACE.to_owned(),
        args: args
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        capability_args: Map::new(),
    }
}

fn describe_port(mapping: &PortMapping) -> Value {
    json!({
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": mapping.protocol.as_str(),
        "hostIP": mapping.host_ip.map_or_else(String::new, |ip| ip.to_string()),
    })
}

/// In containerd's format, which tools read.
fn describe_network(network: &NetworkConfigList) -> Value {
    let plugins: Vec<Value> = network
        .plugins()
        .iter()
        .map(|plugin| json!({"Network": plugin.object()}))
        .collect();
    json!({
        "Config": {
            "Name": network.name(),
            "CNIVersion": network.version().as_str(),
            "Plugins": plugins,
            "Source": String::from_utf8_lossy(network.bytes()),
            "File": network.origin(),
        },
        "IFName": INTERFACE,
    })
}

fn valid_attachments(
    network: &NetworkConfigList,
    live: &BTreeSet<String>,
    kept: &[CachedAttachment],
) -> Vec<AttachmentId> {
    let ours = live.iter().map(|pod| (pod.clone(), INTERFACE.to_owned()));
    let of_network = kept.iter().filter(|entry| entry.network_name == network.name());
    let others = of_network.map(|entry| (entry.container_id.clone(), entry.if_name.clone()));
    let ids: BTreeSet<(String, String)> = ours.chain(others).collect();
    ids.into_iter()
        .map(|(container_id, if_name)| AttachmentId {
            container_id,
            if_name,
        })
        .collect()
}

fn cni_error(pod: &str, network: &str, command: &'static str, source: pausa_cni::Error) -> NetworkError {
    NetworkError::Cni {
        pod: pod.to_owned(),
        network: network.to_owned(),
        command,
        source: Box::new(source),
    }
}

/// Closes the host ports of pods that are gone, and puts back what somebody has removed.
fn close_ports_of_others(host_ports: &HostPorts, live: &BTreeSet<String>) -> Result<(), NetworkError> {
    let mut first = Ok(());
    for pod in host_ports.owners()?.difference(live) {
        // Only the first error is reported; the next collection retries all of them.
        let closed = host_ports.close(pod);
        first = first.and(closed);
    }
    // Also if a port could not be closed.
    let repaired = host_ports.repair();
    first.and(repaired)
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
