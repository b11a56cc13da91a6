//! Results of ADD, as types and as the JSON that is passed from plugin to plugin.
//!
//! Between plugins the JSON itself travels, so that fields we do not know survive; [`AddResult`] is the view that
//! the runtime needs. Go programs write `null` for empty lists and `""` for missing addresses: both are accepted.
//!
//! See <https://www.cni.dev/docs/spec/#section-5-result-types>.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::version::Version;

/// The result of a chain of plugins, in the form of version 1.x.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AddResult {
    /// Version of the result as written.
    #[serde(rename = "cniVersion", default, deserialize_with = "or_default")]
    pub cni_version: String,
    /// Every interface made, on the host and in the pod.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub interfaces: Vec<Interface>,
    /// Every address given.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ips: Vec<IpConfig>,
    /// Every route made.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub routes: Vec<Route>,
    /// Name servers the network wishes for.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Dns::is_empty"
    )]
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name in the pod's namespace or the node's, as `sandbox` says.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Hardware address, as `02:42:0a:01:02:03`; empty if the plugin gave none.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub mac: String,
    /// Its MTU, where the plugin said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace's path; empty for an interface of the host.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub sandbox: String,
    /// The path of a vhost-user socket.
    #[serde(
        rename = "socketPath",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub socket_path: String,
    /// The PCI address of the device it belongs to.
    #[serde(
        rename = "pciID",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub pci_id: String,
}

/// An address of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index into the result's interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<i64>,
    /// The address with its prefix.
    pub address: IpNet,
    /// The gateway of its network.
    #[serde(
        default,
        deserialize_with = "or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub gateway: Option<IpAddr>,
}

/// A route of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Next hop; the address's gateway when missing.
    #[serde(
        default,
        deserialize_with = "or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub gw: Option<IpAddr>,
    /// MTU of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric: the lower, the better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table; the main one when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope, as the kernel numbers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Name service settings of a result or a capability argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub domain: String,
    /// Search domains.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub options: Vec<String>,
}

impl Dns {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Route {
    /// A route to a destination, with nothing special.
    #[must_use]
    pub const fn new(dst: IpNet) -> Self {
        Self {
            dst,
            gw: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

impl AddResult {
    /// Reads a result of any version we speak.
    ///
    /// # Errors
    /// If the value is not an object, or an address or route in it is invalid.
    pub fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }

    /// The addresses of the pod's interface `if_name`, in the order the plugins gave them.
    ///
    /// An address without an interface belongs to it too: with one interface per chain there is no other.
    #[must_use]
    pub fn addresses_of(&self, if_name: &str) -> Vec<IpNet> {
        let in_pod = |at: i64| {
            let interface = usize::try_from(at).ok().and_then(|at| self.interfaces.get(at));
            interface.is_some_and(|interface| interface.name == if_name && !interface.sandbox.is_empty())
        };
        self.ips
            .iter()
            .filter(|ip| ip.interface.is_none_or(in_pod))
            .map(|ip| ip.address)
            .collect()
    }
}

/// Rewrites a result for a chain of another version. Results before 1.0 say each address's family in `version`.
pub(crate) fn at_version(mut value: Value, version: Version) -> Value {
    let Some(object) = value.as_object_mut() else {
        return value;
    };
    object.insert("cniVersion".to_owned(), Value::from(version.as_str()));
    let ips = object.get_mut("ips").and_then(Value::as_array_mut);
    for ip in ips.into_iter().flatten().filter_map(Value::as_object_mut) {
        if version >= Version::V1_0_0 {
            ip.remove("version");
        } else if !ip.contains_key("version") {
            let address = ip.get("address").and_then(Value::as_str).unwrap_or_default();
            let family = if address.contains(':') { "6" } else { "4" };
            ip.insert("version".to_owned(), Value::from(family));
        }
    }
    value
}

fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}
