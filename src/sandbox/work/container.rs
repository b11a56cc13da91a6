//! Making a container: image, root, user, spec, plan; nothing of it runs yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;

use super::container_parts::{ContainerParts, device_rules, mount_root, plan};
use super::pod::cgroup_parent;
use super::volumes::{by_descriptor, mount_volumes};
use super::{blocking, files, users};
use crate::container::{ContainerRecord, ImageIdentity, RunState};
use crate::error::chain;
use crate::id::Id;
use crate::image::Lease;
use crate::oci::{self, ContainerInput, OciError, PodFiles, PodInput, PodNamespaces, Prepared, ResolvedUser};
use crate::proto::v1;
use crate::sandbox::error::PodError;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;
use crate::telemetry::Steps;

/// A container that can be started.
#[derive(Debug)]
pub(in crate::sandbox) struct ContainerMade {
    pub(in crate::sandbox) record: ContainerRecord,
    pub(in crate::sandbox) parts: ContainerParts,
    /// On its image and those of its volumes.
    pub(in crate::sandbox) leases: Vec<Lease>,
}

/// Makes a container of a pod.
pub(in crate::sandbox) async fn make_container(
    services: &Arc<Services>,
    pod: &PodRecord,
    config: v1::ContainerConfig,
    target: Option<i32>,
    steps: &Steps,
) -> Result<ContainerMade, PodError> {
    steps.enter("image");
    let lease = lease(services, &config)?;
    let record = draft(services, pod, config, &lease)?;
    match fill(services, pod, record.clone(), &lease, target, steps).await {
        Ok((record, parts, mut leases)) => {
            leases.push(lease);
            Ok(ContainerMade {
                record,
                parts,
                leases,
            })
        }
        Err(error) => {
            // The writable layer and the bundle; mounts go with their descriptors.
            if let Err(undo) = services.store.forget_container(&record.pod, &record.id) {
                tracing::error!(
                    container = record.id.short(),
                    error = chain(&undo),
                    "a failed container's directory stays"
                );
            }
            Err(error)
        }
    }
}

fn lease(services: &Services, config: &v1::ContainerConfig) -> Result<Lease, PodError> {
    let image = config.image.as_ref().map_or("", |spec| &spec.image);
    if image.is_empty() {
        return Err(PodError::Invalid {
            field: "config.image.image",
            problem: "is empty".into(),
        });
    }
    let lease = services.images.lease(image);
    lease.map_err(|error| PodError::failed(format!("find the image {image:?}"), error))
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
    let cgroup = services
        .cgroups
        .container_path(cgroup_parent(&pod.config), id.as_str());
    let cgroup = cgroup.map_err(|error| PodError::failed("name the container's cgroup", error))?;
    let resources = config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.clone())
        .unwrap_or_default();
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
        config,
        id,
    })
}

/// Where the log goes; nowhere if either part is missing.
fn log_path(directory: &str, path: &str) -> Option<PathBuf> {
    (!directory.is_empty() && !path.is_empty()).then(|| Path::new(directory).join(path))
}

/// Root, user, spec and plan.
async fn fill(
    services: &Arc<Services>,
    pod: &PodRecord,
    mut record: ContainerRecord,
    lease: &Lease,
    target: Option<i32>,
    steps: &Steps,
) -> Result<(ContainerRecord, ContainerParts, Vec<Lease>), PodError> {
    steps.enter("root and mount sources");
    let invalid = |error: OciError| PodError::failed("make the container's spec", error);
    let (config, seccomp_root) = (record.config.clone(), services.settings.seccomp_root.clone());
    let prepared = blocking(move || {
        oci::prepare(&config, &seccomp_root)
            .map_err(|error| PodError::failed("look at the container's mounts and devices", error))
    });
    let users = users::namespace(pod)?.map(Arc::new);
    let root = mount_root(services, pod, &record, lease, users.clone());
    let (prepared, root) = tokio::join!(prepared, root);
    let (mut prepared, root) = (prepared?, root?);
    let bundle = services.store.layout().bundle(&record.pod, &record.id);
    let volumes = mount_volumes(services, &record.config, &bundle, users).await?;
    for volume in &volumes {
        if let Some(source) = prepared.sources.get_mut(volume.index) {
            source.clone_from(&volume.path);
        }
        record.volumes.insert(volume.index, volume.lease.id());
    }
    steps.enter("user and spec");
    let user = oci::resolve_user(std::os::fd::AsFd::as_fd(&root), &record.config, lease.config())
        .map_err(invalid)?;
    record.user = v1::LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: user.groups.iter().copied().map(i64::from).collect(),
    };
    let target = target.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/pid")));
    let spec = spec(services, pod, &record, lease, &prepared, &user, target.as_deref()).map_err(invalid)?;
    write_bundle(services, &record, &spec)?;
    let mut plan = plan(services, pod, &record, &spec)?;
    by_descriptor(&mut plan, &volumes);
    let (volumes, leases) = volumes
        .into_iter()
        .map(|volume| (volume.mount, volume.lease))
        .unzip();
    let devices = device_rules(&spec);
    Ok((
        record,
        ContainerParts {
            root,
            volumes,
            plan,
            devices,
        },
        leases,
    ))
}

fn spec(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
    lease: &Lease,
    prepared: &Prepared,
    user: &ResolvedUser,
    target: Option<&Path>,
) -> Result<Spec, OciError> {
    let dir = services.store.layout().pod(&pod.id);
    let host_ipc = pod.namespaces().ipc() == v1::NamespaceMode::Node;
    let pod_files = PodFiles {
        hosts: Some(dir.join(files::HOSTS)),
        hostname: Some(dir.join(files::HOSTNAME)),
        resolv_conf: Some(dir.join(files::RESOLV_CONF)),
        shm: if host_ipc {
            PathBuf::from("/dev/shm")
        } else {
            dir.join(files::SHM)
        },
    };
    let bundle = services.store.layout().bundle(&pod.id, &record.id);
    let hostname = files::hostname(&pod.config);
    oci::generate(&ContainerInput {
        config: &record.config,
        pod: PodInput {
            id: pod.id.as_str(),
            config: &pod.config,
            files: &pod_files,
            namespaces: PodNamespaces {
                network: pod.netns.as_deref(),
                ..PodNamespaces::default()
            },
            hostname: &hostname,
        },
        image: lease.config(),
        user,
        cgroups_path: &record.cgroup,
        rootfs: &bundle.join("rootfs"),
        host: &services.host,
        prepared,
        target_pid: target,
    })
}

/// The OCI bundle, for any tool to look at and any runtime handler to run.
fn write_bundle(services: &Services, record: &ContainerRecord, spec: &Spec) -> Result<(), PodError> {
    let bundle = services.store.layout().bundle(&record.pod, &record.id);
    let written = std::fs::create_dir_all(bundle.join("rootfs"))
        .and_then(|()| Ok(serde_json::to_vec(spec)?))
        .and_then(|json| std::fs::write(bundle.join("config.json"), json));
    written.map_err(|error| PodError::io(format!("write the bundle {}", bundle.display()), error))
}
