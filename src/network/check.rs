//! What is wrong with a pod's network: what is there, compared with what the plugins have reported and with the records.
//!
//! ```text
//!   cache, records ─▶ Expected ─┐
//!   kernel, files  ─▶ Seen     ─┼─▶ decide ─▶ findings
//!   CNI CHECK      ─▶ Outcome  ─┘
//! ```
//!
//! [`read`] asks the kernel, [`decide`] is pure. A fault is reported where it is, and not again as what follows from it: a pod
//! whose interface is down has lost its routes, too. CNI CHECK is reported in any case, because it knows more than this.
//!
//! Must never: change anything, send a packet, or wait for one.

mod decide;
mod read;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pausa_cni::{AddResult, CachedAttachment, NetworkConfigList, Request};
use serde_json::Value;

use super::files::DnsConfig;
use super::types::{PodNetwork, Protocol};
use super::{INTERFACE, Network, Source};
use crate::blocking::blocking;
use crate::error::chain;

/// Findings of a pod at most; a pod may have any number of host ports.
const MOST_FINDINGS: usize = 512;
/// Bytes of a text at most: plugins write some of them.
const LONGEST_TEXT: usize = 2048;
/// Where errors about a cached configuration say that it is from.
const ORIGIN: &str = "the CNI result cache";

/// A pod that is to be checked.
#[derive(Debug)]
pub struct Subject {
    pub pod: PodNetwork,
    /// Whose network namespace the pod's is.
    pub monitor_pid: i32,
    /// What is bound to `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

/// What was checked, what came out, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub verdict: Verdict,
    /// What was looked at, such as an interface.
    pub object: String,
    /// Empty if there is nothing to compare with.
    pub expected: String,
    pub found: String,
    /// What does not work; empty if all is well.
    pub consequence: String,
    /// Empty if all is well.
    pub remedy: String,
}

/// The part of a network that a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    Namespace,
    Result,
    Interface,
    Address,
    Route,
    Gateway,
    HostEnd,
    Bridge,
    Mtu,
    Forwarding,
    HostPort,
    Masquerade,
    Cni,
    ResolvConf,
    Duplicate,
}

impl Check {
    /// For tables and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Result => "result",
            Self::Interface => "interface",
            Self::Address => "address",
            Self::Route => "route",
            Self::Gateway => "gateway",
            Self::HostEnd => "host-end",
            Self::Bridge => "bridge",
            Self::Mtu => "mtu",
            Self::Forwarding => "forwarding",
            Self::HostPort => "host-port",
            Self::Masquerade => "masquerade",
            Self::Cni => "cni-check",
            Self::ResolvConf => "resolv-conf",
            Self::Duplicate => "duplicate-address",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Worth knowing, and nobody's fault.
    Info,
    /// It may be meant so.
    Warning,
    Problem,
    /// It could not be checked.
    Unknown,
}

/// What the node has, read once for any number of pods.
#[derive(Debug)]
pub struct Surroundings {
    /// The links of default routes, with their MTU.
    uplinks: Vec<(String, u32)>,
    /// Who has an address according to the cache, or why that is not known.
    owners: Result<BTreeMap<IpAddr, Vec<Owner>>, String>,
    listeners: BTreeSet<(Protocol, IpAddr, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    container: String,
    network: String,
    interface: String,
}

/// What is to be, from the cache and the records.
#[derive(Debug, Default)]
struct Expected {
    pod_id: String,
    netns: PathBuf,
    attachments: Vec<Attached>,
    dns: Option<DnsConfig>,
    resolv_conf: PathBuf,
}

/// A cached result.
#[derive(Debug, Default)]
struct Attached {
    network: String,
    interface: String,
    result: AddResult,
    bridge: Option<Bridge>,
}

/// What the configuration of a `bridge` plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bridge {
    name: String,
    /// Whether it has the gateway's address.
    is_gateway: bool,
    /// Whether pods have a default route through it.
    is_default_gateway: bool,
}

/// What CNI CHECK said.
#[derive(Debug)]
enum Outcome {
    Passed,
    /// Nobody was asked.
    NotAsked(&'static str),
    Failed(pausa_cni::Error),
}

impl Network {
    /// What the node has, for [`Self::check`].
    pub async fn surroundings(&self) -> Arc<Surroundings> {
        let inner = Arc::clone(&self.inner);
        Arc::new(blocking(move || read::surroundings(inner.runtime().cache())).await)
    }

    /// Finds out what is wrong with the network of a ready pod. CNI CHECK runs plugins, with their time limit; otherwise
    /// nothing is waited for.
    pub async fn check(&self, subject: Subject, surroundings: Arc<Surroundings>) -> Vec<Finding> {
        let inner = Arc::clone(&self.inner);
        let id = subject.pod.pod_id.clone();
        let cache = self.inner.runtime().cache().clone();
        let cached = blocking(move || cache.entries_of(&id)).await;
        let cached = cached.map_err(|error| chain(&error));
        let outcomes = self
            .run_check(cached.as_deref().unwrap_or_default(), &subject)
            .await;
        let findings = blocking(move || {
            let expected = Expected::of(&subject, cached.as_deref().unwrap_or_default());
            let masquerades = matches!(inner.plugins.load().source, Source::BuiltIn(_));
            let seen = read::seen(&expected, subject.monitor_pid, &inner.host_ports, masquerades);
            let mut findings = decide::all(&expected, &seen, &surroundings);
            if let Err(error) = &cached {
                decide::cache_unreadable(error, &mut findings);
            }
            findings.extend(
                outcomes
                    .iter()
                    .map(|(network, outcome)| decide::cni(network, outcome)),
            );
            findings
        })
        .await;
        bounded(findings)
    }

    /// CNI CHECK of what pausa has attached, with the configuration and the arguments of ADD.
    async fn run_check(&self, cached: &[CachedAttachment], subject: &Subject) -> Vec<(String, Outcome)> {
        let mut outcomes = Vec::new();
        for entry in cached.iter().filter(|entry| entry.if_name == INTERFACE) {
            let outcome = match NetworkConfigList::parse(&entry.config, Path::new(ORIGIN)) {
                Err(error) => Outcome::Failed(error),
                Ok(network) if !network.version().has_check() => {
                    Outcome::NotAsked("the network's version of CNI has no CHECK")
                }
                Ok(network) if network.disable_check() => {
                    Outcome::NotAsked("the network's configuration has disableCheck")
                }
                Ok(_) if !subject.pod.netns.exists() => {
                    Outcome::NotAsked("CHECK needs the network namespace of the pod")
                }
                Ok(network) => {
                    let request = Request {
                        container_id: entry.container_id.clone(),
                        netns: subject.pod.netns.clone(),
                        if_name: entry.if_name.clone(),
                        args: entry.cni_args.clone().unwrap_or_default(),
                        capability_args: entry.capability_args.clone().unwrap_or_default(),
                    };
                    match self.inner.runtime().check(&network, &request).await {
                        Ok(()) => Outcome::Passed,
                        Err(error) => Outcome::Failed(error),
                    }
                }
            };
            outcomes.push((entry.network_name.clone(), outcome));
        }
        outcomes
    }
}

impl Expected {
    fn of(subject: &Subject, cached: &[CachedAttachment]) -> Self {
        let attachments = cached.iter().filter_map(|entry| {
            let result = AddResult::from_value(entry.result.as_ref()?).ok()?;
            Some(Attached {
                network: entry.network_name.clone(),
                interface: entry.if_name.clone(),
                result,
                bridge: bridge(&entry.config),
            })
        });
        Self {
            pod_id: subject.pod.pod_id.clone(),
            netns: subject.pod.netns.clone(),
            attachments: attachments.collect(),
            dns: subject.pod.dns.clone().filter(|dns| !dns.is_empty()),
            resolv_conf: subject.resolv_conf.clone(),
        }
    }
}

impl Attached {
    /// Whether the node routes for the pod, as opposed to a bridge that only leads to somebody who does.
    fn is_routed(&self) -> bool {
        match &self.bridge {
            Some(bridge) => bridge.is_gateway,
            None => self.host_ends().next().is_some(),
        }
    }

    /// The interfaces in the pod.
    fn pod_ends(&self) -> impl Iterator<Item = &pausa_cni::Interface> {
        let interfaces = self.result.interfaces.iter();
        interfaces.filter(|interface| !interface.sandbox.is_empty())
    }

    /// The interfaces on the host, except for the bridge.
    fn host_ends(&self) -> impl Iterator<Item = &pausa_cni::Interface> {
        let bridge = self.bridge.as_ref().map(|bridge| bridge.name.as_str());
        let interfaces = self.result.interfaces.iter();
        interfaces
            .filter(move |interface| interface.sandbox.is_empty() && Some(interface.name.as_str()) != bridge)
    }

    /// The names of the interfaces in the pod; a plugin need not list them.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.pod_ends().map(|interface| interface.name.as_str()).collect();
        if names.is_empty() {
            names.push(&self.interface);
        }
        names
    }
}

/// What the first `bridge` plugin of a configuration asks for.
fn bridge(config: &[u8]) -> Option<Bridge> {
    let network = NetworkConfigList::parse(config, Path::new(ORIGIN)).ok()?;
    let mut plugins = network.plugins().iter();
    let plugin = plugins.find(|plugin| plugin.plugin_type() == "bridge")?.object();
    let is = |key: &str| plugin.get(key).and_then(Value::as_bool).unwrap_or(false);
    let name = plugin.get("bridge").and_then(Value::as_str);
    Some(Bridge {
        // The plugin's own default.
        name: name.filter(|name| !name.is_empty()).unwrap_or("cni0").to_owned(),
        is_gateway: is("isGateway") || is("isDefaultGateway"),
        is_default_gateway: is("isDefaultGateway"),
    })
}

/// The findings, cut to what an answer has room for.
fn bounded(mut findings: Vec<Finding>) -> Vec<Finding> {
    // Faults go first where there is not room for all.
    if findings.len() > MOST_FINDINGS {
        findings.sort_by_key(|finding| matches!(finding.verdict, Verdict::Ok | Verdict::Info));
        findings.truncate(MOST_FINDINGS);
    }
    for finding in &mut findings {
        for text in [&mut finding.object, &mut finding.expected, &mut finding.found] {
            if text.len() > LONGEST_TEXT {
                text.truncate(text.floor_char_boundary(LONGEST_TEXT));
                text.push('…');
            }
        }
    }
    findings
}
