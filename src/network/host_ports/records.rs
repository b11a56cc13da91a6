//! Records of the pods' host ports, saved before the ports are opened, so that this daemon and the next one know what
//! to remove.
//!
//! A port belongs to one pod. That is decided here and not by the firewall, because iptables accepts a second rule for a
//! port, which never matches. It is decided here also where a plugin opens the ports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use parking_lot::Mutex;
use pausa_sys::{Durability, replace_file};
use rustix::fs::CWD;
use serde::{Deserialize, Serialize};

use super::OpenedBy;
use crate::network::error::NetworkError;
use crate::network::types::{PodNetwork, Protocol};

/// A host port that is forwarded to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::network) struct HostPort {
    pub(in crate::network) protocol: Protocol,
    /// The only address of the host it is open on.
    pub(in crate::network) host_ip: Option<IpAddr>,
    pub(in crate::network) host_port: u16,
    pub(in crate::network) address: IpAddr,
    pub(in crate::network) container_port: u16,
    /// The pod's network: what comes from there has to go back through the host. Missing in records of older versions,
    /// which had the built-in bridge only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::network) network: Option<IpNet>,
}

/// The ports of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// For messages.
    pod: String,
    /// Whether a plugin opens them.
    #[serde(default)]
    by_plugin: bool,
    ports: Vec<HostPort>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Record(Record),
    /// Of older versions.
    Ports(Vec<HostPort>),
}

/// Protocol, the host's address, port: at most one pod has it.
type Place = (Protocol, Option<IpAddr>, u16);

impl HostPort {
    fn place(&self) -> Place {
        (self.protocol, self.host_ip, self.host_port)
    }
}

/// The ports that a pod with these addresses asks for. One without an address of the host is open for each family that the
/// pod has an address of.
pub(super) fn wanted(pod: &PodNetwork, addresses: &[IpNet]) -> Result<Vec<HostPort>, NetworkError> {
    let mut wanted: Vec<HostPort> = Vec::new();
    for mapping in pod.host_ports() {
        // `::` stands for all addresses, also those of IPv4, as it does for sockets.
        let any = mapping
            .host_ip
            .is_none_or(|ip| ip.is_unspecified() && ip.is_ipv6());
        let serves = |net: &&IpNet| {
            any || mapping
                .host_ip
                .is_some_and(|ip| ip.is_ipv4() == net.addr().is_ipv4())
        };
        let mut of_families: Vec<IpNet> = Vec::new();
        for net in addresses.iter().filter(serves) {
            if of_families
                .iter()
                .all(|known| known.addr().is_ipv4() != net.addr().is_ipv4())
            {
                of_families.push(*net);
            }
        }
        if let (true, Some(ip)) = (of_families.is_empty(), mapping.host_ip) {
            return Err(NetworkError::InvalidPod {
                field: "port_mappings.host_ip".to_owned(),
                value: ip.to_string(),
                expected: "empty or an address of a family that the pod has an address of",
            });
        }
        for net in of_families {
            let port = HostPort {
                protocol: mapping.protocol,
                host_ip: mapping.host_ip.filter(|ip| !ip.is_unspecified()),
                host_port: mapping.host_port,
                address: net.addr(),
                container_port: mapping.container_port,
                network: Some(net.trunc()),
            };
            if !wanted.contains(&port) {
                wanted.push(port);
            }
        }
    }
    Ok(wanted)
}

/// Who has a port.
#[derive(Debug, Clone)]
struct Owner {
    id: String,
    /// Namespace and name.
    name: String,
}

/// One file per pod.
#[derive(Debug)]
pub(super) struct PortRecords {
    pub(super) dir: PathBuf,
    /// The pod of each port.
    taken: Mutex<BTreeMap<Place, Owner>>,
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
            let record = records.read(&pod).unwrap_or_default();
            for port in record.ports {
                taken.entry(port.place()).or_insert_with(|| Owner {
                    id: pod.clone(),
                    name: record.pod.clone(),
                });
            }
        }
        *records.taken.lock() = taken;
        records
    }

    /// Assigns these ports to a pod instead of those it had, and saves the record.
    ///
    /// # Errors
    /// Another pod has one of them; then the pod keeps the ports it had. Or the record cannot be written.
    pub(super) fn take(
        &self,
        pod: &PodNetwork,
        ports: &[HostPort],
        by_plugin: bool,
    ) -> Result<(), NetworkError> {
        let name = format!("{}/{}", pod.namespace, pod.name);
        self.claim(&pod.pod_id, &name, ports)?;
        let record = Record {
            pod: name,
            by_plugin,
            ports: ports.to_vec(),
        };
        self.save(&pod.pod_id, &record)
    }

    fn claim(&self, id: &str, name: &str, ports: &[HostPort]) -> Result<(), NetworkError> {
        let mut taken = self.taken.lock();
        for port in ports {
            if let Some(owner) = taken.get(&port.place()).filter(|owner| owner.id != id) {
                return Err(NetworkError::PortTaken {
                    port: port.host_port,
                    protocol: port.protocol.as_str(),
                    owner: owner.name.clone(),
                    id: owner.id.clone(),
                });
            }
        }
        taken.retain(|_, owner| owner.id != id);
        taken.extend(ports.iter().map(|port| {
            let owner = Owner {
                id: id.to_owned(),
                name: name.to_owned(),
            };
            (port.place(), owner)
        }));
        Ok(())
    }

    fn save(&self, pod: &str, record: &Record) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::State {
            operation: "write",
            path: self.dir.join(pod),
            source,
        };
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let bytes = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        // Neither the pod nor its firewall rules outlive a power cut.
        replace_file(CWD, &self.dir.join(pod), &bytes, Durability::Process).map_err(NetworkError::unreplaced)
    }

    /// The ports of a pod, with who opens them. A pod without a record has none.
    pub(super) fn recorded(&self, pod: &str) -> Result<(OpenedBy, Vec<HostPort>), NetworkError> {
        let record = self.read(pod)?;
        let opened_by = match record.by_plugin {
            true => OpenedBy::Plugin,
            false => OpenedBy::Pausa,
        };
        Ok((opened_by, record.ports))
    }

    /// The ports of a pod that pausa opened itself. A pod without a record has none.
    pub(super) fn opened(&self, pod: &str) -> Result<Vec<HostPort>, NetworkError> {
        let record = self.read(pod)?;
        Ok(if record.by_plugin {
            Vec::new()
        } else {
            record.ports
        })
    }

    /// A damaged record is not ours and counts as missing.
    fn read(&self, pod: &str) -> Result<Record, NetworkError> {
        let path = self.dir.join(pod);
        match fs::read(&path) {
            Ok(bytes) => Ok(match serde_json::from_slice(&bytes) {
                Ok(Stored::Record(record)) => record,
                Ok(Stored::Ports(ports)) => Record {
                    pod: pod.to_owned(),
                    by_plugin: false,
                    ports,
                },
                Err(_) => Record::default(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
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
        self.taken.lock().retain(|_, owner| owner.id != pod);
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

    /// All ports that pausa opened itself.
    pub(super) fn all(&self) -> Result<Vec<HostPort>, NetworkError> {
        let mut ports = Vec::new();
        for pod in self.owners()? {
            ports.extend(self.opened(&pod)?);
        }
        Ok(ports)
    }
}

#[cfg(test)]
mod tests;
