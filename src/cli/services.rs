//! Builds the modules of the daemon from its configuration, and gives them another one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

use crate::cgroups::Cgroups;
use crate::cgroups::blockio::Classes;
use crate::cgroups::cpus::Cpus;
use crate::config::{Config, ConfigError, SecretFile};
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
    let images = Images::open(images_config(config)?);
    let images = images.context("cannot open the image store")?;
    let store = Store::open(Layout::new(&config.state, &config.root)).context("cannot open the records")?;
    let projects = Projects::open(store.layout().persistent_pods()).context("cannot open the records")?;
    report_unenforced(config, &projects);
    report_classes(config);
    let cgroups = Arc::new(Cgroups::new(config.cgroup_driver).context("cannot use cgroups")?);
    let cpus = Cpus::open(&config.cpu, Arc::clone(&cgroups), &config.state)
        .context("cannot manage the node's CPUs")?;
    let host = with_seccomp(Host::probe(), config)?;
    let streaming = Streaming::start(streaming(config)?).await;
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
        host: ArcSwap::from_pointee(host),
        selinux: SeLinux::open(config.enable_selinux),
        apparmor: ArcSwap::from_pointee(AppArmor::open(config.apparmor.default_profile.as_deref())),
        nri: Nri::default(),
        cdi: ArcSwap::from_pointee(pausa_cdi::Registry::new(config.cdi_spec_dirs.clone())),
        cgroups,
        cpus,
        seccomp: SeccompPrograms::default(),
        settings: ArcSwap::from_pointee(settings(config)),
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

/// Gives all modules the settings that may change while the daemon runs. Either all of them, or none.
///
/// # Errors
/// A file that the configuration names cannot be used.
pub(crate) fn configure(pods: &Pods, old: &Config, new: &Config) -> anyhow::Result<()> {
    let services = pods.services();
    // First what can fail.
    let (images, streaming) = (images_config(new)?, streaming(new)?);
    let host = match old.seccomp.default_profile == new.seccomp.default_profile {
        // The file is read again when the daemon starts, and when another one is configured.
        true => None,
        false => Some(with_seccomp(Host::clone(&services.host.load()), new)?),
    };
    if let Some(host) = host {
        services.host.store(Arc::new(host));
    }
    if old.apparmor != new.apparmor {
        let profile = new.apparmor.default_profile.as_deref();
        services.apparmor.store(Arc::new(AppArmor::open(profile)));
    }
    if old.cdi_spec_dirs != new.cdi_spec_dirs {
        let registry = pausa_cdi::Registry::new(new.cdi_spec_dirs.clone());
        services.cdi.store(Arc::new(registry));
    }
    if old.handlers != new.handlers {
        report_unenforced(new, &services.projects);
    }
    if old.blockio != new.blockio {
        report_classes(new);
    }
    services.images.configure(images);
    services.streaming.configure(&streaming);
    services.network.configure(network_config(new));
    pods.configure(settings(new));
    Ok(())
}

fn with_seccomp(mut host: Host, config: &Config) -> anyhow::Result<Host> {
    host.seccomp_default = None;
    if let Some(path) = &config.seccomp.default_profile {
        host.read_seccomp_default(path)
            .context("cannot use the seccomp profile of the configuration")?;
    }
    Ok(host)
}

fn images_config(config: &Config) -> anyhow::Result<ImagesConfig> {
    let images = &config.images;
    let auth_file = images.auth_file.as_ref();
    Ok(ImagesConfig {
        root: config.root.clone(),
        registry_config_dir: config.registry_config_dir.clone(),
        registries_conf: config.registries_conf.clone(),
        max_parallel_downloads: usize::try_from(images.max_parallel_downloads)?,
        stall_timeout: Duration::from_secs(images.stall_timeout_seconds.into()),
        platform: pausa_distribution::Platform::host(),
        auth_file: auth_file.map(|file| file.path("images.auth_file")).transpose()?,
        keep_failed: Duration::from_secs(images.keep_failed_seconds.into()),
        pinned: images.pinned.clone(),
    })
}

fn settings(config: &Config) -> Settings {
    Settings {
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
    }
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

fn streaming(config: &Config) -> Result<streaming::Settings, ConfigError> {
    let streaming = &config.streaming;
    let path = |key, file: &Option<SecretFile>| file.as_ref().map(|file| file.path(key)).transpose();
    let certificate = path("streaming.cert", &streaming.cert)?;
    Ok(streaming::Settings {
        address: (streaming.address, streaming.port).into(),
        certificate: certificate.zip(path("streaming.key", &streaming.key)?),
        idle_timeout: Duration::from_secs(streaming.idle_timeout_seconds.into()),
        sessions: streaming::SessionLimits {
            per_pod: streaming.max_sessions_per_pod,
            total: streaming.max_sessions,
        },
    })
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

#[cfg(test)]
mod tests;
