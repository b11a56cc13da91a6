//! What security modules confine processes with: AppArmor's profile in place, SELinux's labels, volumes with these labels.

use std::path::PathBuf;
use std::sync::Arc;

use pausa_monitor_protocol::ProcessPlan;

use crate::blocking::blocking;
use crate::lsm::selinux::{Labels, Wanted, relabel};
use crate::oci::security_context;
use crate::proto::v1;
use crate::sandbox::error::PodError;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;

/// Has the profile of a process in the kernel: somebody may have unloaded it since the container was created.
pub(super) async fn ensure_profile(services: &Arc<Services>, process: &ProcessPlan) -> Result<(), PodError> {
    let missing = process
        .apparmor
        .clone()
        .filter(|profile| !services.apparmor.load().is_in_place(profile));
    let Some(profile) = missing else {
        return Ok(());
    };
    let services = Arc::clone(services);
    blocking(move || services.apparmor.load().ensure(&profile))
        .await
        .map_err(|error| PodError::failed("confine the process", error))
}

/// The label of a pod's own files; none where SELinux is off.
pub(super) fn pod_label(services: &Services, pod: &PodRecord) -> Result<Option<String>, PodError> {
    let wanted = Wanted {
        pod: pod.selinux_options(),
        ..Wanted::default()
    };
    let labels = services.selinux.labels(pod.selinux.as_ref(), &wanted);
    let labels = labels.map_err(|error| PodError::failed("label the pod", error))?;
    Ok(labels.map(|labels| labels.file))
}

/// The labels of a container; none where SELinux is off.
pub(super) fn container_labels(
    services: &Services,
    pod: &PodRecord,
    config: &v1::ContainerConfig,
) -> Result<Option<Labels>, PodError> {
    let security = security_context(config);
    let of_pod = pod.namespaces();
    let of_node = |mode| mode == v1::NamespaceMode::Node;
    let wanted = Wanted {
        pod: pod.selinux_options(),
        container: security.and_then(|security| security.selinux_options.as_ref()),
        unseparated: security.is_some_and(|security| security.privileged)
            || of_node(of_pod.pid())
            || of_node(of_pod.ipc()),
        ..Wanted::default()
    };
    let labels = services.selinux.labels(pod.selinux.as_ref(), &wanted);
    labels.map_err(|error| PodError::failed("label the container", error))
}

/// Gives the files of the volumes that ask for it a container's label. `sources` are the paths of its mounts.
pub(super) async fn relabel_volumes(
    config: &v1::ContainerConfig,
    sources: &[PathBuf],
    labels: Option<&Labels>,
) -> Result<(), PodError> {
    let mounts = config.mounts.iter().zip(sources).enumerate();
    let volumes = mounts
        .filter(|(_, (mount, source))| mount.selinux_relabel && source.is_absolute())
        .map(|(index, (_, source))| (format!("mounts[{index}].host_path"), source.clone()));
    relabel_paths(volumes.collect(), labels).await
}

/// Gives the files below these paths a container's label. Each comes with the field that names it.
pub(super) async fn relabel_paths(
    paths: Vec<(String, PathBuf)>,
    labels: Option<&Labels>,
) -> Result<(), PodError> {
    let Some(labels) = labels.filter(|_| !paths.is_empty()) else {
        return Ok(());
    };
    let label = labels.file.clone();
    blocking(move || {
        for (field, source) in paths {
            let changed = relabel(&source, &label)
                .map_err(|error| PodError::failed(format!("relabel {field} {}", source.display()), error))?;
            tracing::debug!(path = %source.display(), label, changed, "labelled a volume");
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests;
