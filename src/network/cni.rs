//! Attaches pods with CNI plugins.
//!
//! The configuration directory is read at every use: there is no watch that could fail or lag. A pod is detached from
//! the network it was attached to, which the result cache has, even if the configuration has changed since.
//!
//! Invariant of garbage collection: an attachment is not touched unless its network namespace is known to be gone. Other
//! runtimes and tools have their attachments in the same cache.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;
use pausa_cni::{
    AddResult, AttachmentId, CachedAttachment, ConfDir, NetworkConfigList, Observed, Request, Runtime,
};
use pausa_netlink::{LOOPBACK, Netlink};
use serde_json::{Map, Value, json};
use tokio::sync::RwLock;
use tokio::time::timeout;

use super::error::{NetworkError, of_cni};
use super::types::{Attachment, NetworkConfig, NotReady, PodNetwork};
use super::{INTERFACE, bandwidth};
use crate::blocking::blocking;
use crate::error::chain;
use crate::telemetry::metrics;

/// The reason that kubelet and containerd use.
const NOT_READY: &str = "NetworkPluginNotReady";
/// How long garbage collection waits for a moment without ADD and DEL.
const EXCLUSIVE_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Cni {
    conf: ConfDir,
    bin_dirs: Vec<PathBuf>,
    runtime: Runtime,
    pod_ranges: Mutex<Vec<IpNet>>,
    /// The configuration whose last STATUS failed, and the error.
    failed_status: Mutex<Option<(Vec<u8>, String)>>,
    /// ADD and DEL take it shared, GC exclusively.
    gc_lock: RwLock<()>,
}

impl Cni {
    pub(super) fn new(config: NetworkConfig) -> Self {
        let in_process = pausa_cni_plugins::all();
        let runtime =
            Runtime::new(config.cni_bin_dirs.clone(), &config.cni_cache_dir, in_process).with_observer(count);
        Self {
            conf: ConfDir::new(config.cni_conf_dir),
            bin_dirs: config.cni_bin_dirs,
            runtime,
            pod_ranges: Mutex::default(),
            failed_status: Mutex::default(),
            gc_lock: RwLock::default(),
        }
    }

    pub(super) async fn attach(&self, pod: &PodNetwork) -> Result<Attachment, NetworkError> {
        let _shared = self.gc_lock.read().await;
        let network = self.network().await?;
        let request = self.request(pod, pod.netns.clone())?;
        let netns = pod.netns.clone();
        blocking(move || loopback_up(&netns)).await?;
        let failed = |source| cni_error(&pod.pod_id, network.name(), "ADD", source);
        let result = self.runtime.add(&network, &request).await.map_err(failed)?;
        let ips = AddResult::from_value(&result)
            .map(|parsed| parsed.addresses_of(INTERFACE))
            .unwrap_or_default();
        if ips.is_empty() {
            return Err(NetworkError::NoAddress {
                pod: pod.pod_id.clone(),
                network: network.name().to_owned(),
            });
        }
        Ok(Attachment {
            ips,
            network: network.name().to_owned(),
            interface: INTERFACE.to_owned(),
            result: Attachment::text(&result),
        })
    }

    pub(super) async fn detach(&self, pod: &PodNetwork, netns_exists: bool) -> Result<(), NetworkError> {
        if pod.validate().is_err() {
            // Attach refused this pod, so no plugin has seen it.
            return Ok(());
        }
        let _shared = self.gc_lock.read().await;
        let network = self.load().await.network;
        // A path that does not exist confuses plugins more than an empty one.
        let netns = Some(pod.netns.clone())
            .filter(|path| netns_exists && path.exists())
            .unwrap_or_default();
        // Bad annotations must not prevent a detach. ADD refused them, so no plugin has seen them.
        let request = self
            .request(pod, netns.clone())
            .unwrap_or_else(|_| bare_request(pod, netns));
        let name = network.as_ref().map_or("", NetworkConfigList::name);
        let failed = |source| cni_error(&pod.pod_id, name, "DEL", source);
        self.runtime.del(network.as_ref(), &request).await.map_err(failed)
    }

    pub(super) fn readiness(&self) -> Result<(), NotReady> {
        let loaded = self.conf.load();
        let Some(network) = loaded.network else {
            return Err(NotReady {
                reason: NOT_READY,
                message: self.explain(&loaded.rejected),
            });
        };
        match &*self.failed_status.lock() {
            Some((bytes, message)) if bytes == network.bytes() => Err(NotReady {
                reason: NOT_READY,
                message: message.clone(),
            }),
            _ => Ok(()),
        }
    }

    pub(super) async fn probe(&self) {
        let Some(network) = self.load().await.network else {
            return;
        };
        let failure = self.runtime.status(&network).await.err();
        let failed_status = failure.map(|error| (network.bytes().to_vec(), chain(&error)));
        *self.failed_status.lock() = failed_status;
    }

    pub(super) fn describe(&self) -> Value {
        let loaded = self.conf.load();
        let status = match &loaded.network {
            Some(_) => "OK".to_owned(),
            None => self.explain(&loaded.rejected),
        };
        let networks: Vec<Value> = loaded.network.iter().map(describe_network).collect();
        let rejected: Vec<String> = loaded.rejected.iter().map(|error| chain(error)).collect();
        json!({
            "cniconfig": {
                "PluginDirs": self.bin_dirs,
                "PluginConfDir": self.conf.path(),
                "PluginMaxConfNum": 1,
                "Prefix": "eth",
                "Networks": networks,
                "Rejected": rejected,
            },
            "lastCNILoadStatus": status,
        })
    }

    pub(super) fn set_pod_ranges(&self, ranges: Vec<IpNet>) {
        *self.pod_ranges.lock() = ranges;
    }

    /// `live` is called while nothing is being attached: CNI requires GC to run alone ("Lifecycle & Ordering").
    pub(super) async fn collect_garbage(
        &self,
        live: impl FnOnce() -> BTreeSet<String>,
    ) -> Result<usize, NetworkError> {
        // Waiting for exclusive access blocks later ADD and DEL, and a plugin may hang: the wait is bounded.
        let Ok(_exclusive) = timeout(EXCLUSIVE_WAIT, self.gc_lock.write()).await else {
            tracing::debug!("CNI GC postponed: pods are being attached and detached without a pause");
            return Ok(0);
        };
        let network = self.load().await.network;
        let name = network.as_ref().map_or("", NetworkConfigList::name).to_owned();
        let cache = self.runtime.cache().clone();
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
            match self.runtime.del(None, &request).await {
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
            let outcome = self.runtime.gc(&network, &valid).await;
            if first.is_ok() {
                first = outcome.map_err(|source| cni_error("", &name, "GC", source));
            }
        }
        first.map(|()| removed)
    }

    async fn load(&self) -> pausa_cni::Loaded {
        let conf = self.conf.clone();
        blocking(move || conf.load()).await
    }

    async fn network(&self) -> Result<NetworkConfigList, NetworkError> {
        let loaded = self.load().await;
        loaded.network.ok_or_else(|| NetworkError::NotReady {
            message: self.explain(&loaded.rejected),
        })
    }

    fn explain(&self, rejected: &[pausa_cni::Error]) -> String {
        let dir = self.conf.path().display();
        if rejected.is_empty() {
            return format!("no network configuration (*.conf, *.conflist, *.json) in {dir}");
        }
        let reasons: Vec<String> = rejected.iter().map(|error| chain(error)).collect();
        format!("no valid network configuration in {dir}: {}", reasons.join("; "))
    }

    fn request(&self, pod: &PodNetwork, netns: PathBuf) -> Result<Request, NetworkError> {
        let mut arguments = Map::new();
        let ports: Vec<Value> = pod.host_ports().map(describe_port).collect();
        if !ports.is_empty() {
            arguments.insert("portMappings".to_owned(), Value::Array(ports));
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
fn count(call: &Observed<'_>) {
    let (command, failure) = (call.command.as_str(), call.error.map(of_cni));
    match call.plugin {
        Some(plugin) => metrics::plugin_call(plugin, command, failure, call.took),
        None => metrics::network_call("cni", command, failure, call.took),
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

fn describe_port(mapping: &super::PortMapping) -> Value {
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

/// Sets the loopback device of a namespace up.
fn loopback_up(netns: &Path) -> Result<(), NetworkError> {
    let file = File::open(netns).map_err(|source| NetworkError::Netns {
        path: netns.to_path_buf(),
        source,
    })?;
    Netlink::open_in(file.as_fd())
        .and_then(|mut netlink| netlink.execute(&[pausa_netlink::Request::SetUp { index: LOOPBACK }]))
        .map_err(|source| NetworkError::Link {
            step: "set the pod's loopback device up",
            source,
        })
}
