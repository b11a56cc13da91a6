//! The built-in network: one bridge, an address pool on disk, veth pairs, masquerading and host ports. IPv4 only.
//!
//! ```text
//!   pod netns                host netns
//!   eth0 10.88.0.5/16 ═veth═ pv<pod id> ── pausa0 10.88.0.1/16 ── forwarding, table pausa_<bridge> ── the world
//! ```
//!
//! Order of attach: address (saved), link, host ports (saved, then opened). Order of detach: link, host ports, address
//! last, so that an address is never reused while something still leads to it. Each step looks at the current state:
//! after a `kill -9` at any point, detach and garbage collection find everything on disk and in the kernel.
//!
//! Deleting a veth pair takes the kernel a grace period, some 20 ms. Therefore detach closes the host ports and does the
//! rest in the background ([`Bridge::begin_detach`], [`Bridge::finish_detach`]). The address stays reserved until the
//! pair is deleted; an attach of the same pod waits; after a crash garbage collection completes the detach.
//!
//! Bridge and firewall rules are checked for each pod, so that a deleted bridge or table is restored with the next pod.
//! No pod can speak for another one or for the gateway: see [`source_filter`]. IPv6 is off at the bridge and in the pods.
//!
//! Two daemons on a node need different bridge names and subnets; all other names derive from the bridge's.

mod firewall;
mod link;
mod pool;
mod ports;
mod source_filter;
mod sysctl;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use parking_lot::{Mutex, MutexGuard};
use pausa_sys::remove_leftovers;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::INTERFACE;
use super::error::NetworkError;
use super::types::{Attachment, PodNetwork};

use firewall::Firewall;
use link::Links;
use pool::Pool;
use ports::PortRecords;

/// Configuration of the built-in bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeConfig {
    pub name: String,
    /// The range of pod addresses unless kubelet sets one; the first address is the bridge's.
    pub subnet: Ipv4Net,
    /// The directory for records of addresses and host ports.
    pub state_dir: PathBuf,
    /// MTU of the bridge and the pods; the kernel's default if missing.
    pub mtu: Option<u32>,
    /// Whether traffic of pods leaves the node under the host's address.
    pub masquerade: bool,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            name: "pausa0".to_owned(),
            subnet: Ipv4Net::new_assert(Ipv4Addr::new(10, 88, 0, 0), 16),
            state_dir: PathBuf::from("/var/lib/pausa/network"),
            mtu: None,
            masquerade: true,
        }
    }
}

#[derive(Debug)]
pub(super) struct Bridge {
    config: BridgeConfig,
    links: Links,
    pool: Pool,
    ports: PortRecords,
    firewall: Firewall,
    /// The range that kubelet assigned to this node.
    pod_range: Mutex<Option<Ipv4Net>>,
    /// Pods that are being detached in the background, with the number of calls.
    detaching: Mutex<BTreeMap<String, usize>>,
}

impl Bridge {
    pub(super) fn new(config: BridgeConfig) -> Self {
        let pool = Pool::new(config.state_dir.join(&config.name));
        let ports = PortRecords::new(config.state_dir.join(format!("{}.ports", config.name)));
        let firewall = Firewall::new(&config.name, config.masquerade);
        let links = Links::new(&config.name, config.mtu);
        let pod_range = Mutex::new(pool.saved_range());
        Self {
            config,
            links,
            pool,
            ports,
            firewall,
            pod_range,
            detaching: Mutex::default(),
        }
    }

    pub(super) fn attach(&self, pod: &PodNetwork) -> Result<Attachment, NetworkError> {
        let netns = File::open(&pod.netns).map_err(|source| NetworkError::Netns {
            path: pod.netns.clone(),
            source,
        })?;
        let subnet = self.subnet();
        let gateway = pool::gateway(subnet)?;
        let address = self.pool.reserve(&pod.pod_id, INTERFACE, subnet)?;
        let mappings = ports::wanted(pod, address)?;
        let prefix = subnet.prefix_len();
        let made = self.links.attach(
            &pod.pod_id,
            netns.as_fd(),
            &link::Addressing {
                address,
                gateway,
                prefix,
            },
            || self.pool.owners(),
        )?;
        self.firewall.ensure(subnet, &self.ports)?;
        if !mappings.is_empty() {
            self.links.allow_hairpin(&pod.pod_id)?;
            self.ports.take(&pod.pod_id, &mappings)?;
            self.firewall.open(&pod.pod_id, &mappings, subnet, &self.ports)?;
        }
        Ok(Attachment {
            ips: vec![IpAddr::V4(address)],
            network: self.config.name.clone(),
            interface: INTERFACE.to_owned(),
            result: Attachment::text(&self.result(pod, &made, address, gateway, prefix)),
        })
    }

    /// The attachment as a CNI result.
    fn result(
        &self,
        pod: &PodNetwork,
        made: &link::Made,
        address: Ipv4Addr,
        gateway: Ipv4Addr,
        prefix: u8,
    ) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": self.config.name, "mac": link::text(made.bridge_mac)},
                {"name": made.host_name},
                {"name": INTERFACE, "mac": link::text(made.pod_mac), "sandbox": pod.netns},
            ],
            "ips": [{"interface": 2, "address": format!("{address}/{prefix}"), "gateway": gateway}],
            "routes": [{"dst": "0.0.0.0/0", "gw": gateway}],
        })
    }

    /// Removes everything of a pod. Every step runs; the first error is returned.
    pub(super) fn detach(&self, pod_id: &str) -> Result<(), NetworkError> {
        let link = self.links.detach(pod_id);
        let ports = self.close_ports(pod_id);
        link?;
        ports?;
        // Last: the address must not be reused while something leads to it.
        self.pool.release(pod_id)
    }

    /// Frees the host ports, which another pod may want at once. [`Self::finish_detach`] must follow.
    pub(super) fn begin_detach(&self, pod_id: &str) -> Result<(), NetworkError> {
        self.close_ports(pod_id)?;
        *self.detaching().entry(pod_id.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Removes the rest. After an error the address stays reserved, and garbage collection finds it.
    pub(super) fn finish_detach(&self, pod_id: &str) -> Result<(), NetworkError> {
        let outcome = self.detach(pod_id);
        let mut detaching = self.detaching();
        if let Some(calls) = detaching.get_mut(pod_id) {
            *calls = calls.saturating_sub(1);
            if *calls == 0 {
                detaching.remove(pod_id);
            }
        }
        outcome
    }

    /// Whether this pod, or any pod, is being detached in the background.
    pub(super) fn is_detaching(&self, pod_id: Option<&str>) -> bool {
        let detaching = self.detaching();
        pod_id.map_or_else(|| !detaching.is_empty(), |pod_id| detaching.contains_key(pod_id))
    }

    fn detaching(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.detaching.lock()
    }

    fn close_ports(&self, pod_id: &str) -> Result<(), NetworkError> {
        let mappings = self.ports.load(pod_id)?;
        if !mappings.is_empty() {
            self.firewall.close(&mappings)?;
        }
        self.ports.remove(pod_id)
    }

    /// `live` is called after everything was listed, so that later reservations are not considered.
    pub(super) fn collect_garbage(
        &self,
        live: impl FnOnce() -> BTreeSet<String>,
    ) -> Result<usize, NetworkError> {
        sweep(&self.pool.dir)?;
        sweep(&self.ports.dir)?;
        let mut known: BTreeSet<String> = self.pool.owners()?;
        known.extend(self.ports.owners()?);
        let (mut removed, mut first) = (0, Ok(()));
        // In this order: a pod that is no longer live began its detach before.
        let live = live();
        let detaching = self.detaching().clone();
        for pod in known
            .difference(&live)
            .filter(|pod| !detaching.contains_key(*pod))
        {
            match self.detach(pod) {
                Ok(()) => removed += 1,
                Err(error) if first.is_ok() => first = Err(error),
                // Only the first error is reported; the next collection retries all of them.
                Err(_) => {}
            }
        }
        if self.firewall.is_installed() {
            let repaired = self.firewall.install(self.subnet(), &self.ports);
            if first.is_ok() {
                first = repaired;
            }
        }
        first.map(|()| removed)
    }

    pub(super) fn set_pod_ranges(&self, ranges: &[IpNet]) -> Result<(), NetworkError> {
        let first = ranges.iter().find_map(|range| match range {
            IpNet::V4(range) => Some(*range),
            IpNet::V6(_) => None,
        });
        let Some(range) = first else { return Ok(()) };
        pool::gateway(range)?;
        self.pool.save_range(range)?;
        *self.pod_range.lock() = Some(range);
        Ok(())
    }

    pub(super) fn describe(&self) -> Value {
        json!({
            "name": self.config.name,
            "subnet": self.subnet(),
            "mtu": self.config.mtu,
            "masquerade": self.config.masquerade,
            "stateDir": self.config.state_dir,
        })
    }

    fn subnet(&self) -> Ipv4Net {
        let range = *self.pod_range.lock();
        range.unwrap_or(self.config.subnet).trunc()
    }
}

/// Removes the temporary files that earlier daemons left in a directory of records.
fn sweep(dir: &Path) -> Result<(), NetworkError> {
    let removed = match File::open(dir) {
        Ok(dir) => remove_leftovers(dir.as_fd()).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    };
    removed.map(drop).map_err(|source| NetworkError::State {
        operation: "clean up",
        path: dir.to_owned(),
        source,
    })
}
