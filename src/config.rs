//! The daemon's configuration: plain data with defaults, below all modules that it configures.
//!
//! Each source overrides the one before: the defaults here, the configuration file, its drop-ins (`config.d/*.toml` in the same
//! directory, in lexical order), the command line. [`load()`] reads the files, `cli` applies the command line, and
//! [`Config::validate`] checks the result. `docs/configuration.md` is the reference for users.
//!
//! Invariant: two daemons with a different `listen`, `root` or `state` share nothing on the node. Everything with a name outside
//! these directories takes it from [`Config::instance_name`] or [`Config::bridge_name`].
//!
//! Must never: touch the node, or contain secrets: it names their files ([`SecretFile`]).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use ipnet::{Ipv4Net, Ipv6Net};
use pausa_nri::validator::DefaultValidator;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod changes;
mod error;
mod handler;
mod load;
mod reference;
mod secret;
mod unused;
mod validate;

pub use changes::{Change, Reload, Running, changes};
pub use error::ConfigError;
#[cfg(test)]
pub(crate) use load::known_keys;
#[cfg(test)]
pub(crate) use reference::documented;

pub use handler::{Handler, Size, Ulimit};
pub use load::{ignored, load, load_all};
pub use reference::{default_toml, manual};
pub use secret::SecretFile;

pub const DEFAULT_PATH: &str = "/etc/pausa/config.toml";
pub const DEFAULT_LISTEN: &str = "unix:///run/pausa/pausa.sock";
pub(crate) const DEFAULT_SCOPE_PREFIX: &str = "pausa";
/// The file of Podman, CRI-O and the other containers tools.
pub const DEFAULT_REGISTRIES_CONF: &str = "/etc/containers/registries.conf";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The socket for CRI and the admin service, as `unix:///path`.
    pub listen: String,
    /// Directory for data that survives a reboot: images, container file systems, records.
    pub root: PathBuf,
    /// Directory for data that is lost on reboot: sockets, mounts, records of running pods. On a tmpfs.
    pub state: PathBuf,
    /// Directory of registry configuration, `HOST/hosts.toml` for each host; read for every pull.
    pub registry_config_dir: PathBuf,
    /// The `registries.conf` of containers-registries.conf(5), with drop-ins in `registries.conf.d` in the same directory; read
    /// for every pull. Empty for none. The file must exist unless this is the default.
    pub registries_conf: PathBuf,
    /// What creates cgroups. kubelet asks for it and uses the same driver.
    pub cgroup_driver: CgroupDriver,
    /// What the names of containers' scopes begin with, under systemd: for tools that look for a certain runtime's.
    pub cgroup_scope_prefix: String,
    /// What Version says that this runtime is called. kubelet has it in container ids and in the node's status.
    pub runtime_name: String,
    /// Allows every pod to bind ports below 1024 (sysctl `net.ipv4.ip_unprivileged_port_start=0`).
    pub enable_unprivileged_ports: bool,
    /// Allows every pod to send ICMP echo requests (sysctl `net.ipv4.ping_group_range`).
    pub enable_unprivileged_icmp: bool,
    /// Gives the devices that a container asks for to its user and group, instead of their owners on the node.
    pub device_ownership_from_security_context: bool,
    /// Labels containers and their files where the kernel has SELinux enabled.
    pub enable_selinux: bool,
    /// Directories of hooks for containers, in the form of oci-hooks(5); a file hides those of the same name in earlier
    /// directories. Read for every container. Empty: no hooks.
    pub hooks_dirs: Vec<PathBuf>,
    /// Directories of CDI specs, in which vendors describe devices; later ones take precedence. Read when a container asks for a
    /// device. Empty: there are no CDI devices.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Longest line of a container's log in bytes. Longer lines are split and tagged `P`.
    pub max_log_line: u32,
    /// Seconds that running requests get to finish after SIGTERM.
    pub drain_timeout_seconds: u32,
    pub network: Network,
    pub cni: Cni,
    pub sandbox: Sandbox,
    pub images: Images,
    pub seccomp: Seccomp,
    pub apparmor: AppArmor,
    pub cpu: Cpu,
    pub blockio: BlockIo,
    pub rdt: Rdt,
    pub streaming: Streaming,
    pub log: Log,
    pub stats: Stats,
    pub metrics: Metrics,
    pub tracing: Tracing,
    pub cadvisor: Cadvisor,
    pub nri: Nri,
    /// Runtime handlers by the name that a RuntimeClass uses. The handler `""` always exists and is built in.
    pub handlers: BTreeMap<String, Handler>,
}

/// How pods are made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// How many monitors are started in advance, each with fresh namespaces, so that a pod needs to wait for neither.
    pub warm: u16,
}

/// How pods are connected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    pub mode: NetworkMode,
    /// Which types of CNI plugins pausa runs in process instead of their binaries, with `mode = "cni"`.
    pub in_process: InProcessPlugins,
    /// Used with `mode = "bridge"`.
    pub bridge: Bridge,
}

/// How pods are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The first CNI configuration in `cni.conf_dir`.
    #[default]
    Cni,
    /// The built-in bridge, which needs no plugins and connects the pods of this node only.
    Bridge,
}

/// Types of CNI plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InProcessPlugins {
    /// All that pausa implements, or none.
    All(bool),
    /// These.
    Types(Vec<String>),
}

impl Default for InProcessPlugins {
    fn default() -> Self {
        Self::All(true)
    }
}

impl InProcessPlugins {
    /// Whether a plugin of this type runs in process, if pausa implements it.
    #[must_use]
    pub fn includes(&self, plugin: &str) -> bool {
        match self {
            Self::All(all) => *all,
            Self::Types(types) => types.iter().any(|known| known == plugin),
        }
    }
}

/// The built-in bridge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bridge {
    /// Interface name, at most 15 characters. If empty, `pausa0`, or a name of its own for a daemon that does not use the
    /// default directories.
    pub name: String,
    /// IPv4 addresses for pods; the first one is the bridge's. The pod CIDR from kubelet takes precedence.
    pub subnet: Ipv4Net,
    /// IPv6 addresses for pods, such as `fd00:88::/64`; without, pods have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet_v6: Option<Ipv6Net>,
    /// MTU of the bridge and the pods' interfaces in bytes; 0 uses the MTU of the default route's interface.
    pub mtu: u32,
    /// Whether traffic that leaves the subnet gets the node's source address.
    pub masquerade: bool,
}

/// CNI plugins and their configuration, used with `network.mode = "cni"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cni {
    /// Directory of `*.conflist`, `*.conf` and `*.json`; the first file by name is used.
    pub conf_dir: PathBuf,
    /// Directories of plugin binaries, searched in order.
    pub bin_dir: Vec<PathBuf>,
    /// Directory of cached results, which other CNI tools read too.
    pub cache_dir: PathBuf,
}

/// Pulling images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Images {
    /// Number of layers of an image that are fetched in parallel.
    pub max_parallel_downloads: u32,
    /// Seconds without data after which a download is aborted and retried.
    pub stall_timeout_seconds: u32,
    /// Seconds for which the data of a failed pull is kept for a retry; 0 keeps nothing.
    pub keep_failed_seconds: u32,
    /// Credentials in the form of Docker's `config.json`, for damaged images that the daemon fetches again without a request.
    /// kubelet sends its own credentials with each pull.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_file: Option<SecretFile>,
    /// Images that kubelet's garbage collection must keep: references, or patterns with `*`.
    pub pinned: Vec<String>,
}

/// Seccomp profiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seccomp {
    /// A JSON profile that replaces the built-in profile for `RuntimeDefault`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_profile: Option<PathBuf>,
    /// Directory for relative paths of `Localhost` profiles. kubelet sends absolute paths.
    pub localhost_root: PathBuf,
}

/// AppArmor profiles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AppArmor {
    /// The name of a loaded profile that replaces pausa's own for `RuntimeDefault`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_profile: Option<String>,
}

/// CPUs of their own for containers of Guaranteed pods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    pub pinning: CpuPinning,
    /// CPUs that no container gets for itself, such as `0-1,16`: for the node's own services.
    pub reserved: String,
    pub on_shortage: CpuShortage,
    pub isolation: CpuIsolation,
    /// Keeps the interrupts of devices off CPUs that containers have for themselves.
    pub move_interrupts: bool,
}

/// Whether pausa gives containers CPUs of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuPinning {
    /// Never. What kubelet pins stays pinned.
    #[default]
    None,
    /// A container of a Guaranteed pod that asks for a whole number of CPUs gets them for itself.
    Static,
}

/// What happens when a container cannot get CPUs of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuShortage {
    /// It runs where nobody is pinned, with its quota.
    #[default]
    Share,
    /// It is not created.
    Refuse,
}

/// Who else may run on CPUs that a container has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuIsolation {
    /// Nothing that pausa runs.
    #[default]
    None,
    /// Nothing at all but per-CPU threads of the kernel: a cpuset partition. Needs cgroup v2 and Linux 6.7.
    Partition,
}

/// Block I/O classes, which annotations put containers into.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// The classes, as containerd and CRI-O read them. Read for every container that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_file: Option<PathBuf>,
    /// Creates containers without those parts of their class that this node cannot enforce.
    pub ignore_not_enabled: bool,
}

/// Classes of cache and memory bandwidth, which annotations put containers into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rdt {
    /// Where the kernel's resctrl file system is mounted. Its groups are the classes.
    pub mount_point: PathBuf,
    /// Creates containers without their class where it is not mounted.
    pub ignore_not_enabled: bool,
}

/// The server for exec, attach and port-forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Streaming {
    /// The address that the server listens on and puts into its URLs.
    pub address: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// The certificate chain in PEM, with the server's certificate first. Enables TLS. Read again when it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<SecretFile>,
    /// The private key of `cert` in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretFile>,
    /// Seconds without data in either direction after which a stream is closed.
    pub idle_timeout_seconds: u32,
    /// How many sessions of exec, attach and port-forward may exist at the same time.
    pub max_sessions: u32,
    /// How many of them with one pod.
    pub max_sessions_per_pod: u32,
}

/// What pods and containers use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// How often it is read in the background while somebody asks for lists of it. Answers are at most one and a half of this
    /// old. 0: it is read for each answer.
    pub interval_seconds: u32,
}

/// Metrics about the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Where metrics are served; if unset, nothing is served or counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<MetricsAddress>,
}

/// Traces of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracing {
    /// The OTLP endpoint of a collector that speaks gRPC, `http://address:port`. Empty: no traces.
    pub endpoint: String,
    /// Which part of the requests that belong to no trace of a client begins one, from 0 to 1. A client's trace is recorded if
    /// the client says so.
    pub sampling_ratio: f64,
}

/// What cAdvisor, which is part of kubelet, asks of containerd.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cadvisor {
    /// The socket that is served, which is `/run/containerd/containerd.sock` unless kubelet's `--containerd` says otherwise.
    /// Empty for none.
    pub listen: PathBuf,
}

/// Plugins that see and change how pods and containers are made (Node Resource Interface).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nri {
    /// Whether plugins can connect and are started.
    pub enable: bool,
    /// The socket that plugins connect to. Processes of root only.
    pub socket_path: PathBuf,
    /// Whether there is no socket, so that the only plugins are those of `plugin_path`.
    pub disable_connections: bool,
    /// Directory of plugins that are started with the daemon, executable files named `NN-name`.
    pub plugin_path: PathBuf,
    /// Directory of their configurations, `NN-name.conf` or `name.conf`.
    pub plugin_config_path: PathBuf,
    /// Seconds that a plugin has to register.
    pub plugin_registration_timeout_seconds: u32,
    /// Seconds that a plugin has to answer. One that takes longer is cut off.
    pub plugin_request_timeout_seconds: u32,
    /// What plugins may not change, and which of them must be there.
    pub default_validator: DefaultValidator,
}

impl Default for Nri {
    fn default() -> Self {
        Self {
            enable: false,
            socket_path: "/var/run/nri/nri.sock".into(),
            disable_connections: false,
            plugin_path: "/opt/nri/plugins".into(),
            plugin_config_path: "/etc/nri/conf.d".into(),
            plugin_registration_timeout_seconds: 5,
            plugin_request_timeout_seconds: 2,
            default_validator: DefaultValidator::default(),
        }
    }
}

/// An address to serve metrics on: `address:port` or `unix:///path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MetricsAddress {
    /// Port 0 takes a free port.
    Tcp(SocketAddr),
    /// The absolute path of a socket, which gets mode 0660.
    Unix(PathBuf),
}

/// A text that is not a [`MetricsAddress`].
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is neither address:port nor unix:// and an absolute path")]
pub struct MetricsAddressError {
    text: String,
}

/// The log on stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace` for pausa itself, with libraries at `warn`; or
    /// directives such as `info,pausa::sandbox=debug,h2=trace`.
    pub level: String,
    pub format: LogFormat,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// What creates cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// systemd if it is the init process and cgroup v2 is mounted, otherwise cgroupfs.
    #[default]
    Auto,
    /// pausa itself, with directories below /sys/fs/cgroup.
    Cgroupfs,
    /// systemd, which creates scopes in kubelet's slices on request over D-Bus.
    Systemd,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN.to_owned(),
            root: "/var/lib/pausa".into(),
            state: "/run/pausa".into(),
            registry_config_dir: "/etc/pausa/certs.d".into(),
            registries_conf: DEFAULT_REGISTRIES_CONF.into(),
            cgroup_driver: CgroupDriver::Auto,
            cgroup_scope_prefix: DEFAULT_SCOPE_PREFIX.to_owned(),
            runtime_name: "pausa".to_owned(),
            enable_unprivileged_ports: true,
            enable_unprivileged_icmp: true,
            device_ownership_from_security_context: false,
            enable_selinux: true,
            hooks_dirs: Vec::new(),
            cdi_spec_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
            max_log_line: 16 * 1024,
            drain_timeout_seconds: 5,
            network: Network::default(),
            cni: Cni::default(),
            sandbox: Sandbox::default(),
            images: Images::default(),
            seccomp: Seccomp::default(),
            apparmor: AppArmor::default(),
            cpu: Cpu::default(),
            blockio: BlockIo::default(),
            rdt: Rdt::default(),
            streaming: Streaming::default(),
            log: Log::default(),
            stats: Stats::default(),
            metrics: Metrics::default(),
            tracing: Tracing::default(),
            cadvisor: Cadvisor::default(),
            nri: Nri::default(),
            handlers: BTreeMap::from([(String::new(), Handler::default())]),
        }
    }
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            sampling_ratio: 1.0,
        }
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self { interval_seconds: 10 }
    }
}

impl Default for Bridge {
    fn default() -> Self {
        Self {
            name: String::new(),
            subnet: Ipv4Net::new_assert([10, 88, 0, 0].into(), 16),
            subnet_v6: None,
            mtu: 0,
            masquerade: true,
        }
    }
}

impl Default for Cni {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dir: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            cache_dir: "/var/lib/cni".into(),
        }
    }
}

impl Default for Images {
    fn default() -> Self {
        Self {
            max_parallel_downloads: 6,
            stall_timeout_seconds: 60,
            keep_failed_seconds: 3600,
            auth_file: None,
            pinned: Vec::new(),
        }
    }
}

impl Default for Seccomp {
    fn default() -> Self {
        Self {
            default_profile: None,
            localhost_root: "/var/lib/kubelet/seccomp".into(),
        }
    }
}

impl Default for Rdt {
    fn default() -> Self {
        Self {
            mount_point: "/sys/fs/resctrl".into(),
            ignore_not_enabled: false,
        }
    }
}

impl Default for Streaming {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            cert: None,
            key: None,
            idle_timeout_seconds: 4 * 60 * 60,
            max_sessions: 512,
            max_sessions_per_pod: 128,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl FromStr for MetricsAddress {
    type Err = MetricsAddressError;

    fn from_str(text: &str) -> Result<Self, MetricsAddressError> {
        let address = match text.strip_prefix("unix://") {
            Some(path) => Some(Self::Unix(path.into())).filter(|_| path.starts_with('/')),
            None => text.parse().map(Self::Tcp).ok(),
        };
        address.ok_or_else(|| MetricsAddressError {
            text: text.to_owned(),
        })
    }
}

impl TryFrom<String> for MetricsAddress {
    type Error = MetricsAddressError;

    fn try_from(text: String) -> Result<Self, MetricsAddressError> {
        text.parse()
    }
}

impl From<MetricsAddress> for String {
    fn from(address: MetricsAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Config {
    /// The path of the socket in `listen`.
    pub fn socket(&self) -> &Path {
        Path::new(self.listen.strip_prefix("unix://").unwrap_or(&self.listen))
    }

    /// Eight hex digits, different for daemons with a different `listen`, `root` or `state`.
    fn instance(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.socket(), &self.root, &self.state] {
            let bytes = part.as_os_str().as_encoded_bytes();
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        }
        hash.finalize()
            .iter()
            .take(4)
            .fold(String::new(), |mut text, byte| {
                // Writing to a String cannot fail.
                _ = write!(text, "{byte:02x}");
                text
            })
    }

    /// `pausa`, or `pausa-` and [`Self::instance`] for a daemon that does not use the default paths. Every name that this daemon
    /// uses outside its directories (network namespaces, cgroups) begins with it.
    pub fn instance_name(&self) -> String {
        let default = Self::default();
        let paths = |c: &Self| (c.socket().to_owned(), c.root.clone(), c.state.clone());
        if paths(self) == paths(&default) {
            "pausa".to_owned()
        } else {
            format!("pausa-{}", self.instance())
        }
    }

    /// The interface name of the built-in bridge: as configured, or `pausa0` or [`Self::instance_name`].
    pub fn bridge_name(&self) -> String {
        if !self.network.bridge.name.is_empty() {
            return self.network.bridge.name.clone();
        }
        match self.instance_name() {
            name if name == "pausa" => "pausa0".to_owned(),
            name => name,
        }
    }

    /// The configuration as TOML, for `pausa config`.
    ///
    /// # Errors
    /// A path is not UTF-8, which TOML cannot express.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|source| ConfigError::Print { source })
    }
}

#[cfg(test)]
mod tests;
