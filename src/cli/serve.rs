//! `pausa serve`: the daemon, from its configuration to the last answer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::services::build_services;
use super::{Flags, reload, watchdog};
use crate::config::{self, Config, Running};
use crate::cri::server::{self, Listening};
use crate::cri::{NodeInfo, Services};
use crate::error::chain;
use crate::image::Images;
use crate::sandbox::{Pods, Reconciler};
use crate::telemetry::{self, metrics};
use pausa_seccomp::KernelVersion;

/// The first kernel with mount_setattr(2), which makes a mount and all mounts below it read-only.
const RECURSIVE_READ_ONLY_SINCE: KernelVersion = KernelVersion::new(5, 12);

/// Heaps of the allocator. Work is short and rarely allocates on more than two threads at once; more heaps only cost memory.
const HEAPS: u8 = 2;

/// Allocations of at least this size, 1 MiB, are returned to the kernel when freed, and so is as much free memory at the end of
/// a heap. By default glibc raises both limits with the largest allocation that was ever freed, to 32 and 64 MiB.
const RETURNED: u32 = 1 << 20;

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(flags: Flags) -> anyhow::Result<()> {
    let config = flags.config()?;
    let running = Arc::new(Running::new(config, move || flags.config()));
    pausa_sys::share_heaps(HEAPS);
    pausa_sys::return_allocations_from(RETURNED);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let ended = runtime.block_on(daemon(running));
    // The tasks of all pods have nothing to lose, as after a `kill -9`: taking them apart would only take time.
    runtime.shutdown_background();
    ended
}

async fn daemon(running: Arc<Running>) -> anyhow::Result<()> {
    let config = running.config();
    let traces = telemetry::init(&config.log, &config.tracing)?;
    // From now on a signal stops the daemon in order, even during recovery.
    let stop = stop_signals()?;
    // And a reload waits until there is something to change.
    let hangup = watch(SignalKind::hangup())?;
    // Before anything happens that metrics count.
    let metrics = metrics(&config).await?;
    let (pods, greetings) = build_services(&config).await?;
    let listening = listen(&config).await?;
    if config.nri.enable {
        let started = pods.start_nri(nri(&config.nri)).await;
        started.context("cannot start NRI ([nri] in the configuration)")?;
    }
    let cadvisor = cadvisor(&config, &pods).await?;
    let reconciler = Reconciler::begin(pods.clone(), greetings);
    let driver = pods.services().cgroups.driver();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = config.listen,
        instance = config.instance_name(),
        cgroup_driver = driver.as_str_name(),
        "serving"
    );
    let images = pods.services().images.clone();
    let opened = pods.clone();
    // Only Status waits for it.
    let user_namespaces = tokio::spawn(user_namespaces(images.clone()));
    let scraped = metrics.map(|metrics| tokio::spawn(metrics.serve(states(pods.clone()))));
    let services = Services {
        node: Arc::new(NodeInfo {
            running: Arc::clone(&running),
            cgroup_driver: driver,
            recursive_read_only_mounts: pods.services().host.load().kernel >= RECURSIVE_READ_ONLY_SINCE,
            user_namespaces: user_namespaces.map(Result::unwrap_or_default).boxed().shared(),
        }),
        pods,
    };
    watchdog::start(opened.clone(), config.state.clone());
    let reloads = tokio::spawn(reload::on_signal(hangup, Arc::clone(&running), opened.clone()));
    let drain = || Duration::from_secs(running.config().drain_timeout_seconds.into());
    let served = server::serve(listening, services, stop, drain).await;
    reloads.abort();
    reconciler.end().await;
    opened.stop_nri().await;
    for server in [scraped, cadvisor].into_iter().flatten() {
        server.abort();
        // With it goes its socket. Cancelled, which is what was asked for.
        drop(server.await);
    }
    served?;
    // The leases end with this process, but the containers that hold them do not.
    images.close();
    opened.services().store.flush();
    tracing::info!("stopped");
    if let Some(traces) = traces {
        // An error has been logged; a panic is one of a library that has nothing to do any more.
        tokio::task::spawn_blocking(|| traces.end()).await.ok();
    }
    Ok(())
}

/// Whether containers can have user namespaces on this node. Found out by trying, because it depends on the kernel, its
/// settings and the file system of the images.
async fn user_namespaces(images: Images) -> bool {
    let checked = tokio::task::spawn_blocking(move || images.check_user_namespaces()).await;
    match checked {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            let error = chain(&error);
            tracing::info!(error, "pods on this node cannot have user namespaces");
            false
        }
        Err(_) => false,
    }
}

async fn listen(config: &Config) -> anyhow::Result<Listening> {
    if let Some(inherited) = server::inherited()? {
        if inherited.path().as_deref() != Some(config.socket()) {
            tracing::warn!(
                path = %inherited.path().unwrap_or_default().display(),
                listen = config.listen,
                "systemd has passed another socket than the configuration has; commands of pausa need its address"
            );
        }
        return Ok(inherited);
    }
    Ok(server::bind(config.socket()).await?)
}

/// Answers cAdvisor, if that is configured.
async fn cadvisor(config: &Config, pods: &Pods) -> anyhow::Result<Option<JoinHandle<()>>> {
    let path = &config.cadvisor.listen;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let listening = server::bind(path).await;
    let listening = listening.context("cannot listen for cAdvisor ([cadvisor] listen)")?;
    tracing::info!(path = %path.display(), "answering cAdvisor");
    Ok(Some(tokio::spawn(server::serve_cadvisor(
        listening,
        pods.clone(),
    ))))
}

fn nri(config: &config::Nri) -> pausa_nri::Settings {
    pausa_nri::Settings {
        socket_path: config.socket_path.clone(),
        disable_connections: config.disable_connections,
        plugin_path: config.plugin_path.clone(),
        plugin_config_path: config.plugin_config_path.clone(),
        registration_timeout: Duration::from_secs(config.plugin_registration_timeout_seconds.into()),
        request_timeout: Duration::from_secs(config.plugin_request_timeout_seconds.into()),
        validator: config.default_validator.clone(),
        ..pausa_nri::Settings::new("pausa", env!("CARGO_PKG_VERSION"))
    }
}

/// Listens for metrics, if that is configured.
async fn metrics(config: &Config) -> anyhow::Result<Option<metrics::Listening>> {
    let Some(address) = &config.metrics.address else {
        return Ok(None);
    };
    let listening = metrics::Listening::begin(address).await?;
    tracing::info!(address = %listening.address(), "serving metrics");
    Ok(Some(listening))
}

/// What metrics tell of the states of all modules.
fn states(pods: Pods) -> impl Fn() -> metrics::States {
    move || {
        let services = pods.services();
        metrics::States {
            build: metrics::Build {
                cgroup_version: if services.cgroups.layout().is_v2() {
                    "2"
                } else {
                    "1"
                },
                cgroup_driver: services.cgroups.driver().as_str_name(),
            },
            images: services.images.states(),
            pods: pods.states(),
            cpus: services.cpus.states(),
            streaming: services.streaming.states(),
            network_ready: services.network.readiness().is_ok(),
            record_copies_waiting: services.store.copies_waiting(),
        }
    }
}

/// Completes with the first SIGTERM or SIGINT after this call.
fn stop_signals() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn watch(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).with_context(|| format!("cannot watch for signal {}", kind.as_raw_value()))
}
