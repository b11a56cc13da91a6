//! A container's writable layer on disk: its directories, the project they are in, and its limit.
//!
//! ```text
//!   <root>/pods/POD/project/              the project that the pod's containers share, where the pod has a limit
//!   <root>/pods/POD/containers/CID/upper/ work/   in a project where the file system counts them
//! ```
//!
//! `work` and `project` say which project it is: no container can reach them, but each can reach its `upper`.
//!
//! Must never: let an annotation give more than the runtime handler's limit; leave a limit out that was asked for.
//!
//! See `docs/design/0014-writable-layer-quota.md`.

use std::collections::BTreeMap;
use std::path::Path;

use pausa_sys::ProjectQuota;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::files;
use crate::config::{Handler, Size};
use crate::error::{ErrorKind, chain};
use crate::id::Id;
use crate::proto::v1;
use crate::quota::{self, Projects, Support};
use crate::sandbox::error::PodError;

/// On a container: its limit. On a pod: that of each of its containers.
const EACH: &str = "pausa.io/writable-layer-limit";
/// On a pod, followed by a container's name: its limit. The form of Kubernetes' annotations for single containers, as a
/// name can be as long as the part behind the slash.
const NAMED: &str = "writable-layer-limit.pausa.io/";
/// On a pod: the limit of all its containers together.
const TOGETHER: &str = "pausa.io/pod-writable-layer-limit";

/// In a pod's persistent directory.
const POD_PROJECT: &str = "project";

/// How much may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    None,
    /// Bytes, of one container.
    Own(u64),
    /// Bytes, of all containers of the pod together.
    Pod(u64),
}

/// The limit of a container: the smaller one of its handler's and that of the annotations.
pub(super) fn limit(
    handler: &Handler,
    pod: &v1::PodSandboxConfig,
    container: &v1::ContainerConfig,
) -> Result<Limit, PodError> {
    let named = container
        .metadata
        .as_ref()
        .map(|metadata| format!("{NAMED}{}", metadata.name));
    let of_pod = [named.as_deref().unwrap_or(EACH), EACH];
    let own = match size(&container.annotations, EACH)? {
        Some(size) => Some(size),
        None => of_pod
            .iter()
            .find_map(|key| size(&pod.annotations, key).transpose())
            .transpose()?,
    };
    let together = size(&pod.annotations, TOGETHER)?;
    let smallest = |sizes: [Option<Size>; 3]| sizes.into_iter().flatten().map(Size::bytes).min();
    let limits = [handler.pod_writable_layer_limit, handler.writable_layer_limit];
    if together.is_none() && limits[0].is_none() {
        return Ok(smallest([own, limits[1], None]).map_or(Limit::None, Limit::Own));
    }
    if own.is_some() {
        return Err(PodError::Invalid {
            field: "config.annotations",
            problem: format!(
                "limits the writable layer of one container in a pod whose containers have a limit together, by {TOGETHER} or by \
                 the runtime handler: a file counts for one limit only, use one of the two"
            ),
        });
    }
    // Each container could take all of it, which is not more than the handler gives one.
    Ok(smallest([together, limits[0], limits[1]]).map_or(Limit::None, Limit::Pod))
}

/// Refuses a pod whose annotations about limits are wrong, before a container needs them.
pub(in crate::sandbox) fn check(pod: &v1::PodSandboxConfig) -> Result<(), PodError> {
    let ours = |key: &&String| key.starts_with(NAMED) || [EACH, TOGETHER].contains(&key.as_str());
    for key in pod.annotations.keys().filter(ours) {
        size(&pod.annotations, key)?;
    }
    Ok(())
}

fn size(annotations: &BTreeMap<String, String>, key: &str) -> Result<Option<Size>, PodError> {
    let parsed = annotations.get(key).map(|text| text.parse::<Size>()).transpose();
    parsed.map_err(|error| PodError::Invalid {
        field: "config.annotations",
        problem: format!("has {key}: {error}"),
    })
}

/// Makes the directories of a new layer. `kept` is the container's persistent directory. Blocks.
pub(super) fn make(projects: &Projects, kept: &Path, limit: Limit) -> Result<(), PodError> {
    let doing = |error| PodError::failed("limit or count what the container writes", error);
    let support = projects.support();
    if limit != Limit::None && support != Support::Enforced {
        return Err(doing(projects.unsupported()));
    }
    let (upper, work) = (kept.join("upper"), kept.join("work"));
    let directories = [upper.as_path(), work.as_path()];
    for dir in directories {
        std::fs::create_dir_all(dir)
            .map_err(|error| PodError::io(format!("make {}", dir.display()), error))?;
    }
    let made = match limit {
        _ if support == Support::Nothing => return Ok(()),
        Limit::Pod(bytes) => {
            let id = pod_project(projects, pod_of(kept), bytes)?;
            quota::assign(&directories, id)
        }
        Limit::Own(_) | Limit::None => {
            let bytes = if let Limit::Own(bytes) = limit { bytes } else { 0 };
            let id = projects.assign_new(&directories);
            id.and_then(|id| projects.set_limit(id, bytes))
        }
    };
    made.map_err(doing)
}

/// The project of a pod's containers, made with the first one of them. It appears with its limit in force, once, however many
/// containers are made at the same time.
fn pod_project(projects: &Projects, kept_pod: &Path, bytes: u64) -> Result<u32, PodError> {
    let doing = |error| PodError::failed("limit what the pod's containers write", error);
    let place = kept_pod.join(POD_PROJECT);
    if let Some(id) = quota::project_of(&place) {
        return Ok(id);
    }
    let staged = kept_pod.join(format!("{POD_PROJECT}.{}", Id::random().short()));
    std::fs::create_dir(&staged)
        .map_err(|error| PodError::io(format!("make {}", staged.display()), error))?;
    let id = projects.assign_new(&[&staged]).map_err(doing)?;
    projects.set_limit(id, bytes).map_err(doing)?;
    match renameat_with(CWD, &staged, CWD, &place, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(id),
        Err(Errno::EXIST) => {
            release(projects, id);
            // What is left of it goes with the pod.
            std::fs::remove_dir(&staged).ok();
            let made = quota::project_of(&place);
            made.ok_or_else(|| PodError::io(format!("use {}", place.display()), Errno::NODATA))
        }
        Err(errno) => Err(PodError::io(format!("make {}", place.display()), errno)),
    }
}

/// The persistent directory of the pod of a container's.
fn pod_of(kept: &Path) -> &Path {
    kept.ancestors().nth(2).unwrap_or(kept)
}

/// The project of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) struct Project {
    pub(in crate::sandbox) id: u32,
    /// With the other containers of its pod.
    pub(in crate::sandbox) shared: bool,
}

/// The project of the layer in a container's persistent directory. Blocks.
pub(in crate::sandbox) fn project(kept: &Path) -> Option<Project> {
    let id = quota::project_of(&kept.join("work"))?;
    let shared = quota::project_of(&pod_of(kept).join(POD_PROJECT)) == Some(id);
    Some(Project { id, shared })
}

/// The project of the layer in a container's persistent directory, with its usage and limit. Blocks.
pub(in crate::sandbox) fn usage(projects: &Projects, kept: &Path) -> Option<(Project, ProjectQuota)> {
    let project = project(kept)?;
    match projects.get(project.id) {
        Ok(quota) => Some((project, quota)),
        Err(error) => {
            tracing::debug!(
                error = chain(&error),
                "cannot ask for the usage of a writable layer; it is measured by its files"
            );
            None
        }
    }
}

/// For the verbose status; null for a layer without a project.
pub(in crate::sandbox) fn describe(projects: &Projects, kept: &Path) -> serde_json::Value {
    usage(projects, kept).map_or(serde_json::Value::Null, |(project, quota)| {
        serde_json::json!({
            "project": project.id,
            "sharedByPod": project.shared,
            "limitBytes": Some(quota.limit).filter(|limit| *limit > 0),
            "usedBytes": quota.bytes,
            "usedInodes": quota.inodes,
        })
    })
}

/// Removes the writable layers of all containers in a pod's persistent directory, and takes the pod's limit off.
pub(in crate::sandbox) fn remove_layers(projects: &Projects, kept_pod: &Path) -> Result<(), PodError> {
    let containers = std::fs::read_dir(kept_pod.join("containers"));
    for container in containers.into_iter().flatten().filter_map(Result::ok) {
        remove_layer(projects, &container.path())?;
    }
    release_pod(projects, kept_pod);
    Ok(())
}

/// Removes the writable layer in a container's persistent directory.
pub(in crate::sandbox) fn remove_layer(projects: &Projects, kept: &Path) -> Result<(), PodError> {
    let Ok(dir) = files::open_directory(kept) else {
        return Ok(());
    };
    let remove = |name: &str| {
        // The container made it: as deep and with names as odd as it liked.
        pausa_layer::remove_tree(std::os::fd::AsFd::as_fd(&dir), name.as_ref()).map_err(|error| {
            let doing = format!("remove {}", kept.join(name).display());
            PodError::failed_as(doing, ErrorKind::Internal, error)
        })
    };
    remove("upper")?;
    // Nobody else can have the id while `work` does.
    if let Some(Project { id, shared: false }) = project(kept) {
        release(projects, id);
    }
    remove("work")
}

/// Takes the limit off a pod's project, whose containers are gone.
pub(super) fn release_pod(projects: &Projects, kept_pod: &Path) {
    if let Some(id) = quota::project_of(&kept_pod.join(POD_PROJECT)) {
        release(projects, id);
    }
}

fn release(projects: &Projects, id: u32) {
    if let Err(error) = projects.set_limit(id, 0) {
        tracing::debug!(
            project = id,
            error = chain(&error),
            "cannot take the limit off a project that is given back; whoever gets its id sets another one"
        );
    }
}

#[cfg(test)]
mod tests;
