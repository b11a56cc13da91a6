//! Pinned images, which kubelet's garbage collection must not remove.
//!
//! An explicit RemoveImage removes a pinned image like any other, as in containerd and CRI-O. Patterns are
//! matched against names, never against ids, so an image that loses its last name is no longer pinned.

use pausa_distribution::Reference;

use super::index::{digest_name, tag_name};
use crate::glob;

/// The patterns of `images.pinned`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pinned {
    patterns: Vec<String>,
}

impl Pinned {
    /// A pattern without `*` is a reference, which may be short: `busybox` is
    /// `docker.io/library/busybox:latest`. A pattern with `*` is matched against full names (`host/name:tag`,
    /// `host/name@digest`).
    pub(crate) fn new(patterns: &[String]) -> Self {
        let patterns = patterns.iter().map(|pattern| {
            let reference = pattern.parse::<Reference>().ok();
            let full = reference
                .filter(|_| !pattern.contains('*'))
                .and_then(|reference| {
                    reference
                        .digest()
                        .map(|digest| digest_name(&reference, digest))
                        .or_else(|| tag_name(&reference))
                });
            full.unwrap_or_else(|| pattern.clone())
        });
        Self {
            patterns: patterns.collect(),
        }
    }

    /// Whether one of an image's names is pinned.
    pub(crate) fn covers<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> bool {
        let is_pinned = |name: &String| self.patterns.iter().any(|pattern| glob::matches(pattern, name));
        names.into_iter().any(is_pinned)
    }
}

#[cfg(test)]
mod tests;
