//! A container's record in CRI's words.

use super::record::{ContainerRecord, RunState};
use crate::proto::v1;

/// One row of ListContainers.
pub fn list_item(record: &ContainerRecord) -> v1::Container {
    v1::Container {
        id: record.id.to_string(),
        pod_sandbox_id: record.pod.to_string(),
        metadata: record.config.metadata.clone(),
        image: Some(image_spec(record, false)),
        image_ref: record.image.reference.clone(),
        state: record.state().into(),
        created_at: record.created_at,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        image_id: record.image.id.clone(),
    }
}

/// ContainerStatus without its verbose part.
pub fn status(record: &ContainerRecord) -> v1::ContainerStatus {
    let (started_at, exit) = match &record.run {
        RunState::Created => (0, None),
        RunState::Running { started_at, .. } => (*started_at, None),
        RunState::Exited(exit) => (exit.started_at, Some(exit)),
    };
    v1::ContainerStatus {
        id: record.id.to_string(),
        metadata: record.config.metadata.clone(),
        state: record.state().into(),
        created_at: record.created_at,
        started_at,
        finished_at: exit.map_or(0, |exit| exit.finished_at),
        exit_code: exit.map_or(0, |exit| exit.code),
        image: Some(image_spec(record, true)),
        image_ref: record.image.reference.clone(),
        reason: exit.map_or_else(String::new, |exit| exit.reason.as_str().to_owned()),
        message: exit.map_or_else(String::new, |exit| exit.message.clone()),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        mounts: mounts(record),
        log_path: record
            .log_path
            .as_ref()
            .map_or_else(String::new, |path| path.display().to_string()),
        resources: Some(v1::ContainerResources {
            linux: Some(record.resources.clone()),
            windows: None,
        }),
        image_id: record.image.id.clone(),
        user: Some(v1::ContainerUser {
            linux: Some(record.user.clone()),
        }),
        stop_signal: record.stop_signal,
    }
}

/// The mounts as asked for; those of image volumes say which image it became (KEP-5365).
fn mounts(record: &ContainerRecord) -> Vec<v1::Mount> {
    let mut mounts = record.config.mounts.clone();
    for (index, id) in &record.volumes {
        if let Some(image) = mounts.get_mut(*index).and_then(|mount| mount.image.as_mut()) {
            image.image_ref.clone_from(id);
        }
    }
    mounts
}

/// The image as CRI wants it: in a list what was asked for, in a status its name.
fn image_spec(record: &ContainerRecord, named: bool) -> v1::ImageSpec {
    let mut spec = record.config.image.clone().unwrap_or_default();
    if named {
        spec.image.clone_from(&record.image.name);
    }
    spec
}
