//! Masquerading, forwarding and host ports of the built-in bridge.
//!
//! One nftables table per bridge, named after it: base rules that never change with pods, and two maps from host
//! port to pod, so that a host port is one element to add or delete. Where nft is missing or does not work, iptables
//! does the same with a rule per port ([`iptables`]); with neither, pods still reach each other and the host.
//!
//! [`Firewall::install`] may run at any time and any number of times: it replaces the base rules in one transaction
//! and puts back whatever ports are on record.
//!
//! Packets to 127.0.0.0/8 that come in from the bridge are dropped: `route_localnet`, which host ports for local
//! clients need, would otherwise open the host's loopback to the pods.

mod iptables;
mod nft;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ipnet::Ipv4Net;

use super::NetworkError;
use super::ports::{HostPort, PortRecords};
use super::tool;

#[derive(Debug)]
pub(super) struct Firewall {
    rules: Rules,
    installed: Mutex<Option<Installed>>,
}

/// What the rules depend on.
#[derive(Debug)]
struct Rules {
    bridge: String,
    masquerade: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Installed {
    tool: Tool,
    subnet: Ipv4Net,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tool {
    Nft(PathBuf),
    Iptables(PathBuf),
    Nothing,
}

impl Firewall {
    pub(super) fn new(bridge: &str, masquerade: bool) -> Self {
        Self {
            rules: Rules {
                bridge: bridge.to_owned(),
                masquerade,
            },
            installed: Mutex::default(),
        }
    }

    /// Installs the base rules unless this has been done for the subnet.
    pub(super) fn ensure(&self, subnet: Ipv4Net, records: &PortRecords) -> Result<(), NetworkError> {
        match self.installed() {
            Some(installed) if installed.subnet == subnet => Ok(()),
            _ => self.install(subnet, records),
        }
    }

    pub(super) fn is_installed(&self) -> bool {
        self.installed().is_some()
    }

    /// Installs the base rules and the ports on record.
    pub(super) fn install(&self, subnet: Ipv4Net, records: &PortRecords) -> Result<(), NetworkError> {
        enable("/proc/sys/net/ipv4/ip_forward");
        let first_time = self.installed().is_none();
        let tool = self.install_base(subnet, first_time);
        for port in records.all()? {
            // A port that another pod took meanwhile stays with that pod; its record goes with its own pod.
            if let Err(error) = self.add(&tool, std::slice::from_ref(&port)) {
                tracing::debug!(port = port.host_port, %error, "a host port on record was not restored");
            }
        }
        *self.installed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Installed { tool, subnet });
        Ok(())
    }

    fn install_base(&self, subnet: Ipv4Net, warn: bool) -> Tool {
        let mut reasons = Vec::new();
        if let Some(path) = tool::find("nft") {
            match nft::install(&path, &self.rules, subnet) {
                Ok(()) => return Tool::Nft(path),
                Err(error) => reasons.push(crate::error::chain(&error)),
            }
        }
        if let Some(path) = tool::find("iptables") {
            match iptables::install(&path, &self.rules, subnet) {
                Ok(()) => return Tool::Iptables(path),
                Err(error) => reasons.push(crate::error::chain(&error)),
            }
        }
        if warn {
            tracing::warn!(
                bridge = self.rules.bridge,
                reasons = reasons.join("; "),
                "neither nft nor iptables works: pods reach each other and this host only, and have no host ports"
            );
        }
        Tool::Nothing
    }

    /// Makes the host ports of a pod.
    pub(super) fn open(
        &self,
        pod: &str,
        ports: &[HostPort],
        subnet: Ipv4Net,
        records: &PortRecords,
    ) -> Result<(), NetworkError> {
        enable(&format!(
            "/proc/sys/net/ipv4/conf/{}/route_localnet",
            self.rules.bridge
        ));
        let tool = self.tool();
        if tool == Tool::Nothing {
            return Err(NetworkError::NoFirewall { pod: pod.to_owned() });
        }
        let outcome = self.add(&tool, ports);
        match outcome {
            // Somebody flushed the rules: make them anew, with this pod's ports, which are on record.
            Err(NetworkError::FirewallRefused { .. }) => {
                self.install(subnet, records)?;
                self.add(&self.tool(), ports)
            }
            outcome => outcome,
        }
    }

    /// Removes host ports; missing ones and those that lead to another pod are fine.
    pub(super) fn close(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        let tool = match self.installed() {
            Some(installed) => installed.tool,
            // A daemon that has attached nothing yet removes what its predecessor made.
            None => tool::find("nft")
                .map(Tool::Nft)
                .or_else(|| tool::find("iptables").map(Tool::Iptables))
                .unwrap_or(Tool::Nothing),
        };
        match &tool {
            Tool::Nft(path) => nft::close(path, &self.rules, ports),
            Tool::Iptables(path) => iptables::close(path, &self.rules, ports),
            Tool::Nothing => Ok(()),
        }
    }

    fn add(&self, tool: &Tool, ports: &[HostPort]) -> Result<(), NetworkError> {
        match tool {
            Tool::Nft(path) => nft::open(path, &self.rules, ports),
            Tool::Iptables(path) => iptables::open(path, &self.rules, ports),
            Tool::Nothing => Ok(()),
        }
    }

    fn installed(&self) -> Option<Installed> {
        self.installed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn tool(&self) -> Tool {
        self.installed().map_or(Tool::Nothing, |installed| installed.tool)
    }
}

/// Sets a switch of the kernel to 1, unless it is.
fn enable(path: &str) {
    let is_on = std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    if !is_on && let Err(error) = std::fs::write(path, "1") {
        tracing::warn!(path, %error, "cannot set this switch to 1: traffic between pods and the world may not pass");
    }
}
