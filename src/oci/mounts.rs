//! The mounts of a container: the defaults, CRI's mounts, the image's volumes.
//!
//! A CRI mount replaces the default with the same target; one on `/dev` replaces all defaults beneath it. A `VOLUME` of
//! the image is part of the container's root and yields to both. All are sorted by depth, stably, so that none hides
//! another. Sources are paths of the host that [`super::prepare()`] has resolved; nothing is looked up here.

mod defaults;
mod requested;
mod volumes;

pub(super) use requested::check_recursive_read_only;

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;
use pausa_monitor_protocol::{IdRange, Namespace, Propagation};

use super::error::OciError;
use super::{ContainerInput, pod_namespaces, security_context};
use crate::proto::v1::NamespaceMode;

/// The mounts of a container and how its root propagates.
pub(crate) struct Mounts {
    pub(crate) all: Vec<Mount>,
    pub(crate) root_propagation: Propagation,
}

/// Everything that is mounted in a container.
pub(crate) fn mounts(
    input: &ContainerInput<'_>,
    users: Option<IdRange>,
    readonly_root: bool,
) -> Result<Mounts, OciError> {
    let privileged = security_context(input.config).is_some_and(|security| security.privileged);
    let foreign_network =
        users.is_some() && pod_namespaces(input.pod.config).network() == NamespaceMode::Node;
    let mut all = defaults::kernel(privileged, foreign_network);
    all.push(defaults::shm(&input.namespaces.ipc, &input.pod.files.shm));
    all.extend(defaults::pod_files(input.pod.files, readonly_root));
    let mut root_propagation = Propagation::Private;
    let mut requested = Vec::new();
    for (index, mount) in input.config.mounts.iter().enumerate() {
        let source = input.prepared.source(index, mount);
        let one = requested::mount(index, mount, &source, users)?;
        root_propagation = wider(root_propagation, requested::root_propagation(mount));
        requested.push(one);
    }
    let takes = |default: &Mount| {
        requested.iter().any(|mount| {
            let target = mount.destination();
            target == default.destination()
                || (target == Path::new("/dev") && default.destination().starts_with(target))
        })
    };
    all.retain(|default| !takes(default));
    all.extend(requested);
    let volumes = volumes::of_image(input.image, input.rootfs, &all);
    all.extend(volumes);
    all.sort_by_key(|mount| mount.destination().components().count());
    Ok(Mounts {
        all,
        root_propagation,
    })
}

pub(crate) fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// A container's path without `.`, `..` and double slashes, by name only. None for a relative or empty path.
pub(crate) fn clean(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).strip_prefix("/").ok()?.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

fn wider(one: Propagation, other: Propagation) -> Propagation {
    match (one, other) {
        (Propagation::Shared, _) | (_, Propagation::Shared) => Propagation::Shared,
        (Propagation::Slave, _) | (_, Propagation::Slave) => Propagation::Slave,
        _ => Propagation::Private,
    }
}

/// A mount of the runtime spec.
fn oci(target: impl Into<PathBuf>, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

/// Whether the container has a namespace of its own.
fn own(namespace: &Namespace) -> bool {
    matches!(namespace, Namespace::New)
}

#[cfg(test)]
mod tests;
