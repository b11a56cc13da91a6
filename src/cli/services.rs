//! Builds the modules of the daemon from its configuration.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;

use crate::cgroups::Cgroups;
use crate::cgroups::blockio::Classes;
use crate::cgroups::cpus::Cpus;
use crate::config::Config;
use crate::error::chain;
use crate::image::{Images, ImagesConfig};
use crate::lsm::apparmor::AppArmor;
use crate::lsm::selinux::SeLinux;
use crate::monitor::MonitorBinary;
use crate::network::{self, BridgeConfig, NetworkConfig};
use crate::oci::{Host, SeccompPrograms};
use crate::quota::{Projects, Support};
use crate::sandbox::{Nri, Pods, Services, Settings};
use crate::state::{Layout, Store};
use crate::streaming::{self, Streaming};

/// Where network namespaces are mounted: `ip netns`, CNI plugins and other tools expect them here.
const NETNS_DIR: &str = "/var/run/netns";
/// How long a new pod waits until the network of the node is configured.
const NETWORK_PATIENCE: Duration = Duration::from_secs(30);
/// How long output is read after the command of an exec has ended, if its children keep the output open.
const EXEC_DRAIN: Duration = Duration::from_secs(1);

/// Opens the stores and takes over the pods, as recorded. The task that is returned ends when their monitors were greeted.
pub(crate) async fn build_services(config: &Config) -> anyhow::Result<(Pods, JoinHandle<()>)> {
    // It begins as a copy of all mounts of the node. The thread parts with the root and working directory of the others.
    let base_mounts = std::thread::spawn(pausa_sys::base_mounts);
    let images = Images::open(ImagesConfig {
        root: config.root.clone(),
        registry_config_dir: config.registry_config_dir.clone(),
        registries_conf: config.registries_conf.clone(),
        max_parallel_downloads: usize::try_from(config.images.max_parallel_downloads)?,
        stall_timeout: Duration::from_secs(config.images.stall_timeout_seconds.into()),
        platform: pausa_distribution::Platform::host(),
        auth_file: config.images.auth_file.clone(),
        keep_failed: Duration::from_secs(config.images.keep_failed_seconds.into()),
        pinned: config.images.pinned.clone(),
    });
    let images = images.context("cannot open the image store")?;
    let store = Store::open(Layout::new(&config.state, &config.root)).context("cannot open the records")?;
    let projects = Projects::open(store.layout().persistent_pods()).context("cannot open the records")?;
    report_unenforced(config, &projects);
    report_classes(config);
    let cgroups = Arc::new(Cgroups::new(config.cgroup_driver).context("cannot use cgroups")?);
    let cpus = Cpus::open(&config.cpu, Arc::clone(&cgroups), &config.state)
        .context("cannot manage the node's CPUs")?;
    let mut host = Host::probe();
    if let Some(path) = &config.seccomp.default_profile {
        host.read_seccomp_default(path)
            .context("cannot use the seccomp profile of the configuration")?;
    }
    let streaming = Streaming::start(streaming(config)).await;
    let services = Services {
        store,
        images: images.clone(),
        projects: Arc::new(projects),
        network: network::Network::new(network_config(config)),
        streaming: streaming.context("cannot start the streaming server")?,
        monitors: MonitorBinary::prepare().context("cannot prepare the monitor")?,
        base_mounts: base_mounts
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .context("cannot make the mount namespace that containers begin with")?,
        host,
        selinux: SeLinux::open(config.enable_selinux),
        apparmor: AppArmor::open(config.apparmor.default_profile.as_deref()),
        nri: Nri::default(),
        cdi: pausa_cdi::Registry::new(config.cdi_spec_dirs.clone()),
        cgroups,
        cpus,
        seccomp: SeccompPrograms::default(),
        settings: Settings {
            handlers: config.handlers.clone(),
            netns_dir: NETNS_DIR.into(),
            unprivileged_ports: config.enable_unprivileged_ports,
            unprivileged_icmp: config.enable_unprivileged_icmp,
            own_devices: config.device_ownership_from_security_context,
            scope_prefix: config.cgroup_scope_prefix.clone(),
            block_io: config.blockio.clone(),
            rdt: config.rdt.clone(),
            warm: config.sandbox.warm.into(),
            max_log_line: config.max_log_line,
            network_patience: NETWORK_PATIENCE,
            exec_drain: EXEC_DRAIN,
            stats_interval: Duration::from_secs(config.stats.interval_seconds.into()),
            hooks_dirs: config.hooks_dirs.clone(),
            seccomp_root: config.seccomp.localhost_root.clone(),
        },
    };
    let (pods, recovered) = Pods::open(services);
    // All containers hold their leases now: images without a lease and a name can be removed.
    images.leases_restored();
    tracing::info!(
        pods = recovered.pods,
        containers = recovered.containers,
        broken = recovered.broken,
        removed = recovered.removed,
        "read the records"
    );
    Ok((pods, recovered.greetings))
}

/// A limit that cannot be enforced makes every container fail: better to know at once.
fn report_unenforced(config: &Config, projects: &Projects) {
    if projects.support() == Support::Enforced {
        return;
    }
    for (handler, settings) in &config.handlers {
        if settings
            .writable_layer_limit
            .or(settings.pod_writable_layer_limit)
            .is_some()
        {
            tracing::error!(
                handler,
                error = chain(&projects.unsupported()),
                "the configuration limits the writable layers of this runtime handler, which is not possible: its containers are refused"
            );
        }
    }
}

/// As [`report_unenforced`], for a file that is read again for each container.
fn report_classes(config: &Config) {
    if let Some(path) = &config.blockio.config_file
        && let Err(error) = Classes::read(path)
    {
        let error = chain(&error);
        tracing::error!(
            error,
            "containers with a block I/O class are refused until its file is right"
        );
    }
}

fn streaming(config: &Config) -> streaming::Settings {
    let streaming = &config.streaming;
    streaming::Settings {
        address: (streaming.address, streaming.port).into(),
        certificate: streaming.cert.clone().zip(streaming.key.clone()),
        idle_timeout: Duration::from_secs(streaming.idle_timeout_seconds.into()),
        sessions: streaming::SessionLimits {
            per_pod: streaming.max_sessions_per_pod,
            total: streaming.max_sessions,
        },
    }
}

pub(super) fn network_config(config: &Config) -> NetworkConfig {
    let bridge = &config.network.bridge;
    NetworkConfig {
        mode: config.network.mode,
        in_process: config.network.in_process.clone(),
        cni_conf_dir: config.cni.conf_dir.clone(),
        cni_bin_dirs: config.cni.bin_dir.clone(),
        cni_cache_dir: config.cni.cache_dir.clone(),
        netns_dir: NETNS_DIR.into(),
        bridge: BridgeConfig {
            name: config.bridge_name(),
            subnet: bridge.subnet,
            subnet_v6: bridge.subnet_v6,
            state_dir: config.root.join("network"),
            mtu: (bridge.mtu != 0).then_some(bridge.mtu),
            masquerade: bridge.masquerade,
        },
    }
}
