//! What pods are made with: the modules below, opened once by `serve` and shared by all actors.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Nri;
use crate::cgroups::Cgroups;
use crate::cgroups::cpus::Cpus;
use crate::config::{self, Handler};
use crate::id::Id;
use crate::image::Images;
use crate::lsm::apparmor::AppArmor;
use crate::lsm::selinux::SeLinux;
use crate::monitor::MonitorBinary;
use crate::network::Network;
use crate::oci::{Host, SeccompPrograms};
use crate::quota::Projects;
use crate::state::Store;
use crate::streaming::Streaming;

/// The modules below this one, and its settings. What is in an `ArcSwap` is replaced by a reload of the configuration.
#[derive(Debug)]
pub struct Services {
    pub store: Store,
    pub images: Images,
    /// Of the file system of the writable layers.
    pub projects: Arc<Projects>,
    pub network: Network,
    pub cgroups: Arc<Cgroups>,
    pub cpus: Arc<Cpus>,
    pub monitors: MonitorBinary,
    /// The mount namespace that those of pods' processes are copies of ([`pausa_sys::base_mounts`]).
    pub base_mounts: OwnedFd,
    /// Exec, attach and port-forward sessions.
    pub streaming: Streaming,
    /// What this node can do.
    pub host: ArcSwap<Host>,
    pub apparmor: ArcSwap<AppArmor>,
    /// Plugins that see and change how pods and containers are made.
    pub nri: Nri,
    /// Devices that vendors describe.
    pub cdi: ArcSwap<pausa_cdi::Registry>,
    pub selinux: SeLinux,
    /// Seccomp programs compiled lately.
    pub seccomp: SeccompPrograms,
    pub settings: ArcSwap<Settings>,
}

impl Services {
    /// The settings as they are now. What is done goes by those that were in force when it began.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }
}

/// Settings of pods.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The runtime handlers that are configured; the empty name is the default.
    pub handlers: BTreeMap<String, Handler>,
    /// Where network namespaces are bound for tools to find.
    pub netns_dir: PathBuf,
    /// Set `net.ipv4.ip_unprivileged_port_start` to 0 in pods.
    pub unprivileged_ports: bool,
    /// Let every group ping in pods.
    pub unprivileged_icmp: bool,
    /// Give the devices that a container asks for to its user and group.
    pub own_devices: bool,
    /// What the names of containers' scopes begin with, under systemd.
    pub scope_prefix: String,
    /// Block I/O classes.
    pub block_io: config::BlockIo,
    /// Classes of cache and memory bandwidth.
    pub rdt: config::Rdt,
    /// How many monitors wait for pods.
    pub warm: usize,
    /// Longest content of a log entry in bytes.
    pub max_log_line: u32,
    /// How long a pod waits for a network to be configured, as after boot.
    pub network_patience: Duration,
    /// How long the output of an ended exec is waited for while a child of it keeps it open.
    pub exec_drain: Duration,
    /// How often stats are read in the background while somebody asks for lists; zero: never.
    pub stats_interval: Duration,
    /// Directories of hooks, oci-hooks(5).
    pub hooks_dirs: Vec<PathBuf>,
    /// Directory of Localhost seccomp profiles given by relative name.
    pub seccomp_root: PathBuf,
}

impl Settings {
    /// A runtime handler by name. One that has been configured only when its pod was made has no settings any more.
    pub(super) fn handler(&self, name: &str) -> Handler {
        self.handlers.get(name).cloned().unwrap_or_default()
    }

    /// Where the network namespace of a pod is bound.
    pub(super) fn netns(&self, pod: &Id) -> PathBuf {
        self.netns_dir.join(format!("pausa-{}", &pod.as_str()[..32]))
    }
}
