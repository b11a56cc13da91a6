//! What lies ready between the making of a container and its start.

use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::{LinuxDeviceCgroup, Spec};
use pausa_monitor_protocol::{ContainerPlan, IoPlan, LogPlan};

use super::volumes::{by_descriptor, mount_volumes};
use super::{blocking, users};
use crate::container::ContainerRecord;
use crate::image::{Lease, overlay};
use crate::oci::{self, CompileInput};
use crate::sandbox::error::PodError;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;

/// A container's root, detached, and its plan.
#[derive(Debug)]
pub(in crate::sandbox) struct ContainerParts {
    pub(super) root: OwnedFd,
    /// The image volumes, as `MountSource::Fd` counts them in the plan.
    pub(super) volumes: Vec<OwnedFd>,
    pub(super) plan: ContainerPlan,
    pub(super) devices: Vec<LinuxDeviceCgroup>,
}

/// Which devices a container may use, as its spec says.
pub(super) fn device_rules(spec: &Spec) -> Vec<LinuxDeviceCgroup> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    resources
        .and_then(|resources| resources.devices().clone())
        .unwrap_or_default()
}

/// Makes the parts of a container again from its bundle, as a daemon that was restarted has to.
pub(super) async fn rebuild(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
) -> Result<ContainerParts, PodError> {
    let lease = services.images.lease(&record.image.id);
    let lease = lease.map_err(|error| PodError::failed("find the container's image", error))?;
    let users = users::namespace(pod)?.map(Arc::new);
    let root = mount_root(services, pod, record, &lease, users.clone()).await?;
    let bundle = services.store.layout().bundle(&record.pod, &record.id);
    let volumes = mount_volumes(services, &record.config, &bundle, users).await?;
    let spec = read_spec(services, record)?;
    let mut plan = plan(services, pod, record, &spec)?;
    by_descriptor(&mut plan, &volumes);
    Ok(ContainerParts {
        root,
        volumes: volumes.into_iter().map(|volume| volume.mount).collect(),
        plan,
        devices: device_rules(&spec),
    })
}

/// Mounts a container's root, detached: no mount table shows it and it ends with its last user. `users` is the pod's
/// user namespace.
pub(super) async fn mount_root(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
    lease: &Lease,
    users: Option<Arc<OwnedFd>>,
) -> Result<OwnedFd, PodError> {
    let kept = services.store.layout().kept_container(&record.pod, &record.id);
    let (layers, range) = (lease.layers(), pod.users());
    blocking(move || {
        let (upper, work) = (kept.join("upper"), kept.join("work"));
        for dir in [&upper, &work] {
            std::fs::create_dir_all(dir)
                .map_err(|error| PodError::io(format!("make {}", dir.display()), error))?;
        }
        // What the root of the mount is: the image's has no say in that.
        users::give(&upper, range)?;
        overlay::mount(&layers, &upper, &work, users.as_ref().map(|users| users.as_fd()))
            .map_err(|error| PodError::failed("mount the container's root", error))
    })
    .await
}

/// The plan of a container's first process.
pub(super) fn plan(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
    spec: &Spec,
) -> Result<ContainerPlan, PodError> {
    let config = &record.config;
    let security = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let invalid = |error: oci::OciError| PodError::failed("plan the container", error);
    let namespaces = oci::namespace_plan(&pod.config, security).map_err(invalid)?;
    let max_line = services.settings.max_log_line;
    let input = CompileInput {
        id: record.id.as_str(),
        spec,
        namespaces,
        cgroups: services.cgroups.layout(),
        io: IoPlan {
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            terminal: config.tty,
        },
        log: record.log_path.as_ref().map(|_| LogPlan { max_line }),
        programs: &services.seccomp,
    };
    oci::compile(&input).map_err(invalid)
}

/// Where a container's spec is.
pub(super) fn spec_path(services: &Services, record: &ContainerRecord) -> PathBuf {
    services
        .store
        .layout()
        .bundle(&record.pod, &record.id)
        .join("config.json")
}

/// Reads a container's spec from its bundle.
pub(super) fn read_spec(services: &Services, record: &ContainerRecord) -> Result<Spec, PodError> {
    let path = spec_path(services, record);
    let file = std::fs::File::open(&path)
        .map_err(|error| PodError::io(format!("open {}", path.display()), error))?;
    serde_json::from_reader(BufReader::new(file)).map_err(|error| {
        PodError::io(
            format!("read the spec {}", path.display()),
            std::io::Error::from(error),
        )
    })
}
