//! Removing what is left of containers and pods that have ended.

use std::path::Path;
use std::sync::Arc;

use pausa_monitor_protocol::{EXITS_DIR, ExitRecord, Request};

use super::{blocking, cgroup};
use crate::container::ContainerRecord;
use crate::id::Id;
use crate::sandbox::error::PodError;
use crate::sandbox::link::Link;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;
use crate::telemetry::Steps;

/// Removes a container that does not run: what the monitor remembers, cgroup, writable layer, bundle, record.
/// Its log stays: kubelet's to remove.
pub(in crate::sandbox) async fn remove_container(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
    monitor: Option<Arc<Link>>,
    steps: &Steps,
) -> Result<(), PodError> {
    steps.enter("monitor and cgroup");
    if let Some(monitor) = monitor {
        // Never started, or forgotten already: both fine.
        drop(
            monitor
                .request(
                    Request::Forget {
                        container: record.id.to_string(),
                    },
                    Vec::new(),
                )
                .await,
        );
    }
    cgroup::remove_cgroup(services, pod, &record.id).await;
    steps.enter("files");
    let (services, pod, id) = (Arc::clone(services), record.pod.clone(), record.id.clone());
    blocking(move || {
        // The writable layer is the container's work: as deep and as odd as it liked.
        remove_layer(&services.store.layout().kept_container(&pod, &id))?;
        services
            .store
            .forget_container(&pod, &id)
            .map_err(|error| PodError::failed(format!("forget container {}", id.short()), error))
    })
    .await
}

/// Removes the writable layers of all containers that something is kept of, given what is kept of their pod.
pub(in crate::sandbox) fn remove_layers(kept_pod: &Path) -> Result<(), PodError> {
    let containers = std::fs::read_dir(kept_pod.join("containers"));
    for container in containers.into_iter().flatten().filter_map(Result::ok) {
        remove_layer(&container.path())?;
    }
    Ok(())
}

/// Removes a container's writable layer, given what is kept of the container.
pub(in crate::sandbox) fn remove_layer(kept: &Path) -> Result<(), PodError> {
    let Ok(dir) = super::files::open_directory(kept) else {
        return Ok(());
    };
    for name in ["upper", "work"] {
        pausa_layer::remove_tree(std::os::fd::AsFd::as_fd(&dir), name.as_ref()).map_err(|error| {
            PodError::failed_as(
                format!("remove {}", kept.join(name).display()),
                crate::error::ErrorKind::Internal,
                error,
            )
        })?;
    }
    Ok(())
}

/// Removes a pod's directories.
pub(in crate::sandbox) async fn forget_pod(services: &Arc<Services>, id: &Id) -> Result<(), PodError> {
    let (services, id) = (Arc::clone(services), id.clone());
    blocking(move || {
        super::files::unmount(&services.store.layout().pod(&id).join(super::files::SHM));
        let forgotten = services.store.forget_pod(&id);
        forgotten.map_err(|error| PodError::failed(format!("forget pod {}", id.short()), error))
    })
    .await
}

/// What a monitor left on file about a container's end, if it got that far. `pod` is the pod's directory.
pub(in crate::sandbox) fn read_exit_record(pod: &Path, container: &Id) -> Option<ExitRecord> {
    let path = pod.join(EXITS_DIR).join(format!("{container}.json"));
    let record: ExitRecord = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (record.version == ExitRecord::VERSION && record.container == container.as_str()).then_some(record)
}
