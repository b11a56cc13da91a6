//! `bandwidth`: limits what a pod receives and sends.
//!
//! What the pod receives ("ingress") is limited where the host's end of its veth pair transmits it. What it sends
//! ("egress") is redirected to an ifb device, which is limited the same way. The device's name is derived from the network
//! and the container, so that DEL finds it without any state. The qdiscs go with the veth pair, which is another plugin's.
//!
//! The numbers of the token buckets are those that the binary computes, also where its numbers overflow: with the burst that
//! container runtimes give to pods (4 Gbit) they do. A rate so high that the binary's floating point numbers are no longer
//! exact is left to the binary.
//!
//! It must never delete a link whose name it has not derived.
//!
//! See <https://www.cni.dev/plugins/current/meta/bandwidth/>.

#[cfg(test)]
mod tests;

use pausa_cni::{AddResult, Call, Command, Delegate, Failure, InProcess};
use pausa_netlink::{Link, Netlink, Request, TokenBucket};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

use crate::common::{
    chained, configuration, failed, invalid, netlink, netlink_of_pod, netns, network, parse,
};
use crate::interface::mac_text;

/// Bits per second up to which the binary computes exactly: 2^53 / 25,000 bytes.
const MAX_RATE: u64 = (1 << 53) / 25_000 * 8;
/// How long a packet may wait at most: 25 ms, as a fraction of a second.
const MAX_DELAY: u64 = 40;

#[derive(Debug)]
pub(crate) struct Bandwidth;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    ingress_rate: Option<u64>,
    ingress_burst: Option<u64>,
    egress_rate: Option<u64>,
    egress_burst: Option<u64>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeConfig {
    bandwidth: Option<Capability>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Capability {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

/// What each direction is limited to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Limits {
    ingress: Option<TokenBucket>,
    egress: Option<TokenBucket>,
}

impl InProcess for Bandwidth {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        let chosen = parse::<Config>(config)?.choose();
        for (key, rate) in [
            ("ingressRate", chosen.ingress_rate),
            ("egressRate", chosen.egress_rate),
        ] {
            if rate > MAX_RATE {
                return Err(format!("{key} {rate} is more than {MAX_RATE}"));
            }
        }
        Ok(())
    }

    fn call(&self, call: &Call, _delegate: &Delegate<'_>) -> Result<Value, Failure> {
        match call.command {
            Command::Add => add(call),
            Command::Check => check(call).map(|()| Value::Null),
            Command::Del => delete(call).map(|()| Value::Null),
            Command::Status | Command::Gc | Command::Version => Ok(Value::Null),
        }
    }
}

impl Config {
    /// Any key in the network's configuration makes it count instead of the runtime's.
    fn choose(self) -> Capability {
        let own = [
            self.ingress_rate,
            self.ingress_burst,
            self.egress_rate,
            self.egress_burst,
        ];
        if own.iter().all(Option::is_none) {
            return self.runtime_config.bandwidth.unwrap_or_default();
        }
        Capability {
            ingress_rate: self.ingress_rate.unwrap_or(0),
            ingress_burst: self.ingress_burst.unwrap_or(0),
            egress_rate: self.egress_rate.unwrap_or(0),
            egress_burst: self.egress_burst.unwrap_or(0),
        }
    }

    fn limits(self) -> Result<Limits, Failure> {
        let chosen = self.choose();
        Ok(Limits {
            ingress: bucket("ingress", chosen.ingress_rate, chosen.ingress_burst)?,
            egress: bucket("egress", chosen.egress_rate, chosen.egress_burst)?,
        })
    }
}

/// The token bucket for a rate and a burst in bits; none for no limit.
fn bucket(direction: &str, rate: u64, burst: u64) -> Result<Option<TokenBucket>, Failure> {
    const MICROSECONDS: u64 = 1_000_000;
    /// In eight microseconds; a tick has 64 ns.
    const TICKS: u64 = 125;
    match (rate, burst) {
        (0, 0) => return Ok(None),
        (_, 0) => {
            return Err(invalid(format!(
                "{direction}Rate is set, so {direction}Burst must be too"
            )));
        }
        (0, _) => {
            return Err(invalid(format!(
                "{direction}Burst is set, so {direction}Rate must be too"
            )));
        }
        (..8, _) => {
            return Err(invalid(format!(
                "{direction}Rate {rate} is less than 8 bit/s, the least that can be set"
            )));
        }
        _ => {}
    }
    let (rate, burst) = (rate / 8, burst / 8);
    let Some(burst) = u32::try_from(burst).ok().filter(|burst| *burst < u32::MAX) else {
        return Err(invalid(format!("{direction}Burst is more than 4 GB")));
    };
    let time = as_binary(u64::from(burst) * MICROSECONDS / rate);
    Ok(Some(TokenBucket {
        rate,
        limit: as_binary(rate / MAX_DELAY).wrapping_add(burst),
        buffer: as_binary(u64::from(time) * TICKS / 8),
    }))
}

/// What the binary makes of a number of more than 32 bits: the processor decides.
fn as_binary(number: u64) -> u32 {
    if cfg!(target_arch = "x86_64") {
        let [a, b, c, d, ..] = number.to_le_bytes();
        return u32::from_le_bytes([a, b, c, d]);
    }
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The name of the container's ifb device in this network.
fn ifb_name(call: &Call) -> String {
    let mut hash = Sha512::new();
    hash.update(network(call));
    hash.update(&call.container_id);
    let mut name = format!("bwp{}", hex::encode(hash.finalize()));
    name.truncate(15);
    name
}

/// The host's end of the pod's veth pair, which must be in the result of the plugins before.
fn host_link(call: &Call, result: &AddResult, netlink: &mut Netlink) -> Result<Link, Failure> {
    let interface = &call.if_name;
    let in_pod = netlink_of_pod(netns(call)?)?
        .link_by_name(interface)
        .map_err(failed(format!("cannot look {interface} up in the pod")))?;
    let peer = in_pod
        .filter(|link| link.kind == "veth")
        .and_then(|link| link.parent)
        .ok_or_else(|| Failure::internal(format!("the pod's interface {interface} has no veth peer")))?;
    netlink
        .link_by_index(peer)
        .map_err(failed(format!("cannot look the peer of {interface} up")))?
        .filter(|link| {
            let mut known = result.interfaces.iter();
            known.any(|known| known.sandbox.is_empty() && known.name == link.name)
        })
        .ok_or_else(|| {
            Failure::internal(format!(
                "link {peer}, the veth peer of the pod's interface {interface}, is not an interface of the host in prevResult"
            ))
        })
}

fn add(call: &Call) -> Result<Value, Failure> {
    let limits = configuration::<Config>(call)?.limits()?;
    let (result, value) = chained(call)?;
    let mut value = value.clone();
    if limits == Limits::default() {
        return Ok(value);
    }
    let mut netlink = netlink()?;
    let host = host_link(call, &result, &mut netlink)?;
    let ingress = limits.ingress.map(|bucket| Request::AddTokenBucket {
        index: host.index,
        bucket,
    });
    let Some(egress) = limits.egress else {
        netlink
            .execute(ingress.as_slice())
            .map_err(failed(format!("cannot limit {}", host.name)))?;
        return Ok(value);
    };
    let name = ifb_name(call);
    let create = Request::CreateIfb {
        name: &name,
        mtu: host.mtu,
    };
    netlink
        .execute(&[create])
        .map_err(failed(format!("cannot create {name}")))?;
    let ifb = limit(&mut netlink, &host, ingress, &name, egress).inspect_err(|_| {
        // The qdiscs of the veth pair stay: some may have been there before. They go with it.
        drop(netlink.execute(&[Request::DeleteLink { name: &name }]));
    })?;
    if let Some(interfaces) = value.get_mut("interfaces").and_then(Value::as_array_mut) {
        interfaces.push(json!({"name": name, "mac": ifb.mac.map(mac_text)}));
    }
    Ok(value)
}

fn limit(
    netlink: &mut Netlink,
    host: &Link,
    ingress: Option<Request<'_>>,
    ifb: &str,
    bucket: TokenBucket,
) -> Result<Link, Failure> {
    let limiting = || format!("cannot limit {}", host.name);
    let ifb = netlink
        .link_by_name(ifb)
        .map_err(failed(limiting()))?
        .ok_or_else(|| Failure::internal(format!("{}: {ifb} was deleted meanwhile", limiting())))?;
    let (index, to) = (host.index, ifb.index);
    let mut requests = vec![
        // Before the device is up: to replace the queue of one that is up, the kernel waits for an RCU grace period.
        Request::AddTokenBucket { index: to, bucket },
        Request::SetUp { index: to },
        Request::AddIngress { index },
        Request::RedirectIngress { index, to },
    ];
    requests.extend(ingress);
    netlink.execute(&requests).map_err(failed(limiting()))?;
    Ok(ifb)
}

fn check(call: &Call) -> Result<(), Failure> {
    let limits = configuration::<Config>(call)?.limits()?;
    let (result, _) = chained(call)?;
    let mut netlink = netlink()?;
    let host = host_link(call, &result, &mut netlink)?;
    if let Some(bucket) = limits.ingress {
        check_bucket(&mut netlink, &host, bucket)?;
    }
    let Some(bucket) = limits.egress else {
        return Ok(());
    };
    let name = ifb_name(call);
    let ifb = netlink
        .link_by_name(&name)
        .map_err(failed(format!("cannot look {name} up")))?
        .ok_or_else(|| Failure::internal(format!("there is no ifb device {name}")))?;
    check_bucket(&mut netlink, &ifb, bucket)
}

fn check_bucket(netlink: &mut Netlink, link: &Link, expected: TokenBucket) -> Result<(), Failure> {
    let name = &link.name;
    let found = netlink
        .token_bucket(link.index)
        .map_err(failed(format!("cannot look the qdisc of {name} up")))?
        .ok_or_else(|| Failure::internal(format!("{name} has no tbf qdisc")))?;
    if found == expected {
        return Ok(());
    }
    Err(Failure::internal(format!(
        "the tbf qdisc of {name} has {found:?} instead of {expected:?}"
    )))
}

fn delete(call: &Call) -> Result<(), Failure> {
    let name = ifb_name(call);
    netlink()?
        .delete_link(&name)
        .map_err(failed(format!("cannot delete {name}")))
}
