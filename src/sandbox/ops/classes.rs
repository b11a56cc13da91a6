//! The classes that annotations put a container into: of block I/O, and of cache and memory bandwidth.
//!
//! ```text
//!   io.kubernetes.cri.KIND-class                              on the container, by whoever talks CRI
//!   KIND.resources.beta.kubernetes.io/container.NAME          on the pod, for one container
//!   KIND.resources.beta.kubernetes.io/pod                     on the pod, for all
//! ```
//!
//! The first one that is there counts; an empty one is no class. These are the annotations of containerd and CRI-O.
//!
//! Must never: start a container without a part of its class that it could not get, unless the configuration says so.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::cgroup;
use crate::blocking::blocking;
use crate::cgroups::blockio::{BlockIo, BlockIoError, Classes};
use crate::container::ContainerRecord;
use crate::error::{ErrorKind, Kinded};
use crate::id::Id;
use crate::proto::v1;
use crate::resctrl;
use crate::sandbox::error::PodError;
use crate::sandbox::record::PodRecord;
use crate::sandbox::services::Services;

/// The class of a kind that a container is to have.
fn class<'a>(
    kind: &str,
    pod: &'a v1::PodSandboxConfig,
    container: &'a v1::ContainerConfig,
) -> Option<&'a str> {
    let name = container.metadata.as_ref().map_or("", |metadata| &metadata.name);
    let of_pod = |whose: &str| {
        pod.annotations
            .get(&format!("{kind}.resources.beta.kubernetes.io/{whose}"))
    };
    let class = container
        .annotations
        .get(&format!("io.kubernetes.cri.{kind}-class"))
        .or_else(|| of_pod(&format!("container.{name}")))
        .or_else(|| of_pod("pod"));
    class.map(String::as_str).filter(|class| !class.is_empty())
}

/// The block I/O class of a container that is being made, as far as this node can enforce it.
pub(super) async fn block_io(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
) -> Result<Option<BlockIo>, PodError> {
    match class("blockio", &pod.config, &record.config) {
        Some(class) => block_io_class(services, pod, record, class).await,
        None => Ok(None),
    }
}

/// The block I/O class of this name. The empty one is none.
pub(super) async fn block_io_class(
    services: &Arc<Services>,
    pod: &PodRecord,
    record: &ContainerRecord,
    class: &str,
) -> Result<Option<BlockIo>, PodError> {
    if class.is_empty() {
        return Ok(None);
    }
    let doing = format!("put the container into the block I/O class {class:?}");
    let path = cgroup::path(services, pod, &record.id);
    let path = path.map_err(|error| PodError::failed(doing.clone(), error))?;
    let (services, id, class) = (Arc::clone(services), record.id.clone(), class.to_owned());
    blocking(move || {
        let settings = &services.settings().block_io;
        let ignore = settings.ignore_not_enabled;
        let Some(file) = &settings.config_file else {
            let lack = PodError::failed(doing, BlockIoError::NotConfigured);
            return do_without("its block I/O class", &id, &class, ignore, lack).map(|()| None);
        };
        let rules = Classes::read(file).and_then(|classes| classes.resolve(&class));
        let rules = rules.map_err(|error| PodError::failed(doing.clone(), error))?;
        let failed = |error| PodError::failed(doing.clone(), error);
        let mut taken = Vec::with_capacity(rules.len());
        for tried in services.cgroups.try_block_io(&path, &rules).map_err(failed)? {
            match tried {
                Ok(rule) => taken.push(rule),
                Err(lack) => do_without("a part of its block I/O class", &id, &class, ignore, failed(lack))?,
            }
        }
        Ok(Some(BlockIo { class, rules: taken }))
    })
    .await
}

/// The RDT class of a container that is being made.
pub(super) fn rdt(
    services: &Services,
    pod: &PodRecord,
    record: &ContainerRecord,
) -> Result<Option<String>, PodError> {
    match class("rdt", &pod.config, &record.config) {
        Some(class) => rdt_class(services, record, class),
        None => Ok(None),
    }
}

/// The RDT class of this name. The empty one is none.
pub(super) fn rdt_class(
    services: &Services,
    record: &ContainerRecord,
    class: &str,
) -> Result<Option<String>, PodError> {
    if class.is_empty() {
        return Ok(None);
    }
    match rdt_tasks(services, class) {
        Ok(_) => Ok(Some(class.to_owned())),
        Err(lack) => {
            let ignore = services.settings().rdt.ignore_not_enabled;
            do_without("its RDT class", &record.id, class, ignore, lack).map(|()| None)
        }
    }
}

/// Lets a container do without what this node lacks, if that is configured. A class that does not exist is never left out.
fn do_without(
    what: &'static str,
    container: &Id,
    class: &str,
    ignore: bool,
    lack: PodError,
) -> Result<(), PodError> {
    if !ignore || lack.kind() != ErrorKind::FailedPrecondition {
        return Err(lack);
    }
    tracing::warn!(
        container = container.short(),
        class,
        error = lack.text(),
        "a container does without {what}"
    );
    Ok(())
}

/// What the processes of a container join its RDT class with.
pub(super) fn rdt_tasks(services: &Services, class: &str) -> Result<OwnedFd, PodError> {
    resctrl::tasks(&services.settings().rdt.mount_point, class)
        .map_err(|error| PodError::failed(format!("put the container into the RDT class {class:?}"), error))
}

#[cfg(test)]
mod tests;
