//! `ptp`: a veth pair between the node and each pod, without a bridge; the node routes.
//!
//! See <https://www.cni.dev/plugins/current/main/ptp/>. The pod reaches everything, also its own network, through the
//! gateway, whose address is that of the host's end.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnet::IpNet;
use pausa_cni::{AddResult, Call, Command, Delegate, Failure, InProcess};
use pausa_netlink::{ErrorKind, Link, Netlink, Request, Route};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::common::{
    configuration, dns, failed, in_pod, netlink, netlink_of_pod, netns, network, parse, result_of_add, value,
};
use crate::interface::{self, Pair};
use crate::ipam;
use crate::masquerade::{self, Backend};

/// Where the pod's interface is in the result.
const POD_INTERFACE: i64 = 1;
/// `RT_SCOPE_LINK`, `RT_SCOPE_HOST` and `RT_SCOPE_NOWHERE`
const ON_LINK: u8 = 253;
const ON_HOST: u8 = 254;
const ANY_SCOPE: u8 = 255;

#[derive(Debug)]
pub(crate) struct Ptp;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Config {
    ip_masq: bool,
    ip_masq_backend: Option<Backend>,
    mtu: u32,
    args: Args,
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Args {
    #[serde(rename = "cni")]
    _cni: CniArgs,
}

/// What is the IPAM plugin's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CniArgs {
    #[serde(rename = "ips")]
    _ips: Value,
}

/// What is the IPAM plugin's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RuntimeConfig {
    #[serde(rename = "ips")]
    _ips: Value,
    #[serde(rename = "ipRanges")]
    _ip_ranges: Value,
    #[serde(rename = "dns")]
    _dns: Value,
}

impl InProcess for Ptp {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        parse::<Config>(config).map(drop)
    }

    fn call(&self, call: &Call, delegate: &Delegate<'_>) -> Result<Value, Failure> {
        match call.command {
            Command::Add => add(call, delegate),
            Command::Del => del(call, delegate).map(|()| Value::Null),
            Command::Check => check(call, delegate).map(|()| Value::Null),
            Command::Status | Command::Gc | Command::Version => {
                ipam::pass_on(call, delegate).map(|()| Value::Null)
            }
        }
    }
}

fn add(call: &Call, delegate: &Delegate<'_>) -> Result<Value, Failure> {
    let config: Config = configuration(call)?;
    let plugin = ipam::of(call).ok_or_else(|| Failure::internal("`ipam.type` is missing"))?;
    let addresses = ipam::add(plugin, call, delegate)?;
    attach(call, &config, addresses).inspect_err(|_| ipam::undo(plugin, call, delegate))
}

fn attach(call: &Call, config: &Config, mut result: AddResult) -> Result<Value, Failure> {
    let netns = netns(call)?;
    let mut host = netlink()?;
    for ip in &mut result.ips {
        ip.interface = Some(POD_INTERFACE);
        interface::enable_forwarding(ip.address.addr())?;
    }
    let pair = Pair {
        master: None,
        name: &call.if_name,
        netns: netns.as_fd(),
        mac: None,
        mtu: Some(config.mtu).filter(|mtu| *mtu != 0),
    };
    let make = || -> Result<(String, Link), Failure> {
        let mut pod = netlink()?;
        let host_name = interface::create(&mut host, pair)?;
        let link = interface::find(&mut pod, &call.if_name)?;
        interface::configure(&mut pod, &link, &result)?;
        route_through_gateways(&mut pod, &link, &result)?;
        Ok((host_name, link))
    };
    let (host_name, pod) = in_pod(netns.as_fd(), make)?;
    interface::ignore_advertisements(&host_name);
    let host_end = route_to_pod(&mut host, &host_name, &result)?;
    if config.ip_masq {
        let nets: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
        masquerade::add(
            config.ip_masq_backend,
            &nets,
            network(call),
            &call.if_name,
            &call.container_id,
        )?;
    }
    result.interfaces = vec![interface::entry(&host_end), interface::entry_of_pod(call, &pod)];
    if let Some(dns) = dns(call)? {
        result.dns = dns;
    }
    value(&result)
}

/// Replaces the route that the kernel adds with an address. Otherwise the pod would ask its own link for its neighbours.
fn route_through_gateways(pod: &mut Netlink, link: &Link, result: &AddResult) -> Result<(), Failure> {
    let mut requests = Vec::new();
    for ip in &result.ips {
        let gateway = ip.gateway.ok_or_else(|| {
            Failure::internal(format!(
                "the IPAM plugin gave no gateway for {}, which `ptp` needs",
                ip.address
            ))
        })?;
        let net = ip.address.trunc();
        let to = |address: IpAddr, prefix| Route::new(link.index, (address, prefix));
        requests.extend([
            Request::DeleteRoute(Route {
                scope: ANY_SCOPE,
                ..to(net.addr(), net.prefix_len())
            }),
            Request::AddRoute(Route {
                scope: ON_LINK,
                source: Some(ip.address.addr()),
                ..to(gateway, ip.address.max_prefix_len())
            }),
            Request::AddRoute(Route {
                gateway: Some(gateway),
                source: Some(ip.address.addr()),
                ..to(net.addr(), net.prefix_len())
            }),
        ]);
    }
    pod.execute(&requests).map_err(failed(format!(
        "cannot route through the gateway of {}",
        link.name
    )))
}

/// Gives the host's end the gateways' addresses, and routes the pod's addresses to it.
fn route_to_pod(host: &mut Netlink, name: &str, result: &AddResult) -> Result<Link, Failure> {
    let step = || failed(format!("cannot route to the pod through {name}"));
    let link = interface::find(host, name)?;
    for ip in &result.ips {
        let prefix = ip.address.max_prefix_len();
        if let Some(gateway) = ip.gateway {
            let add = Request::AddAddress {
                index: link.index,
                address: gateway,
                prefix,
            };
            host.execute(&[add]).map_err(step())?;
        }
        let route = Request::AddRoute(Route {
            scope: ON_HOST,
            ..Route::new(link.index, (ip.address.addr(), prefix))
        });
        match host.execute(&[route]) {
            Err(error) if error.kind() == ErrorKind::Exists => {}
            outcome => outcome.map_err(step())?,
        }
    }
    Ok(link)
}

fn del(call: &Call, delegate: &Delegate<'_>) -> Result<(), Failure> {
    let config: Config = configuration(call)?;
    let addresses: Vec<IpNet> = interface::delete(call)?.into_iter().collect();
    ipam::pass_on(call, delegate)?;
    if config.ip_masq {
        masquerade::del(&addresses, network(call), &call.if_name, &call.container_id)?;
    }
    Ok(())
}

fn check(call: &Call, delegate: &Delegate<'_>) -> Result<(), Failure> {
    configuration::<Config>(call)?;
    let netns = netns(call)?;
    ipam::pass_on(call, delegate)?;
    let result = result_of_add(call)?;
    let wanted = interface::of_result(call, &result)?;
    let mut pod = netlink_of_pod(netns)?;
    interface::check(&mut pod, wanted, &result).map(drop)
}
