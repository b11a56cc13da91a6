//! The built-in network: the configuration that pausa brings along.
//!
//! It is a conflist like any other, for plugins in process: a bridge with an address pool, and [`isolation`].
//!
//! ```text
//!   pod netns                host netns
//!   eth0 10.88.0.5/16 ═veth═ veth1a2b3c4d ── pausa0 10.88.0.1/16 ── forwarding, tables pausa_<bridge> ── the world
//! ```
//!
//! Two daemons on a node need different bridge names and subnets; all other names derive from the bridge's.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use parking_lot::Mutex;
use pausa_cni::NetworkConfigList;
use pausa_sys::{Durability, replace_file};
use rustix::fs::CWD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::NetworkError;
use super::isolation;

/// The file with the ranges that kubelet assigned to the node, in the pool's directory.
const RANGES: &str = "pod_cidr";
/// Where errors say that the configuration is from.
const ORIGIN: &str = "built-in";

/// Configuration of the built-in network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeConfig {
    pub name: String,
    /// The range of pod addresses unless kubelet sets one; the first address is the bridge's.
    pub subnet: Ipv4Net,
    /// The same for IPv6, which pods do not have without.
    pub subnet_v6: Option<Ipv6Net>,
    /// The directory for records of addresses and host ports.
    pub state_dir: PathBuf,
    /// MTU of the bridge and the pods; the kernel's default if missing.
    pub mtu: Option<u32>,
    /// Whether traffic of pods leaves the node under the host's address.
    pub masquerade: bool,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            name: "pausa0".to_owned(),
            subnet: Ipv4Net::new_assert(Ipv4Addr::new(10, 88, 0, 0), 16),
            subnet_v6: None,
            state_dir: PathBuf::from("/var/lib/pausa/network"),
            mtu: None,
            masquerade: true,
        }
    }
}

#[derive(Debug)]
pub(super) struct BuiltIn {
    config: BridgeConfig,
    /// The ranges that kubelet assigned to this node; they replace those of the configuration.
    ranges: Mutex<Vec<IpNet>>,
}

impl BuiltIn {
    pub(super) fn new(config: BridgeConfig) -> Self {
        let saved = fs::read_to_string(ranges_file(&config)).unwrap_or_default();
        let ranges = saved
            .split(',')
            .filter_map(|range| range.trim().parse().ok())
            .collect();
        Self {
            config,
            ranges: Mutex::new(ranges),
        }
    }

    /// Gives new pods addresses of these ranges, the first of each family, also after a restart.
    pub(super) fn set_ranges(&self, ranges: &[IpNet]) -> Result<(), NetworkError> {
        let of_family = |v4: bool| ranges.iter().find(|range| range.addr().is_ipv4() == v4);
        let ranges: Vec<IpNet> = [of_family(true), of_family(false)]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        if ranges.is_empty() {
            return Ok(());
        }
        if let Some(small) = ranges
            .iter()
            .find(|range| range.max_prefix_len().saturating_sub(range.prefix_len()) < 2)
        {
            return Err(NetworkError::SubnetTooSmall { subnet: *small });
        }
        let path = ranges_file(&self.config);
        let failed = |source| NetworkError::State {
            operation: "create",
            path: path.clone(),
            source,
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        let text: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        replace_file(CWD, &path, text.join(",").as_bytes(), Durability::Process)
            .map_err(NetworkError::unreplaced)?;
        *self.ranges.lock() = ranges;
        Ok(())
    }

    /// The ranges of new pods' addresses, at most one of each family.
    fn subnets(&self) -> Vec<IpNet> {
        let ranges = self.ranges.lock().clone();
        if !ranges.is_empty() {
            return ranges;
        }
        let configured = [
            Some(IpNet::V4(self.config.subnet.trunc())),
            self.config.subnet_v6.map(|subnet| IpNet::V6(subnet.trunc())),
        ];
        configured.into_iter().flatten().collect()
    }

    pub(super) fn conflist(&self) -> Result<NetworkConfigList, pausa_cni::Error> {
        let config = &self.config;
        let subnets = self.subnets();
        let ranges: Vec<Value> = subnets
            .iter()
            .map(|subnet| json!([{ "subnet": subnet }]))
            .collect();
        let list = json!({
            "cniVersion": "1.1.0",
            "name": config.name,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": config.name,
                    "isDefaultGateway": true,
                    "exclusive": true,
                    "mtu": config.mtu.unwrap_or_default(),
                    "ipam": {"type": "host-local", "dataDir": config.state_dir, "ranges": ranges},
                },
                {"type": isolation::TYPE, "bridge": config.name, "subnets": subnets},
            ],
        });
        NetworkConfigList::parse(list.to_string().as_bytes(), Path::new(ORIGIN))
    }
}

fn ranges_file(config: &BridgeConfig) -> PathBuf {
    config.state_dir.join(&config.name).join(RANGES)
}
