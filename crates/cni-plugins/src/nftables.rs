//! What the plugins' own tables of nf_tables have in common: rules that are found by their comments.
//!
//! The rules are those that nft(8) would write. They are remembered as in [`crate::kernel`].

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use ipnet::IpNet;
use pausa_netfilter::{Chain, Change, Error, Expression, Netfilter, Rule, Verdict};

use crate::kernel::{forget, hint, hinted, retry};

/// Whether the node has nft(8). It is asked once.
pub(crate) fn is_supported() -> bool {
    static ONCE: OnceLock<bool> = OnceLock::new();
    *ONCE.get_or_init(|| {
        let nft = Command::new("nft").arg("--version").stdin(Stdio::null()).output();
        nft.is_ok_and(|output| output.status.success())
    })
}

/// Deletes the rules of these chains that `is_meant` knows by their comments. `owner` is what they are remembered by; a
/// chain for which nothing is remembered is listed.
pub(crate) fn remove(
    chains: &[Chain<'_>],
    owner: &str,
    is_meant: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let is_meant = |rule: &Rule| rule.comment.as_deref().is_some_and(&is_meant);
    let hints = || {
        chains
            .iter()
            .map(|chain| hint(chain.family, chain.table, chain.name, owner))
    };
    let work = |netfilter: &mut Netfilter| {
        let asked = hinted(hints());
        let question = |(at, handle): &(usize, u64)| Some((*chains.get(*at)?, *handle));
        let questions: Vec<_> = asked.iter().filter_map(question).collect();
        let found = netfilter.look_up(chains, &questions)?;
        let mut changes = Vec::new();
        for (at, chain) in chains.iter().enumerate() {
            if !found.chains.get(at).copied().unwrap_or_default() {
                continue;
            }
            let mine = asked.iter().zip(&found.rules).filter(|((of, _), _)| *of == at);
            let mut rules: Vec<_> = mine.map(|(_, rule)| rule.clone().filter(is_meant)).collect();
            if rules.is_empty() || rules.iter().any(Option::is_none) {
                rules = netfilter.rules(*chain)?.into_iter().map(Some).collect();
            }
            let rules = rules.into_iter().flatten().filter(is_meant);
            changes.extend(rules.map(|rule| Change::DeleteRule {
                chain: *chain,
                handle: rule.handle,
            }));
        }
        netfilter.commit(&changes, Some(found.generation)).map(drop)
    };
    Netfilter::with(|netfilter| retry(|| work(netfilter)))?;
    forget(hints());
    Ok(())
}

/// `ip saddr`, or `ip daddr`, and the same for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// Compares an address of the packet with a network, as nft does: whole bytes as such, other prefixes with a mask.
pub(crate) fn address(side: Side, net: IpNet, negated: bool) -> Vec<Expression> {
    const NETWORK_HEADER: u32 = 1;
    let prefix = usize::from(net.prefix_len());
    let bytes = |address| match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut value = bytes(net.network());
    let whole = prefix != 0 && prefix.is_multiple_of(8);
    if whole {
        value.truncate(prefix / 8);
    }
    let offset = match (side, net) {
        (Side::Source, IpNet::V4(_)) => 12,
        (Side::Destination, IpNet::V4(_)) => 16,
        (Side::Source, IpNet::V6(_)) => 8,
        (Side::Destination, IpNet::V6(_)) => 24,
    };
    let mut list = vec![Expression::Payload {
        base: NETWORK_HEADER,
        offset,
        length: u32::try_from(value.len()).unwrap_or_default(),
    }];
    if !whole {
        list.push(Expression::Mask(bytes(net.netmask())));
    }
    list.push(Expression::Compare { negated, value });
    list
}

/// `meta nfproto`, which rules for addresses need in a table for both families.
pub(crate) fn family_of(net: IpNet) -> [Expression; 2] {
    const META_FAMILY: u32 = 15;
    let family = match net {
        IpNet::V4(_) => 2,
        IpNet::V6(_) => 10,
    };
    [
        Expression::Meta { key: META_FAMILY },
        Expression::Compare {
            negated: false,
            value: vec![family],
        },
    ]
}

pub(crate) const fn verdict(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}
