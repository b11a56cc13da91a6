//! Ranges of addresses: how they are configured, what is valid, and in what order addresses are tried.
//!
//! A range is a part of a subnet, with its gateway. A range set has ranges of one family. No address is in two ranges.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpAddrRange, IpNet, Ipv4AddrRange, Ipv6AddrRange};
use pausa_cni::IpConfig;
use serde::Deserialize;

use crate::ipam_config::{Cidr, address};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RangeConfig {
    pub(super) subnet: Option<Cidr>,
    #[serde(default, deserialize_with = "address")]
    pub(super) range_start: Option<IpAddr>,
    #[serde(default, deserialize_with = "address")]
    pub(super) range_end: Option<IpAddr>,
    #[serde(default, deserialize_with = "address")]
    pub(super) gateway: Option<IpAddr>,
}

/// The first and the last address are in it.
#[derive(Debug, Clone)]
struct Range {
    subnet: IpNet,
    first: IpAddr,
    last: IpAddr,
    gateway: IpAddr,
}

/// It has at least one range.
#[derive(Debug, Clone)]
pub(super) struct RangeSet(Vec<Range>);

/// Reads range sets. An error says what is wrong with them.
pub(super) fn range_sets(
    configured: impl IntoIterator<Item = Vec<RangeConfig>>,
) -> Result<Vec<RangeSet>, String> {
    let mut sets: Vec<RangeSet> = Vec::new();
    for (index, ranges) in configured.into_iter().enumerate() {
        let set = RangeSet::new(&ranges).map_err(|error| format!("range set {index}: {error}"))?;
        if let Some(other) = sets.iter().position(|other| other.overlaps(&set)) {
            return Err(format!("range set {other} overlaps with {index}"));
        }
        sets.push(set);
    }
    if sets.is_empty() {
        return Err("there is no range".to_owned());
    }
    Ok(sets)
}

impl Range {
    fn new(config: &RangeConfig) -> Result<Self, String> {
        let Some(Cidr(subnet)) = config.subnet else {
            return Err("a range has no subnet".to_owned());
        };
        if subnet.prefix_len() > subnet.max_prefix_len().saturating_sub(2) {
            return Err(format!("{subnet} is too small"));
        }
        if subnet.addr() != subnet.network() {
            return Err(format!(
                "{subnet} has host bits, the network is {}",
                subnet.trunc()
            ));
        }
        let within = |name: &str, address: IpAddr| {
            let inside = subnet.contains(&address);
            inside
                .then_some(address)
                .ok_or_else(|| format!("{name} {address} is not in {subnet}"))
        };
        let second = next(subnet.network());
        let first = config.range_start.map(|address| within("rangeStart", address));
        // The broadcast address is not given unless rangeEnd says so.
        let default_end = match subnet {
            IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.broadcast()).saturating_sub(1))),
            IpNet::V6(net) => IpAddr::V6(net.broadcast()),
        };
        let last = config.range_end.map(|address| within("rangeEnd", address));
        let range = Self {
            subnet,
            first: first.unwrap_or(Ok(second))?,
            last: last.unwrap_or(Ok(default_end))?,
            gateway: config.gateway.unwrap_or(second),
        };
        if range.first > range.last {
            return Err(format!("{range} has no address"));
        }
        Ok(range)
    }

    /// Addresses of different families are never between each other: all of IPv4 come before all of IPv6.
    fn contains(&self, address: IpAddr) -> bool {
        self.first <= address && address <= self.last
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }
}

impl RangeSet {
    fn new(configured: &[RangeConfig]) -> Result<Self, String> {
        let mut set = Self(Vec::with_capacity(configured.len()));
        for range in configured {
            let range = Range::new(range)?;
            if set
                .0
                .iter()
                .any(|other| other.first.is_ipv4() != range.first.is_ipv4())
            {
                return Err("ranges of both families are mixed".to_owned());
            }
            if let Some(other) = set.0.iter().find(|other| other.overlaps(&range)) {
                return Err(format!("{other} and {range} overlap"));
            }
            set.0.push(range);
        }
        if set.0.is_empty() {
            return Err("it is empty".to_owned());
        }
        Ok(set)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let overlaps = |range: &Range| other.0.iter().any(|other| other.overlaps(range));
        self.0.iter().any(overlaps)
    }

    fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.range_of(address).is_some()
    }

    /// Whether an address is the gateway of the range that it is in.
    pub(super) fn is_gateway(&self, address: IpAddr) -> bool {
        self.range_of(address)
            .is_some_and(|range| range.gateway == address)
    }

    /// What a pod is told of an address of the set.
    pub(super) fn configuration(&self, address: IpAddr) -> Option<IpConfig> {
        let range = self.range_of(address)?;
        Some(IpConfig {
            interface: None,
            address: IpNet::new(address, range.subnet.prefix_len()).ok()?,
            gateway: Some(range.gateway),
        })
    }

    /// All addresses but gateways, each once, beginning after `last` if that is one of them, else with the first.
    pub(super) fn candidates(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + Clone {
        let begin = last.and_then(|last| {
            let at = self.0.iter().position(|range| range.contains(last))?;
            Some((at, last))
        });
        // The first address follows the last one of the last range.
        let end = || Some((self.0.len().saturating_sub(1), self.0.last()?.last));
        let (at, last) = begin.or_else(end).unzip();
        let at = at.unwrap_or_default();
        let interrupted = self.0.get(at).zip(last);
        let rest = interrupted.filter(|(range, last)| *last < range.last);
        let rest = rest.map(|(range, last)| (next(last), range.last, range.gateway));
        let tried_before = interrupted.map(|(range, last)| (range.first, last, range.gateway));
        let whole = |range: &Range| (range.first, range.last, range.gateway);
        rest.into_iter()
            .chain(self.0.iter().skip(at.saturating_add(1)).map(whole))
            .chain(self.0.iter().take(at).map(whole))
            .chain(tried_before)
            .flat_map(|(first, last, gateway)| {
                let all = addresses(first, last).into_iter().flatten();
                all.filter(move |address| *address != gateway)
            })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{range}")?;
        }
        Ok(())
    }
}

/// The address after this one; the highest of all is followed by itself.
fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from(u32::from(address).saturating_add(1))),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address).saturating_add(1))),
    }
}

/// From the first to the last, which have the same family.
fn addresses(first: IpAddr, last: IpAddr) -> Option<IpAddrRange> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some(Ipv4AddrRange::new(first, last).into()),
        (IpAddr::V6(first), IpAddr::V6(last)) => Some(Ipv6AddrRange::new(first, last).into()),
        _ => None,
    }
}
