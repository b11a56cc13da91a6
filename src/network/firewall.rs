//! The rules of this daemon: host ports, and forwarding and masquerading for the built-in network.
//!
//! There is one nftables table per family, named after the instance: base rules that do not depend on pods, and maps from
//! host port to pod, so that a host port is one element to add or delete. The base rules are made with nft(8), once; elements
//! over netlink. If nft is missing or does not work, iptables does the same with a rule per port ([`iptables`]); with
//! neither, pods still reach each other and the host.
//!
//! [`Firewall::install`] is idempotent: it replaces the base rules in one transaction and restores the recorded ports.
//!
//! Packets to 127.0.0.0/8 that come in over a link with `route_localnet`, which host ports need for local clients, are
//! dropped: they would reach the host's loopback.

mod iptables;
mod nft;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use parking_lot::Mutex;

use super::error::NetworkError;
use super::host_ports::HostPort;
use super::sysctl;
use crate::error::chain;
use crate::tool;

/// What may happen without a sysctl.
const DROPPED: &str = "traffic of pods may be dropped";

#[derive(Debug)]
pub(super) struct Firewall {
    rules: Rules,
    installed: Mutex<Installed>,
}

/// What the rules are made from.
#[derive(Debug)]
pub(super) struct Rules {
    /// What distinguishes the daemons of a node: the name of the bridge.
    pub(super) instance: String,
    /// Whether traffic that leaves the built-in network gets the node's address.
    pub(super) masquerade: bool,
}

/// A family of addresses; each has tables and programs of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// What the firewall has of a host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PortRule {
    Opened,
    /// It leads somewhere else.
    Elsewhere(String),
    Missing,
}

/// What is installed of each family.
#[derive(Debug, Clone, Default)]
struct Installed {
    v4: Option<Base>,
    v6: Option<Base>,
}

/// The base rules of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    tool: Tool,
    /// Of the built-in network.
    subnet: Option<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tool {
    Nft,
    Iptables(PathBuf),
    Nothing,
}

impl Family {
    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The ports that lead to addresses of this family.
    fn ports_of(self, ports: &[HostPort]) -> Vec<HostPort> {
        let is_ours = |port: &&HostPort| Self::of(port.address) == self;
        ports.iter().filter(is_ours).cloned().collect()
    }
}

impl Installed {
    const fn of(&mut self, family: Family) -> &mut Option<Base> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl Firewall {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            installed: Mutex::default(),
        }
    }

    /// Installs the base rules for a subnet of the built-in network, unless they are installed. `recorded` are the host ports
    /// of all pods.
    pub(super) fn ensure(
        &self,
        subnet: IpNet,
        recorded: impl FnOnce() -> Result<Vec<HostPort>, NetworkError>,
    ) -> Result<(), NetworkError> {
        let family = Family::of(subnet.addr());
        match self.base(family) {
            Some(base) if base.subnet == Some(subnet) => Ok(()),
            _ => self.install(family, Some(subnet), &recorded()?),
        }
    }

    /// Installs again what is installed, in case somebody has removed it.
    pub(super) fn repair(&self, recorded: &[HostPort]) -> Result<(), NetworkError> {
        for family in [Family::V4, Family::V6] {
            if let Some(base) = self.base(family) {
                self.install(family, base.subnet, recorded)?;
            }
        }
        Ok(())
    }

    fn install(
        &self,
        family: Family,
        subnet: Option<IpNet>,
        recorded: &[HostPort],
    ) -> Result<(), NetworkError> {
        let forwarding = match family {
            Family::V4 => "ipv4/ip_forward",
            Family::V6 => "ipv6/conf/all/forwarding",
        };
        sysctl::set(forwarding, "1", DROPPED);
        let first_time = self.base(family).is_none();
        let tool = self.install_base(family, subnet, first_time);
        for port in recorded {
            if Family::of(port.address) != family {
                continue;
            }
            // Another pod may have the port now, and keeps it; the record is removed with its own pod.
            if let Err(error) = self.add(&tool, std::slice::from_ref(port)) {
                tracing::debug!(
                    port = port.host_port,
                    error = chain(&error),
                    "cannot restore a recorded host port"
                );
            }
        }
        *self.installed.lock().of(family) = Some(Base { tool, subnet });
        Ok(())
    }

    fn install_base(&self, family: Family, subnet: Option<IpNet>, warn: bool) -> Tool {
        let mut reasons = Vec::new();
        if let Some(path) = tool::find("nft") {
            match nft::install(&path, &self.rules, family, subnet) {
                Ok(()) => return Tool::Nft,
                Err(error) => reasons.push(chain(&error)),
            }
        }
        if let Some(path) = tool::find(iptables::program(family)) {
            match iptables::install(&path, &self.rules, family, subnet) {
                Ok(()) => return Tool::Iptables(path),
                Err(error) => reasons.push(chain(&error)),
            }
        }
        if warn {
            tracing::warn!(
                instance = self.rules.instance,
                reasons = reasons.join("; "),
                "neither nft nor iptables works: pods reach each other and this host only, and host ports fail"
            );
        }
        Tool::Nothing
    }

    /// Opens the host ports of a pod, which local clients reach over `link`.
    pub(super) fn open(
        &self,
        pod: &str,
        link: Option<&str>,
        ports: &[HostPort],
        recorded: impl Fn() -> Result<Vec<HostPort>, NetworkError>,
    ) -> Result<(), NetworkError> {
        for family in [Family::V4, Family::V6] {
            let ports = family.ports_of(ports);
            if ports.is_empty() {
                continue;
            }
            if self.base(family).is_none() {
                self.install(family, None, &recorded()?)?;
            }
            let base = self.base(family);
            let tool = base.as_ref().map_or(Tool::Nothing, |base| base.tool.clone());
            if tool == Tool::Nothing {
                return Err(NetworkError::NoFirewall { pod: pod.to_owned() });
            }
            let add = |tool: &Tool| {
                self.add(tool, &ports)?;
                match link.filter(|_| family == Family::V4) {
                    Some(link) => self.route_localnet(tool, link),
                    None => Ok(()),
                }
            };
            match add(&tool) {
                // The rules were flushed: install them again, and this pod's recorded ports with them.
                Err(NetworkError::Firewall(_) | NetworkError::Netfilter { .. }) => {
                    let subnet = base.and_then(|base| base.subnet);
                    self.install(family, subnet, &recorded()?)?;
                    let base = self.base(family);
                    add(&base.map_or(Tool::Nothing, |base| base.tool))?;
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Lets packets with addresses of the loopback out over a link, and takes none in.
    fn route_localnet(&self, tool: &Tool, link: &str) -> Result<(), NetworkError> {
        match tool {
            Tool::Nft => nft::guard(&self.rules, link)?,
            Tool::Iptables(path) => iptables::guard(path, link)?,
            Tool::Nothing => {}
        }
        sysctl::set(&format!("ipv4/conf/{link}/route_localnet"), "1", DROPPED);
        Ok(())
    }

    /// Closes host ports; missing ones and those of another pod are left alone.
    pub(super) fn close(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        for family in [Family::V4, Family::V6] {
            let ports = family.ports_of(ports);
            if ports.is_empty() {
                continue;
            }
            match &self.tool(family) {
                Tool::Nft => nft::close(&self.rules, &ports)?,
                Tool::Iptables(path) => iptables::close(path, &self.rules, &ports)?,
                Tool::Nothing => {}
            }
        }
        Ok(())
    }

    /// Removes all rules of this daemon, whoever of both tools has them.
    pub(super) fn uninstall(&self) -> Result<(), NetworkError> {
        for family in [Family::V4, Family::V6] {
            if let Some(path) = tool::find("nft") {
                nft::uninstall(&path, &self.rules, family)?;
            }
            if let Some(path) = tool::find(iptables::program(family)) {
                iptables::uninstall(&path, &self.rules)?;
            }
            *self.installed.lock().of(family) = None;
        }
        Ok(())
    }

    /// The bridge of the built-in network.
    pub(super) fn bridge(&self) -> &str {
        &self.rules.instance
    }

    /// Looks up what a host port leads to. Changes nothing.
    pub(super) fn look_up(&self, port: &HostPort) -> Result<PortRule, NetworkError> {
        match &self.tool(Family::of(port.address)) {
            Tool::Nft => nft::look_up(&self.rules, port),
            Tool::Iptables(path) => Ok(match iptables::has_port(path, &self.rules, port) {
                true => PortRule::Opened,
                false => PortRule::Missing,
            }),
            Tool::Nothing => Ok(PortRule::Missing),
        }
    }

    /// Whether traffic of a subnet of the built-in network leaves the node under the node's address; none if it is not to.
    pub(super) fn masquerades(&self, subnet: IpNet) -> Result<Option<bool>, NetworkError> {
        if !self.rules.masquerade {
            return Ok(None);
        }
        let family = Family::of(subnet.addr());
        let found = match &self.tool(family) {
            Tool::Nft => nft::masquerades(&self.rules, family, subnet)?,
            Tool::Iptables(path) => iptables::masquerades(path, &self.rules, family, subnet),
            Tool::Nothing => false,
        };
        Ok(Some(found))
    }

    /// The tool that the rules of a family are made with.
    fn tool(&self, family: Family) -> Tool {
        match self.base(family) {
            Some(base) => base.tool,
            // This daemon has opened no port yet: these are an earlier daemon's.
            None if tool::find("nft").is_some() => Tool::Nft,
            None => tool::find(iptables::program(family)).map_or(Tool::Nothing, Tool::Iptables),
        }
    }

    fn add(&self, tool: &Tool, ports: &[HostPort]) -> Result<(), NetworkError> {
        match tool {
            Tool::Nft => nft::open(&self.rules, ports),
            Tool::Iptables(path) => iptables::open(path, &self.rules, ports),
            Tool::Nothing => Ok(()),
        }
    }

    fn base(&self, family: Family) -> Option<Base> {
        self.installed.lock().of(family).clone()
    }
}
