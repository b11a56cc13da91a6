//! What the configurations of IPAM plugins have in common.
//!
//! An IPAM plugin gets the whole configuration of its caller and reads three keys of it: `ipam`, `runtimeConfig` and
//! `args`. The last two are shared with the caller, so that keys that are known to be other plugins' are passed over.
//! Addresses are read as the binaries read them: IPv4 in the form of IPv6 is IPv4, and an empty text is none.
//!
//! See <https://www.cni.dev/docs/conventions/> for the keys, and
//! <https://www.cni.dev/docs/spec/#section-4-plugin-delegation> for the calls.

#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use pausa_cni::{AddResult, Call, Dns, Failure, Route};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::common::{invalid, value};

/// Capabilities of plugins that do not give addresses.
const OTHER_CAPABILITIES: [&str; 9] = [
    "aliases",
    "bandwidth",
    "cgroupPath",
    "deviceID",
    "dns",
    "infinibandGUID",
    "io.kubernetes.cri.pod-annotations",
    "mac",
    "portMappings",
];
/// Keys of `args.cni` that are for plugins that make interfaces.
const OTHER_ARGUMENTS: [&str; 1] = ["mac"];

/// Parses the keys that an IPAM plugin reads.
pub(crate) fn parse<T: DeserializeOwned>(config: &Map<String, Value>) -> Result<T, String> {
    let mut own: Map<String, Value> = ["ipam", "runtimeConfig", "args"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), config.get(key)?.clone())))
        .collect();
    let pass_over = |object: Option<&mut Value>, keys: &[&str]| {
        if let Some(object) = object.and_then(Value::as_object_mut) {
            object.retain(|key, _| !keys.contains(&key.as_str()));
        }
    };
    pass_over(own.get_mut("ipam"), &["type"]);
    pass_over(own.get_mut("runtimeConfig"), &OTHER_CAPABILITIES);
    let arguments = own.get_mut("args").and_then(|args| args.get_mut("cni"));
    pass_over(arguments, &OTHER_ARGUMENTS);
    T::deserialize(Value::Object(own)).map_err(|error| error.to_string())
}

/// The same for a call, whose configuration has been understood before.
pub(crate) fn configuration<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    parse(&call.config).map_err(invalid)
}

/// `args` of a configuration, with addresses that are requested.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, bound = "T: DeserializeOwned")]
pub(crate) struct Args<T> {
    cni: Option<Requested<T>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, bound = "T: DeserializeOwned")]
struct Requested<T> {
    ips: Option<Vec<T>>,
}

impl<T> Args<T> {
    pub(crate) fn addresses(&self) -> &[T] {
        let cni = self.cni.as_ref();
        cni.and_then(|cni| cni.ips.as_deref()).unwrap_or_default()
    }
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Cidr(pub(crate) IpNet);

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(IpNet::V6(net)) if net.addr().to_ipv4_mapped().is_some() => {
                Err(format!("{text} is an IPv4 network in the form of IPv6"))
            }
            Ok(net) => Ok(Self(net)),
            Err(_) => Err(format!(
                "{text:?} is not an address with a prefix, such as 10.1.2.3/24"
            )),
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A field with an address.
pub(crate) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(|address: IpAddr| Some(address.to_canonical()))
            .map_err(D::Error::custom),
    }
}

/// A route of `ipam.routes`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteConfig {
    dst: Cidr,
    #[serde(default, deserialize_with = "address")]
    gw: Option<IpAddr>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u8>,
}

impl From<RouteConfig> for Route {
    fn from(route: RouteConfig) -> Self {
        // 0 is a table and a scope, and otherwise the same as nothing.
        let set = |value: Option<u32>| value.filter(|value| *value != 0);
        Self {
            dst: route.dst.0,
            gw: route.gw,
            mtu: set(route.mtu),
            advmss: set(route.advmss),
            priority: set(route.priority),
            table: route.table,
            scope: route.scope,
        }
    }
}

/// `ipam.dns`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DnsConfig {
    nameservers: Option<Vec<String>>,
    domain: Option<String>,
    search: Option<Vec<String>>,
    options: Option<Vec<String>>,
}

impl From<DnsConfig> for Dns {
    fn from(dns: DnsConfig) -> Self {
        Self {
            nameservers: dns.nameservers.unwrap_or_default(),
            domain: dns.domain.unwrap_or_default(),
            search: dns.search.unwrap_or_default(),
            options: dns.options.unwrap_or_default(),
        }
    }
}

/// The result of ADD in the form of version 1.1, which has all attributes of routes.
pub(crate) fn answer(mut result: AddResult) -> Result<Value, Failure> {
    "1.1.0".clone_into(&mut result.cni_version);
    value(&result)
}
