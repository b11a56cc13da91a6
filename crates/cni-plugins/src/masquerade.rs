//! `ipMasq` of the bridge and ptp plugins: packets that leave the pod's network get the address of the node.
//!
//! With iptables, a chain of each container in the `nat` table decides, and `POSTROUTING` sends its packets there. With
//! nf_tables, each address has a rule in one chain of a table of its own, with a comment that begins with what identifies
//! the attachment.
//!
//! DEL removes both: the pod may have been made with another configuration.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use pausa_cni::Failure;
use pausa_netfilter::iptables::{Match, Network, Rule, Target};
use pausa_netfilter::{Chain, Change, Expression, Family, Hook, Netfilter, NewRule, Place, Verdict};
use serde::Deserialize;
use sha2::{Digest, Sha512};

use crate::common::failed;
use crate::iptables::{Iptables, Wanted};
use crate::kernel::{forget, hint, remember, retry};
use crate::nftables::{Side, address, family_of, is_supported, remove, verdict};

const POSTROUTING: &str = "POSTROUTING";
const NAT: &str = "nat";
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

const TABLE: &str = "cni_plugins_masquerade";
const CHECKS: Chain<'_> = Chain {
    family: Family::Inet,
    table: TABLE,
    name: "masq_checks",
};
const BASE: Chain<'_> = Chain {
    family: Family::Inet,
    table: TABLE,
    name: "postrouting",
};
/// What the reference calls its table and chain, where the node's nft can.
const TABLE_COMMENT: &str = "Masquerading for plugins from github.com/containernetworking/plugins";
const CHAIN_COMMENT: &str =
    "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet";

/// Whose rules masquerade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    Iptables,
    Nftables,
}

impl Backend {
    /// iptables, unless the node has only nft.
    pub(crate) fn or_default(backend: Option<Self>) -> Self {
        backend.unwrap_or_else(|| {
            if Iptables::of(Family::V4).is_none() && is_supported() {
                Self::Nftables
            } else {
                Self::Iptables
            }
        })
    }
}

/// Masquerades the packets of these addresses, which come with the prefixes of their networks.
pub(crate) fn add(
    backend: Option<Backend>,
    addresses: &[IpNet],
    network: &str,
    if_name: &str,
    container_id: &str,
) -> Result<(), Failure> {
    match Backend::or_default(backend) {
        Backend::Iptables => add_to_iptables(addresses, network, container_id),
        Backend::Nftables => add_to_nftables(addresses, network, if_name, container_id)
            .map_err(failed(format!("cannot add rules to the nftables table {TABLE}"))),
    }
}

/// Removes what [`add`] made, whichever backend it used.
pub(crate) fn del(
    addresses: &[IpNet],
    network: &str,
    if_name: &str,
    container_id: &str,
) -> Result<(), Failure> {
    let chain = chain_name("", network, container_id);
    let of_iptables = FAMILIES
        .into_iter()
        .filter(|family| addresses.iter().any(|net| family_of_address(net) == *family))
        .filter_map(Iptables::of)
        .map(|iptables| iptables.remove_chains(NAT, &[(&chain, POSTROUTING)]));
    // Each is tried, whatever becomes of the others.
    let mut outcomes: Vec<_> = of_iptables.collect();
    let instance = instance(network, if_name, container_id);
    let removed = remove(&[CHECKS], &instance, |comment| comment.starts_with(&instance));
    // A kernel without nf_tables has no such rules.
    if let Err(error) = removed
        && is_supported()
    {
        let step = format!("cannot delete rules of the nftables table {TABLE}");
        outcomes.push(Err(failed(step)(error)));
    }
    outcomes.into_iter().collect()
}

/// The name of a container's chain: the beginning of a hash.
pub(crate) fn chain_name(kind: &str, network: &str, container_id: &str) -> String {
    const LENGTH: usize = 28;
    let mut name = format!("CNI-{kind}");
    name.push_str(&hash(
        &format!("{network}{container_id}"),
        LENGTH.saturating_sub(name.len()),
    ));
    name
}

fn hash(text: &str, length: usize) -> String {
    let mut hash = hex::encode(Sha512::digest(text));
    hash.truncate(length);
    hash
}

const fn family_of_address(net: &IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

fn multicast(family: Family) -> IpNet {
    let (address, prefix) = match family {
        Family::V6 => (IpAddr::from([0xff00, 0, 0, 0, 0, 0, 0, 0_u16]), 8),
        _ => (IpAddr::from([224, 0, 0, 0_u8]), 4),
    };
    IpNet::new(address, prefix).unwrap_or_else(|_| IpNet::from(address))
}

fn add_to_iptables(addresses: &[IpNet], network: &str, container_id: &str) -> Result<(), Failure> {
    let chain = chain_name("", network, container_id);
    let comment = || {
        vec![Match::Comment(format!(
            "name: \"{network}\" id: \"{container_id}\""
        ))]
    };
    for family in FAMILIES {
        let of_family = || addresses.iter().filter(|net| family_of_address(net) == family);
        if of_family().next().is_none() {
            continue;
        }
        let masquerade = || Rule {
            destination: Some(Network {
                net: multicast(family),
                negated: true,
            }),
            matches: comment(),
            ..Rule::to(Target::Masquerade)
        };
        let mut rules: Vec<Rule> = Vec::new();
        for net in of_family() {
            let accept = Rule {
                destination: Some(Network::of(*net)),
                matches: comment(),
                ..Rule::to(Target::Accept)
            };
            for rule in [accept, masquerade()] {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
        let entries = of_family().map(|net| Rule {
            source: Some(Network::host(net.addr())),
            matches: comment(),
            ..Rule::to(Target::Jump(chain.clone()))
        });
        let own = Wanted::Own {
            chain: chain.clone(),
            rules,
            from: POSTROUTING,
            entries: entries.collect(),
        };
        let iptables =
            Iptables::of(family).ok_or_else(|| Failure::internal("the node has no iptables for ipMasq"))?;
        iptables.ensure(NAT, &[own])?;
    }
    Ok(())
}

/// What the comments of an attachment's rules begin with.
fn instance(network: &str, if_name: &str, container_id: &str) -> String {
    const LENGTH: usize = 16;
    format!(
        "{}-{}",
        hash(network, LENGTH),
        hash(&format!("{if_name}:{container_id}"), LENGTH)
    )
}

fn add_to_nftables(
    addresses: &[IpNet],
    network: &str,
    if_name: &str,
    container_id: &str,
) -> Result<(), pausa_netfilter::Error> {
    let instance = instance(network, if_name, container_id);
    // Longer comments are cut, as the reference does it.
    let comment = format!("{instance}, net: {network}, if: {if_name}, id: {container_id}");
    let rule = |expressions, comment: Option<&str>| NewRule {
        expressions,
        comment: comment.map(ToOwned::to_owned),
        compat: None,
    };
    let of_base = FAMILIES.map(|family| {
        let net = multicast(family);
        let mut list = family_of(net).to_vec();
        list.extend(address(Side::Destination, net, false));
        list.push(verdict(Verdict::Return));
        rule(list, None)
    });
    let to_checks = rule(vec![verdict(Verdict::Goto(CHECKS.name.to_owned()))], None);
    let of_addresses: Vec<_> = addresses
        .iter()
        .map(|net| {
            let mut list = family_of(*net).to_vec();
            list.extend(address(Side::Source, net.addr().into(), false));
            list.extend(address(Side::Destination, *net, true));
            list.push(Expression::Masquerade);
            rule(list, Some(&comment))
        })
        .collect();

    let work = |netfilter: &mut Netfilter| {
        let generation = netfilter.look_up(&[], &[])?.generation;
        let mut stale = netfilter.rules(CHECKS)?;
        stale.retain(|rule| {
            rule.comment
                .as_deref()
                .is_some_and(|comment| comment.starts_with(&instance))
        });
        let mut changes = vec![
            Change::AddTable {
                family: Family::Inet,
                table: TABLE,
                comment: Some(TABLE_COMMENT),
            },
            Change::AddChain {
                chain: CHECKS,
                comment: Some(CHAIN_COMMENT),
            },
            Change::AddBaseChain {
                chain: BASE,
                kind: NAT,
                hook: Hook::Postrouting,
                priority: 100,
            },
            Change::Flush { chain: BASE },
        ];
        let append = |chain, rule, echo| Change::AddRule {
            chain,
            rule,
            place: Place::Last,
            echo,
        };
        changes.extend(
            of_base
                .iter()
                .chain([&to_checks])
                .map(|rule| append(BASE, rule, false)),
        );
        changes.extend(stale.iter().map(|rule| Change::DeleteRule {
            chain: CHECKS,
            handle: rule.handle,
        }));
        changes.extend(of_addresses.iter().map(|rule| append(CHECKS, rule, true)));
        netfilter.commit(&changes, Some(generation))
    };
    let handles = Netfilter::with(|netfilter| retry(|| work(netfilter)))?;
    let hint = hint(CHECKS.family, TABLE, CHECKS.name, &instance);
    forget([hint].into_iter());
    remember(handles.into_iter().map(|handle| (hint, handle)));
    Ok(())
}
