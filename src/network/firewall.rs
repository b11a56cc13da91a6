//! Masquerading, forwarding and host ports of the built-in bridge.
//!
//! There is one nftables table per bridge, named after it: base rules that do not depend on pods, and two maps from host
//! port to pod, so that a host port is one element to add or delete. If nft is missing or does not work, iptables does
//! the same with a rule per port ([`iptables`]); with neither, pods still reach each other and the host.
//!
//! [`Firewall::install`] is idempotent: it replaces the base rules in one transaction and restores the recorded ports.
//!
//! Packets to 127.0.0.0/8 from the bridge are dropped: `route_localnet`, which host ports need for local clients, would
//! otherwise open the host's loopback to the pods.

mod iptables;
mod nft;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use ipnet::Ipv4Net;
use parking_lot::Mutex;

use super::NetworkError;
use super::ports::{HostPort, PortRecords};
use super::sysctl;
use crate::error::chain;
use crate::tool::{self, ToolError};

/// What may happen without a sysctl.
const DROPPED: &str = "traffic of pods may be dropped";

#[derive(Debug)]
pub(super) struct Firewall {
    rules: Rules,
    installed: Mutex<Option<Installed>>,
}

/// The configuration of the rules.
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

    /// Installs the base rules unless they are installed for this subnet.
    pub(super) fn ensure(&self, subnet: Ipv4Net, records: &PortRecords) -> Result<(), NetworkError> {
        match self.installed() {
            Some(installed) if installed.subnet == subnet => Ok(()),
            _ => self.install(subnet, records),
        }
    }

    pub(super) fn is_installed(&self) -> bool {
        self.installed().is_some()
    }

    /// Installs the base rules and the recorded ports.
    pub(super) fn install(&self, subnet: Ipv4Net, records: &PortRecords) -> Result<(), NetworkError> {
        sysctl::set("ipv4/ip_forward", "1", DROPPED);
        let first_time = self.installed().is_none();
        let tool = self.install_base(subnet, first_time);
        for port in records.all()? {
            // Another pod may have the port now, and keeps it; the record is removed with its own pod.
            if let Err(error) = self.add(&tool, std::slice::from_ref(&port)) {
                tracing::debug!(
                    port = port.host_port,
                    error = chain(&error),
                    "cannot restore a recorded host port"
                );
            }
        }
        *self.installed.lock() = Some(Installed { tool, subnet });
        Ok(())
    }

    fn install_base(&self, subnet: Ipv4Net, warn: bool) -> Tool {
        let mut reasons = Vec::new();
        if let Some(path) = tool::find("nft") {
            match nft::install(&path, &self.rules, subnet) {
                Ok(()) => return Tool::Nft(path),
                Err(error) => reasons.push(chain(&error)),
            }
        }
        if let Some(path) = tool::find("iptables") {
            match iptables::install(&path, &self.rules, subnet) {
                Ok(()) => return Tool::Iptables(path),
                Err(error) => reasons.push(chain(&error)),
            }
        }
        if warn {
            tracing::warn!(
                bridge = self.rules.bridge,
                reasons = reasons.join("; "),
                "neither nft nor iptables works: pods reach each other and this host only, and host ports fail"
            );
        }
        Tool::Nothing
    }

    /// Opens the host ports of a pod.
    pub(super) fn open(
        &self,
        pod: &str,
        ports: &[HostPort],
        subnet: Ipv4Net,
        records: &PortRecords,
    ) -> Result<(), NetworkError> {
        let route_localnet = format!("ipv4/conf/{}/route_localnet", self.rules.bridge);
        sysctl::set(&route_localnet, "1", DROPPED);
        let tool = self.tool();
        if tool == Tool::Nothing {
            return Err(NetworkError::NoFirewall { pod: pod.to_owned() });
        }
        let outcome = self.add(&tool, ports);
        match outcome {
            // The rules were flushed: install them again, and this pod's recorded ports with them.
            Err(NetworkError::Firewall(ToolError::Refused { .. })) => {
                self.install(subnet, records)?;
                self.add(&self.tool(), ports)
            }
            outcome => outcome,
        }
    }

    /// Closes host ports; missing ones and those of another pod are left alone.
    pub(super) fn close(&self, ports: &[HostPort]) -> Result<(), NetworkError> {
        let tool = match self.installed() {
            Some(installed) => installed.tool,
            // This daemon has not attached a pod yet: the ports are an earlier daemon's.
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
        self.installed.lock().clone()
    }

    fn tool(&self) -> Tool {
        self.installed().map_or(Tool::Nothing, |installed| installed.tool)
    }
}
