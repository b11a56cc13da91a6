//! The media types that an image may consist of.

use pausa_distribution::{Descriptor, Manifest};

use crate::image::error::{ImageError, shortened};

const CONFIG_TYPES: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

/// Layers that can be unpacked. Their compression is detected from their first bytes.
const LAYER_TYPES: [&str; 7] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.diff.tar+zstd",
];

/// Refuses manifests that are no images: artifacts, foreign and encrypted layers.
pub(crate) fn check_media_types(manifest: &Manifest) -> Result<(), ImageError> {
    let wrong = |what: &str, blob: &Descriptor| ImageError::MediaType {
        what: format!("the {what} {}", blob.digest),
        media_type: shortened(&blob.media_type),
    };
    if !CONFIG_TYPES.contains(&manifest.config.media_type.as_str()) {
        return Err(wrong("config", &manifest.config));
    }
    let odd = |blob: &&Descriptor| !LAYER_TYPES.contains(&blob.media_type.as_str());
    match manifest.layers.iter().find(odd) {
        Some(blob) => Err(wrong("layer", blob)),
        None => Ok(()),
    }
}
