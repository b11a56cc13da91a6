//! The `VOLUME`s of an image: directories with the image's content that a container can write to, even if its root is
//! read-only.
//!
//! Each is a bind mount of that path of the container's root onto itself: same layer, nothing copied, removed with the
//! container. The paths are untrusted: an invalid one is left out and never an error.
//!
//! Must never: mount over or into a mount of the pod or the runtime.
//!
//! OCI image spec, config, `Volumes`.

use std::path::{Component, Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::Mount;

use super::oci;

/// The most volumes of one image; real ones have a handful.
const VOLUMES_MAX: usize = 64;
/// The longest path: PATH_MAX less the NUL.
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
    // The config has a map without order, and a path can be written in several ways.
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
    // Also if the pod mounts something on `/dev`, which replaces everything beneath.
    let of_kernel = ["/proc", "/sys", "/dev"].iter().any(|dir| path.starts_with(dir));
    if of_kernel || taken.iter().any(|mount| path.starts_with(mount.destination())) {
        return Err("something else is mounted there or above");
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
