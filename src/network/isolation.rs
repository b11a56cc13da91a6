//! The plugin that follows the bridge in the built-in network: what pods may send, and the rules of the node.
//!
//! No pod can speak for another one or for the gateway: see [`source_filter`]. Without a range of IPv6 the protocol is off at
//! the bridge, and the bridge plugin turns it off in the pods; with one, neither takes routes from router advertisements.
//!
//! The rules of the firewall are those of the node, not of the pod: they are checked for each pod, so that a deleted table is
//! restored with the next one.
//!
//! This type exists in process only. Nothing of a pod runs before the chain is through, so nothing passes before it is
//! restricted.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;
use parking_lot::Once;
use pausa_cni::{AddResult, Call, Command, Delegate, Failure, InProcess, Interface, ResultCache};
use pausa_netlink::{ErrorKind, Netlink, Request};
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::host_ports::HostPorts;
use super::source_filter::{self, Source, SourceFilter};
use super::sysctl;
use crate::error::chain;

/// The plugin's type.
pub(super) const TYPE: &str = "pausa-isolation";

const WITH_IPV6: &str = "pods may get routes from each other over IPv6";

#[derive(Debug)]
pub(super) struct Isolation {
    host_ports: Arc<HostPorts>,
    cache: ResultCache,
    /// What all pods' packets pass, or why there is nothing.
    filter: OnceLock<Result<SourceFilter, Errno>>,
    /// Warns once that pods can forge their addresses.
    unfiltered: Once,
    /// Index of the bridge that this daemon has set up; 0 if none.
    bridge: AtomicU32,
}

#[derive(Debug, Deserialize)]
struct Config {
    name: String,
    bridge: String,
    subnets: Vec<IpNet>,
    #[serde(rename = "prevResult", default)]
    previous: Value,
}

impl InProcess for Isolation {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        parse(config).map(drop).map_err(|failure| failure.msg)
    }

    fn call(&self, call: &Call, _delegate: &Delegate<'_>) -> Result<Value, Failure> {
        match call.command {
            Command::Add => self.add(call),
            Command::Del => self.del(call).map(|()| Value::Null),
            Command::Check | Command::Status | Command::Gc | Command::Version => Ok(Value::Null),
        }
    }
}

impl Isolation {
    pub(super) fn new(host_ports: Arc<HostPorts>, cache: ResultCache) -> Self {
        Self {
            host_ports,
            cache,
            filter: OnceLock::new(),
            unfiltered: Once::new(),
            bridge: AtomicU32::new(0),
        }
    }

    fn add(&self, call: &Call) -> Result<Value, Failure> {
        let config = parse(&call.config)?;
        let result = AddResult::from_value(&config.previous).map_err(failed("cannot read prevResult"))?;
        let missing = |what: &str| Failure::internal(format!("prevResult has no {what}"));
        let host_end =
            host_end(&config.bridge, &result).ok_or_else(|| missing("end of a veth pair on the host"))?;
        let pod_end = result
            .interfaces
            .iter()
            .find(|interface| interface.name == call.if_name && !interface.sandbox.is_empty())
            .ok_or_else(|| missing("interface of the pod"))?;
        let addresses = || result.ips.iter().map(|ip| ip.address.addr());
        let source = Source {
            mac: mac(&pod_end.mac).ok_or_else(|| missing("hardware address of the pod"))?,
            v4: addresses().find_map(v4).unwrap_or(Ipv4Addr::UNSPECIFIED),
            v6: addresses().find_map(|address| match address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            }),
        };
        let mut host = Netlink::open().map_err(failed("cannot open a netlink socket"))?;
        self.ensure_bridge(&mut host, &config, source.v6.is_some())?;
        self.restrict(&mut host, &config.bridge, &host_end.name, &source)?;
        for subnet in &config.subnets {
            self.host_ports
                .ensure_rules(*subnet)
                .map_err(failed("cannot install the rules of the network"))?;
        }
        Ok(config.previous)
    }

    /// Takes from a pod only what it may send. Where the kernel cannot do that, pods can forge their addresses as on any
    /// plain bridge.
    fn restrict(&self, host: &mut Netlink, bridge: &str, name: &str, source: &Source) -> Result<(), Failure> {
        let index = host
            .index_of(name)
            .map_err(failed("cannot look the host's end of the pod's veth pair up"))?
            .ok_or_else(|| Failure::internal(format!("{name} is gone")))?;
        let filter = self.filter.get_or_init(SourceFilter::load);
        let attached = filter.as_ref().map_err(|errno| chain(errno)).and_then(|filter| {
            filter.allow(index, source).map_err(|errno| chain(&errno))?;
            let requests = [
                Request::AddClassifier { index },
                Request::AddIngressProgram {
                    index,
                    name: source_filter::NAME,
                    program: filter.program(),
                },
            ];
            host.execute(&requests).map_err(|error| chain(&error))
        });
        if let Err(error) = attached {
            self.unfiltered.call_once(|| {
                tracing::warn!(
                    bridge,
                    error,
                    "cannot filter what pods send; pods with CAP_NET_RAW can take over each other's traffic"
                );
            });
        }
        Ok(())
    }

    /// Sets up a bridge that this daemon has not seen before. One that somebody has deleted gets its pods back.
    fn ensure_bridge(&self, host: &mut Netlink, config: &Config, with_v6: bool) -> Result<(), Failure> {
        let name = config.bridge.as_str();
        let step = || failed(format!("cannot look the bridge {name} up"));
        let index = host
            .index_of(name)
            .map_err(step())?
            .ok_or_else(|| Failure::internal(format!("the bridge {name} is gone")))?;
        if self.bridge.swap(index, Ordering::Relaxed) == index {
            return Ok(());
        }
        // The bridge plugin has refused advertisements, which holds if somebody turns IPv6 on again. The host's ends of the
        // pairs need nothing: a port of a bridge keeps no frame for itself.
        sysctl::set(&format!("ipv6/conf/{name}/accept_redirects"), "0", WITH_IPV6);
        if !with_v6 {
            sysctl::set(&format!("ipv6/conf/{name}/disable_ipv6"), "1", WITH_IPV6);
        }
        // Has an effect only while the node forwards, which it does for pods.
        let redirects = format!("ipv4/conf/{name}/accept_redirects");
        sysctl::set(&redirects, "0", "pods can redirect the node's packets");
        self.attach_again(host, config, index)
    }

    fn attach_again(&self, host: &mut Netlink, config: &Config, bridge: u32) -> Result<(), Failure> {
        let step = "cannot attach running pods to a new bridge";
        let entries = self.cache.entries().map_err(failed(step))?;
        let ours = entries.iter().filter(|entry| entry.network_name == config.name);
        let names: BTreeSet<String> = ours
            .filter_map(|entry| {
                let result = AddResult::from_value(entry.result.as_ref()?).ok()?;
                host_end(&config.bridge, &result).map(|interface| interface.name.clone())
            })
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let links = host
            .links()
            .map_err(failed("cannot list the links of the node"))?;
        let requests: Vec<Request<'_>> = links
            .iter()
            .filter(|link| names.contains(&link.name) && link.master.is_none())
            .map(|link| Request::SetMaster {
                index: link.index,
                master: bridge,
            })
            .collect();
        match host.execute(&requests) {
            // One of the pods was deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(failed(step)),
        }
    }

    fn del(&self, call: &Call) -> Result<(), Failure> {
        let config = parse(&call.config)?;
        let Ok(result) = AddResult::from_value(&config.previous) else {
            return Ok(());
        };
        let (Some(Ok(filter)), Some(host_end)) = (self.filter.get(), host_end(&config.bridge, &result))
        else {
            return Ok(());
        };
        let host = Netlink::open().map_err(failed("cannot open a netlink socket"))?;
        if let Ok(Some(index)) = host.index_of(&host_end.name)
            && let Err(errno) = filter.forget(index)
        {
            tracing::warn!(
                pod = call.container_id,
                error = chain(&errno),
                "cannot remove a pod's entry from the filter of sources; it stays until the daemon is restarted"
            );
        }
        Ok(())
    }
}

/// The end of the pod's pair on the host, which is a port of the bridge.
pub(super) fn host_end<'a>(bridge: &str, result: &'a AddResult) -> Option<&'a Interface> {
    let mut of_host = result
        .interfaces
        .iter()
        .filter(|interface| interface.sandbox.is_empty());
    of_host.find(|interface| interface.name != bridge)
}

fn parse(config: &Map<String, Value>) -> Result<Config, Failure> {
    Config::deserialize(config).map_err(failed("cannot read the configuration"))
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let parts: Vec<u8> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn failed<E: std::error::Error + 'static>(step: impl Into<String>) -> impl FnOnce(E) -> Failure {
    move |error| Failure {
        details: chain(&error),
        ..Failure::internal(step)
    }
}
