//! Images mounted as volumes (`Mount.image`, KEP-4639).
//!
//! Each is a detached read-only mount, handed to the container's init by descriptor: nothing appears in the
//! host's mount table and nothing has to be unmounted. A sub path is resolved beneath the image's own root;
//! a link in an image leads nowhere else.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pausa_monitor_protocol::{ContainerPlan, MountSource};

use crate::blocking::blocking;
use crate::image::Lease;
use crate::proto::v1;
use crate::sandbox::error::PodError;
use crate::sandbox::services::Services;

mod part;

/// One volume of a container.
#[derive(Debug)]
pub(super) struct Volume {
    /// Which of the container's mounts it is.
    pub(super) index: usize,
    /// What its source is called in the spec.
    pub(super) path: PathBuf,
    pub(super) mount: OwnedFd,
    pub(super) lease: Lease,
}

/// Mounts the image volumes of a container whose bundle is `bundle`, in a pod with this user namespace, with
/// SELinux's label.
pub(super) async fn mount_volumes(
    services: &Services,
    config: &v1::ContainerConfig,
    bundle: &Path,
    users: Option<Arc<OwnedFd>>,
    label: Option<&str>,
) -> Result<Vec<Volume>, PodError> {
    let mut volumes = Vec::new();
    for (index, mount) in config.mounts.iter().enumerate() {
        let Some(image) = mount.image.as_ref().filter(|image| !image.image.is_empty()) else {
            continue;
        };
        let lease = services.images.lease(&image.image).map_err(|error| {
            PodError::failed(
                format!("find the image {:?} of mounts[{index}]", image.image),
                error,
            )
        })?;
        let sub_path = mount.image_sub_path.clone();
        let (users, place) = (users.clone(), bundle.to_owned());
        let label = label.map(str::to_owned);
        let (lease, mount) = blocking(move || {
            let whole = lease.mount_readonly(users.as_ref().map(|users| users.as_fd()), label.as_deref());
            let whole = whole.map_err(|error| PodError::failed("mount an image volume", error))?;
            let mount = if sub_path.is_empty() {
                whole
            } else {
                part::below(&whole, &sub_path, &place)?
            };
            Ok((lease, mount))
        })
        .await
        .map_err(|source| PodError::ImageVolume {
            index,
            image: image.image.clone(),
            source: Box::new(source),
        })?;
        let path = bundle.join("volumes").join(index.to_string());
        volumes.push(Volume {
            index,
            path,
            mount,
            lease,
        });
    }
    Ok(volumes)
}

/// Makes the plan take its volumes from the descriptors sent along, in this order.
pub(super) fn by_descriptor(plan: &mut ContainerPlan, volumes: &[Volume]) {
    for (number, volume) in (0..).zip(volumes) {
        let source = volume.path.as_os_str().as_encoded_bytes();
        for mount in &mut plan.mounts {
            if matches!(&mount.source, MountSource::Bind { path, .. } if path == source) {
                mount.source = MountSource::Fd(number);
            }
        }
    }
}
