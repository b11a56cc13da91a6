//! Records of the pods' host ports, saved before the ports are opened, so that this daemon and the next one know what
//! to remove.
//!
//! A port belongs to one pod. That is decided here and not by the firewall, because iptables accepts a second rule for a
//! port, which never matches.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use parking_lot::Mutex;
use pausa_sys::{Durability, replace_file};
use rustix::fs::CWD;
use serde::{Deserialize, Serialize};

use super::super::types::{PodNetwork, Protocol};
use super::NetworkError;

/// A host port that is forwarded to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostPort {
    pub(super) protocol: Protocol,
    /// The only address of the host it is open on.
    pub(super) host_ip: Option<Ipv4Addr>,
    pub(super) host_port: u16,
    pub(super) address: Ipv4Addr,
    pub(super) container_port: u16,
}

/// Protocol, the host's address, port: at most one pod has it.
type Place = (Protocol, Option<Ipv4Addr>, u16);

impl HostPort {
    fn place(&self) -> Place {
        (self.protocol, self.host_ip, self.host_port)
    }
}

/// The host ports that a pod asks for. `0.0.0.0` and `::` are all addresses of the host, of which this network knows those
/// of IPv4.
///
/// # Errors
/// A port of one IPv6 address, on which nothing would ever arrive.
pub(super) fn wanted(pod: &PodNetwork, address: Ipv4Addr) -> Result<Vec<HostPort>, NetworkError> {
    let mut wanted: Vec<HostPort> = Vec::new();
    for mapping in pod.host_ports() {
        let host_ip = match mapping.host_ip.filter(|ip| !ip.is_unspecified()) {
            Some(IpAddr::V6(ip)) => {
                return Err(NetworkError::InvalidPod {
                    field: "port_mappings.host_ip".to_owned(),
                    value: ip.to_string(),
                    expected: "an IPv4 address or empty on the built-in bridge, which has no IPv6; use CNI for dual stack",
                });
            }
            Some(IpAddr::V4(ip)) => Some(ip),
            None => None,
        };
        let port = HostPort {
            protocol: mapping.protocol,
            host_ip,
            host_port: mapping.host_port,
            address,
            container_port: mapping.container_port,
        };
        if !wanted.contains(&port) {
            wanted.push(port);
        }
    }
    Ok(wanted)
}

/// One file per pod.
#[derive(Debug)]
pub(super) struct PortRecords {
    pub(super) dir: PathBuf,
    /// The pod of each port.
    taken: Mutex<BTreeMap<Place, String>>,
}

impl PortRecords {
    /// Reads the records. One that cannot be read is an error when its pod is loaded later.
    pub(super) fn new(dir: PathBuf) -> Self {
        let records = Self {
            dir,
            taken: Mutex::default(),
        };
        let mut taken = BTreeMap::new();
        for pod in records.owners().unwrap_or_default() {
            for port in records.load(&pod).unwrap_or_default() {
                taken.entry(port.place()).or_insert_with(|| pod.clone());
            }
        }
        *records.taken.lock() = taken;
        records
    }

    /// Assigns these ports to a pod instead of those it had, and saves the record.
    ///
    /// # Errors
    /// Another pod has one of them; then the pod keeps the ports it had. Or the record cannot be written.
    pub(super) fn take(&self, pod: &str, ports: &[HostPort]) -> Result<(), NetworkError> {
        self.claim(pod, ports)?;
        self.save(pod, ports)
    }

    fn claim(&self, pod: &str, ports: &[HostPort]) -> Result<(), NetworkError> {
        let mut taken = self.taken.lock();
        let foreign = |port: &&HostPort| taken.get(&port.place()).is_some_and(|owner| owner != pod);
        if let Some(port) = ports.iter().find(foreign) {
            return Err(NetworkError::PortTaken {
                port: port.host_port,
                protocol: port.protocol.as_str(),
                address: port.address,
            });
        }
        taken.retain(|_, owner| owner != pod);
        taken.extend(ports.iter().map(|port| (port.place(), pod.to_owned())));
        Ok(())
    }

    fn save(&self, pod: &str, ports: &[HostPort]) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::State {
            operation: "write",
            path: self.dir.join(pod),
            source,
        };
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let bytes = serde_json::to_vec(ports).map_err(|error| failed(error.into()))?;
        // Neither the pod nor its firewall rules outlive a power cut.
        replace_file(CWD, &self.dir.join(pod), &bytes, Durability::Process).map_err(NetworkError::unreplaced)
    }

    /// A pod without a record has no ports. A damaged record is not ours and counts as missing.
    pub(super) fn load(&self, pod: &str) -> Result<Vec<HostPort>, NetworkError> {
        let path = self.dir.join(pod);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(NetworkError::State {
                operation: "read",
                path,
                source,
            }),
        }
    }

    pub(super) fn remove(&self, pod: &str) -> Result<(), NetworkError> {
        let path = self.dir.join(pod);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => outcome.map_err(|source| NetworkError::State {
                operation: "remove",
                path,
                source,
            })?,
        }
        self.taken.lock().retain(|_, owner| owner != pod);
        Ok(())
    }

    /// All pods with a record.
    pub(super) fn owners(&self) -> Result<BTreeSet<String>, NetworkError> {
        let failed = |source| NetworkError::State {
            operation: "list",
            path: self.dir.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(failed)?,
        };
        let mut owners = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name().into_string();
            owners.extend(name.ok().filter(|name| !name.starts_with('.')));
        }
        Ok(owners)
    }

    /// All ports of all pods.
    pub(super) fn all(&self) -> Result<Vec<HostPort>, NetworkError> {
        let mut ports = Vec::new();
        for pod in self.owners()? {
            ports.extend(self.load(&pod)?);
        }
        Ok(ports)
    }
}

#[cfg(test)]
mod tests;
