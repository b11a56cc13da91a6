//! The configuration of `bridge`.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use pausa_cni::{Call, Failure};
use serde::Deserialize;
use serde_json::Value;

use crate::common::arguments;
use crate::interface::parse_mac;
use crate::masquerade::Backend;

/// VLAN numbers are smaller (IEEE 802.1Q).
const VLANS: u16 = 4095;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the plugin's keys")]
pub(super) struct Config {
    pub(super) bridge: String,
    is_gateway: bool,
    pub(super) is_default_gateway: bool,
    pub(super) force_address: bool,
    pub(super) ip_masq: bool,
    pub(super) ip_masq_backend: Option<Backend>,
    mtu: u32,
    pub(super) hairpin_mode: bool,
    pub(super) promisc_mode: bool,
    /// 0 for none.
    pub(super) vlan: u16,
    vlan_trunk: Option<Vec<Trunk>>,
    pub(super) preserve_default_vlan: bool,
    #[serde(rename = "macspoofchk")]
    pub(super) macspoofchk: bool,
    #[serde(rename = "enabledad")]
    pub(super) enabledad: bool,
    pub(super) disable_container_interface: bool,
    pub(super) port_isolation: bool,
    /// Not a key of the binary's: nobody else uses the bridge. Its hardware address derives from the gateway's address, which
    /// is used at once, and those of earlier ranges stay for their pods. Pods take no routes from others over IPv6, which is
    /// off without an address.
    pub(super) exclusive: bool,
    args: Args,
    runtime_config: RuntimeConfig,
}

/// A VLAN, a range of them, or both.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Trunk {
    #[serde(rename = "minID")]
    min: Option<u16>,
    #[serde(rename = "maxID")]
    max: Option<u16>,
    id: Option<u16>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Args {
    cni: CniArgs,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CniArgs {
    mac: String,
    /// The IPAM plugin's.
    #[serde(rename = "ips")]
    _ips: Value,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RuntimeConfig {
    mac: String,
    /// These are the IPAM plugin's.
    #[serde(rename = "ips")]
    _ips: Value,
    #[serde(rename = "ipRanges")]
    _ip_ranges: Value,
    #[serde(rename = "dns")]
    _dns: Value,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bridge: "cni0".to_owned(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            ip_masq_backend: None,
            mtu: 0,
            hairpin_mode: false,
            promisc_mode: false,
            vlan: 0,
            vlan_trunk: None,
            preserve_default_vlan: false,
            macspoofchk: false,
            enabledad: false,
            disable_container_interface: false,
            port_isolation: false,
            exclusive: false,
            args: Args::default(),
            runtime_config: RuntimeConfig::default(),
        }
    }
}

impl Config {
    /// What the types do not say; the binary has the words for it.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.vlan >= VLANS {
            return Err(format!("`vlan` is {}, not the number of a VLAN", self.vlan));
        }
        let is_vlan = |vlan: u16| (1..VLANS).contains(&vlan);
        for trunk in self.vlan_trunk.iter().flatten() {
            let valid = match (trunk.min, trunk.max) {
                (Some(min), Some(max)) => is_vlan(min) && is_vlan(max) && min <= max,
                (None, None) => true,
                _ => false,
            };
            if !valid || trunk.id.is_some_and(|vlan| !is_vlan(vlan)) {
                return Err("an element of `vlanTrunk` is not a range of VLANs".to_owned());
            }
        }
        if self.vlan_trunk.is_some() && self.trunk().is_empty() {
            return Err("`vlanTrunk` has no VLANs".to_owned());
        }
        Ok(())
    }

    pub(super) const fn is_gateway(&self) -> bool {
        self.is_gateway || self.is_default_gateway
    }

    pub(super) fn mtu(&self) -> Option<u32> {
        Some(self.mtu).filter(|mtu| *mtu != 0)
    }

    pub(super) fn has_vlans(&self) -> bool {
        self.vlan != 0 || self.vlan_trunk.is_some()
    }

    /// The same for the port of the node's own interface in the VLAN.
    pub(super) fn of_vlan_interface(&self) -> Self {
        Self {
            hairpin_mode: false,
            port_isolation: false,
            vlan_trunk: None,
            ..self.clone()
        }
    }

    /// The VLANs whose frames keep their tags.
    pub(super) fn trunk(&self) -> BTreeSet<u16> {
        let trunks = || self.vlan_trunk.iter().flatten();
        let range = |trunk: &Trunk| trunk.min.zip(trunk.max).map(|(min, max)| min..=max);
        let ranges = trunks().filter_map(range).flatten();
        let single = trunks().filter_map(|trunk| trunk.id);
        ranges.chain(single).collect()
    }

    /// The hardware address that the pod is to have: the runtime's word counts most.
    pub(super) fn mac(&self, call: &Call) -> Result<Option<[u8; 6]>, Failure> {
        let of_args = arguments(call, &["MAC"])?.remove("MAC").unwrap_or_default();
        let candidates = [&self.runtime_config.mac, &self.args.cni.mac, of_args];
        let Some(text) = candidates.into_iter().find(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let mac = parse_mac(text);
        mac.map(Some)
            .ok_or_else(|| Failure::internal(format!("{text:?} is not a hardware address")))
    }
}
