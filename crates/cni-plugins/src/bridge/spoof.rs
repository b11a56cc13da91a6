//! `macspoofchk`: drops frames of a pod whose source is not the pod's hardware address.
//!
//! ```text
//! chain PREROUTING                            all frames that enter a bridge of the node
//!   iifname <host's end> jump …
//! chain cni-br-iface-<container>-<interface>
//!   jump …
//! chain cni-br-iface-<container>-<interface>-mac
//!   ether saddr <address> return
//!   drop
//! ```
//!
//! It is all in the table `nat` of the bridge family. Each rule has a comment that identifies the attachment, by which DEL
//! finds that of `PREROUTING`. The table and `PREROUTING` stay.

#[cfg(test)]
mod tests;

use pausa_cni::{Call, Failure};
use pausa_netfilter::{
    Chain, Change, Error, ErrorKind, Expression, Family, Hook, Netfilter, NewRule, Place, Verdict,
};

use crate::common::failed;
use crate::kernel::{hint, remember, retry};
use crate::nftables::{is_supported, remove, verdict};

const TABLE: &str = "nat";
const PREROUTING: Chain<'_> = chain("PREROUTING");
/// Before everything else: the priority of `raw` tables.
const PRIORITY: i32 = -300;
/// `NFTNL_UDATA_COMMENT_MAXLEN`
const LONGEST_COMMENT: usize = 128;

const fn chain(name: &str) -> Chain<'_> {
    Chain {
        family: Family::Bridge,
        table: TABLE,
        name,
    }
}

/// What an attachment's rules are found by.
struct Names {
    of_interface: String,
    of_mac: String,
    comment: String,
}

impl Names {
    fn of(call: &Call) -> Self {
        let id = format!("{}-{}", call.container_id, call.if_name);
        Self {
            of_interface: format!("cni-br-iface-{id}"),
            of_mac: format!("cni-br-iface-{id}-mac"),
            comment: format!("macspoofchk-{id}"),
        }
    }
}

/// Lets only frames from `mac` pass the port whose name is `host_end`.
pub(super) fn set_up(host_end: &str, mac: [u8; 6], call: &Call) -> Result<(), Failure> {
    let names = Names::of(call);
    // A comment that is cut would no longer identify the attachment. Names of chains may be longer.
    if names.comment.len() > LONGEST_COMMENT {
        return Err(Failure::internal(format!(
            "the id of container {} is too long for `macspoofchk`: nftables has comments of {LONGEST_COMMENT} bytes at most",
            call.container_id
        )));
    }
    add(host_end, mac, &names).map_err(failed(format!(
        "cannot add the rules that filter frames from {host_end}"
    )))
}

fn add(host_end: &str, mac: [u8; 6], names: &Names) -> Result<(), Error> {
    let (of_interface, of_mac) = (chain(&names.of_interface), chain(&names.of_mac));
    let rule = |expressions| NewRule {
        expressions,
        comment: Some(names.comment.clone()),
        compat: None,
    };
    let jump = |to: Chain<'_>| verdict(Verdict::Jump(to.name.to_owned()));
    let [load_name, compare_name] = enters_by(host_end);
    let [load_source, compare_source] = is_from(mac);
    let rules = [
        (
            PREROUTING,
            rule(vec![load_name, compare_name, jump(of_interface)]),
        ),
        (of_interface, rule(vec![jump(of_mac)])),
        (
            of_mac,
            rule(vec![load_source, compare_source, verdict(Verdict::Return)]),
        ),
        (of_mac, rule(vec![verdict(Verdict::Drop)])),
    ];
    let mut changes = vec![
        Change::AddTable {
            family: Family::Bridge,
            table: TABLE,
            comment: None,
        },
        Change::AddBaseChain {
            chain: PREROUTING,
            kind: "filter",
            hook: Hook::Prerouting,
            priority: PRIORITY,
        },
    ];
    for chain in [of_interface, of_mac] {
        // An ADD that failed may have left it.
        changes.extend([Change::AddChain { chain, comment: None }, Change::Flush { chain }]);
    }
    changes.extend(rules.iter().map(|(chain, rule)| Change::AddRule {
        chain: *chain,
        rule,
        place: Place::Last,
        echo: *chain == PREROUTING,
    }));
    let handles = Netfilter::with(|netfilter| netfilter.commit(&changes, None))?;
    let hint = hint(PREROUTING.family, TABLE, PREROUTING.name, &names.comment);
    remember(handles.into_iter().map(|handle| (hint, handle)));
    Ok(())
}

/// Removes what [`set_up`] made.
pub(super) fn tear_down(call: &Call) -> Result<(), Failure> {
    let names = Names::of(call);
    let attempt = || {
        remove(&[PREROUTING], &names.comment, |comment| comment == names.comment)?;
        delete_chains(&names)
    };
    let outcome = match attempt() {
        // A rule that is not remembered leads to them. Nothing is remembered any more, so that now `PREROUTING` is listed.
        Err(error) if error.kind() == ErrorKind::Busy => attempt(),
        outcome => outcome,
    };
    match outcome {
        // A kernel without nf_tables has no such rules.
        Err(error) if is_supported() => Err(failed(format!(
            "cannot delete the rules that filter frames of container {}",
            call.container_id
        ))(error)),
        _ => Ok(()),
    }
}

fn delete_chains(names: &Names) -> Result<(), Error> {
    // One that others jump to cannot be deleted before their rules.
    let chains = [chain(&names.of_interface), chain(&names.of_mac)];
    let work = |netfilter: &mut Netfilter| {
        let found = netfilter.look_up(&chains, &[])?;
        let exist = chains.iter().zip(&found.chains).filter(|(_, exists)| **exists);
        let changes: Vec<_> = exist
            .map(|(chain, _)| Change::DeleteChain { chain: *chain })
            .collect();
        netfilter.commit(&changes, Some(found.generation)).map(drop)
    };
    Netfilter::with(|netfilter| retry(|| work(netfilter)))
}

/// `iifname`: the port by which a frame enters the bridge.
fn enters_by(name: &str) -> [Expression; 2] {
    const META_INPUT_NAME: u32 = 6;
    /// `IFNAMSIZ`
    const LENGTH: usize = 16;
    let mut value = name.as_bytes().to_vec();
    value.resize(LENGTH, 0);
    [Expression::Meta { key: META_INPUT_NAME }, equals(value)]
}

/// `ether saddr`
fn is_from(mac: [u8; 6]) -> [Expression; 2] {
    const LINK_HEADER: u32 = 0;
    [
        Expression::Payload {
            base: LINK_HEADER,
            offset: 6,
            length: 6,
        },
        equals(mac.to_vec()),
    ]
}

const fn equals(value: Vec<u8>) -> Expression {
    Expression::Compare {
        negated: false,
        value,
    }
}
