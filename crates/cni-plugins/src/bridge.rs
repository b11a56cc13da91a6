//! `bridge`: a bridge on the node, and a veth pair from it to each pod.
//!
//! See <https://www.cni.dev/plugins/current/main/bridge/>. The order differs from the binary's: the IPAM plugin is asked
//! first, so that the pair is made and configured in one go on one thread in the pod's namespace. What is there in the end
//! is the same.
//!
//! DEL deletes the pair before it releases the addresses, so that no other pod gets an address that something still leads
//! to. Where the binary leaves the masquerade of a pod whose namespace is gone, the addresses are taken from `prevResult`.

mod config;
mod spoof;

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use pausa_cni::{AddResult, Call, Command, Delegate, Failure, InProcess, Interface, Route};
use pausa_netlink::{ErrorKind, Link, Netlink, Request};
use serde_json::{Map, Value};

use crate::common::{
    configuration, dns, failed, in_pod, netlink, netlink_of_pod, netns, network, parse, result_of_add, value,
};
use crate::interface::{self, Pair};
use crate::{ipam, masquerade};
use config::Config;

/// Where the pod's interface is in the result.
const POD_INTERFACE: i64 = 2;
/// How long the port may take until frames pass.
const PORT_WAIT: Duration = Duration::from_secs(3);
const PORT_POLL: Duration = Duration::from_micros(200);

#[derive(Debug)]
pub(crate) struct Bridge;

impl InProcess for Bridge {
    fn understands(&self, config: &Map<String, Value>) -> Result<(), String> {
        parse::<Config>(config)?.check()
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
    if config.hairpin_mode && config.promisc_mode {
        return Err(Failure::internal(
            "`hairpinMode` and `promiscMode` exclude each other",
        ));
    }
    let Some(plugin) = ipam::of(call) else {
        return attach(call, &config, None);
    };
    if config.disable_container_interface {
        return Err(Failure::internal(
            "`disableContainerInterface` and `ipam` exclude each other",
        ));
    }
    let addresses = ipam::add(plugin, call, delegate)?;
    attach(call, &config, Some(addresses)).inspect_err(|_| ipam::undo(plugin, call, delegate))
}

/// Attaches the pod, with the addresses of the IPAM plugin; without them it is the pod's business to get some.
fn attach(call: &Call, config: &Config, addresses: Option<AddResult>) -> Result<Value, Failure> {
    let mac = config.mac(call)?;
    let netns = netns(call)?;
    let mut host = netlink()?;
    let has_addresses = addresses.is_some();
    let mut result = addresses.unwrap_or_default();
    prepare(&mut result, config);
    let first = result.ips.first().filter(|_| config.exclusive);
    let bridge_mac = first.and_then(|ip| ip.gateway).map(derived_mac);
    let bridge = ensure_bridge(&mut host, config, bridge_mac)?;

    let pair = Pair {
        master: Some(bridge.index),
        name: &call.if_name,
        netns: netns.as_fd(),
        mac: mac.or_else(|| result.ips.first().map(|ip| derived_mac(ip.address.addr()))),
        mtu: config.mtu(),
    };
    let make = || -> Result<(String, Link), Failure> {
        let mut pod = netlink()?;
        let host_name = interface::create(&mut host, pair)?;
        set_port(&mut host, &host_name, config, bridge.default_vlan)?;
        let link = interface::find(&mut pod, &call.if_name)?;
        if has_addresses {
            set_up_protocols(call, config, &result);
            interface::configure(&mut pod, &link, &result)?;
            // Now that it is up. Before, the bridge would flood the news of a new hardware address to all ports; but there is
            // none: it goes with the IP address.
            interface::try_set(&format!("ipv4/conf/{}/arp_notify", call.if_name), "1");
        } else if !config.disable_container_interface {
            pod.execute(&[Request::SetUp { index: link.index }])
                .map_err(failed(format!("cannot set {} up", call.if_name)))?;
        }
        Ok((host_name, link))
    };
    let (host_name, pod) = in_pod(netns.as_fd(), make)?;
    if config.exclusive {
        // With routes of IPv6 for each port, the kernel would go through those of all ports whenever one is deleted.
        interface::turn_ipv6_off(&host_name);
    } else {
        interface::ignore_advertisements(&host_name);
    }
    if config.macspoofchk {
        let mac = pod
            .mac
            .ok_or_else(|| Failure::internal(format!("{} has no hardware address", call.if_name)))?;
        spoof::set_up(&host_name, mac, call)?;
    }
    let mut vlan_interface = None;
    if config.is_gateway() {
        vlan_interface = set_gateways(&mut host, &bridge, config, &result)?;
    }
    if config.ip_masq && has_addresses {
        let nets: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
        masquerade::add(
            config.ip_masq_backend,
            &nets,
            network(call),
            &call.if_name,
            &call.container_id,
        )?;
    }
    let port = wait_for_port(&mut host, &host_name, !config.disable_container_interface)?;
    // A bridge of somebody else's may take the address of its first port.
    let bridge = bridge_by_name(&mut host, &config.bridge)?
        .ok_or_else(|| Failure::internal(format!("the bridge {} is gone", config.bridge)))?;

    result.interfaces = vec![
        interface::entry(&bridge),
        interface::entry(&port),
        interface::entry_of_pod(call, &pod),
    ];
    result.interfaces.extend(vlan_interface);
    if let Some(dns) = dns(call)? {
        result.dns = dns;
    }
    value(&result)
}

/// Sets the sysctls of the pod's interface, before it is up. Runs in the pod's network namespace.
fn set_up_protocols(call: &Call, config: &Config, result: &AddResult) {
    let set = |key: &str, value: &str| {
        interface::try_set(&format!("ipv6/conf/{}/{key}", call.if_name), value);
    };
    if config.enabledad {
        set("enhanced_dad", "1");
    }
    set("accept_dad", if config.enabledad { "1" } else { "0" });
    if !config.exclusive {
        return;
    }
    if result.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        set("accept_ra", "0");
        set("accept_redirects", "0");
    } else {
        interface::turn_ipv6_off(&call.if_name);
    }
}

/// Completes the IPAM plugin's result: gateways and default routes.
fn prepare(result: &mut AddResult, config: &Config) {
    let (mut default_v4, mut default_v6) = (false, false);
    for ip in &mut result.ips {
        ip.interface = Some(POD_INTERFACE);
        if ip.gateway.is_none() && config.is_gateway() {
            ip.gateway = first_of(ip.address);
        }
        let (done, default) = match ip.address {
            IpNet::V4(_) => (&mut default_v4, IpNet::V4(ipnet::Ipv4Net::default())),
            IpNet::V6(_) => (&mut default_v6, IpNet::V6(ipnet::Ipv6Net::default())),
        };
        if !config.is_default_gateway || *done {
            continue;
        }
        *done = true;
        let known = |route: &Route| route.gw.is_some() && route.dst == default;
        if !result.routes.iter().any(known) {
            result.routes.push(Route {
                gw: ip.gateway,
                ..Route::new(default)
            });
        }
    }
}

/// The first address of a network, which is the gateway's by convention.
fn first_of(net: IpNet) -> Option<IpAddr> {
    match net.network() {
        IpAddr::V4(network) => Some(IpAddr::V4(u32::from(network).checked_add(1)?.into())),
        IpAddr::V6(network) => Some(IpAddr::V6(u128::from(network).checked_add(1)?.into())),
    }
}

fn bridge_by_name(host: &mut Netlink, name: &str) -> Result<Option<Link>, Failure> {
    let link = host
        .link_by_name(name)
        .map_err(failed(format!("cannot look the bridge {name} up")))?;
    match link {
        Some(link) if link.kind != "bridge" => Err(Failure::internal(format!(
            "{name} is of kind {:?}, not a bridge",
            link.kind
        ))),
        link => Ok(link),
    }
}

/// A locally administered hardware address. What neighbours know of an earlier pod with the same address stays right.
fn derived_mac(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x0a, 0x58, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [0x0a, 0x58, a, b, c, d]
        }
    }
}

/// Creates the bridge if it is missing, with the hardware address `mac` or a random one.
fn ensure_bridge(host: &mut Netlink, config: &Config, mac: Option<[u8; 6]>) -> Result<Link, Failure> {
    let name = config.bridge.as_str();
    let step = || failed(format!("cannot set the bridge {name} up"));
    let bridge = if let Some(bridge) = bridge_by_name(host, name)? {
        bridge
    } else {
        // An address of its own, which does not change with every port.
        let mac = match mac {
            Some(mac) => mac,
            None => interface::random_mac()?,
        };
        let create = Request::CreateBridge {
            name,
            mac: Some(mac),
            mtu: config.mtu(),
            vlan_filtering: config.has_vlans(),
        };
        match host.execute(&[create]) {
            // Another pod created it at the same moment.
            Err(error) if error.kind() == ErrorKind::Exists => {}
            outcome => outcome.map_err(step())?,
        }
        bridge_by_name(host, name)?.ok_or_else(|| Failure::internal(format!("the bridge {name} is gone")))?
    };
    interface::ignore_advertisements(name);
    if config.exclusive {
        interface::try_set(&format!("ipv6/conf/{name}/accept_dad"), "0");
    }
    let index = bridge.index;
    let mut requests = Vec::new();
    if config.promisc_mode && !bridge.promiscuous {
        requests.push(Request::SetPromiscuous { index, on: true });
    }
    if !bridge.up {
        requests.push(Request::SetUp { index });
    }
    host.execute(&requests).map_err(step())?;
    Ok(bridge)
}

/// Sets what the configuration wants of the pod's port. Nothing passes yet, because the pod's end is down.
fn set_port(
    host: &mut Netlink,
    name: &str,
    config: &Config,
    default_vlan: Option<u16>,
) -> Result<(), Failure> {
    if !config.hairpin_mode && !config.port_isolation && !config.has_vlans() {
        return Ok(());
    }
    let step = || failed(format!("cannot configure the port {name} of {}", config.bridge));
    let index = host
        .index_of(name)
        .map_err(step())?
        .ok_or_else(|| Failure::internal(format!("{name} is gone")))?;
    let mut requests = vec![Request::SetPort {
        index,
        hairpin: config.hairpin_mode,
        isolated: config.port_isolation,
    }];
    if config.has_vlans() && !config.preserve_default_vlan {
        let default = default_vlan.filter(|vlan| *vlan != 0);
        requests.extend(default.map(|vlan| Request::DeleteVlan { index, vlan }));
    }
    let untagged = |vlan| Request::AddVlan {
        index,
        vlan,
        untagged: true,
    };
    let trunk = config.trunk();
    if config.vlan != 0 {
        requests.push(untagged(config.vlan));
    }
    requests.extend(trunk.iter().map(|vlan| Request::AddVlan {
        index,
        vlan: *vlan,
        untagged: false,
    }));
    if config.vlan == 0 && !trunk.is_empty() {
        // A trunk needs a VLAN for frames without a tag.
        requests.push(untagged(1));
    }
    host.execute(&requests).map_err(step())
}

/// Gives the bridge, or its interface in the VLAN, the gateways' addresses. Returns that interface.
fn set_gateways(
    host: &mut Netlink,
    bridge: &Link,
    config: &Config,
    result: &AddResult,
) -> Result<Option<Interface>, Failure> {
    let of_vlan = if config.vlan == 0 || result.ips.is_empty() {
        None
    } else {
        Some(ensure_vlan_interface(host, bridge, config)?)
    };
    let owner = of_vlan.as_ref().unwrap_or(bridge);
    for ip in &result.ips {
        let Some(gateway) = ip.gateway else { continue };
        ensure_address(host, owner, gateway, ip.address.prefix_len(), config)?;
        interface::enable_forwarding(gateway)?;
    }
    Ok(of_vlan.as_ref().map(interface::entry))
}

/// A veth pair between the node and a port of the bridge in the VLAN.
fn ensure_vlan_interface(host: &mut Netlink, bridge: &Link, config: &Config) -> Result<Link, Failure> {
    let name = format!("{}.{}", bridge.name, config.vlan);
    let step = || failed(format!("cannot set the interface {name} up"));
    if let Some(link) = host.link_by_name(&name).map_err(step())? {
        return Ok(link);
    }
    let here =
        File::open("/proc/thread-self/ns/net").map_err(failed("cannot open /proc/thread-self/ns/net"))?;
    let pair = Pair {
        master: Some(bridge.index),
        name: &name,
        netns: here.as_fd(),
        mac: None,
        mtu: Some(bridge.mtu),
    };
    let port = interface::create(host, pair)?;
    set_port(host, &port, &config.of_vlan_interface(), bridge.default_vlan)?;
    interface::ignore_advertisements(&port);
    let link = interface::find(host, &name)?;
    host.execute(&[Request::SetUp { index: link.index }])
        .map_err(step())?;
    Ok(link)
}

/// Gives a link an address. Another one of the same network is a conflict, which `forceAddress` resolves.
fn ensure_address(
    host: &mut Netlink,
    link: &Link,
    address: IpAddr,
    prefix: u8,
    config: &Config,
) -> Result<(), Failure> {
    let step = || {
        failed(format!(
            "cannot give {} the address {address}/{prefix}",
            link.name
        ))
    };
    let net = IpNet::new(address, prefix).map_err(failed(format!(
        "{address}/{prefix} is not an address with a prefix"
    )))?;
    let known = host.addresses(link.index).map_err(step())?;
    if known
        .iter()
        .any(|known| known.address == address && known.prefix == prefix)
    {
        return Ok(());
    }
    let mut requests = Vec::new();
    let others = known
        .iter()
        .filter(|known| known.address.is_ipv4() == address.is_ipv4() && !config.exclusive);
    for other in others {
        let overlaps = IpNet::new(other.address, other.prefix)
            .is_ok_and(|other| other.contains(&address) || net.contains(&other.addr()));
        if address.is_ipv6() && !overlaps {
            continue;
        }
        if !config.force_address {
            return Err(Failure::internal(format!(
                "{} has the address {}/{} already, not {net}; `forceAddress` replaces it",
                link.name, other.address, other.prefix
            )));
        }
        requests.push(Request::DeleteAddress {
            index: link.index,
            address: other.address,
            prefix: other.prefix,
        });
    }
    host.execute(&requests).map_err(step())?;
    let add = Request::AddAddress {
        index: link.index,
        address,
        prefix,
    };
    match host.execute(&[add]) {
        // Another pod gave it at the same moment.
        Err(error) if error.kind() == ErrorKind::Exists => {}
        outcome => outcome.map_err(step())?,
    }
    // A bridge whose address was set keeps it, whatever ports come and go.
    let current = host.link_by_name(&link.name).map_err(step())?;
    match current.and_then(|link| link.mac) {
        Some(mac) => host
            .execute(&[Request::SetMac {
                index: link.index,
                mac,
            }])
            .map_err(step()),
        None => Ok(()),
    }
}

/// Waits until frames pass the pod's port: a bridge may hold a port back.
fn wait_for_port(host: &mut Netlink, name: &str, wait: bool) -> Result<Link, Failure> {
    let until = Instant::now().checked_add(PORT_WAIT);
    loop {
        let link = interface::find(host, name)?;
        if link.operational || !wait {
            return Ok(link);
        }
        if until.is_none_or(|until| Instant::now() >= until) {
            return Err(Failure::internal(format!(
                "the bridge's port {name} is not up after {PORT_WAIT:?}"
            )));
        }
        thread::sleep(PORT_POLL);
    }
}

fn del(call: &Call, delegate: &Delegate<'_>) -> Result<(), Failure> {
    let config: Config = configuration(call)?;
    let addresses: Vec<IpNet> = interface::delete(call)?.into_iter().collect();
    ipam::pass_on(call, delegate)?;
    if config.macspoofchk {
        spoof::tear_down(call)?;
    }
    if config.ip_masq && ipam::of(call).is_some() {
        masquerade::del(&addresses, network(call), &call.if_name, &call.container_id)?;
    }
    Ok(())
}

fn check(call: &Call, delegate: &Delegate<'_>) -> Result<(), Failure> {
    let config: Config = configuration(call)?;
    let netns = netns(call)?;
    ipam::pass_on(call, delegate)?;
    let result = result_of_add(call)?;
    let wanted = interface::of_result(call, &result)?;
    let mut host = netlink()?;
    let bridge = bridge_by_name(&mut host, &config.bridge)?
        .ok_or_else(|| Failure::internal(format!("there is no bridge {}", config.bridge)))?;
    let of_bridge = result
        .interfaces
        .iter()
        .find(|interface| interface.name == config.bridge)
        .ok_or_else(|| Failure::internal(format!("prevResult has no bridge {}", config.bridge)))?;
    interface::check_mac(&bridge, &of_bridge.mac)?;
    if bridge.promiscuous != config.promisc_mode {
        return Err(Failure::internal(format!(
            "promiscuous mode of {} is {}, not {}",
            bridge.name, bridge.promiscuous, config.promisc_mode
        )));
    }
    let mut pod = netlink_of_pod(netns)?;
    let link = interface::check(&mut pod, wanted, &result)?;
    let host_end = result.interfaces.iter().find_map(|interface| {
        let is_of_host = interface.sandbox.is_empty() && interface.name != config.bridge;
        let candidate = is_of_host.then(|| host.link_by_name(&interface.name))?;
        let candidate = candidate.ok()??;
        let is_peer = candidate.parent == Some(link.index) && link.parent == Some(candidate.index);
        is_peer.then_some((candidate, interface))
    });
    let Some((host_end, interface)) = host_end else {
        return Err(Failure::internal(format!(
            "the host's end of {} is none of those in prevResult",
            call.if_name
        )));
    };
    if host_end.master != Some(bridge.index) {
        return Err(Failure::internal(format!(
            "{} is not a port of {}",
            host_end.name, bridge.name
        )));
    }
    interface::check_mac(&host_end, &interface.mac)
}
