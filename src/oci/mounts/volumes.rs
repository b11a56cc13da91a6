//! What an image declares as `VOLUME`: a directory that a container can write to, with the image's content in
//! it, even where its root is read-only.
//!
//! Each is a bind of that path of the container's own root onto itself: same layer, nothing copied, gone with
//! the container. The paths are an image's words: what cannot be is left out and never an error. Must never
//! mount over or into what the pod or the runtime mounts: data that somebody gave a place stays there.
//!
//! OCI image spec, config, `Volumes`.

use std::path::{Component, Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::Mount;

use super::oci;

/// Most volumes of one image; real ones have a handful.
const VOLUMES_MAX: usize = 64;
/// Longest path, PATH_MAX less the NUL.
const PATH_MAX: usize = 4095;

/// The volumes of an image that no mount in `taken` is on or above, in the order of their names.
pub(super) fn of_image(image: &ImageConfiguration, rootfs: &Path, taken: &[Mount]) -> Vec<Mount> {
    let declared = image
        .config()
        .as_ref()
        .and_then(|config| config.volumes().as_deref());
    let mut targets = Vec::new();
    for text in declared.unwrap_or_default() {
        match target(text, taken) {
            Ok(target) => targets.push(target),
            Err(reason) => {
                let shown: String = text.chars().take(256).collect();
                tracing::debug!(volume = ?shown, reason, "a VOLUME of the image is left out");
            }
        }
    }
    // The config has a map: its order means nothing, and one path can be spelled in two ways.
    targets.sort_unstable();
    targets.dedup();
    if targets.len() > VOLUMES_MAX {
        tracing::debug!(
            declared = targets.len(),
            kept = VOLUMES_MAX,
            "the image has too many VOLUMEs"
        );
        targets.truncate(VOLUMES_MAX);
    }
    let mount = |target: PathBuf| {
        let below = target.strip_prefix("/").unwrap_or(&target);
        let source = rootfs.join(below);
        oci(target, "bind", source, &["rbind", "rprivate", "rw"])
    };
    targets.into_iter().map(mount).collect()
}

fn target(text: &str, taken: &[Mount]) -> Result<PathBuf, &'static str> {
    if text.len() > PATH_MAX || text.contains('\0') {
        return Err("it is no path");
    }
    let path = Path::new(text);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err("it is not absolute, or has `..`");
    }
    // Without `.`, double and trailing slashes.
    let path: PathBuf = path.components().collect();
    if path == Path::new("/") {
        return Err("it is the root");
    }
    // Also where the pod mounts something on `/dev` and so takes the place of all beneath.
    let of_kernel = ["/proc", "/sys", "/dev"].iter().any(|dir| path.starts_with(dir));
    if of_kernel || taken.iter().any(|mount| path.starts_with(mount.destination())) {
        return Err("something else is mounted there or above");
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
