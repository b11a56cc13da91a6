//! Removal of all images that no container uses, for `pausa image prune`.
//!
//! Only an explicit request prunes. kubelet's garbage collection removes images one by one with RemoveImage.

use super::Images;
use super::error::ImageError;
use crate::proto::v1;

/// What [`Images::prune`] removed, or would remove.
#[derive(Debug, Default)]
pub(crate) struct PruneReport {
    pub(crate) images: Vec<PrunedImage>,
    /// Unpinned images that stay because a container uses them.
    pub(crate) in_use: usize,
    /// Images that stay because a name of theirs is pinned.
    pub(crate) pinned: usize,
}

/// An image that no container uses and that is not pinned.
#[derive(Debug)]
pub(crate) struct PrunedImage {
    /// The image as it was before its removal. Its `size` is what the removal frees.
    pub(crate) image: v1::Image,
    /// Why it could not be removed.
    pub(crate) error: Option<ImageError>,
}

impl Images {
    /// Removes all images that are neither pinned nor leased, and what failed pulls have left. The space is free when this
    /// returns. A failed removal does not stop the others; the report has its error.
    ///
    /// With `dry_run` nothing is removed. The report then says what would be.
    pub(crate) async fn prune(&self, dry_run: bool) -> PruneReport {
        if !dry_run {
            self.clear_shelf().await;
        }
        let mut report = PruneReport::default();
        for image in self.images(None) {
            if image.pinned {
                report.pinned += 1;
                continue;
            }
            let removed = if dry_run {
                Ok(!self.is_leased(&image.id))
            } else {
                self.remove_unused(&image.id).await
            };
            match removed {
                Ok(false) => report.in_use += 1,
                Ok(true) => report.images.push(PrunedImage { image, error: None }),
                Err(error) => report.images.push(PrunedImage {
                    image,
                    error: Some(error),
                }),
            }
        }
        report
    }
}
