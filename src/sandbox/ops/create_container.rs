//! CreateContainer: image, root, user, spec and plan of a container; nothing of it runs yet. The same configuration again
//! joins the earlier call.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::{LinuxDeviceCgroup, Spec};
use pausa_monitor_protocol::{ExtendedPlan, IoPlan, LogPlan, NamespacePlan};
use pausa_sys::{Durability, replace_file};
use rustix::fs::CWD;

use super::adjust::{Draft, adjust, change_others};
use super::layer::{self, Limit};
use super::volumes::{by_descriptor, mount_volumes};
use super::{cgroup, classes, confine, files, userns};
use crate::blocking::blocking;
use crate::cgroups::QosClass;
use crate::cgroups::cpus::Seat;
use crate::container::{ContainerRecord, ImageIdentity, RunState};
use crate::error::{Failure, Kinded, chain};
use crate::failpoint::failpoint_before;
use crate::id::Id;
use crate::image::{Lease, overlay};
use crate::oci::{
    self, CompileInput, ContainerInput, NodeSources, OciError, PodFiles, PodInput, PodNamespaces,
};
use crate::proto::v1;
use crate::require;
use crate::sandbox::error::PodError;
use crate::sandbox::handle::Subject;
use crate::sandbox::lifecycle::{Answer, Container, ContainerName, ContainerPhase, Lifecycle, PendingCreate};
use crate::sandbox::nri::{Happened, Later, meanwhile};
use crate::sandbox::pod::Pod;
use crate::sandbox::record::PodRecord;
use crate::sandbox::registry::CONTAINER;
use crate::sandbox::services::Services;
use crate::sandbox::{Pods, validate};
use crate::telemetry::Steps;

const OPERATION: &str = "create_container";

impl Pods {
    /// Creates a container in a ready pod, joins the creation of the same one, or finds it created. The pod's record says
    /// what the pod is; the client's memory of it (`sandbox_config`) could differ and is not looked at.
    ///
    /// # Errors
    /// Why it could not be created; then nothing of it is left.
    pub async fn create_container(
        &self,
        request: v1::CreateContainerRequest,
    ) -> Result<v1::CreateContainerResponse, Failure> {
        require::text("pod_sandbox_id", &request.pod_sandbox_id)?;
        let mut config = require::message("config", request.config)?;
        let metadata = require::message("config.metadata", config.metadata.as_ref())?;
        require::text("config.metadata.name", &metadata.name)?;
        let handlers = &self.services.settings().handlers;
        config.image = Some(require::image("config.image", config.image.take(), handlers)?);
        for (index, mount) in config.mounts.iter().enumerate() {
            if let Some(image) = &mount.image {
                require::known_handler(&format!("config.mounts[{index}].image"), image, handlers)?;
            }
        }
        validate::container(&config)?;
        self.check_target(&request.pod_sandbox_id, &config)?;
        let pod = self.registry.pod(&request.pod_sandbox_id)?;
        let config = Box::new(config);
        let container_id = pod
            .ask(move |pod, answer| pod.create_container(config, answer))
            .await?
            .into();
        Ok(v1::CreateContainerResponse { container_id })
    }

    /// A debug container's target must be a running container of the same pod.
    fn check_target(&self, pod: &str, config: &v1::ContainerConfig) -> Result<(), PodError> {
        let Some(target_id) = target_id(config) else {
            return Ok(());
        };
        let invalid = |problem: String| PodError::Invalid {
            field: "config.linux.security_context.namespace_options.target_id",
            problem,
        };
        let (view, target) = self
            .container(target_id)
            .map_err(|error| invalid(format!("leads nowhere: {error}")))?;
        if view.pod.id != self.registry.pod(pod)?.id {
            return Err(invalid(format!("{target_id:?} is a container of another pod")));
        }
        match target.run {
            RunState::Running { .. } => Ok(()),
            _ => Err(PodError::State {
                what: CONTAINER,
                id: target.id.to_string(),
                state: "not running",
                hint: "only a running container's PID namespace can be joined",
            }),
        }
    }
}

/// The container whose PID namespace a debug container joins, if it joins one.
fn target_id(config: &v1::ContainerConfig) -> Option<&str> {
    let options = oci::security_context(config)?.namespace_options.as_ref()?;
    (options.pid() == v1::NamespaceMode::Target).then_some(options.target_id.as_str())
}

/// What a create request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Create,
    /// The same one is being created.
    Join,
    Found(Id),
}

fn decide(pod: &Lifecycle, name: &ContainerName, config: &v1::ContainerConfig) -> Result<Decision, PodError> {
    if !pod.accepts_containers() {
        return Err(pod.not_ready("containers are only made in a ready pod"));
    }
    let taken = |by: &str| PodError::Taken {
        what: CONTAINER,
        name: format!("{}_{}", name.0, name.1),
        id: by.to_owned(),
    };
    if let Some(pending) = pod.creating.get(name) {
        return match *pending.config == *config {
            true => Ok(Decision::Join),
            false => Err(taken("one that is being made")),
        };
    }
    let holder = pod
        .containers
        .values()
        .find(|container| container.record.name() == *name);
    match holder.map(|container| &container.record) {
        None => Ok(Decision::Create),
        Some(record) if record.config == *config && record.run == RunState::Created => {
            Ok(Decision::Found(record.id.clone()))
        }
        Some(record) => Err(taken(record.id.as_str())),
    }
}

impl Lifecycle {
    /// Whether the creation of the container begins now.
    pub(in crate::sandbox) fn create_container(
        &mut self,
        name: &ContainerName,
        config: &v1::ContainerConfig,
        answer: Answer<Id>,
    ) -> bool {
        match decide(self, name, config) {
            Ok(Decision::Create) => {
                let pending = PendingCreate {
                    config: Box::new(config.clone()),
                    waiters: answer.into(),
                };
                self.creating.insert(name.clone(), pending);
                return true;
            }
            Ok(Decision::Join) => {
                if let Some(pending) = self.creating.get_mut(name) {
                    pending.waiters.push(answer);
                }
            }
            Ok(Decision::Found(id)) => drop(answer.send(Ok(id))),
            Err(error) => drop(answer.send(Err(error))),
        }
        false
    }

    /// The process whose PID namespace a debug container joins, where it joins one of this pod.
    fn target_pid(&self, config: &v1::ContainerConfig) -> Option<i32> {
        let target = Id::try_from(target_id(config)?.to_owned()).ok()?;
        match self.containers.get(&target)?.record.run {
            RunState::Running { pid, .. } => Some(pid),
            RunState::Created | RunState::Exited(_) => None,
        }
    }
}

impl Pod {
    fn create_container(&mut self, config: Box<v1::ContainerConfig>, answer: Answer<Id>) {
        let metadata = config.metadata.clone().unwrap_or_default();
        let name = (metadata.name, metadata.attempt);
        if !self.lifecycle.create_container(&name, &config, answer) {
            return;
        }
        let target = self.lifecycle.target_pid(&config);
        let class = self.lifecycle.qos_class(&resources(&config), None);
        let (services, pod) = (self.services.clone(), self.lifecycle.record.clone());
        let subject = Subject {
            name: name.0.clone(),
            id: None,
        };
        let steps = self.handle.begin("CreateContainer", Some(subject));
        let work = steps.run(Kinded::kind, async move |steps| {
            let created = create(&services, &pod, *config, class, target, steps).await;
            created.map(Box::new)
        });
        self.begin_told("create the container", work, move |pod, outcome| {
            pod.settle_container(&name, outcome.flatten());
        });
    }

    fn settle_container(&mut self, name: &ContainerName, outcome: Result<Box<ContainerMade>, PodError>) {
        let pending = self.lifecycle.creating.remove(name);
        failpoint_before(OPERATION, "save");
        let outcome = outcome.and_then(|made| match self.save_container(&made.record) {
            Ok(()) => Ok(*made),
            Err(error) => {
                let (services, pod) = (self.services.clone(), self.lifecycle.record.clone());
                self.begin_unattended(async move {
                    let ContainerMade { record, later, .. } = *made;
                    drop(later);
                    services.nri.remove_container(&services, &pod, &record).await;
                });
                Err(error)
            }
        });
        let mut told = None;
        let outcome = outcome.map(|made| {
            let ContainerMade {
                record,
                parts,
                seat,
                leases,
                later,
            } = made;
            let id = record.id.clone();
            let phase = ContainerPhase::created(Some(Box::new(parts)));
            let mut container = Container::new(record, phase, leases);
            container.seat = Some(seat);
            self.lifecycle.containers.insert(id.clone(), container);
            self.registry.enter_container(id.clone(), self.handle.clone());
            failpoint_before(OPERATION, "publish");
            self.publish();
            told = later;
            id
        });
        failpoint_before(OPERATION, "answer");
        if let Some(pending) = pending {
            pending.waiters.answer(&outcome);
        }
        if let Ok(id) = &outcome {
            self.tell_later(id, Happened::Created, told);
        }
    }
}

/// A container that can be started.
#[derive(Debug)]
struct ContainerMade {
    record: ContainerRecord,
    parts: ContainerParts,
    seat: Seat,
    /// On its image and those of its volumes.
    leases: Vec<Lease>,
    later: Option<Later>,
}

/// Makes what a container needs.
async fn create(
    services: &Arc<Services>,
    pod: &PodRecord,
    config: v1::ContainerConfig,
    class: QosClass,
    target: Option<i32>,
    steps: &Steps,
) -> Result<ContainerMade, PodError> {
    steps.enter("image");
    let image = config.image.as_ref().map_or("", |spec| &spec.image);
    let lease = services.images.lease(image);
    let lease = lease.map_err(|error| PodError::failed(format!("find the image {image:?}"), error))?;
    let mut record = draft(services, pod, config, &lease)?;
    steps.enter("classes");
    record.block_io = classes::block_io(services, pod, &record).await?;
    record.rdt_class = classes::rdt(services, pod, &record)?;
    steps.enter("cpus");
    let seat = cgroup::seat(services, pod, &record, class).await?;
    record.pinning = services.cpus.pinned(&record.id);
    let filled = fill(
        services,
        pod,
        (record.clone(), seat),
        &lease,
        (target, class),
        steps,
    )
    .await;
    match filled {
        Ok(mut made) => {
            made.leases.push(lease);
            made.later = services.nri.later(&record.id, made.parts.shown.clone()).await;
            Ok(made)
        }
        Err(error) => {
            services.nri.remove_container(services, pod, &record).await;
            // The writable layer and the bundle; mounts go with their descriptors.
            let kept = services
                .store
                .layout()
                .persistent_container(&record.pod, &record.id);
            let undone = layer::remove_layer(&services.projects, &kept).and_then(|()| {
                let forgotten = services.store.forget_container(&record.pod, &record.id);
                forgotten.map_err(|error| PodError::failed("remove its records", error))
            });
            if let Err(undo) = undone {
                tracing::error!(
                    container = record.id.short(),
                    error = chain(&undo),
                    "cannot remove the directory of a container that was not created; the next start removes it"
                );
            }
            Err(error)
        }
    }
}

/// The record as far as it follows from the request alone.
fn draft(
    services: &Services,
    pod: &PodRecord,
    config: v1::ContainerConfig,
    lease: &Lease,
) -> Result<ContainerRecord, PodError> {
    let id = Id::random();
    let of_image = lease
        .config()
        .config()
        .as_ref()
        .and_then(|config| config.stop_signal().clone());
    let stop_signal = oci::stop_signal(config.stop_signal, of_image.as_deref());
    let cgroup = cgroup::path(services, pod, &id);
    let cgroup = cgroup.map_err(|error| PodError::failed("name the container's cgroup", error))?;
    let resources = resources(&config);
    let handler = services.settings().handler(&pod.handler);
    Ok(ContainerRecord {
        version: ContainerRecord::VERSION,
        pod: pod.id.clone(),
        image: ImageIdentity {
            id: lease.id(),
            reference: lease.reference().to_owned(),
            name: lease.name().to_owned(),
        },
        created_at: crate::state::now(),
        run: RunState::Created,
        log_path: log_path(&pod.config.log_directory, &config.log_path),
        cgroup: cgroup.spec_path(),
        volumes: BTreeMap::new(),
        user: v1::LinuxContainerUser::default(),
        stop_signal: stop_signal.to_cri().unwrap_or(v1::Signal::Sigterm).into(),
        resources,
        pinning: None,
        pids_limit: Some(handler.pids_limit).filter(|limit| *limit > 0),
        cpu_burst: Some(handler.cpu_burst).filter(|percent| *percent > 0),
        block_io: None,
        rdt_class: None,
        namespaces: BTreeMap::default(),
        config,
        id,
    })
}

/// The limits that are asked for.
fn resources(config: &v1::ContainerConfig) -> v1::LinuxContainerResources {
    let linux = config.linux.as_ref();
    linux
        .and_then(|linux| linux.resources.clone())
        .unwrap_or_default()
}

/// Where the log goes; nowhere if either part is missing.
fn log_path(directory: &str, path: &str) -> Option<PathBuf> {
    (!directory.is_empty() && !path.is_empty()).then(|| Path::new(directory).join(path))
}

/// Root, user, spec and plan.
async fn fill(
    services: &Arc<Services>,
    pod: &PodRecord,
    (mut record, seat): (ContainerRecord, Seat),
    lease: &Lease,
    (target, class): (Option<i32>, QosClass),
    steps: &Steps,
) -> Result<ContainerMade, PodError> {
    steps.enter("root and mount sources");
    let invalid = |error: OciError| PodError::failed("make the container's spec", error);
    let (config, node) = (record.config.clone(), Arc::clone(services));
    let prepared = blocking(move || {
        let (settings, apparmor, cdi) = (node.settings(), node.apparmor.load(), node.cdi.load());
        let sources = NodeSources {
            seccomp_root: &settings.seccomp_root,
            own_devices: settings.own_devices,
            apparmor: &apparmor,
            hooks_dirs: &settings.hooks_dirs,
            cdi: &cdi,
        };
        oci::prepare(&config, sources)
            .map_err(|error| PodError::failed("prepare the container's mounts, devices and profiles", error))
    });
    let users = userns::open(pod)?.map(Arc::new);
    let labels = confine::container_labels(services, pod, &record.config)?;
    let label = labels.as_ref().map(|labels| labels.file.as_str());
    let limit = layer::limit(
        &services.settings().handler(&pod.handler),
        &pod.config,
        &record.config,
    )?;
    let root = mount_root(services, pod, &record, lease, users.clone(), label, Some(limit));
    let (prepared, root) = tokio::join!(prepared, root);
    let (mut prepared, root) = (prepared?, root?);
    steps.enter("labels of volumes");
    confine::relabel_volumes(&record.config, &prepared.sources, labels.as_ref()).await?;
    let bundle = services.store.layout().bundle(&record.pod, &record.id);
    let volumes = mount_volumes(services, &record.config, &bundle, users, label).await?;
    for volume in &volumes {
        if let Some(source) = prepared.sources.get_mut(volume.index) {
            source.clone_from(&volume.path);
        }
        record.volumes.insert(volume.index, volume.lease.id());
    }
    failpoint_before(OPERATION, "spec");
    steps.enter("user and spec");
    let user = oci::resolve_user(root.as_fd(), &record.config, lease.config()).map_err(invalid)?;
    record.user = v1::LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: user.groups.iter().copied().map(i64::from).collect(),
    };
    let target = target.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/pid")));
    let namespaces = oci::namespace_plan(&pod.config, &record.config).map_err(invalid)?;
    // The monitor is in them.
    let of_monitor = |name: &str| PathBuf::from(format!("/proc/{}/ns/{name}", pod.monitor_pid));
    let own_ipc = (pod.namespaces().ipc() != v1::NamespaceMode::Node).then(|| of_monitor("ipc"));
    let own_uts = (!pod.host_network()).then(|| of_monitor("uts"));
    let spec = oci::generate(&ContainerInput {
        config: &record.config,
        pod: PodInput {
            id: pod.id.as_str(),
            config: &pod.config,
            files: &pod_files(services, pod),
            namespaces: PodNamespaces {
                network: pod.netns.as_deref(),
                ipc: own_ipc.as_deref(),
                uts: own_uts.as_deref(),
                pid: None,
            },
            hostname: &files::hostname(&pod.config),
        },
        image: lease.config(),
        user: &user,
        limits: &cgroup::limits(services, &record),
        rdt_class: record.rdt_class.as_deref(),
        cgroups_path: &record.cgroup,
        rootfs: &bundle.join("rootfs"),
        host: &services.host.load(),
        handler: &services.settings().handler(&pod.handler),
        prepared: &prepared,
        namespaces: &namespaces,
        target_pid: target.as_deref(),
        labels: labels.as_ref(),
        limited_layer: limit != Limit::None,
    });
    let spec = spec.map_err(invalid)?;
    steps.enter("plugins");
    let mut draft = Draft { record, spec, seat };
    let finish = |draft: &Draft| -> Result<ExtendedPlan, PodError> {
        write_bundle(services, &draft.record, &draft.spec)?;
        failpoint_before(OPERATION, "plan");
        plan(services, &draft.record, &draft.spec, &namespaces)
    };
    // Most plugins leave most containers as they are, so this goes on as if they did.
    let asked = services
        .nri
        .create_container(services, pod, &draft.record, &draft.spec);
    let (merged, mut plan) = meanwhile(asked, || finish(&draft)).await;
    if let Some(merged) = merged?
        && let Some(wanted) = change_others(services, merged).await
    {
        draft = adjust(services, pod, draft, class, labels.as_ref(), &wanted).await?;
        plan = finish(&draft);
    }
    let Draft { record, spec, seat } = draft;
    let mut plan = plan?;
    by_descriptor(&mut plan.container, &volumes);
    let (volumes, leases) = volumes
        .into_iter()
        .map(|volume| (volume.mount, volume.lease))
        .unzip();
    let devices = device_rules(&spec);
    let net_devices = net_devices(&spec);
    Ok(ContainerMade {
        record,
        parts: ContainerParts {
            root,
            volumes,
            plan,
            devices,
            net_devices,
            shown: services.nri.shown(&spec),
        },
        seat,
        leases,
        later: None,
    })
}

/// The pod's files that its containers see.
fn pod_files(services: &Services, pod: &PodRecord) -> PodFiles {
    let dir = services.store.layout().pod(&pod.id);
    let host_ipc = pod.namespaces().ipc() == v1::NamespaceMode::Node;
    PodFiles {
        hosts: Some(dir.join(files::HOSTS)),
        hostname: Some(dir.join(files::HOSTNAME)),
        resolv_conf: Some(dir.join(files::RESOLV_CONF)),
        shm: if host_ipc {
            PathBuf::from("/dev/shm")
        } else {
            dir.join(files::SHM)
        },
    }
}

/// The OCI bundle, for any tool to look at and any runtime handler to run.
fn write_bundle(services: &Services, record: &ContainerRecord, spec: &Spec) -> Result<(), PodError> {
    let bundle = services.store.layout().bundle(&record.pod, &record.id);
    let written = std::fs::create_dir_all(bundle.join("rootfs"))
        .and_then(|()| Ok(serde_json::to_vec(spec)?))
        .and_then(|json| std::fs::write(bundle.join("config.json"), json));
    written.map_err(|error| PodError::io(format!("write the bundle {}", bundle.display()), error))
}

/// Writes the limits in force into a container's bundle. They are in force already, so an error changes nothing.
pub(super) fn write_limits(services: &Services, record: &ContainerRecord) {
    let written = read_spec(services, record).and_then(|mut spec| {
        let limits = cgroup::limits(services, record);
        let limits = oci::limits(&limits, device_rules(&spec));
        let limits = limits.map_err(|error| PodError::failed("make the container's spec", error))?;
        if let Some(linux) = spec.linux_mut() {
            linux.set_resources(Some(limits));
        }
        let path = services
            .store
            .layout()
            .bundle(&record.pod, &record.id)
            .join("config.json");
        serde_json::to_vec(&spec)
            .map_err(std::io::Error::from)
            .and_then(|json| {
                replace_file(CWD, &path, &json, Durability::Process).map_err(std::io::Error::other)
            })
            .map_err(|error| PodError::io(format!("write {}", path.display()), error))
    });
    if let Err(error) = written {
        tracing::warn!(
            container = record.id.short(),
            error = error.text(),
            "cannot write a container's new limits into its bundle; they are in force, and tools that read the bundle see the old ones"
        );
    }
}

/// A container's root, detached, and its plan.
#[derive(Debug)]
pub(in crate::sandbox) struct ContainerParts {
    pub(super) root: OwnedFd,
    /// The image volumes, as `MountSource::Fd` counts them in the plan.
    pub(super) volumes: Vec<OwnedFd>,
    pub(super) plan: ExtendedPlan,
    pub(super) devices: Vec<LinuxDeviceCgroup>,
    /// Network devices of the node that the pod gets, and their names there.
    pub(super) net_devices: Vec<(String, String)>,
    /// What NRI plugins are shown of the spec.
    pub(super) shown: Option<Arc<pausa_nri::proto::Container>>,
}

/// Which devices a container may use, as its spec says.
pub(super) fn device_rules(spec: &Spec) -> Vec<LinuxDeviceCgroup> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    resources
        .and_then(|resources| resources.devices().clone())
        .unwrap_or_default()
}

/// `linux.netDevices`, sorted.
fn net_devices(spec: &Spec) -> Vec<(String, String)> {
    let linux = spec.linux().as_ref();
    let devices = linux.and_then(|linux| linux.net_devices().as_ref());
    let mut devices: Vec<_> = devices
        .into_iter()
        .flatten()
        .map(|(host, device)| {
            (
                host.clone(),
                device.name().clone().unwrap_or_else(|| host.clone()),
            )
        })
        .collect();
    devices.sort();
    devices
}

/// Makes the parts of a container again from its bundle, as a daemon that was restarted has to.
pub(super) async fn rebuild(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
) -> Result<ContainerParts, PodError> {
    let lease = services.images.lease(&record.image.id);
    let lease = lease.map_err(|error| PodError::failed("find the container's image", error))?;
    let users = userns::open(pod)?.map(Arc::new);
    let spec = read_spec(services, record)?;
    let label = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.mount_label().as_deref());
    let root = mount_root(services, pod, record, &lease, users.clone(), label, None).await?;
    let bundle = services.store.layout().bundle(&record.pod, &record.id);
    let volumes = mount_volumes(services, &record.config, &bundle, users, label).await?;
    let namespaces = oci::namespace_plan(&pod.config, &record.config)
        .map_err(|error| PodError::failed("plan the container", error))?;
    let mut plan = plan(services, record, &spec, &namespaces)?;
    by_descriptor(&mut plan.container, &volumes);
    Ok(ContainerParts {
        root,
        volumes: volumes.into_iter().map(|volume| volume.mount).collect(),
        plan,
        devices: device_rules(&spec),
        net_devices: net_devices(&spec),
        shown: services.nri.shown(&spec),
    })
}

/// Mounts a container's root, detached: no mount table shows it and it ends with its last user. `users` is the pod's
/// user namespace, `label` SELinux's label of all files, `new` the limit of a writable layer that is made first.
async fn mount_root(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
    lease: &Lease,
    users: Option<Arc<OwnedFd>>,
    label: Option<&str>,
    new: Option<Limit>,
) -> Result<OwnedFd, PodError> {
    let kept = services
        .store
        .layout()
        .persistent_container(&record.pod, &record.id);
    let (layers, range, label) = (lease.layers(), pod.id_range(), label.map(str::to_owned));
    let projects = Arc::clone(&services.projects);
    blocking(move || {
        if let Some(limit) = new {
            layer::make(&projects, &kept, limit)?;
        }
        let (upper, work) = (kept.join("upper"), kept.join("work"));
        // What the root of the mount is: the image's has no say in that.
        userns::chown(&upper, range)?;
        let users = users.as_ref().map(|users| users.as_fd());
        overlay::mount(&layers, &upper, &work, users, label.as_deref())
            .map_err(|error| PodError::failed("mount the container's root", error))
    })
    .await
}

/// The plan of a container's first process.
fn plan(
    services: &Services,
    record: &ContainerRecord,
    spec: &Spec,
    namespaces: &NamespacePlan,
) -> Result<ExtendedPlan, PodError> {
    const DOING: &str = "plan the container";
    let config = &record.config;
    let max_line = services.settings().max_log_line;
    let mut namespaces = namespaces.clone();
    oci::replace_namespaces(&mut namespaces, &record.namespaces)
        .map_err(|error| PodError::failed(DOING, error))?;
    let input = CompileInput {
        id: record.id.as_str(),
        bundle: &services.store.layout().bundle(&record.pod, &record.id),
        spec,
        namespaces: &namespaces,
        cgroups: services.cgroups.layout(),
        io: IoPlan {
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            terminal: config.tty,
        },
        log: record.log_path.as_ref().map(|_| LogPlan { max_line }),
        programs: &services.seccomp,
    };
    oci::compile(&input).map_err(|error| PodError::failed(DOING, error))
}

/// Reads a container's spec from its bundle.
pub(in crate::sandbox) fn read_spec(services: &Services, record: &ContainerRecord) -> Result<Spec, PodError> {
    let path = services
        .store
        .layout()
        .bundle(&record.pod, &record.id)
        .join("config.json");
    let file = std::fs::File::open(&path)
        .map_err(|error| PodError::io(format!("open {}", path.display()), error))?;
    serde_json::from_reader(BufReader::new(file)).map_err(|error| {
        PodError::io(
            format!("read the spec {}", path.display()),
            std::io::Error::from(error),
        )
    })
}
