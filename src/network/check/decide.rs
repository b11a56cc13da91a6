//! What is wrong, as a pure function of what is to be and what there is.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use pausa_netlink::{AddressState, KnownRoute, Link};

use super::read::{Host, Inside, Namespace, Port, Seen};
use super::{Attached, Check, Expected, Finding, Outcome, Surroundings, Verdict};
use crate::error::chain;
use crate::network::firewall::PortRule;
use crate::network::host_ports::HostPort;

/// `RT_TABLE_MAIN`
const MAIN_TABLE: u32 = 254;
/// Name servers that resolvers use at most (`MAXNS`).
const NAME_SERVERS: usize = 3;

/// What helps where a pod has lost something that only its plugins know how to make.
const MAKE_AGAIN: &str = "delete the pod, so that its controller makes it again with a new network";

/// What a fault leads to, and what helps.
#[derive(Debug, Clone, Copy)]
struct Advice<'a> {
    consequence: &'a str,
    remedy: &'a str,
}

pub(super) fn all(expected: &Expected, seen: &Seen, surroundings: &Surroundings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let entered = namespace(expected, &seen.namespace, &mut findings);
    if expected.attachments.is_empty() {
        findings.push(fault(
            Check::Result,
            Verdict::Problem,
            &expected.pod_id,
            "the result of ADD",
            "none that can be read",
            Advice {
                consequence: "nothing says what the pod's network should be, and DEL runs without the result of ADD",
                remedy: MAKE_AGAIN,
            },
        ));
    }
    if let Some(error) = &seen.host.error {
        findings.push(unknown(Check::Bridge, "the interfaces of the node", error));
    }
    for attached in &expected.attachments {
        let broken = match entered {
            true => interfaces(attached, &seen.inside, &seen.host, &mut findings),
            false => Broken::default(),
        };
        if entered {
            addresses_and_routes(attached, &seen.inside, &broken, &mut findings);
        }
        if seen.host.error.is_none() {
            host_ends(attached, &seen.host, broken.links.is_empty(), &mut findings);
            forwarding(attached, &seen.host, &mut findings);
            mtu(attached, seen, surroundings, &mut findings);
        }
        duplicates(expected, attached, surroundings, &mut findings);
    }
    ports(seen, surroundings, &mut findings);
    masquerade(seen, &mut findings);
    let has_routes = entered && !findings.iter().any(is_about_ways);
    resolv_conf(expected, seen, has_routes, &mut findings);
    findings
}

/// Whether a finding explains why nothing can be reached.
fn is_about_ways(finding: &Finding) -> bool {
    finding.verdict == Verdict::Problem
        && matches!(finding.check, Check::Interface | Check::Address | Check::Route)
}

fn fault(
    check: Check,
    verdict: Verdict,
    object: &str,
    expected: impl Into<String>,
    found: impl Into<String>,
    advice: Advice<'_>,
) -> Finding {
    Finding {
        check,
        verdict,
        object: object.to_owned(),
        expected: expected.into(),
        found: found.into(),
        consequence: advice.consequence.to_owned(),
        remedy: advice.remedy.to_owned(),
    }
}

fn ok(check: Check, object: &str, found: impl Into<String>) -> Finding {
    let advice = Advice {
        consequence: "",
        remedy: "",
    };
    fault(check, Verdict::Ok, object, "", found, advice)
}

fn unknown(check: Check, object: &str, error: &str) -> Finding {
    let advice = Advice {
        consequence: "it is not known whether this is right",
        remedy: "see the error, and check again",
    };
    fault(check, Verdict::Unknown, object, "", error, advice)
}

pub(super) fn cache_unreadable(error: &str, findings: &mut Vec<Finding>) {
    // That there is no result is not known either.
    findings.retain(|finding| finding.check != Check::Result);
    findings.push(unknown(Check::Result, "the CNI result cache", error));
}

/// Whether what is in the namespace is known.
fn namespace(expected: &Expected, seen: &Namespace, findings: &mut Vec<Finding>) -> bool {
    let path = expected.netns.display().to_string();
    let wanted = "the network namespace of the pod's monitor";
    let advice = Advice {
        consequence: "plugins and tools do not find the pod's network; containers that start later fail or are in the wrong one",
        remedy: "find out what removes or replaces files in this directory, and delete the pod",
    };
    let (found, entered) = match seen {
        Namespace::Entered => {
            findings.push(ok(
                Check::Namespace,
                &path,
                "the network namespace of the pod's monitor",
            ));
            return true;
        }
        Namespace::Missing => ("no such file".to_owned(), false),
        Namespace::Unusable(error) => (format!("cannot be entered: {error}"), false),
        Namespace::Another => ("another network namespace".to_owned(), true),
    };
    findings.push(fault(
        Check::Namespace,
        Verdict::Problem,
        &path,
        wanted,
        found,
        advice,
    ));
    entered
}

/// What has been reported of a pod's interfaces, so that what follows from it is not.
#[derive(Debug, Default)]
struct Broken {
    /// Interfaces that are missing or down.
    links: BTreeSet<String>,
}

fn interfaces(attached: &Attached, inside: &Inside, host: &Host, findings: &mut Vec<Finding>) -> Broken {
    let mut broken = Broken::default();
    // The end of a pair has no carrier if the other one is down.
    let host_is_up = attached
        .host_ends()
        .all(|end| host.links.get(&end.name).is_some_and(|link| link.up));
    for name in attached.names() {
        let Some(link) = inside.links.get(name) else {
            broken.links.insert(name.to_owned());
            let advice = Advice {
                consequence: "the pod has no network",
                remedy: MAKE_AGAIN,
            };
            let wanted = "an interface in the pod";
            findings.push(fault(
                Check::Interface,
                Verdict::Problem,
                name,
                wanted,
                "no such interface",
                advice,
            ));
            continue;
        };
        let before = findings.len();
        if !link.up {
            broken.links.insert(name.to_owned());
            let advice = Advice {
                consequence: "the pod has no network: without the interface its routes are gone, too",
                remedy: "find out which process of the pod with CAP_NET_ADMIN did this; delete the pod",
            };
            findings.push(fault(
                Check::Interface,
                Verdict::Problem,
                name,
                "up",
                "down",
                advice,
            ));
        } else if has_carrier(link) == Some(false) && host_is_up {
            broken.links.insert(name.to_owned());
            let advice = Advice {
                consequence: "no packet leaves or reaches the pod",
                remedy: MAKE_AGAIN,
            };
            findings.push(fault(
                Check::Interface,
                Verdict::Problem,
                name,
                "operational",
                "not operational",
                advice,
            ));
        }
        let wanted = attached.pod_ends().find(|end| end.name == name);
        let wanted = wanted.map(|end| end.mac.to_ascii_lowercase()).unwrap_or_default();
        let found = link.mac.map(mac_text).unwrap_or_default();
        if !wanted.is_empty() && wanted != found {
            let advice = Advice {
                consequence: "packets of the pod may be dropped as forged, and answers go to the address of before",
                remedy: "find out which process of the pod with CAP_NET_ADMIN did this; delete the pod",
            };
            findings.push(fault(
                Check::Interface,
                Verdict::Problem,
                name,
                wanted,
                found.clone(),
                advice,
            ));
        }
        if findings.len() == before {
            findings.push(ok(Check::Interface, name, format!("up, {found}")));
        }
    }
    broken
}

/// Whether frames pass; none for kinds that do not tell the kernel.
fn has_carrier(link: &Link) -> Option<bool> {
    matches!(link.kind.as_str(), "veth" | "macvlan").then_some(link.operational)
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn addresses_and_routes(attached: &Attached, inside: &Inside, broken: &Broken, findings: &mut Vec<Finding>) {
    // Families without an address have no routes, which need not be said.
    let mut lacking = BTreeSet::new();
    for ip in &attached.result.ips {
        let at = ip.interface.and_then(|at| usize::try_from(at).ok());
        let interface = at.and_then(|at| attached.result.interfaces.get(at));
        let name = interface.map_or(attached.interface.as_str(), |interface| interface.name.as_str());
        let Some(link) = inside.links.get(name) else {
            lacking.insert(ip.address.addr().is_ipv4());
            continue;
        };
        let is_down = broken.links.contains(name);
        if is_down {
            lacking.insert(ip.address.addr().is_ipv4());
        }
        let found = inside.addresses.iter().find(|known| {
            known.index == link.index
                && known.address == ip.address.addr()
                && known.prefix == ip.address.prefix_len()
        });
        let wanted = ip.address.to_string();
        match found.map(|known| known.state) {
            Some(AddressState::Preferred) => findings.push(ok(Check::Address, name, wanted)),
            Some(AddressState::Tentative) => {
                let advice = Advice {
                    consequence: "the pod cannot use the address until duplicate address detection has ended",
                    remedy: "check again in a second; if it stays so, nothing passes between the pod and the node",
                };
                let found = format!("{wanted}, tentative");
                findings.push(fault(
                    Check::Address,
                    Verdict::Warning,
                    name,
                    wanted,
                    found,
                    advice,
                ));
            }
            Some(AddressState::Duplicate) => {
                let advice = Advice {
                    consequence: "the kernel does not use the address: another host on the link answers for it",
                    remedy: "find that host; then delete the pod",
                };
                let found = format!("{wanted}, which another host has");
                findings.push(fault(
                    Check::Address,
                    Verdict::Problem,
                    name,
                    wanted,
                    found,
                    advice,
                ));
            }
            // The kernel takes those of IPv6 from an interface that is set down.
            None if is_down && ip.address.addr().is_ipv6() => {}
            None => {
                lacking.insert(ip.address.addr().is_ipv4());
                let all = inside.addresses.iter().filter(|known| known.index == link.index);
                let all: Vec<_> = all
                    .map(|known| format!("{}/{}", known.address, known.prefix))
                    .collect();
                let found = match all.is_empty() {
                    true => "no address".to_owned(),
                    false => all.join(", "),
                };
                let advice = Advice {
                    consequence: "the pod is not reached at the address that Kubernetes knows; its routes may be gone, too",
                    remedy: "find out which process of the pod with CAP_NET_ADMIN did this; delete the pod",
                };
                findings.push(fault(
                    Check::Address,
                    Verdict::Problem,
                    name,
                    wanted,
                    found,
                    advice,
                ));
            }
        }
    }
    routes(attached, inside, &lacking, findings);
    gateways(attached, inside, findings);
}

pub(super) fn is_default(route: &KnownRoute) -> bool {
    route.destination.1 == 0 && route.table == MAIN_TABLE
}

fn routes(attached: &Attached, inside: &Inside, lacking: &BTreeSet<bool>, findings: &mut Vec<Finding>) {
    let result = &attached.result;
    let mut wanted: Vec<(IpNet, Option<IpAddr>, u32)> = result
        .routes
        .iter()
        .map(|route| (route.dst.trunc(), route.gw, route.table.unwrap_or(MAIN_TABLE)))
        .collect();
    // A default gateway implies a default route.
    let is_implied = attached
        .bridge
        .as_ref()
        .is_some_and(|bridge| bridge.is_default_gateway);
    for ip in result.ips.iter().filter(|_| is_implied) {
        let unspecified = match ip.address {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let default = IpNet::new_assert(unspecified, 0);
        if ip.gateway.is_some() && wanted.iter().all(|(destination, ..)| *destination != default) {
            wanted.push((default, ip.gateway, MAIN_TABLE));
        }
    }
    for (destination, gateway, table) in wanted {
        if lacking.contains(&destination.addr().is_ipv4()) {
            continue;
        }
        let to = |route: &&KnownRoute| {
            route.destination == (destination.addr(), destination.prefix_len()) && route.table == table
        };
        let candidates: Vec<&KnownRoute> = inside.routes.iter().filter(to).collect();
        let through = |gateway: Option<IpAddr>| {
            gateway.map_or_else(
                || destination.to_string(),
                |gateway| format!("{destination} via {gateway}"),
            )
        };
        let object = match destination.prefix_len() {
            0 => "default route",
            _ => "route",
        };
        // One through several gateways has none of its own.
        let fits =
            |route: &&KnownRoute| gateway.is_none() || route.index.is_none() || route.gateway == gateway;
        if candidates.iter().copied().any(|route| fits(&route)) {
            findings.push(ok(Check::Route, object, through(gateway)));
            continue;
        }
        let found = match candidates.first() {
            None => "no such route".to_owned(),
            Some(route) => match route.gateway {
                Some(_) => through(route.gateway),
                None => format!("{destination} without a gateway"),
            },
        };
        let advice = Advice {
            consequence: "the pod does not reach these addresses, or by another way",
            remedy: "find out which process of the pod with CAP_NET_ADMIN did this; delete the pod",
        };
        findings.push(fault(
            Check::Route,
            Verdict::Problem,
            object,
            through(gateway),
            found,
            advice,
        ));
    }
}

fn gateways(attached: &Attached, inside: &Inside, findings: &mut Vec<Finding>) {
    let of_result = attached.result.ips.iter().filter_map(|ip| ip.gateway);
    let of_routes = attached.result.routes.iter().filter_map(|route| route.gw);
    let of_kernel = inside.routes.iter().filter(|route| is_default(route));
    let gateways: BTreeSet<IpAddr> = of_result
        .chain(of_routes)
        .chain(of_kernel.filter_map(|route| route.gateway))
        .collect();
    for gateway in gateways {
        let mut known = inside
            .neighbours
            .iter()
            .filter(|neighbour| neighbour.address == gateway);
        let object = gateway.to_string();
        if !known.any(|neighbour| neighbour.failed) {
            findings.push(ok(
                Check::Gateway,
                &object,
                "answers, or has not been asked lately",
            ));
            continue;
        }
        let advice = Advice {
            consequence: "nothing beyond the pod's own link is reached",
            remedy: "see whether the gateway is up, and what drops ARP or neighbour discovery between the pod and it",
        };
        let wanted = "a neighbour that answers";
        findings.push(fault(
            Check::Gateway,
            Verdict::Problem,
            &object,
            wanted,
            "does not answer (FAILED)",
            advice,
        ));
    }
}

fn host_ends(attached: &Attached, host: &Host, pod_is_up: bool, findings: &mut Vec<Finding>) {
    let bridge = attached
        .bridge
        .as_ref()
        .map(|bridge| (bridge, host.links.get(&bridge.name)));
    for end in attached.host_ends() {
        let name = end.name.as_str();
        let mut wrong = |wanted: &str, found: &str| {
            let advice = Advice {
                consequence: "no packet passes between the pod and the rest of the network",
                remedy: MAKE_AGAIN,
            };
            findings.push(fault(
                Check::HostEnd,
                Verdict::Problem,
                name,
                wanted,
                found,
                advice,
            ));
        };
        let Some(link) = host.links.get(name) else {
            wrong("an interface of the node", "no such interface");
            continue;
        };
        let mut is_right = true;
        if !link.up {
            is_right = false;
            wrong("up", "down");
        } else if has_carrier(link) == Some(false) && pod_is_up {
            is_right = false;
            wrong("operational", "not operational");
        }
        if let Some((bridge, Some(of_bridge))) = bridge
            && link.master != Some(of_bridge.index)
        {
            is_right = false;
            let found = match link.master {
                Some(_) => "a port of something else",
                None => "a port of nothing",
            };
            wrong(&format!("a port of {}", bridge.name), found);
        }
        if is_right {
            findings.push(ok(Check::HostEnd, name, "up"));
        }
    }
    let Some((bridge, link)) = bridge else { return };
    let name = bridge.name.as_str();
    let mut wrong = |wanted: &str, found: &str, remedy: &str| {
        let advice = Advice {
            consequence: "the pods on this bridge reach each other or the node no more",
            remedy,
        };
        findings.push(fault(
            Check::Bridge,
            Verdict::Problem,
            name,
            wanted,
            found,
            advice,
        ));
    };
    let Some(link) = link else {
        wrong(
            "a bridge of the node",
            "no such interface",
            "the next pod makes the bridge again; the built-in network then attaches running pods to it, with other networks \
             delete them",
        );
        return;
    };
    let mut is_right = link.up;
    if !link.up {
        wrong(
            "up",
            "down",
            "`ip link set dev BRIDGE up`, and find out who set it down",
        );
    }
    if bridge.is_gateway {
        for gateway in attached.result.ips.iter().filter_map(|ip| ip.gateway) {
            let of_bridge = host.addresses.iter().filter(|known| known.index == link.index);
            let all: Vec<IpAddr> = of_bridge.map(|known| known.address).collect();
            if !all.contains(&gateway) {
                is_right = false;
                let found: Vec<_> = all.iter().map(ToString::to_string).collect();
                let found = match found.is_empty() {
                    true => "no address".to_owned(),
                    false => found.join(", "),
                };
                wrong(
                    &format!("the gateway's address {gateway}"),
                    &found,
                    "add the address again, or let the next pod do it; find out who deleted it",
                );
            }
        }
    }
    if is_right {
        findings.push(ok(Check::Bridge, name, "up"));
    }
}

/// The sysctls, below `net`, without which the node does not route for a pod.
pub(super) fn forwarding_sysctls(attached: &Attached) -> Vec<String> {
    if !attached.is_routed() {
        return Vec::new();
    }
    let has = |v4: bool| {
        attached
            .result
            .ips
            .iter()
            .any(|ip| ip.address.addr().is_ipv4() == v4)
    };
    let mut paths = Vec::new();
    if has(true) {
        paths.push("ipv4/ip_forward".to_owned());
        // That of the interface where packets come from the pod.
        let own = attached.bridge.as_ref().map(|bridge| &bridge.name);
        paths.extend(own.map(|name| format!("ipv4/conf/{name}/forwarding")));
    }
    if has(false) {
        paths.push("ipv6/conf/all/forwarding".to_owned());
    }
    paths
}

fn forwarding(attached: &Attached, host: &Host, findings: &mut Vec<Finding>) {
    for path in forwarding_sysctls(attached) {
        let object = format!("net/{path}");
        match host.sysctls.get(&path).cloned().flatten().as_deref() {
            Some("0") => {
                let advice = Advice {
                    consequence: "the node drops what pods send to other networks, and the answers",
                    remedy: "set the sysctl to 1, and find out what sets it to 0, often a file in /etc/sysctl.d",
                };
                findings.push(fault(
                    Check::Forwarding,
                    Verdict::Problem,
                    &object,
                    "1",
                    "0",
                    advice,
                ));
            }
            Some(value) => findings.push(ok(Check::Forwarding, &object, value)),
            // The bridge is gone, which is said elsewhere, or the kernel lacks the protocol.
            None => {}
        }
    }
}

fn mtu(attached: &Attached, seen: &Seen, surroundings: &Surroundings, findings: &mut Vec<Finding>) {
    let mut all: Vec<(&str, u32)> = Vec::new();
    let names = attached.names();
    let of_pod = names.iter().filter_map(|name| seen.inside.links.get(*name));
    let largest = of_pod.clone().map(|link| link.mtu).max();
    all.extend(of_pod.map(|link| (link.name.as_str(), link.mtu)));
    if all.is_empty() {
        return;
    }
    all.extend(
        attached
            .pod_ends()
            .filter_map(|end| Some(("the result", end.mtu?))),
    );
    let of_host = |name: &str| seen.host.links.get(name);
    let ends: Vec<&Link> = attached
        .host_ends()
        .filter_map(|end| of_host(&end.name))
        .collect();
    let bridge = attached.bridge.as_ref().and_then(|bridge| of_host(&bridge.name));
    // A bridge follows its ports: without the pod's it has another MTU.
    let bridge = bridge.filter(|bridge| ends.iter().all(|end| end.master == Some(bridge.index)));
    let of_host = ends.into_iter().chain(bridge);
    all.extend(of_host.map(|link| (link.name.as_str(), link.mtu)));
    let object = names.join(", ");
    let text: Vec<_> = all.iter().map(|(name, mtu)| format!("{name} {mtu}")).collect();
    let different: BTreeSet<u32> = all.iter().map(|(_, mtu)| *mtu).collect();
    if different.len() > 1 {
        let advice = Advice {
            consequence: "packets that are too large for one of them are lost: connections hang when they send much",
            remedy: "a pod keeps the MTU it was made with: if the network's was changed since, delete the pod",
        };
        let found = text.join(", ");
        findings.push(fault(
            Check::Mtu,
            Verdict::Problem,
            &object,
            "the same MTU everywhere",
            found,
            advice,
        ));
        return;
    }
    let narrow = surroundings
        .uplinks
        .iter()
        .find(|(_, mtu)| largest.is_some_and(|largest| largest > *mtu));
    match narrow {
        None => findings.push(ok(Check::Mtu, &object, text.join(", "))),
        Some((uplink, mtu)) => {
            let advice = Advice {
                consequence: "large packets that leave the node are fragmented or refused, which some peers do not cope with",
                remedy: "set the MTU of the network (`mtu` of the plugin or of [network.bridge]), and delete the pod",
            };
            let wanted = format!("at most {mtu}, the MTU of {uplink}");
            let found = text.join(", ");
            findings.push(fault(
                Check::Mtu,
                Verdict::Warning,
                &object,
                wanted,
                found,
                advice,
            ));
        }
    }
}

fn duplicates(
    expected: &Expected,
    attached: &Attached,
    surroundings: &Surroundings,
    findings: &mut Vec<Finding>,
) {
    let owners = match &surroundings.owners {
        Ok(owners) => owners,
        Err(error) => {
            findings.push(unknown(Check::Duplicate, &attached.network, error));
            return;
        }
    };
    for address in attached.result.ips.iter().map(|ip| ip.address.addr()) {
        let all = owners.get(&address).into_iter().flatten();
        // Networks that have nothing to do with each other may use the same addresses.
        let mut others = all.filter(|owner| {
            owner.container != expected.pod_id
                && (owner.network == attached.network || owner.interface == attached.interface)
        });
        let object = address.to_string();
        match others.next() {
            None => findings.push(ok(Check::Duplicate, &object, "no other pod has it")),
            Some(other) => {
                let advice = Advice {
                    consequence: "both pods get each other's packets",
                    remedy: "delete both pods; if it happens again, the records of the IPAM plugin were lost or are shared",
                };
                let found = format!("also of {} in network {}", other.container, other.network);
                findings.push(fault(
                    Check::Duplicate,
                    Verdict::Problem,
                    &object,
                    "of this pod only",
                    found,
                    advice,
                ));
            }
        }
    }
}

fn ports(seen: &Seen, surroundings: &Surroundings, findings: &mut Vec<Finding>) {
    let ports = match &seen.ports {
        Ok(ports) => ports,
        Err(error) => {
            findings.push(unknown(Check::HostPort, "the record of the host ports", error));
            return;
        }
    };
    for (port, found) in ports {
        let place = match port.host_ip {
            Some(ip) => format!("{ip} {}/{}", port.host_port, port.protocol.as_str()),
            None => format!("{}/{}", port.host_port, port.protocol.as_str()),
        };
        let target = std::net::SocketAddr::new(port.address, port.container_port).to_string();
        let advice = Advice {
            consequence: "clients of the node's port do not reach the pod",
            remedy: "find out what changes the tables pausa_*, such as a reload of the firewall; pausa puts its rules back \
                     within five minutes, and with the next pod that has host ports",
        };
        let wanted = format!("a rule to {target}");
        let mut wrong = |found: String| {
            findings.push(fault(
                Check::HostPort,
                Verdict::Problem,
                &place,
                wanted.clone(),
                found,
                advice,
            ));
        };
        match found {
            Port::ByPausa(Ok(PortRule::Opened)) => findings.push(ok(Check::HostPort, &place, target)),
            Port::ByPausa(Ok(PortRule::Missing)) => wrong("no rule".to_owned()),
            Port::ByPausa(Ok(PortRule::Elsewhere(other))) => wrong(format!("a rule to {other}")),
            Port::ByPausa(Err(error)) => findings.push(unknown(Check::HostPort, &place, error)),
            Port::ByPlugin => {
                findings.push(ok(
                    Check::HostPort,
                    &place,
                    "opened by a plugin, which CNI CHECK asks",
                ));
            }
        }
        if let Some(listener) = listener(port, surroundings) {
            let advice = Advice {
                consequence: "clients of this port reach the pod, and not the process that listens",
                remedy: "`ss -lnp` shows the process; give it or the pod another port if it is to be reached",
            };
            let found = format!("a process of the node listens on {listener}");
            findings.push(fault(
                Check::HostPort,
                Verdict::Info,
                &place,
                "used by the pod only",
                found,
                advice,
            ));
        }
    }
}

/// A socket of the node that would get what comes to the port.
fn listener(port: &HostPort, surroundings: &Surroundings) -> Option<std::net::SocketAddr> {
    let hears = |address: &IpAddr| match (address.is_unspecified(), port.host_ip) {
        // One on all addresses of IPv6 usually hears IPv4, too.
        (true, _) => address.is_ipv6() || port.address.is_ipv4(),
        (false, Some(ip)) => *address == ip,
        (false, None) => address.is_ipv4() == port.address.is_ipv4(),
    };
    let mut all = surroundings.listeners.iter();
    let found = all.find(|(protocol, address, number)| {
        *protocol == port.protocol && *number == port.host_port && hears(address)
    });
    found.map(|(_, address, number)| std::net::SocketAddr::new(*address, *number))
}

fn masquerade(seen: &Seen, findings: &mut Vec<Finding>) {
    for (subnet, found) in &seen.masqueraded {
        let object = subnet.to_string();
        findings.push(match found {
            Ok(true) => ok(Check::Masquerade, &object, "a rule of pausa"),
            Err(error) => unknown(Check::Masquerade, &object, error),
            Ok(false) => {
                let advice = Advice {
                    consequence: "other hosts do not know where to send answers: the pod reaches nothing beyond the node",
                    remedy: "find out what changes the tables pausa_*, such as a reload of the firewall; pausa puts its rules \
                             back within five minutes. A pod with an address of a former pod range stays without: delete it",
                };
                let wanted = "a rule that masquerades";
                fault(Check::Masquerade, Verdict::Problem, &object, wanted, "no rule", advice)
            }
        });
    }
}

/// The name servers of a resolv.conf(5), as far as resolvers use them; what is none is the text of its line.
pub(super) fn name_servers(text: &str) -> Vec<Result<IpAddr, String>> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| {
            let word = words.next().unwrap_or_default();
            // A link-local address of IPv6 has its interface behind it.
            let address = word.split('%').next().unwrap_or_default();
            address.parse().map_err(|_| line.to_owned())
        })
    });
    servers.take(NAME_SERVERS).collect()
}

fn resolv_conf(expected: &Expected, seen: &Seen, has_routes: bool, findings: &mut Vec<Finding>) {
    let object = expected.resolv_conf.display().to_string();
    let wanted = expected
        .dns
        .as_ref()
        .map(|dns| dns.servers.as_slice())
        .unwrap_or_default();
    let wanted = match wanted.is_empty() {
        true => "name servers".to_owned(),
        false => format!("name servers {}", wanted.join(", ")),
    };
    let advice = Advice {
        consequence: "names are not resolved in the pod's containers",
        remedy: "the file is written once, with the pod: delete the pod",
    };
    let wrong = |verdict: Verdict, found: String| {
        fault(Check::ResolvConf, verdict, &object, wanted.clone(), found, advice)
    };
    let text = match &seen.resolv_conf {
        Ok(text) => text,
        Err(error) => {
            findings.push(wrong(Verdict::Problem, format!("cannot be read: {error}")));
            return;
        }
    };
    let asked = expected.dns.as_ref().is_some_and(|dns| !dns.servers.is_empty());
    let servers = name_servers(text);
    if let Some(line) = servers.iter().find_map(|server| server.as_ref().err()) {
        findings.push(wrong(Verdict::Problem, format!("the line {line:?}")));
        return;
    }
    let servers: BTreeSet<IpAddr> = servers.into_iter().filter_map(Result::ok).collect();
    if servers.is_empty() {
        // Without an order it is a copy of the node's, which may have none.
        let verdict = if asked { Verdict::Problem } else { Verdict::Warning };
        let found = match text.trim().is_empty() {
            true => "an empty file",
            false => "no name server",
        };
        findings.push(wrong(verdict, found.to_owned()));
        return;
    }
    let list: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let list = list.join(", ");
    if has_routes && servers.is_disjoint(&seen.inside.reachable) {
        let advice = Advice {
            consequence: "names are not resolved in the pod's containers",
            remedy: "see whether the network gives the pod the routes that it needs, and whether the name servers are right",
        };
        let found = format!("no route to {list}");
        let wanted = "a name server that a route leads to";
        findings.push(fault(
            Check::ResolvConf,
            Verdict::Warning,
            &object,
            wanted,
            found,
            advice,
        ));
        return;
    }
    if servers.iter().all(IpAddr::is_loopback) {
        let advice = Advice {
            consequence: "names are resolved only if a container of the pod is a name server",
            remedy: "point kubelet's resolvConf to a file without the node's own resolver, such as \
                     /run/systemd/resolve/resolv.conf",
        };
        let wanted = "a name server outside of the pod";
        findings.push(fault(
            Check::ResolvConf,
            Verdict::Info,
            &object,
            wanted,
            list,
            advice,
        ));
        return;
    }
    findings.push(ok(Check::ResolvConf, &object, list));
}

/// What CNI CHECK said.
pub(super) fn cni(network: &str, outcome: &Outcome) -> Finding {
    use pausa_cni::ErrorKind;
    let error = match outcome {
        Outcome::Passed => return ok(Check::Cni, network, "all plugins are content"),
        Outcome::NotAsked(why) => return ok(Check::Cni, network, format!("not asked: {why}")),
        Outcome::Failed(error) => error,
    };
    let (verdict, advice) = match error.kind() {
        ErrorKind::Plugin => {
            let advice = Advice {
                consequence: "the plugin finds that the pod's network is not as it made it",
                remedy: "see the plugin's message; delete the pod if nothing else helps",
            };
            (Verdict::Problem, advice)
        }
        ErrorKind::Config => {
            let advice = Advice {
                consequence: "the pod's network cannot be checked, and not be taken down either when the pod is stopped",
                remedy: "put the plugin and the configuration back that the pod was made with",
            };
            (Verdict::Problem, advice)
        }
        _ => {
            let advice = Advice {
                consequence: "it is not known what the plugins think of the pod's network; stopping the pod may hang in the \
                              same way",
                remedy: "see what the plugin waits for, such as its agent on the node, and check again",
            };
            (Verdict::Unknown, advice)
        }
    };
    fault(
        Check::Cni,
        verdict,
        network,
        "CHECK succeeds",
        chain(error),
        advice,
    )
}
