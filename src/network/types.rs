//! What goes in and out of the network room: plain data, checked once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::bridge::BridgeConfig;
use super::error::NetworkError;
use super::files::DnsConfig;

/// Who makes the network of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The CNI configuration of the node.
    #[default]
    Cni,
    /// The built-in bridge.
    Bridge,
}

/// Configuration of the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkConfig {
    /// Who makes the network.
    pub mode: NetworkMode,
    /// Where network configurations are.
    pub cni_conf_dir: PathBuf,
    /// Where plugins are, in order of preference.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// Where results are kept for every CNI tool to find.
    pub cni_cache_dir: PathBuf,
    /// Where network namespaces are bound for tools to find.
    pub netns_dir: PathBuf,
    /// The built-in bridge.
    pub bridge: BridgeConfig,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            mode: NetworkMode::default(),
            cni_conf_dir: PathBuf::from("/etc/cni/net.d"),
            cni_bin_dirs: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
            cni_cache_dir: PathBuf::from("/var/lib/cni"),
            netns_dir: PathBuf::from("/var/run/netns"),
            bridge: BridgeConfig::default(),
        }
    }
}

/// Transport of a host port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The name that CNI, nft and iptables have for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// Port in the pod.
    pub container_port: u16,
    /// Port of the host; 0 means that the pod wants none.
    pub host_port: u16,
    /// The host's address it is limited to; `None` means all.
    pub host_ip: Option<IpAddr>,
}

/// A pod to attach or detach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// The sandbox's id.
    pub pod_id: String,
    /// Path of its network namespace.
    pub netns: PathBuf,
    /// The pod's name.
    pub name: String,
    /// The pod's Kubernetes namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// Ports of the host that lead to it.
    pub port_mappings: Vec<PortMapping>,
    /// Its resolver configuration.
    pub dns: Option<DnsConfig>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup.
    pub cgroup_parent: String,
}

impl PodNetwork {
    /// What an attach needs on top of an id: names that `CNI_ARGS` can carry.
    pub(crate) fn validate(&self) -> Result<(), NetworkError> {
        self.validate_id()?;
        for (field, value) in [
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("uid", &self.uid),
        ] {
            if value.contains([';', '\0']) {
                let expected = "without `;` and NUL";
                return Err(NetworkError::InvalidPod {
                    field: field.to_owned(),
                    value: value.clone(),
                    expected,
                });
            }
        }
        Ok(())
    }

    /// The id becomes part of file names and of plugins' parameters.
    pub(crate) fn validate_id(&self) -> Result<(), NetworkError> {
        let id = &self.pod_id;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let begins = id.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && id.len() <= 128 && id.chars().all(plain) {
            return Ok(());
        }
        Err(NetworkError::InvalidPod {
            field: "pod_id".to_owned(),
            value: id.clone(),
            expected: "letters, digits, `_`, `.` and `-`, beginning with a letter or digit",
        })
    }

    /// The mappings that ask for something.
    pub(crate) fn host_ports(&self) -> impl Iterator<Item = &PortMapping> {
        self.port_mappings.iter().filter(|mapping| mapping.host_port != 0)
    }
}

/// What a pod got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attachment {
    /// Addresses of `eth0`, the preferred one first.
    pub ips: Vec<IpAddr>,
    /// Name of the network.
    pub network: String,
    /// The interface in the pod.
    pub interface: String,
    /// The result in CNI's form, for verbose information. As text: one is kept for every pod, and hardly ever read.
    pub result: Box<RawValue>,
}

impl Attachment {
    /// A result's text. What is JSON already cannot fail to become text.
    pub(super) fn text(result: &Value) -> Box<RawValue> {
        to_raw_value(result).unwrap_or_default()
    }
}

/// Why pods cannot be attached now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// One word for the NetworkReady condition.
    pub reason: &'static str,
    /// The explanation.
    pub message: String,
}

/// Parses the comma separated ranges of CRI's `pod_cidr`.
pub(crate) fn parse_ranges(text: &str) -> Result<Vec<IpNet>, NetworkError> {
    let parse = |range: &str| {
        range
            .parse::<IpNet>()
            .map(|range| range.trunc())
            .map_err(|_| NetworkError::InvalidPod {
                field: "pod_cidr".to_owned(),
                value: range.to_owned(),
                expected: "ranges such as 10.1.2.0/24, separated by commas",
            })
    };
    text.split(',')
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .map(parse)
        .collect()
}
