//! The reference plugins of the Container Network Interface, in process.
//!
//! Each module is one plugin type. It reads the configuration that the binary of the type reads, and keeps the same
//! state on disk and in the kernel, so that what one of the two adds the other one checks and deletes. A key or a value
//! that a module does not know makes [`InProcess::understands`] fail: then the binary is run.
//!
//! It must never enter a pod's network namespace on a thread that is used again, fail a DEL because something is gone,
//! or take longer with every pod on the node.
//!
//! What the binaries do: <https://www.cni.dev/plugins/current/>.

mod bandwidth;
mod bridge;
#[cfg(test)]
mod chained;
mod common;
#[cfg(test)]
mod differential;
mod firewall;
mod flannel;
mod host_local;
mod interface;
mod ipam;
mod ipam_config;
mod iptables;
mod kernel;
mod loopback;
mod masquerade;
mod nftables;
mod portmap;
mod ptp;
#[cfg(test)]
mod reference;
mod static_ipam;
#[cfg(test)]
mod tables;
mod tuning;

use std::collections::BTreeMap;
use std::sync::Arc;

use pausa_cni::InProcess;

/// The implementations by type.
#[must_use]
pub fn all() -> BTreeMap<String, Arc<dyn InProcess>> {
    let plugins: [(&str, Arc<dyn InProcess>); 10] = [
        ("bandwidth", Arc::new(bandwidth::Bandwidth)),
        ("bridge", Arc::new(bridge::Bridge)),
        ("firewall", Arc::new(firewall::Firewall)),
        ("flannel", Arc::new(flannel::Flannel)),
        ("host-local", Arc::new(host_local::HostLocal::default())),
        ("loopback", Arc::new(loopback::Loopback)),
        ("portmap", Arc::new(portmap::Portmap)),
        ("ptp", Arc::new(ptp::Ptp)),
        ("static", Arc::new(static_ipam::Static)),
        ("tuning", Arc::new(tuning::Tuning)),
    ];
    plugins
        .into_iter()
        .map(|(name, plugin)| (name.to_owned(), plugin))
        .collect()
}
