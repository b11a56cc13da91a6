//! `host-local`: gives addresses of ranges, and keeps on disk which are taken.
//!
//! ```text
//! <dataDir>/<network>/lock                   held (flock) while anything of the network is read or changed
//! <dataDir>/<network>/10.1.2.3               a reservation: "<container id>\r\n<interface>"
//! <dataDir>/<network>/last_reserved_ip.<n>   where the search in range set n goes on
//! ```
//!
//! Of each range set an attachment gets one address: the one requested, or the first that is free after the last one
//! given, so that a released address rests as long as possible. A reservation of an attachment is found by its content;
//! versions of the binary before 0.7 wrote the container's id only. [`store`] has the directory, [`ranges`] what
//! addresses there are.
//!
//! ADD must never give an address twice, or lose one of an attachment that exists, and DEL must find whatever ADD
//! reserved before it was killed.
//!
//! See <https://www.cni.dev/plugins/current/ipam/host-local/>.

mod ranges;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use pausa_cni::{AddResult, AttachmentId, Call, Command, Delegate, Dns, Failure, InProcess, IpConfig, Route};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::common::{self, arguments, failed, invalid};
use crate::ipam_config::{Args, Cidr, RouteConfig, address, answer, configuration, parse};
use ranges::{RangeConfig, RangeSet, range_sets};
use store::{Network, Store};

const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";
/// Between a container's id and the interface in a reservation.
const LINE_BREAK: &str = "\r\n";

#[derive(Debug, Default)]
pub(crate) struct HostLocal {
    store: Store,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    ipam: Ipam,
    runtime_config: Option<RuntimeConfig>,
    args: Option<Args<Requested>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Ipam {
    subnet: Option<Cidr>,
    #[serde(default, deserialize_with = "address")]
    range_start: Option<IpAddr>,
    #[serde(default, deserialize_with = "address")]
    range_end: Option<IpAddr>,
    #[serde(default, deserialize_with = "address")]
    gateway: Option<IpAddr>,
    ranges: Option<Vec<Vec<RangeConfig>>>,
    routes: Option<Vec<RouteConfig>>,
    data_dir: Option<PathBuf>,
    resolv_conf: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuntimeConfig {
    ip_ranges: Option<Vec<Vec<RangeConfig>>>,
    ips: Option<Vec<Requested>>,
}

/// An address that is asked for. It may have a prefix, which says nothing.
#[derive(Debug, Clone, Copy)]
struct Requested(IpAddr);

impl<'de> Deserialize<'de> for Requested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Requested {
    fn parse(text: &str) -> Result<Self, String> {
        let address = match text.contains('/') {
            true => text.parse().map(|net: IpNet| net.addr()).ok(),
            false => text.parse().ok(),
        };
        address
            .map(|address: IpAddr| Self(address.to_canonical()))
            .ok_or_else(|| format!("{text:?} is not an address"))
    }
}

impl InProcess for HostLocal {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        parse::<Config>(config).map(drop)
    }

    fn call(&self, call: &Call, _delegate: &Delegate<'_>) -> Result<Value, Failure> {
        self.run(call)
    }
}

impl HostLocal {
    fn run(&self, call: &Call) -> Result<Value, Failure> {
        let config: Config = configuration(call)?;
        let dir = config.directory(call)?;
        match call.command {
            Command::Add => return self.add(call, config, &dir),
            Command::Del => self.del(call, &config, &dir),
            Command::Check => self.check(call, &dir),
            Command::Status | Command::Version => config.range_sets().map(drop),
            Command::Gc => self.gc(call, &dir),
        }
        .map(|()| Value::Null)
    }

    fn add(&self, call: &Call, config: Config, dir: &Path) -> Result<Value, Failure> {
        let sets = config.range_sets()?;
        let requested = config.requested(call)?;
        let dns = match &config.ipam.resolv_conf {
            Some(path) if !path.as_os_str().is_empty() => {
                let reading = failed(format!("cannot read resolvConf {}", path.display()));
                let text = common::read(path).map_err(reading)?;
                parse_resolv_conf(&String::from_utf8_lossy(&text))
            }
            _ => Dns::default(),
        };
        let mut network = self.store.lock_or_create(dir)?;
        let mut given = Vec::new();
        if let Err(failure) = reserve(&mut network, call, &sets, requested, &mut given) {
            let owner = owner(call);
            for ip in given {
                network.release(&owner, ip.address.addr())?;
            }
            network.unlock();
            return Err(failure);
        }
        network.unlock();
        answer(AddResult {
            ips: given,
            routes: config
                .ipam
                .routes
                .into_iter()
                .flatten()
                .map(Route::from)
                .collect(),
            dns,
            ..AddResult::default()
        })
    }

    fn del(&self, call: &Call, config: &Config, dir: &Path) -> Result<(), Failure> {
        let Some(mut network) = self.store.lock(dir)? else {
            return Ok(());
        };
        let (owner, old_owner) = (owner(call), call.container_id.as_str());
        let addresses = network.owned_or_read(&owner)?;
        let found = !addresses.is_empty();
        for address in addresses {
            network.release(&owner, address)?;
        }
        // The binary looks once for each range set, and each time for the old form if it does not find the new one.
        if !found || config.has_several_sets() {
            for address in network.owned(old_owner)? {
                network.release(old_owner, address)?;
            }
        }
        network.unlock();
        Ok(())
    }

    fn check(&self, call: &Call, dir: &Path) -> Result<(), Failure> {
        let missing = || {
            Failure::internal(format!(
                "no address is reserved in {} for interface {} of container {}",
                dir.display(),
                call.if_name,
                call.container_id
            ))
        };
        let mut network = self.store.lock(dir)?.ok_or_else(missing)?;
        let found = !network.owned_or_read(&owner(call))?.is_empty()
            || !network.owned(&call.container_id)?.is_empty();
        network.unlock();
        if found { Ok(()) } else { Err(missing()) }
    }

    /// Releases what belongs to none of the valid attachments. The binary does nothing for GC. A reservation in any other
    /// form than ours stays: an old one does not say what interface it is for.
    fn gc(&self, call: &Call, dir: &Path) -> Result<(), Failure> {
        let Some(valid) = call.config.get("cni.dev/valid-attachments") else {
            return Ok(());
        };
        let valid = Vec::<AttachmentId>::deserialize(valid)
            .map_err(failed("cannot read cni.dev/valid-attachments"))?;
        let valid: BTreeSet<String> = valid
            .iter()
            .map(|valid| format!("{}{LINE_BREAK}{}", valid.container_id, valid.if_name))
            .collect();
        let Some(mut network) = self.store.lock(dir)? else {
            return Ok(());
        };
        network.read()?;
        let is_attachment = |owner: &str| {
            let parts = owner.split_once(LINE_BREAK);
            parts.is_some_and(|(id, interface)| is_identifier(id) && is_interface(interface))
        };
        for owner in network.owners() {
            if is_attachment(&owner) && !valid.contains(&owner) {
                for address in network.owned(&owner)? {
                    network.release(&owner, address)?;
                }
            }
        }
        network.unlock();
        Ok(())
    }
}

/// Reserves an address of each range set. What `given` has at the end is reserved, whether all went well or not.
fn reserve(
    network: &mut Network<'_>,
    call: &Call,
    sets: &[RangeSet],
    mut requested: Vec<IpAddr>,
    given: &mut Vec<IpConfig>,
) -> Result<(), Failure> {
    let owner = owner(call);
    let mut owned = network.owned(&owner)?;
    owned.extend(network.owned(&call.container_id)?);
    for (index, set) in sets.iter().enumerate() {
        let wanted = requested.iter().position(|address| set.contains(*address));
        let address = if let Some(at) = wanted {
            let address = requested.remove(at);
            if set.is_gateway(address) {
                return Err(Failure::internal(format!(
                    "the requested address {address} is the gateway"
                )));
            }
            network
                .reserve(&owner, index, std::iter::once(address))?
                .ok_or_else(|| Failure::internal(format!("the requested address {address} is taken")))?
        } else {
            if let Some(address) = owned.iter().find(|address| set.contains(**address)) {
                return Err(Failure::internal(format!(
                    "interface {} of container {} has {address} already",
                    call.if_name, call.container_id
                )));
            }
            let last = network.last_reserved(index)?;
            network
                .reserve(&owner, index, set.candidates(last))?
                .ok_or_else(|| Failure::internal(format!("no address of {set} is free")))?
        };
        given.extend(set.configuration(address));
    }
    match requested.first() {
        None => Ok(()),
        Some(address) => Err(Failure::internal(format!(
            "the requested address {address} is in none of the ranges that have no other requested address"
        ))),
    }
}

impl Config {
    fn directory(&self, call: &Call) -> Result<PathBuf, Failure> {
        let name = common::network(call);
        if !is_identifier(name) {
            return Err(invalid(format!("{name:?} is not the name of a network")));
        }
        let data_dir = self.ipam.data_dir.as_deref();
        let data_dir = data_dir
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new(DEFAULT_DATA_DIR));
        Ok(data_dir.join(name))
    }

    /// Those of the runtime, the one in the older form, and the configured ones.
    fn configured_sets(&self) -> impl Iterator<Item = Vec<RangeConfig>> {
        let ipam = &self.ipam;
        let by_runtime = self.runtime_config.as_ref();
        let by_runtime = by_runtime.and_then(|config| config.ip_ranges.clone());
        let older = ipam.subnet.map(|_| {
            vec![RangeConfig {
                subnet: ipam.subnet,
                range_start: ipam.range_start,
                range_end: ipam.range_end,
                gateway: ipam.gateway,
            }]
        });
        let configured = ipam.ranges.clone();
        by_runtime
            .into_iter()
            .flatten()
            .chain(older)
            .chain(configured.into_iter().flatten())
    }

    fn has_several_sets(&self) -> bool {
        self.configured_sets().nth(1).is_some()
    }

    fn range_sets(&self) -> Result<Vec<RangeSet>, Failure> {
        range_sets(self.configured_sets()).map_err(invalid)
    }

    /// The addresses asked for, each once.
    fn requested(&self, call: &Call) -> Result<Vec<IpAddr>, Failure> {
        let arguments = arguments(call, &["IP"])?;
        let by_caller = arguments.get("IP").copied().filter(|text| !text.is_empty());
        let by_caller = by_caller.map(Requested::parse).transpose();
        let by_caller = by_caller.map_err(|error| invalid(format!("IP in CNI_ARGS: {error}")))?;
        let by_args = self.args.as_ref().map(Args::addresses).unwrap_or_default();
        let by_runtime = self.runtime_config.as_ref();
        let by_runtime = by_runtime.and_then(|config| config.ips.as_deref());
        let mut requested = Vec::new();
        for Requested(address) in by_caller
            .iter()
            .chain(by_args)
            .chain(by_runtime.unwrap_or_default())
        {
            if !requested.contains(address) {
                requested.push(*address);
            }
        }
        Ok(requested)
    }
}

/// The content of an attachment's reservation.
fn owner(call: &Call) -> String {
    format!("{}{LINE_BREAK}{}", call.container_id, call.if_name)
}

/// Names of networks and ids of containers. They are parts of paths.
fn is_identifier(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain)
}

fn is_interface(text: &str) -> bool {
    let plain = |c: char| !matches!(c, '/' | ':' | '\0') && !c.is_whitespace();
    !text.is_empty() && text.len() <= 15 && text.chars().all(plain)
}

fn parse_resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(keyword), Some(first)) = (words.next(), words.next()) else {
            continue;
        };
        match keyword.as_str() {
            "nameserver" => dns.nameservers.push(first),
            "domain" => dns.domain = first,
            "search" => dns.search.extend(std::iter::once(first).chain(words)),
            "options" => dns.options.extend(std::iter::once(first).chain(words)),
            _ => {}
        }
    }
    dns
}
