//! The mounts in CRI's configuration.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use pausa_monitor_protocol::{IdRange, Propagation};

use super::{clean, oci};
use crate::oci::error::OciError;
use crate::oci::userns;
use crate::proto::v1::{self, MountPropagation};

/// The allowed `mount_options` (CRI since 0.37).
const OPTIONS: [&str; 3] = ["noexec", "nodev", "nosuid"];

/// A CRI mount with the source `source` on the host, in a pod with this range of ids.
pub(super) fn mount(
    index: usize,
    mount: &v1::Mount,
    source: &Path,
    users: Option<IdRange>,
) -> Result<Mount, OciError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    let mapped = userns::maps_owners(index, mount, users)?;
    let target = &mount.container_path;
    let clean = clean(target).filter(|path| path != Path::new("/") && !target.contains('\0'));
    let Some(clean) = clean else {
        let reason = "it must be an absolute path other than /";
        return Err(OciError::invalid(field("container_path"), target, reason));
    };
    if is_volume(mount) {
        return volume(index, mount, clean, source);
    }
    if mount.host_path.is_empty() || mount.host_path.contains('\0') {
        let reason = "it must be a path of the node";
        return Err(OciError::invalid(field("host_path"), &mount.host_path, reason));
    }
    let propagation = match propagation(index, mount)? {
        MountPropagation::PropagationPrivate => "rprivate",
        MountPropagation::PropagationHostToContainer => "rslave",
        MountPropagation::PropagationBidirectional => "rshared",
    };
    check_recursive_read_only(index, mount)?;
    let access = match (mount.readonly, mount.recursive_read_only) {
        (_, true) => "rro",
        (true, false) => "ro",
        (false, false) => "rw",
    };
    let mut options = vec!["rbind", propagation, access];
    options.extend(own_options(index, mount)?);
    if mapped {
        options.push("idmap");
    }
    let mut made = oci(clean, "bind", source, &options);
    if let Some(range) = users.filter(|_| mapped) {
        made.set_uid_mappings(Some(userns::to_oci(range)))
            .set_gid_mappings(Some(userns::to_oci(range)));
    }
    Ok(made)
}

/// `mount_options`.
fn own_options(index: usize, mount: &v1::Mount) -> Result<Vec<&'static str>, OciError> {
    let known = |option: &String| {
        let known = OPTIONS.into_iter().find(|known| known == option);
        known.ok_or_else(|| {
            let reason = "only noexec, nodev and nosuid are allowed";
            OciError::invalid(format!("mounts[{index}].mount_options"), option, reason)
        })
    };
    mount.mount_options.iter().map(known).collect()
}

/// Recursive read-only (KEP-3857) requires `readonly` and no propagation.
pub(in crate::oci) fn check_recursive_read_only(index: usize, mount: &v1::Mount) -> Result<(), OciError> {
    let private = mount.propagation == i32::from(MountPropagation::PropagationPrivate);
    if mount.recursive_read_only && !(mount.readonly && private) {
        let reason = "it needs readonly and propagation PRIVATE";
        return Err(OciError::invalid(
            format!("mounts[{index}].recursive_read_only"),
            true,
            reason,
        ));
    }
    Ok(())
}

/// The propagation of the container's root that this mount needs.
pub(super) fn root_propagation(mount: &v1::Mount) -> Propagation {
    match mount.propagation() {
        MountPropagation::PropagationPrivate => Propagation::Private,
        MountPropagation::PropagationHostToContainer => Propagation::Slave,
        MountPropagation::PropagationBidirectional => Propagation::Shared,
    }
}

fn propagation(index: usize, mount: &v1::Mount) -> Result<MountPropagation, OciError> {
    MountPropagation::try_from(mount.propagation).map_err(|_| {
        OciError::invalid(
            format!("mounts[{index}].propagation"),
            mount.propagation,
            "use PRIVATE (0), HOST_TO_CONTAINER (1) or BIDIRECTIONAL (2)",
        )
    })
}

/// Whether the source is an image and not a path of the host (CRI since 0.31).
fn is_volume(mount: &v1::Mount) -> bool {
    mount.image.as_ref().is_some_and(|image| !image.image.is_empty())
}

/// An image as a volume: always read-only and private. In a user namespace its ids are mapped before, as those of the
/// container's own image are.
fn volume(index: usize, mount: &v1::Mount, target: PathBuf, source: &Path) -> Result<Mount, OciError> {
    let field = |name: &str| format!("mounts[{index}].{name}");
    if !mount.readonly {
        return Err(OciError::invalid(
            field("readonly"),
            false,
            "an image volume is read-only: set it to true",
        ));
    }
    if !mount.host_path.is_empty() {
        let reason = "a mount has either an image or a path of the node";
        return Err(OciError::invalid(field("host_path"), &mount.host_path, reason));
    }
    if propagation(index, mount)? != MountPropagation::PropagationPrivate {
        let reason = "an image volume is PRIVATE (0)";
        return Err(OciError::invalid(field("propagation"), mount.propagation, reason));
    }
    let mut options = vec!["rbind", "rprivate", "ro"];
    options.extend(own_options(index, mount)?);
    Ok(oci(target, "bind", source, &options))
}
