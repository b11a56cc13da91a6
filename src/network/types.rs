//! The data types of the network.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::built_in::BridgeConfig;
use super::error::NetworkError;
use super::files::DnsConfig;
use crate::config::{InProcessPlugins, NetworkMode};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkConfig {
    pub mode: NetworkMode,
    /// Plugin types that are not run as processes. The built-in network has no others.
    pub in_process: InProcessPlugins,
    pub cni_conf_dir: PathBuf,
    /// Directories of CNI plugins, in order of preference.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// Directory of the CNI result cache.
    pub cni_cache_dir: PathBuf,
    /// Directory in which network namespaces are bind-mounted for tools.
    pub netns_dir: PathBuf,
    pub bridge: BridgeConfig,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            mode: NetworkMode::default(),
            in_process: InProcessPlugins::default(),
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
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The name in CNI, nft and iptables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A host port that is forwarded to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: u16,
    /// 0 means no host port.
    pub host_port: u16,
    /// The only address of the host it is open on; all if none.
    pub host_ip: Option<IpAddr>,
}

/// A pod to attach or detach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    pub pod_id: String,
    pub netns: PathBuf,
    pub name: String,
    /// The Kubernetes namespace.
    pub namespace: String,
    pub uid: String,
    pub port_mappings: Vec<PortMapping>,
    pub dns: Option<DnsConfig>,
    pub annotations: BTreeMap<String, String>,
    pub cgroup_parent: String,
}

impl PodNetwork {
    /// Checks the id and that the names fit into `CNI_ARGS`.
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

    /// Checks the id, which becomes part of file names and plugins' parameters.
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

    /// The mappings that ask for a host port.
    pub(crate) fn host_ports(&self) -> impl Iterator<Item = &PortMapping> {
        self.port_mappings.iter().filter(|mapping| mapping.host_port != 0)
    }
}

/// A pod's connection to the network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attachment {
    /// Addresses of `eth0`, the preferred one first.
    pub ips: Vec<IpAddr>,
    pub network: String,
    /// In the pod.
    pub interface: String,
    /// The CNI result, for verbose information. As text, because one is kept for every pod and rarely read.
    pub result: Box<RawValue>,
}

impl Attachment {
    /// The text of a result. A JSON value can always be written.
    pub(super) fn text(result: &Value) -> Box<RawValue> {
        to_raw_value(result).unwrap_or_default()
    }
}

/// Why pods cannot be attached now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// The reason of the NetworkReady condition, one word.
    pub reason: &'static str,
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
