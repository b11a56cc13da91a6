//! `portmap`: ports of the node that lead to ports of the pod (`hostPort`).
//!
//! See <https://www.cni.dev/plugins/current/meta/portmap/>. With iptables, a chain of each container has the rules of its
//! ports; `CNI-HOSTPORT-DNAT` leads there, and `PREROUTING` and `OUTPUT` lead to that one. With nf_tables, all rules are
//! in a table of the plugin's own, with the container's id as their comments. Connections from the node itself and from
//! the pod to itself need the node's address, or answers would not come back: they are marked and masqueraded (`snat`).
//!
//! Conditions are arguments of iptables or expressions of nft. The first need `iptables-restore`, for the second
//! [`InProcess::understands`] fails.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;

use ipnet::IpNet;
use pausa_cni::{AddResult, Call, Command, Delegate, Failure, InProcess};
use pausa_netfilter::iptables::{Match, Network, Protocol, Rule, Target};
use pausa_netfilter::{Chain, Change, Expression, Family, Hook, Netfilter, NewRule, Place, Verdict};
use pausa_netlink::{Netlink, sysctl};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::common::{chain, chained, configuration, failed, network, parse, result_of_add};
use crate::iptables::{Iptables, Wanted};
use crate::kernel::{hint, remember};
use crate::masquerade::{Backend, chain_name};
use crate::nftables::{Side, address, remove, verdict};

const NAT: &str = "nat";
/// The names are those of the reference, and never change.
const DNAT: &str = "CNI-HOSTPORT-DNAT";
const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQUERADE: &str = "CNI-HOSTPORT-MASQ";
/// Of old releases.
const OLD_SNAT: &str = "CNI-HOSTPORT-SNAT";
/// What `-m multiport` takes.
const PORTS_OF_A_RULE: usize = 15;
const DEFAULT_MARK_BIT: u8 = 13;

const TABLE: &str = "cni_hostport";
const PORTS: &str = "hostports";
/// Of old releases, where rules with an address were.
const PORTS_OF_ADDRESSES: &str = "hostip_hostports";
const ALL_PORTS: &str = "hostports_all";
const MASQUERADING: &str = "masquerading";

#[derive(Debug)]
pub(crate) struct Portmap;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    backend: Option<Backend>,
    snat: Option<bool>,
    #[serde(default)]
    masq_all: bool,
    mark_masq_bit: Option<u8>,
    external_set_mark_chain: Option<String>,
    conditions_v4: Option<Vec<String>>,
    conditions_v6: Option<Vec<String>>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuntimeConfig {
    port_mappings: Option<Vec<Mapping>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Mapping {
    host_port: NonZeroU16,
    container_port: NonZeroU16,
    protocol: ProtocolName,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProtocolName {
    Tcp,
    Udp,
    Sctp,
}

/// What one container wants of one family.
struct Wish<'a> {
    config: &'a Config,
    network: &'a str,
    container_id: &'a str,
    /// The container's address with its prefix.
    net: IpNet,
}

impl Config {
    fn check(&self) -> Result<(), String> {
        let conditions = [&self.conditions_v4, &self.conditions_v6];
        let conditions = || conditions.into_iter().flatten().flatten();
        if conditions().any(|word| word.is_empty() || word.contains(char::is_control)) {
            return Err("a word of the conditions is empty or has control characters".to_owned());
        }
        for list in [&self.conditions_v4, &self.conditions_v6].into_iter().flatten() {
            if list.first().is_some_and(|word| !word.starts_with(['-', '!'])) {
                return Err("conditions for nftables are for the binary".to_owned());
            }
        }
        if self.backend == Some(Backend::Nftables)
            && (self.external_set_mark_chain.is_some() || conditions().next().is_some())
        {
            return Err("externalSetMarkChain and these conditions are for iptables".to_owned());
        }
        if self.mark_masq_bit.is_some_and(|bit| bit > 31) {
            return Err("markMasqBit is not between 0 and 31".to_owned());
        }
        if self.mark_masq_bit.is_some() && self.external_set_mark_chain.is_some() {
            return Err("externalSetMarkChain and markMasqBit are both given".to_owned());
        }
        // iptables-restore reads lines.
        let chain = self.external_set_mark_chain.as_deref().unwrap_or(SET_MARK);
        if chain.is_empty() || chain.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("externalSetMarkChain is not the name of a chain".to_owned());
        }
        self.mappings()
            .iter()
            .try_for_each(|mapping| mapping.host().map(drop))
    }

    fn mappings(&self) -> &[Mapping] {
        self.runtime_config.port_mappings.as_deref().unwrap_or_default()
    }

    fn snat(&self) -> bool {
        self.snat.unwrap_or(true)
    }

    /// The bit that says: masquerade this connection.
    fn mark(&self) -> u32 {
        1_u32
            .checked_shl(self.mark_masq_bit.unwrap_or(DEFAULT_MARK_BIT).into())
            .unwrap_or_default()
    }
}

impl Mapping {
    const fn protocol(&self) -> Protocol {
        match self.protocol {
            ProtocolName::Tcp => Protocol::Tcp,
            ProtocolName::Udp => Protocol::Udp,
            ProtocolName::Sctp => Protocol::Sctp,
        }
    }

    fn host(&self) -> Result<Option<IpAddr>, String> {
        if self.host_ip.is_empty() {
            return Ok(None);
        }
        let parsed = self.host_ip.parse::<IpAddr>().ok();
        // IPv6 notations of IPv4 addresses are IPv4 for the reference.
        let parsed = parsed.filter(|address| address.to_canonical() == *address);
        parsed
            .map(Some)
            .ok_or_else(|| format!("hostIP {:?} is not an IP address", self.host_ip))
    }

    /// None for the other family; otherwise the address that packets have to be for, if that matters.
    fn destination(&self, family: Family) -> Option<Option<IpAddr>> {
        match self.host() {
            Ok(Some(address)) if address.is_ipv4() != (family == Family::V4) => None,
            Ok(address) => Some(address.filter(|address| !address.is_unspecified())),
            Err(_) => None,
        }
    }
}

impl InProcess for Portmap {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        parse::<Config>(config)?.check()
    }

    fn call(&self, call: &Call, _delegate: &Delegate<'_>) -> Result<Value, Failure> {
        let config: Config = configuration(call)?;
        config.check().map_err(Failure::internal)?;
        let backend = Backend::or_default(config.backend);
        match call.command {
            Command::Add => add(call, &config, backend),
            Command::Check => check(call, &config, backend).map(|()| Value::Null),
            Command::Del => del(call, &config, backend).map(|()| Value::Null),
            Command::Status | Command::Gc | Command::Version => Ok(Value::Null),
        }
    }
}

fn add(call: &Call, config: &Config, backend: Backend) -> Result<Value, Failure> {
    let (result, value) = chained(call)?;
    if config.mappings().is_empty() {
        return Ok(value.clone());
    }
    for wish in wishes(call, config, &result) {
        match backend {
            Backend::Iptables => wish.add_to_iptables()?,
            Backend::Nftables => wish
                .add_to_nftables()
                .map_err(failed(format!("cannot add rules to the nftables table {TABLE}")))?,
        }
        wish.forget_streams();
        if config.snat() && wish.net.addr().is_ipv4() {
            route_localnet(wish.net.addr())?;
        }
    }
    Ok(value.clone())
}

fn check(call: &Call, config: &Config, backend: Backend) -> Result<(), Failure> {
    let result = result_of_add(call)?;
    if config.mappings().is_empty() {
        return Ok(());
    }
    wishes(call, config, &result)
        .iter()
        .try_for_each(|wish| match backend {
            Backend::Iptables => wish.check_iptables(),
            Backend::Nftables => wish.check_nftables(),
        })
}

fn del(call: &Call, config: &Config, backend: Backend) -> Result<(), Failure> {
    if config.mappings().is_empty() {
        return Ok(());
    }
    let id = &call.container_id;
    if backend == Backend::Iptables {
        let (own, old) = (
            chain_name("DN-", network(call), id),
            chain_name("SN-", network(call), id),
        );
        return [Family::V4, Family::V6]
            .into_iter()
            .filter_map(Iptables::of)
            .try_for_each(|iptables| iptables.remove_chains(NAT, &[(&own, DNAT), (&old, OLD_SNAT)]));
    }
    for family in [Family::V4, Family::V6] {
        let chains = [PORTS, PORTS_OF_ADDRESSES, MASQUERADING].map(|name| nft_chain(family, name));
        remove(&chains, id, |comment| comment == id).map_err(failed(format!(
            "cannot delete rules of the nftables table {family} {TABLE}"
        )))?;
    }
    Ok(())
}

/// The first address of each family that the pod's interface has.
fn wishes<'a>(call: &'a Call, config: &'a Config, result: &AddResult) -> Vec<Wish<'a>> {
    let elsewhere = |at: i64| {
        let interface = usize::try_from(at).ok().and_then(|at| result.interfaces.get(at));
        interface.is_some_and(|interface| interface.name != call.if_name || interface.sandbox.is_empty())
    };
    let nets = || {
        result
            .ips
            .iter()
            .filter(|ip| !ip.interface.is_some_and(elsewhere))
            .map(|ip| ip.address)
    };
    let first = [
        nets().find(|net| net.addr().is_ipv4()),
        nets().find(|net| net.addr().is_ipv6()),
    ];
    let wish = |net| Wish {
        config,
        network: network(call),
        container_id: &call.container_id,
        net,
    };
    first.into_iter().flatten().map(wish).collect()
}

/// Lets packets from `127.0.0.0/8` leave through the interface that leads to the pod.
fn route_localnet(pod: IpAddr) -> Result<(), Failure> {
    let link = Netlink::open().and_then(|mut netlink| netlink.link_to(pod));
    // Without a route there is nothing to allow.
    if let Ok(Some(link)) = link {
        sysctl::exchange(&format!("ipv4/conf/{link}/route_localnet"), "1")
            .map_err(failed(format!("cannot set route_localnet of {link}")))?;
    }
    Ok(())
}

const fn nft_chain(family: Family, name: &str) -> Chain<'_> {
    Chain {
        family,
        table: TABLE,
        name,
    }
}

impl Wish<'_> {
    const fn family(&self) -> Family {
        match self.net {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    /// All addresses of the family.
    fn anywhere(&self) -> IpNet {
        let address: IpAddr = match self.net {
            IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpNet::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        IpNet::new(address, 0).unwrap_or(self.net)
    }

    /// Running UDP streams to the ports keep their old way otherwise. It is no reason to fail.
    fn forget_streams(&self) {
        let mappings = self.config.mappings().iter();
        let mut ports = mappings
            .filter(|mapping| mapping.protocol == ProtocolName::Udp)
            .peekable();
        if ports.peek().is_none() {
            return;
        }
        let forgotten = Netfilter::with(|netfilter| {
            ports.try_for_each(|mapping| netfilter.forget_udp(self.family(), mapping.host_port.get()))
        });
        if let Err(error) = forgotten {
            tracing::warn!(
                container = self.container_id,
                error = chain(&error),
                "cannot delete tracked UDP connections to a host port; running streams do not reach the pod until they pause"
            );
        }
    }

    fn iptables(&self) -> Result<Iptables, Failure> {
        Iptables::of(self.family())
            .ok_or_else(|| Failure::internal("the node has no iptables for host ports"))
    }

    fn add_to_iptables(&self) -> Result<(), Failure> {
        let comment = |text: &str| Match::Comment(text.to_owned());
        let mut wanted = Vec::new();
        if self.config.snat() && self.config.external_set_mark_chain.is_none() {
            let bit = self.config.mark();
            let set = Rule {
                matches: vec![comment("CNI portfwd masquerade mark")],
                ..Rule::to(Target::Mark(bit))
            };
            let masquerade = Rule {
                matches: vec![Match::Mark(bit)],
                ..Rule::to(Target::Masquerade)
            };
            let entry = Rule {
                matches: vec![comment("CNI portfwd requiring masquerade")],
                ..Rule::to(Target::Jump(MASQUERADE.to_owned()))
            };
            wanted.extend([
                Wanted::Chain(SET_MARK.to_owned()),
                Wanted::Rule(SET_MARK.to_owned(), set, Place::Last),
                Wanted::Chain(MASQUERADE.to_owned()),
                Wanted::Rule(MASQUERADE.to_owned(), masquerade, Place::Last),
                // Before the rules of ipMasq, which would take the packets.
                Wanted::Rule("POSTROUTING".to_owned(), entry, Place::First),
            ]);
        }
        let to_ports = Rule {
            matches: vec![Match::LocalDestination],
            ..Rule::to(Target::Jump(DNAT.to_owned()))
        };
        wanted.extend([
            Wanted::Chain(DNAT.to_owned()),
            Wanted::Rule("PREROUTING".to_owned(), to_ports.clone(), Place::Last),
            Wanted::Rule("OUTPUT".to_owned(), to_ports, Place::Last),
            Wanted::Own {
                chain: self.own_chain(),
                rules: self.rules(),
                from: DNAT,
                entries: self.entries(),
            },
        ]);
        self.iptables()?.ensure(NAT, &wanted)
    }

    fn check_iptables(&self) -> Result<(), Failure> {
        let own = self.own_chain();
        let rules = self.rules().into_iter().map(|rule| (own.as_str(), rule));
        let entries = self.entries().into_iter().map(|rule| (DNAT, rule));
        let wanted: Vec<_> = rules.chain(entries).collect();
        match self.iptables()?.missing(NAT, &wanted)? {
            None => Ok(()),
            Some((chain, rule)) => Err(Failure::internal(format!(
                "chain {chain} of table nat does not have the rule {rule}"
            ))),
        }
    }

    fn own_chain(&self) -> String {
        chain_name("DN-", self.network, self.container_id)
    }

    /// The rules that lead to the container's chain.
    fn entries(&self) -> Vec<Rule> {
        /// As the reference cuts it.
        const LONGEST: usize = 255;
        let mut comment = format!(r#"dnat name: "{}" id: "{}""#, self.network, self.container_id);
        if comment.len() > LONGEST {
            comment.truncate(comment.floor_char_boundary(LONGEST.saturating_sub(2)));
            comment.push_str("...");
        }
        let conditions = match self.family() {
            Family::V6 => &self.config.conditions_v6,
            _ => &self.config.conditions_v4,
        };
        let mut entries = Vec::new();
        for protocol in [Protocol::Sctp, Protocol::Tcp, Protocol::Udp] {
            let mappings = self
                .config
                .mappings()
                .iter()
                .filter(|mapping| mapping.protocol() == protocol);
            let ports: Vec<_> = mappings.map(|mapping| mapping.host_port.get()).collect();
            for ports in ports.chunks(PORTS_OF_A_RULE) {
                let mut matches = vec![Match::Comment(comment.clone()), Match::Ports(ports.to_vec())];
                let conditions = conditions.clone().filter(|conditions| !conditions.is_empty());
                matches.extend(conditions.map(Match::Arguments));
                let rule = Rule {
                    protocol: Some(protocol),
                    matches,
                    ..Rule::to(Target::Jump(self.own_chain()))
                };
                if !entries.contains(&rule) {
                    entries.push(rule);
                }
            }
        }
        entries
    }

    /// The rules of the container's chain: for each port, those that mark, then the one that translates.
    fn rules(&self) -> Vec<Rule> {
        let config = self.config;
        let set_mark = config.external_set_mark_chain.as_deref().unwrap_or(SET_MARK);
        let mut rules = Vec::new();
        for mapping in config.mappings() {
            let Some(destination) = mapping.destination(self.family()) else {
                continue;
            };
            let rule = |source: Option<Network>, target| Rule {
                source,
                destination: destination.map(Network::host),
                protocol: Some(mapping.protocol()),
                matches: vec![Match::Port(mapping.host_port.get())],
                ..Rule::to(target)
            };
            let mark = || Target::Jump(set_mark.to_owned());
            let mut of_mapping = Vec::new();
            if config.snat() {
                let from = if config.masq_all {
                    self.anywhere()
                } else {
                    self.net
                };
                of_mapping.push(rule(Some(Network::of(from)), mark()));
                if self.net.addr().is_ipv4() && !config.masq_all {
                    let localhost = Network::host(Ipv4Addr::LOCALHOST.into());
                    of_mapping.push(rule(Some(localhost), mark()));
                }
            }
            let to = SocketAddr::new(self.net.addr(), mapping.container_port.get());
            of_mapping.push(rule(None, Target::Dnat(to)));
            for rule in of_mapping {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
        rules
    }

    fn add_to_nftables(&self) -> Result<(), pausa_netfilter::Error> {
        /// `RTN_LOCAL`
        const LOCAL: u32 = 2;
        let family = self.family();
        let at = |name| nft_chain(family, name);
        let jump = |to: &str| verdict(Verdict::Jump(to.to_owned()));
        let shared = |expressions| NewRule {
            expressions,
            comment: None,
            compat: None,
        };
        let (to_old, to_ports) = (shared(vec![jump(PORTS_OF_ADDRESSES)]), shared(vec![jump(PORTS)]));
        let if_local = shared(vec![
            Expression::DestinationType,
            Expression::Compare {
                negated: false,
                value: LOCAL.to_ne_bytes().to_vec(),
            },
            jump(ALL_PORTS),
        ]);
        let (of_ports, of_masquerading) = (self.nft_ports(), self.nft_masquerading());

        let append = |chain, rule, echo| Change::AddRule {
            chain: at(chain),
            rule,
            place: Place::Last,
            echo,
        };
        let add = |name| Change::AddChain {
            chain: at(name),
            comment: None,
        };
        let base = |name, hook, priority| Change::AddBaseChain {
            chain: at(name),
            kind: NAT,
            hook,
            priority,
        };
        let mut changes = vec![
            Change::AddTable {
                family,
                table: TABLE,
                comment: Some("CNI portmap plugin"),
            },
            add(PORTS),
            add(PORTS_OF_ADDRESSES),
            add(ALL_PORTS),
            Change::Flush { chain: at(ALL_PORTS) },
            append(ALL_PORTS, &to_old, false),
            append(ALL_PORTS, &to_ports, false),
            base("prerouting", Hook::Prerouting, -100),
            Change::Flush {
                chain: at("prerouting"),
            },
            append("prerouting", &if_local, false),
            base("output", Hook::Output, -100),
            Change::Flush { chain: at("output") },
            append("output", &if_local, false),
        ];
        if self.config.snat() {
            changes.push(base(MASQUERADING, Hook::Postrouting, 100));
        }
        changes.extend(of_ports.iter().map(|rule| append(PORTS, rule, true)));
        changes.extend(
            of_masquerading
                .iter()
                .map(|rule| append(MASQUERADING, rule, true)),
        );
        let handles = Netfilter::with(|netfilter| netfilter.commit(&changes, None))?;
        let hint = |name| hint(family, TABLE, name, self.container_id);
        let hints = of_ports
            .iter()
            .map(|_| hint(PORTS))
            .chain(of_masquerading.iter().map(|_| hint(MASQUERADING)));
        remember(hints.zip(handles));
        Ok(())
    }

    fn nft_rule(&self, expressions: Vec<Expression>) -> NewRule {
        NewRule {
            expressions,
            comment: Some(self.container_id.to_owned()),
            compat: None,
        }
    }

    fn nft_ports(&self) -> Vec<NewRule> {
        const META_PROTOCOL: u32 = 16;
        const TRANSPORT_HEADER: u32 = 2;
        let octets = match self.net.addr() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let equals = |value| Expression::Compare {
            negated: false,
            value,
        };
        let mut rules = Vec::new();
        for mapping in self.config.mappings() {
            let Some(destination) = mapping.destination(self.family()) else {
                continue;
            };
            let mut list = Vec::new();
            if let Some(destination) = destination {
                list.extend(address(Side::Destination, destination.into(), false));
            }
            list.extend([
                Expression::Meta { key: META_PROTOCOL },
                equals(vec![mapping.protocol().number()]),
                Expression::Payload {
                    base: TRANSPORT_HEADER,
                    offset: 2,
                    length: 2,
                },
                equals(mapping.host_port.get().to_be_bytes().to_vec()),
                Expression::Load {
                    register: 1,
                    value: octets.clone(),
                },
                Expression::Load {
                    register: 2,
                    value: mapping.container_port.get().to_be_bytes().to_vec(),
                },
                Expression::DestinationNat,
            ]);
            rules.push(self.nft_rule(list));
        }
        rules
    }

    fn nft_masquerading(&self) -> Vec<NewRule> {
        if !self.config.snat() {
            return Vec::new();
        }
        let pod: IpNet = self.net.addr().into();
        let mut sources = vec![if self.config.masq_all {
            self.anywhere()
        } else {
            pod
        }];
        if self.net.addr().is_ipv4() && !self.config.masq_all {
            sources.push(IpAddr::from(Ipv4Addr::LOCALHOST).into());
        }
        let rule = |source| {
            let mut list = address(Side::Source, source, false);
            list.extend(address(Side::Destination, pod, false));
            list.push(Expression::Masquerade);
            self.nft_rule(list)
        };
        sources.into_iter().map(rule).collect()
    }

    fn check_nftables(&self) -> Result<(), Failure> {
        let wanted = [
            (PORTS, self.nft_ports().len()),
            (MASQUERADING, self.nft_masquerading().len()),
        ];
        let step = format!("cannot read the nftables table {TABLE}");
        for (name, count) in wanted {
            let rules = Netfilter::with(|netfilter| netfilter.rules(nft_chain(self.family(), name)))
                .map_err(failed(step.clone()))?;
            let found = rules
                .iter()
                .filter(|rule| rule.comment.as_deref() == Some(self.container_id))
                .count();
            if found < count {
                return Err(Failure::internal(format!(
                    "chain {name} of the nftables table {TABLE} has {found} of {count} rules of the container"
                )));
            }
        }
        Ok(())
    }
}
