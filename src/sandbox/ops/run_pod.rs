//! RunPodSandbox: a pod from its configuration. The same configuration again joins the earlier call.
//!
//! ```text
//!  Recorded ──▶ Unshared ──▶ PodMade
//!  directory,   monitor,      address, files,
//!  record       namespaces    pause
//!     ▲            │
//!     └── fail ◀── fail
//! ```
//!
//! Each phase consumes the one before and can unwind. The record is saved as *creating*, with the network as attached,
//! before anything is made: a daemon that dies in between leaves nothing that the next one does not know of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pausa_monitor_protocol::{PodNamespaces, PodPlan};
use tokio::sync::mpsc;

use super::files::{mount_shm, unmount, write_pod_files};
use super::stop_pod::{detach, end_monitor};
use super::{cgroup, confine, files};
use crate::blocking::blocking;
use crate::cgroups::Cgroup;
use crate::error::{ErrorKind, Failure, Kinded, chain};
use crate::failpoint::failpoint_before;
use crate::id::Id;
use crate::lsm::selinux::PodLabel;
use crate::monitor::{Events, Monitor, MonitorError};
use crate::network::{Attachment, NetworkError, PodNetwork, PortMapping, Protocol};
use crate::oci::{pod_namespaces, pod_users};
use crate::proto::v1;
use crate::require;
use crate::sandbox::error::PodError;
use crate::sandbox::handle::PodHandle;
use crate::sandbox::lifecycle::{Answer, Change, Desired, Lifecycle, MonitorContact, PodPhase};
use crate::sandbox::nri::meanwhile;
use crate::sandbox::pod::{Pod, Turn};
use crate::sandbox::record::{PodName, PodRecord, PodState, cgroup_parent, selinux_options};
use crate::sandbox::services::{Services, Settings};
use crate::sandbox::warm::WarmMonitor;
use crate::sandbox::{Pods, registry, validate};
use crate::telemetry::Steps;

const OPERATION: &str = "run_pod";

/// oom_score_adj of what holds a pod together: never killed (proc_pid_oom_score_adj(5)). In a small Guaranteed pod a score
/// that only makes it unlikely is not enough: a container that fills a tmpfs is smaller than the monitor.
const MONITOR_OOM_SCORE: i32 = -1000;

/// Pods that are being created: that goes on without the client that has asked for it.
pub(in crate::sandbox) const CREATING_MAX: usize = 512;

impl Pods {
    /// Creates and starts a pod, joins the creation of the same one, or finds it created.
    ///
    /// # Errors
    /// Why it could not be created; then nothing of it is left, except for a network attachment that could not be
    /// undone, which shows as a pod that is not ready.
    pub async fn run_pod_sandbox(
        &self,
        request: v1::RunPodSandboxRequest,
    ) -> Result<v1::RunPodSandboxResponse, Failure> {
        let v1::RunPodSandboxRequest {
            config,
            runtime_handler,
        } = request;
        let config = require::message("config", config)?;
        self.check(&config, &runtime_handler)?;
        let pod_sandbox_id = self.run(config, runtime_handler).await?.into();
        Ok(v1::RunPodSandboxResponse { pod_sandbox_id })
    }

    fn check(&self, config: &v1::PodSandboxConfig, handler: &str) -> Result<(), Failure> {
        let metadata = require::message("config.metadata", config.metadata.as_ref())?;
        require::text("config.metadata.name", &metadata.name)?;
        require::text("config.metadata.namespace", &metadata.namespace)?;
        require::text("config.metadata.uid", &metadata.uid)?;
        if !self.services.settings().handlers.contains_key(handler) {
            return Err(require::invalid(format!(
                "the runtime handler {handler:?} is not configured; add [handlers.{handler:?}] to pausa's configuration"
            )));
        }
        validate::pod(config)?;
        // Refused now rather than when the first container needs it.
        self.services
            .cgroups
            .monitor_path(cgroup_parent(config), "0")
            .map_err(|error| PodError::failed("use config.linux.cgroup_parent", error))?;
        Ok(())
    }

    async fn run(&self, config: v1::PodSandboxConfig, handler: String) -> Result<Id, PodError> {
        let name = PodName::of(&config);
        if !self.registry.has(&name) && self.registry.being_created() >= CREATING_MAX {
            return Err(PodError::TooManyPods { limit: CREATING_MAX });
        }
        // Given back if the pod is there already: its own is in its record.
        let label = self.services.selinux.label_pod(selinux_options(&config));
        let label = label.map_err(|error| PodError::failed("label the pod", error))?;
        let (label, _held) = label.unzip();
        loop {
            let warm = self.warm.take(&self.services.settings(), &config);
            let id = warm.as_ref().map_or_else(Id::random, |warm| warm.id.clone());
            let (handle, turns) = PodHandle::new(id, name.clone());
            match self.registry.enter(&handle) {
                Ok(()) => {
                    let record = draft(&self.services, handle.id.clone(), config, handler, label);
                    self.begin(&handle, turns, record, warm);
                    handle
                        .ask(|pod, answer| pod.lifecycle.await_ready(answer))
                        .await?;
                    return Ok(handle.id.clone());
                }
                Err(holder) => {
                    self.warm.give_back(warm);
                    match holder.ask(|pod, answer| pod.lifecycle.await_ready(answer)).await {
                        // It was being removed and is gone: its name is free now.
                        Err(PodError::Gone { .. }) if !self.registry.knows(&holder.id) => {}
                        Err(error) => return Err(error),
                        Ok(()) => return same_as(&holder, &config, &handler),
                    }
                }
            }
        }
    }

    /// Gives a pod its actor, which begins to create it.
    fn begin(
        &self,
        handle: &Arc<PodHandle>,
        turns: mpsc::UnboundedReceiver<Turn>,
        record: PodRecord,
        warm: Option<WarmMonitor>,
    ) {
        let mut pod = Pod::new(self, handle, record, turns);
        let (services, record) = (self.services.clone(), pod.lifecycle.record.clone());
        let steps = handle.begin("RunPodSandbox", None);
        let kind = |failure: &CreateFailure| failure.error.kind();
        let work = steps.run(kind, async move |steps| {
            create(&services, &record, warm, steps).await.map(Box::new)
        });
        pod.begin_told("create the pod", work, Pod::settle_creation);
        tokio::spawn(pod.run());
    }
}

/// The pod that has the name, if it is the one asked for.
fn same_as(holder: &PodHandle, config: &v1::PodSandboxConfig, handler: &str) -> Result<Id, PodError> {
    let same = holder
        .view()
        .is_some_and(|view| view.pod.config == *config && view.pod.handler == handler);
    let taken = || PodError::Taken {
        what: registry::POD,
        name: holder.name.to_string(),
        id: holder.id.to_string(),
    };
    if same { Ok(holder.id.clone()) } else { Err(taken()) }
}

/// The record as far as it follows from the request.
fn draft(
    services: &Services,
    id: Id,
    config: v1::PodSandboxConfig,
    handler: String,
    selinux: Option<PodLabel>,
) -> PodRecord {
    let linux = config.linux.as_ref();
    let mut record = PodRecord {
        version: PodRecord::VERSION,
        overhead: linux.and_then(|linux| linux.overhead.clone()),
        resources: linux.and_then(|linux| linux.resources.clone()),
        config,
        handler,
        created_at: crate::state::now(),
        state: PodState::Creating,
        netns: None,
        network: None,
        pending_detach: false,
        monitor_cgroup: true,
        monitor_pid: 0,
        scope_prefix: services.settings().scope_prefix.clone(),
        boot_id: crate::state::boot_id(),
        selinux,
        id,
    };
    if !record.host_network() {
        record.netns = Some(services.settings().netns(&record.id));
        record.pending_detach = true;
    }
    record
}

/// What a client that wants the pod to be ready gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    /// It is answered when the pod is created, or gone.
    Wait,
    NotReady,
}

/// Decides about a client that wants the pod to be ready. The end of a pod that is being removed is waited for, so that its
/// name can be used again.
fn decide(pod: &Lifecycle) -> Readiness {
    match (pod.desired, pod.record.state) {
        (Desired::Removed, _) | (_, PodState::Creating) => Readiness::Wait,
        (_, PodState::Ready) => Readiness::Ready,
        (_, PodState::NotReady) => Readiness::NotReady,
    }
}

/// What a client can do about a pod that is not ready.
pub(super) const NOT_READY_HINT: &str = "remove it, or raise metadata.attempt";

impl Lifecycle {
    pub(in crate::sandbox) fn await_ready(&mut self, answer: Answer<()>) {
        let outcome = match decide(self) {
            Readiness::Wait => return self.ready_waiters.push(answer),
            Readiness::Ready => Ok(()),
            Readiness::NotReady => Err(self.not_ready(NOT_READY_HINT)),
        };
        answer.send(outcome).ok();
    }

    /// The pod's resources are there.
    pub(in crate::sandbox) fn created(&mut self, network: Option<Attachment>, monitor_pid: i32) {
        self.enter(PodPhase::Ready);
        self.monitor = MonitorContact::Connected;
        let record = self.record_mut();
        record.network = network;
        record.pending_detach = false;
        record.monitor_pid = monitor_pid;
    }

    /// The record of the created pod could not be saved. No client knows of the pod yet: it is removed like any other.
    pub(in crate::sandbox) fn discard(&mut self) {
        self.enter(PodPhase::NotReady);
        self.desired = Desired::Removed;
    }

    /// The pod could not be created. Its record stays only where a network attachment is left: then the pod is there
    /// to be stopped.
    pub(in crate::sandbox) fn creation_failed(&mut self, failure: CreateFailure) -> Change {
        self.enter(PodPhase::NotReady);
        let waiters = self.ready_waiters.take();
        let change = if failure.attached {
            Change::pod()
        } else {
            self.desired = Desired::Removed;
            Change::default()
        };
        change.answer(waiters, Err(failure.error))
    }
}

impl Pod {
    fn settle_creation(&mut self, outcome: Result<Result<Box<PodMade>, CreateFailure>, PodError>) {
        let made = match outcome {
            Ok(Ok(made)) => *made,
            Ok(Err(failure)) => return self.creation_failed(failure),
            // A panic: how far it got is not known.
            Err(error) => {
                let attached = self.lifecycle.record.netns.is_some();
                return self.creation_failed(CreateFailure { error, attached });
            }
        };
        self.lifecycle.created(made.network, made.monitor.pid());
        self.handle.set_monitor(Some(made.monitor));
        self.events = Some(made.events);
        failpoint_before(OPERATION, "save");
        if let Err(error) = self.save_pod() {
            self.lifecycle.discard();
            return self.lifecycle.ready_waiters.take().answer(&Err(error));
        }
        failpoint_before(OPERATION, "publish");
        if self.lifecycle.desired == Desired::Running {
            self.publish();
        }
        failpoint_before(OPERATION, "answer");
        self.lifecycle.ready_waiters.take().answer(&Ok(()));
    }

    fn creation_failed(&mut self, failure: CreateFailure) {
        tracing::warn!(
            pod = self.id().short(),
            name = %self.handle.name,
            error = failure.error.text(),
            "cannot create the pod; what was made of it is removed"
        );
        let change = self.lifecycle.creation_failed(failure);
        self.commit(OPERATION, change);
    }
}

/// A pod whose resources are all there.
#[derive(Debug)]
pub(in crate::sandbox) struct PodMade {
    monitor: Monitor,
    events: Events,
    network: Option<Attachment>,
}

/// Why a pod could not be created.
#[derive(Debug)]
pub(in crate::sandbox) struct CreateFailure {
    pub(in crate::sandbox) error: PodError,
    /// A network attachment is left that could not be undone.
    pub(in crate::sandbox) attached: bool,
}

impl From<PodError> for CreateFailure {
    fn from(error: PodError) -> Self {
        Self {
            error,
            attached: false,
        }
    }
}

async fn create(
    services: &Arc<Services>,
    record: &PodRecord,
    warm: Option<WarmMonitor>,
    steps: &Steps,
) -> Result<PodMade, CreateFailure> {
    steps.enter("record");
    let recorded = Recorded::save(services, record)?;
    steps.enter("monitor and namespaces");
    let unshared = recorded.unshare(warm).await?;
    steps.enter("network");
    unshared.complete(steps).await
}

/// There is a directory and a record.
struct Recorded<'a> {
    services: &'a Arc<Services>,
    record: &'a PodRecord,
    dir: PathBuf,
}

fn failed(doing: &'static str) -> impl FnOnce(MonitorError) -> PodError {
    move |error| PodError::failed(doing, error)
}

impl<'a> Recorded<'a> {
    fn save(services: &'a Arc<Services>, record: &'a PodRecord) -> Result<Self, PodError> {
        let dir = services.store.layout().pod(&record.id);
        let recorded = Self {
            services,
            record,
            dir,
        };
        failpoint_before(OPERATION, "record");
        match services.store.save_pod(&record.id, record) {
            Ok(()) => Ok(recorded),
            Err(error) => Err(recorded.fail(PodError::failed("save the record of the new pod", error))),
        }
    }

    /// Makes the namespaces with a monitor in them, unless there is one that has waited for this pod.
    async fn unshare(self, warm: Option<WarmMonitor>) -> Result<Unshared<'a>, PodError> {
        failpoint_before(OPERATION, "place");
        let mut recorded = self;
        if let Some(WarmMonitor { monitor, events, .. }) = warm {
            let unshared = Unshared {
                recorded,
                monitor,
                events,
                in_cgroup: false,
            };
            match unshared.bind_netns().await {
                Ok(()) => return Ok(unshared),
                Err(error) => tracing::warn!(
                    pod = unshared.recorded.record.id.short(),
                    pid = unshared.monitor.pid(),
                    error = error.text(),
                    "a monitor that was made in advance cannot be used; the pod gets another one"
                ),
            }
            recorded = unshared.recorded;
        }
        let (monitor, events) = match recorded.start_monitor().await {
            Ok(started) => started,
            Err(error) => return Err(recorded.fail(error)),
        };
        let unshared = Unshared {
            recorded,
            monitor,
            events,
            in_cgroup: true,
        };
        match unshared.bind_netns().await {
            Ok(()) => Ok(unshared),
            Err(error) => Err(unshared.fail(error.into()).await.error),
        }
    }

    async fn start_monitor(&self) -> Result<(Monitor, Events), PodError> {
        let (cgroups, spawned) = tokio::join!(
            cgroup::create_for_monitor(self.services, self.record),
            self.services.monitors.spawn(self.record.id.as_str())
        );
        let (monitor, events) = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                cgroup::remove_monitor(self.services, self.record).await;
                return Err(failed("start the pod's monitor")(error));
            }
        };
        let ready = match cgroups {
            Ok(cgroups) => self.unshare_in(&monitor, cgroups).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ready {
            end_monitor(&monitor).await;
            cgroup::remove_monitor(self.services, self.record).await;
            return Err(error);
        }
        Ok((monitor, events))
    }

    async fn unshare_in(&self, monitor: &Monitor, cgroups: Vec<Cgroup>) -> Result<(), PodError> {
        let tasks = cgroup::for_monitor_to_join(&cgroups)?;
        let namespaces = namespaces(&self.services.settings(), &self.record.config);
        // On cgroup v2 a move waits for the kernel's other CPUs: the namespaces are made meanwhile.
        let (admitted, unshared) = tokio::join!(
            cgroup::admit_monitor(self.services, &self.record.id, cgroups, monitor.pid()),
            monitor.unshare(namespaces, tasks)
        );
        let unshared = unshared.map_err(failed("make the pod's namespaces"));
        admitted.and(unshared)
    }

    /// Removes the directory and what is mounted in it.
    fn fail(self, error: PodError) -> PodError {
        unmount(&self.dir.join(files::SHM));
        if let Err(undo) = self.services.store.forget_pod(&self.record.id) {
            tracing::error!(
                pod = self.record.id.short(),
                path = %self.dir.display(),
                error = chain(&undo),
                "cannot remove the directory of a pod that was not created; the next reconciliation tries again"
            );
        }
        error
    }
}

/// There are namespaces, held by a monitor.
struct Unshared<'a> {
    recorded: Recorded<'a>,
    monitor: Monitor,
    events: Events,
    /// The monitor is in the pod's cgroup already.
    in_cgroup: bool,
}

impl Unshared<'_> {
    /// Makes the network namespace visible where CNI plugins and tools look for it.
    async fn bind_netns(&self) -> Result<(), PodError> {
        let Some(path) = self.recorded.record.netns.clone() else {
            return Ok(());
        };
        let (pid, target) = (self.monitor.pid(), path.clone());
        let bound = blocking(move || files::bind_netns(pid, &target)).await;
        // The number of one that has ended may be somebody else's by now.
        let bound = bound.and_then(|()| match self.monitor.has_ended() {
            false => Ok(()),
            true => Err(PodError::io(
                "bind the pod's network namespace",
                std::io::Error::other(format!("its monitor, process {pid}, has ended")),
            )),
        });
        if bound.is_err() {
            files::unbind_netns(&path);
        }
        bound
    }

    /// Makes all else at the same time: the files, the pod in the monitor, the attachment to the network.
    async fn complete(self, steps: &Steps) -> Result<PodMade, CreateFailure> {
        failpoint_before(OPERATION, "attach");
        // What the operation waits for is the network, as long as that is not done.
        let attached = async {
            let attached = self.attach().await;
            steps.enter("monitor and files");
            attached
        };
        let (files, set_up, attached) = tokio::join!(self.write_files(), self.set_up(), attached);
        let network = match attached {
            Ok(network) => network,
            Err(failure) => return Err(self.fail(failure).await),
        };
        failpoint_before(OPERATION, "hosts");
        let services = self.recorded.services;
        let complete = match files.and(set_up) {
            Ok(()) => {
                steps.enter("plugins");
                let told = services
                    .nri
                    .run_pod(services, || self.to_be_known(network.as_ref()));
                let (told, hosts) = meanwhile(told, || self.write_hosts(network.as_ref())).await;
                told.and(hosts)
            }
            failed => failed,
        };
        if let Err(error) = complete {
            let pod = self.to_be_known(network.as_ref());
            services.nri.remove_pod(services, &pod).await;
            let record = self.recorded.record;
            let detached = detach(services, record).await;
            if let Err(undo) = &detached {
                tracing::error!(
                    pod = record.id.short(),
                    error = undo.text(),
                    "cannot detach a pod that was not created from its network; it stays as not ready until it is stopped"
                );
            }
            let attached = detached.is_err();
            return Err(self.fail(CreateFailure { error, attached }).await);
        }
        Ok(PodMade {
            monitor: self.monitor,
            events: self.events,
            network,
        })
    }

    /// The pod's record as it will be known.
    fn to_be_known(&self, network: Option<&Attachment>) -> PodRecord {
        PodRecord {
            network: network.cloned(),
            monitor_pid: self.monitor.pid(),
            ..self.recorded.record.clone()
        }
    }

    async fn write_files(&self) -> Result<(), PodError> {
        let Recorded {
            services,
            record,
            dir,
        } = &self.recorded;
        let (dir, config) = (dir.clone(), record.config.clone());
        let own_ipc = record.namespaces().ipc() != v1::NamespaceMode::Node;
        let range = record.id_range();
        let label = confine::pod_label(services, record)?;
        blocking(move || {
            let label = label.as_deref();
            write_pod_files(&dir, &config, range, label)?;
            if own_ipc {
                mount_shm(&dir, range, label)
            } else {
                Ok(())
            }
        })
        .await
    }

    async fn set_up(&self) -> Result<(), PodError> {
        let Recorded {
            services,
            record,
            dir,
        } = &self.recorded;
        let cgroups = match self.in_cgroup {
            true => Vec::new(),
            false => cgroup::create_for_monitor(services, record).await?,
        };
        let tasks = cgroup::for_monitor_to_join(&cgroups)?;
        // Before it has a child, which would stay where it is.
        cgroup::admit_monitor(services, &record.id, cgroups, self.monitor.pid()).await?;
        let plan = PodPlan {
            pod: record.id.to_string(),
            hostname: (!record.host_network()).then(|| files::hostname(&record.config)),
            shared_pid: record.namespaces().pid() == v1::NamespaceMode::Pod,
            oom_score_adj: MONITOR_OOM_SCORE,
        };
        self.monitor
            .set_up(plan, dir, &services.base_mounts, tasks)
            .await
            .map_err(failed("set up the pod in its namespaces"))
    }

    async fn attach(&self) -> Result<Option<Attachment>, CreateFailure> {
        let Recorded { services, record, .. } = &self.recorded;
        let Some(netns) = &record.netns else {
            return Ok(None);
        };
        if let Err(reason) = services
            .network
            .wait_ready(services.settings().network_patience)
            .await
        {
            let reason = std::io::Error::other(format!("{}: {}", reason.reason, reason.message));
            let error = PodError::failed_as("attach the pod to a network", ErrorKind::Unavailable, reason);
            return Err(error.into());
        }
        let attached = services.network.attach(&pod_network(record, netns)).await;
        attached.map(Some).map_err(|error| CreateFailure {
            attached: matches!(error, NetworkError::NotUndone { .. }),
            error: PodError::failed("attach the pod to its network", error),
        })
    }

    fn write_hosts(&self, network: Option<&Attachment>) -> Result<(), PodError> {
        let Recorded {
            services,
            record,
            dir,
        } = &self.recorded;
        let ips = network.map_or_else(Vec::new, |network| network.ips.clone());
        let label = confine::pod_label(services, record)?;
        files::write_hosts(dir, &record.config, &ips, record.id_range(), label.as_deref())
    }

    /// Removes namespaces and monitor, then what was there before; the record stays while an attachment is left.
    async fn fail(self, failure: CreateFailure) -> CreateFailure {
        let Recorded { services, record, .. } = self.recorded;
        end_monitor(&self.monitor).await;
        if let Some(netns) = &record.netns {
            files::unbind_netns(netns);
        }
        cgroup::remove_monitor(services, record).await;
        if failure.attached {
            unmount(&self.recorded.dir.join(files::SHM));
            return failure;
        }
        CreateFailure {
            error: self.recorded.fail(failure.error),
            attached: false,
        }
    }
}

/// The namespaces that a pod has for itself.
pub(in crate::sandbox) fn namespaces(settings: &Settings, config: &v1::PodSandboxConfig) -> PodNamespaces {
    let asked = pod_namespaces(config);
    let own_network = asked.network() != v1::NamespaceMode::Node;
    // What cannot be was refused when it was asked for.
    let users = pod_users(config).ok().flatten();
    // The defaults make low ports and ping work without privileges.
    let mut sysctls = BTreeMap::new();
    if settings.unprivileged_ports && own_network {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    }
    if settings.unprivileged_icmp && own_network {
        // Written inside the pod's user namespace, which knows no others.
        let last = users.map_or(i32::MAX.unsigned_abs(), |users| {
            (users.length - 1).min(i32::MAX.unsigned_abs())
        });
        sysctls.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
    }
    let asked_sysctls = config.linux.iter().flat_map(|linux| &linux.sysctls);
    sysctls.extend(asked_sysctls.map(|(name, value)| (name.replace('/', "."), value.clone())));
    PodNamespaces {
        network: own_network,
        ipc: asked.ipc() != v1::NamespaceMode::Node,
        uts: own_network,
        sysctls: sysctls.into_iter().collect(),
        users,
    }
}

/// What the network module needs to know of a pod.
pub(in crate::sandbox) fn pod_network(record: &PodRecord, netns: &Path) -> PodNetwork {
    let config = &record.config;
    let name = record.name();
    PodNetwork {
        pod_id: record.id.to_string(),
        netns: netns.to_owned(),
        name: name.name,
        namespace: name.namespace,
        uid: name.uid,
        port_mappings: config.port_mappings.iter().filter_map(port_mapping).collect(),
        dns: files::dns(config),
        annotations: config.annotations.clone(),
        cgroup_parent: cgroup_parent(config).to_owned(),
    }
}

fn port_mapping(mapping: &v1::PortMapping) -> Option<PortMapping> {
    Some(PortMapping {
        protocol: match mapping.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        },
        container_port: u16::try_from(mapping.container_port).ok()?,
        host_port: u16::try_from(mapping.host_port).ok()?,
        host_ip: mapping.host_ip.parse().ok(),
    })
}
